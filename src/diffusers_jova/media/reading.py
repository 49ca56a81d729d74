# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A file -> frames and waveform at given rates, on one timeline."""
# F frames, H W rows and columns, C audio channels, N samples

import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..latents import exact_frame_rate
from .containers import choose_stream, naming, open_input
from .display import Display, deinterlace
from .sound import collect_waveform, fit, join_tracks


# Audio is decoded from this long before its first sample that counts: a decoder needs what was before, Opus 80 ms and
# the bit reservoir of MP3 a quarter of a second.
AUDIO_PREROLL_S = Fraction(3, 10)

# Streams that are cut anywhere, as broadcasts are: what their decoder cannot read before the first key frame is not
# damage.
CUT_ANYWHERE = ("mpegts", "mpeg", "mpegvideo", "h264", "hevc", "vvc", "vc1", "cavsvideo", "aac", "mp3", "ac3", "eac3")

# Bare audio, whose timestamps FFmpeg makes by counting packets, as if the sampling rate never changed.
BARE_AUDIO = ("aac", "mp3", "ac3", "eac3", "dts", "dtshd", "truehd", "mlp", "amr", "amrnb", "amrwb", "loas", "latm")

# Timestamps that go back by more are not rounding: the file was made of several.
MAX_STEP_BACK_S = Fraction(1, 2)

# Frame threads of a decoder hold a frame each: above this many pixels, a frame is large enough to share among threads.
MAX_FRAME_THREADS_AREA = 4096 * 2304


@dataclass(frozen=True)
class Clip:
    """What `read_video` returns. Both streams start at the same moment and last equally long.

    Attributes:
        frames: `(F, H, W, 3)` uint8, or None for a file without video.
        frame_rate: frames per second, exactly.
        waveform: `(C, N)` float32 in [-1, 1], one or two channels, or None for a file without audio; N is
            F / frame_rate seconds of samples.
        sampling_rate: samples per second.
    """

    frames: np.ndarray | None
    frame_rate: Fraction | None
    waveform: np.ndarray | None
    sampling_rate: int | None


@dataclass(frozen=True)
class Timeline:
    """The streams of a file that are read, and its start. Time zero is the first frame, else the first sample.

    Attributes:
        video, audio: the numbers of the streams, or None.
        zero: the file's own time of time zero, in seconds.
        clock: the timestamps of video frames that hold: "pts", or "dts" for AVI, which has no others and of which
            FFmpeg guesses wrong ones for frames out of order; None where there are none, and frames follow each other.
        frame_rate: the file's average, or None without video.
        display: how frames are shown, or None without video.
        is_bare_audio: whether it is audio without a container.
        is_empty: whether not one frame of the stream that begins can be decoded.
        audio_end_s: when the audio ends by the file's header, after `zero`; None where it does not say.
    """

    path: Path
    video: int | None
    audio: int | None
    zero: Fraction
    clock: str | None
    frame_rate: Fraction | None
    display: Display | None
    audio_end_s: Fraction | None
    is_bare_audio: bool
    is_empty: bool


def read_video(
    path: str | os.PathLike,
    frame_rate: float | Fraction | None = None,
    sampling_rate: int | None = None,
    *,
    start_s: float | Fraction = 0.0,
    duration_s: float | Fraction | None = None,
) -> Clip:
    """Return the frames and the audio of a file, at the rates asked for and from the same moment on.

    Time zero is the first frame. Frame k is what the file shows in the middle of its own interval, at
    (k + 1/2) / frame_rate: a change in the image lands within half a frame of its audio, also with the variable
    frame rate of phones. Frames are as a player shows them: upright, also mirrored where the file says so, and with
    square pixels. Audio is placed by its timestamps, then cut, or padded with silence, to the length of the frames;
    more than two channels are mixed into one.

    All frames are held at once; `iter_frames` gives them one at a time.

    Args:
        path: any container and codec that FFmpeg reads; audio alone is fine.
        frame_rate: frames per second, as in `exact_frame_rate`; None for the file's own average.
        sampling_rate: samples per second; None for the file's own.
        start_s: where to begin, in seconds after the first frame.
        duration_s: how long to read, in seconds; None for the rest.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, is not a clip, or has neither video nor audio in the time asked for; the message
            names it.
    """
    timeline = read_timeline(path)
    frames = rate = None
    if timeline.video is not None:
        rate = exact_frame_rate(frame_rate or timeline.frame_rate)
        frames = np.stack(list(_frames(timeline, rate, Fraction(start_s), duration_s)))
        duration_s = len(frames) / rate
    waveform, sampling_rate = _audio(timeline, sampling_rate, None, Fraction(start_s), duration_s)
    if frames is None and waveform is None:
        raise _nothing(timeline.path, start_s)
    return Clip(frames, rate, waveform, sampling_rate)


def iter_frames(
    path: str | os.PathLike,
    frame_rate: float | Fraction | None = None,
    *,
    start_s: float | Fraction = 0.0,
    duration_s: float | Fraction | None = None,
) -> Iterator[np.ndarray]:
    """Return an iterator over the frames of `read_video`, `(H, W, 3)` uint8, of which it holds one at a time.

    Copy a frame before you write into it: one that is shown for longer comes several times as the same array.

    Args:
        path, frame_rate, start_s, duration_s: as for `read_video`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it has no video; later, if it is damaged or has no frame in the time asked for.
    """
    timeline = read_timeline(path)
    if timeline.video is None:
        raise ValueError(f"`{path}` has no video.")
    return _frames(timeline, exact_frame_rate(frame_rate or timeline.frame_rate), Fraction(start_s), duration_s)


def read_audio(
    path: str | os.PathLike,
    sampling_rate: int | None = None,
    num_channels: int | None = None,
    *,
    start_s: float | Fraction = 0.0,
    duration_s: float | Fraction | None = None,
) -> tuple[np.ndarray | None, int | None]:
    """Return the waveform `(C, N)` float32 of a file and its sampling rate, (None, None) for a file without audio.

    Its time is that of the frames of `read_video` and `iter_frames`: zero is the first frame, if there is one.

    Args:
        path: as for `read_video`.
        sampling_rate: samples per second; None for the file's own.
        num_channels: 1 or 2; None to keep mono and stereo and mix more channels into one. Stereo becomes mono as the
            mean; surround sound is mixed as FFmpeg does, so that speech in the centre keeps its loudness.
        start_s: where to begin, in seconds after time zero.
        duration_s: how long to read, in seconds; None for the rest. Beside video, silence fills up what is missing;
            audio alone ends where it ends.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, is not a clip, or has samples that are not finite; the message names it.
    """
    if num_channels not in (None, 1, 2):
        raise ValueError(f"`num_channels` must be 1, 2 or None, got {num_channels}.")
    return _audio(read_timeline(path), sampling_rate, num_channels, Fraction(start_s), duration_s)


def read_timeline(path: str | os.PathLike) -> Timeline:
    """Return which streams of a file are read; its first frame is decoded, which shows most damage.

    Raises:
        FileNotFoundError, ValueError: see `read_video`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file `{path}`.")
    with naming(path), open_input(path) as container:
        video, audio = choose_stream(container, "video"), choose_stream(container, "audio")
        first_stream = video or audio
        if first_stream is None:
            raise ValueError(f"`{path}` has neither video nor audio.")
        audio_end_s = None
        if audio is not None and audio.duration and audio.start_time is not None:
            audio_end_s = (audio.start_time + audio.duration) * audio.time_base
        frame = next(_decode_packets(container, first_stream), None)
        clock = "dts" if video is not None and container.format.name == "avi" else "pts"
        stamp = None if frame is None else _timestamp(frame, clock)
        zero = Fraction(0) if stamp is None else stamp
        return Timeline(
            path=path,
            video=None if video is None else video.index,
            audio=None if audio is None else audio.index,
            zero=zero,
            clock=None if stamp is None else clock,
            frame_rate=None if video is None else average_rate(video),
            display=None if video is None or frame is None else Display.of(frame, video.sample_aspect_ratio),
            audio_end_s=None if audio_end_s is None else audio_end_s - zero,
            is_bare_audio=container.format.name in BARE_AUDIO,
            is_empty=frame is None,
        )


def timed_frames(timeline: Timeline, kind: str, start_s: Fraction) -> Iterator[tuple[Fraction, Fraction, Any]]:
    """Yield (time, length, frame) of the "video" or "audio", in seconds after `start_s`.

    A few frames come from before it. Where the container leads to a later one than asked for, as MPEG-TS does, the
    search begins again further back, at last at the beginning.
    """
    preroll_s = AUDIO_PREROLL_S if kind == "audio" else Fraction(0)
    back_s = Fraction(1)
    while timeline.clock is not None and start_s > back_s:
        frames = _frames_after_seeking(timeline, kind, start_s, back_s)
        try:
            first = next(frames, None)
        except av.FFmpegError:  # it landed where nothing can be decoded from
            first = None
        if first is not None and first[0] <= -preroll_s:
            yield first
            del first  # a frame may be large
            yield from frames
            return
        back_s *= 4
    with open_input(timeline.path) as container:
        yield from _timed(container, timeline, kind, start_s, time=-start_s)


def _frames_after_seeking(timeline: Timeline, kind: str, start_s: Fraction, back_s: Fraction) -> Iterator:
    with open_input(timeline.path) as container:
        container.seek(int((timeline.zero + start_s - back_s) * av.time_base))
        found = False
        for time, length, frame in _timed(container, timeline, kind, start_s, time=None):
            # what comes before the first key frame may lack parts
            found = found or kind == "audio" or (frame.key_frame and not frame.is_corrupt)
            if found:
                yield time, length, frame
            elif time > 0:
                return


def _timed(
    container, timeline: Timeline, kind: str, start_s: Fraction, time: Fraction | None
) -> Iterator[tuple[Fraction, Fraction, Any]]:
    """Yield (time, length, frame) from where the container stands; without `time`, from the first timestamp on."""
    stream = container.streams[getattr(timeline, kind)]
    rate = average_rate(stream) if kind == "video" else None
    clock, is_first = timeline.clock if kind == "video" else "pts", True
    for frame in _decode_packets(container, stream):
        stamp = _timestamp(frame, clock)
        if stamp is not None and (is_first or not timeline.is_bare_audio):
            stamped = stamp - timeline.zero - start_s
            if not is_first and stamped < time - MAX_STEP_BACK_S:
                raise jump_back(timeline.path, time + start_s, time - stamped)
            time, is_first = stamped, False
        if time is None:
            continue
        if kind == "audio":
            length = Fraction(frame.samples, frame.sample_rate)
        else:
            length = frame.duration * frame.time_base if frame.duration else 1 / rate
        yield time, length, frame
        time += length  # frames without a timestamp follow each other


def _decode_packets(container, stream) -> Iterator[Any]:
    """Yield the frames of a stream."""
    large = stream.type == "video" and stream.width * stream.height > MAX_FRAME_THREADS_AREA
    stream.thread_type = "SLICE" if large else "AUTO"
    may_begin_anywhere = container.format.name in CUT_ANYWHERE
    packets = container.demux(stream)
    for packet in packets:
        try:
            frames = packet.decode()
        except av.InvalidDataError:
            if may_begin_anywhere:
                continue
            if packet.is_corrupt:
                next(packets, None)  # of a file that can be read no further, this says so
            raise
        may_begin_anywhere = may_begin_anywhere and not frames
        while frames:
            yield frames.pop(0)  # and is forgotten here: a frame may be large


def _timestamp(frame, clock: str | None) -> Fraction | None:
    stamp = None if clock is None else getattr(frame, clock)
    return None if stamp is None else stamp * frame.time_base


def average_rate(stream) -> Fraction:
    return (
        stream.average_rate or stream.guessed_rate or Fraction(25)
    )  # the last as FFmpeg, for streams that do not say


def _frames(
    timeline: Timeline, frame_rate: Fraction, start_s: Fraction, duration_s: float | Fraction | None
) -> Iterator[np.ndarray]:
    """Yield `(H, W, 3)`: as number k what is on the screen at (k + 1/2) / frame_rate seconds."""
    wanted = sys.maxsize if duration_s is None else round(Fraction(duration_s) * frame_rate)
    count, shown, end = 0, None, Fraction(0)

    def times_until(time_s: Fraction) -> int:
        """Return how often the frame that is shown until then is among those still wanted."""
        return max(min(math.ceil(time_s * frame_rate - Fraction(1, 2)), wanted) - count, 0)

    with naming(timeline.path):
        for time, length, frame in deinterlace(timed_frames(timeline, "video", start_s)):
            if shown is None and time * frame_rate > Fraction(1, 2):
                raise ValueError(
                    f"`{timeline.path}` has no frame from {float(start_s):.2f} to {float(start_s + time):.2f} s that "
                    "can be decoded: it may be damaged. Encode it anew, for example as mp4."
                )
            if shown is not None and (num_times := times_until(time)):
                yield from _repeat(timeline.display.to_rgb(shown), num_times)
                count += num_times
            if count == wanted:
                break
            shown, end = frame, time + length
        if shown is not None and (num_times := times_until(end)):
            yield from _repeat(timeline.display.to_rgb(shown), num_times)
            count += num_times
    if not count:
        raise _nothing(timeline.path, start_s)


def _repeat(array: np.ndarray, num_times: int) -> Iterator[np.ndarray]:
    """Yield an array so often, the last time without keeping it: a frame may be large."""
    arrays = [array] * num_times
    del array
    while arrays:
        yield arrays.pop()


def _audio(
    timeline: Timeline,
    sampling_rate: int | None,
    num_channels: int | None,
    start_s: Fraction,
    duration_s: float | Fraction | None,
) -> tuple[np.ndarray | None, int | None]:
    """Return the waveform `(C, N)` and its rate, with silence where the file has gaps."""
    if timeline.audio is None:
        return None, None
    duration_s = None if duration_s is None else Fraction(duration_s)
    end_s = None if timeline.audio_end_s is None else timeline.audio_end_s - start_s
    with naming(timeline.path):
        tracks = collect_waveform(timed_frames(timeline, "audio", start_s), end_s, duration_s)
    if not tracks:
        return None, None
    source_rate = tracks[0].rate
    sampling_rate = sampling_rate or source_rate
    if timeline.video is None or duration_s is None:
        audio_s = max(track.end_s for track in tracks)
        duration_s = audio_s if duration_s is None else min(audio_s, duration_s)
    waveform = join_tracks(tracks, sampling_rate, num_channels)
    if not np.isfinite(waveform).all():
        raise ValueError(f"`{timeline.path}` has audio samples that are not finite: encode its audio anew.")
    return fit(waveform, round(duration_s * sampling_rate)), sampling_rate


def jump_back(path: Path, time_s: Fraction, step_s: Fraction) -> ValueError:
    return ValueError(
        f"`{path}` is several recordings in one file: at {float(time_s):.2f} s its timestamps go back by "
        f"{float(step_s):.2f} s. Split it there, or encode it anew."
    )


def _nothing(path: Path, start_s: float | Fraction) -> ValueError:
    return ValueError(f"`{path}` has nothing to read from {float(start_s):g} s on, or is damaged.")
