# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Opening files with FFmpeg, so that a name is always a name and a clip is always one file."""

import errno
import os

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
