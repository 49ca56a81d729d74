# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Opening files with FFmpeg, so that a name is always a name and a clip is always one file."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import av
from av.container import InputContainer, OutputContainer
from av.stream import Disposition


# What a clip may be, by FFmpeg's names. Missing on purpose: whatever names other files (playlists as hls and dash,
# concat, sdp, image sequences), devices, text and subtitles, and images, which `load_image` reads.
CLIP_FORMATS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "flv", "asf", "ogg", "mxf", "nut", "rm", "dv", "gxf", "wtv", "nsv"),
    *("ivf", "obu", "h264", "hevc", "vvc", "m4v", "mpegvideo", "h261", "h263", "vc1", "mjpeg", "yuv4mpegpipe"),
    *("gif", "apng", "webp", "jpegxl_anim"),  # where they move
    *("dirac", "cavsvideo", "dnxhd", "roq", "smk", "bink", "vmd", "flic", "swf", "live_flv", "ty", "dhav"),
    *("wav", "w64", "aiff", "caf", "au", "flac", "mp3", "aac", "ac3", "eac3", "ac4", "dts", "dtshd", "truehd", "mlp"),
    *("ape", "wv", "tta", "tak", "mpc", "mpc8", "amr", "amrnb", "amrwb", "loas", "latm", "voc", "shn", "ircam", "sox"),
    *("dsf", "iff", "oma", "xwma", "nistsphere", "gsm", "aptx", "sbc", "qcp", "iamf", "spdif"),
)

IMAGE_FORMATS = tuple(sorted(name for name in av.formats_available if name.endswith("_pipe")))


def open_input(path: str | os.PathLike, formats: tuple[str, ...] = CLIP_FORMATS) -> InputContainer:
    """Return the file opened for reading. It can name no other file, and nothing is fetched.

    Raises:
        ValueError: if it is not a kind of file that can be a clip, such as a playlist; the message names it.
        av.FFmpegError: if it cannot be opened.
    """
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": "file"}
    try:
        return av.open(file_url(path), options=options, metadata_errors="replace")
    except av.FFmpegError as error:
        if error.errno == errno.EINVAL:  # what FFmpeg says for a format that is not on the list
            raise ValueError(
                f"`{path}` is not a file that holds video or audio itself: playlists, scripts, subtitles and still "
                "images are not read as clips. Give the clip, as mp4, mkv or wav for example."
            ) from error
        raise


@contextmanager
def naming(
    path: str | os.PathLike, words: str = "Cannot read `{path}`, which may be damaged: {reason}."
) -> Iterator[None]:
    """Name the file in what goes wrong while it is read, and tell what lies in the file from what lies around it.

    Args:
        words: for a file whose content is the reason.

    Raises:
        ValueError: if the content is the reason: it would fail again.
        OSError: if the file cannot be read at all, as on a network drive that does not answer: it may pass.
    """
    try:
        yield
    except (av.FFmpegError, OSError) as error:
        if error.errno in errno.errorcode:  # the system's and not FFmpeg's own, although demuxers borrow such numbers
            check_readable(path)
        raise ValueError(words.format(path=path, reason=error.strerror or error)) from error


def check_readable(path: str | os.PathLike) -> None:
    """Raise the system's error where the bytes of a file cannot be had, whatever they mean."""
    try:
        status = os.stat(path)
        _read_through(os.fspath(path), status.st_size, status.st_mtime_ns)
    except OSError as error:
        explained = OSError(
            f"`{path}` cannot be read now ({error.strerror or error}): see whether its drive or network share is "
            "there and may be read, then start the same command again."
        )
        explained.errno = error.errno
        raise explained from error


@lru_cache(maxsize=1)  # a film that is damaged in many places is read once for it
def _read_through(path: str, size: int, mtime_ns: int) -> None:
    with open(path, "rb") as file:
        while file.read(1 << 20):
            pass


def open_output(path: str | os.PathLike, options: dict[str, str] | None = None) -> OutputContainer:
    """Return the file opened for writing, in the format that its suffix says."""
    return av.open(file_url(path), "w", options=options)


def file_url(path: str | os.PathLike) -> str:
    """Return the path so that FFmpeg takes `out:1.mp4` or `concat:a|b` for a file's name, not for a protocol."""
    return "file:" + os.path.abspath(os.fsdecode(path))


def choose_stream(container: InputContainer, kind: str):
    """Return the "video" or "audio" stream to use, if any: of those flagged default, as FFmpeg does, the largest.

    The cover of a song is a video stream, but not for us; nor is what no decoder reads.
    """
    streams = [
        stream
        for stream in container.streams
        if stream.type == kind
        and stream.codec_context is not None
        and not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]

    def rank(stream) -> tuple:
        size = stream.width * stream.height if kind == "video" else stream.channels
        return bool(stream.disposition & Disposition.default), size

    return max(streams, key=rank, default=None)  # of equals, the first
