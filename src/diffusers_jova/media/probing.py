# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a file holds, measured and not believed: sizes as they are shown, durations by its packets."""

import math
import os
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from .containers import naming, open_input
from .reading import (
    CUT_ANYWHERE,
    MAX_STEP_BACK_S,
    Timeline,
    average_rate,
    jump_back,
    read_timeline,
    timed_frames,
)
from .sound import to_float


# Of what a clip says and what it holds, differences below this are how its streams were cut, above it worth a word.
MAX_DIFFERENCE_S = 0.5
MAX_STANDSTILL_S = 1.0  # one frame on the screen, longer than in any film

SILENCE = 1e-4  # -80 dB of full scale: above the dither of 16 bits

# A header may say how much of its last packets a stream means; more than so many packets are an error of the header.
MAX_PADDING_PACKETS = 3


@dataclass(frozen=True)
class MediaInfo:
    """What a file holds.

    Attributes:
        height, width: in pixels, as `read_video` gives them; 0 without video.
        has_audio: whether there is an audio track.
        duration_s: of the video, or of the audio where there is none.
        warnings: what is unusual about it, in words.
    """

    height: int
    width: int
    has_audio: bool
    duration_s: Fraction
    warnings: tuple[str, ...] = ()


@dataclass
class _Extent:
    """The time that the packets of a stream take, in units of its clock: a film has half a million of them.

    Attributes:
        unit: of the clock, in seconds.
        zero_s: time zero by this clock, in seconds.
        filler_s: the length of a packet that does not say it, 0 if it is not known.
        starts: of the packets that have a timestamp, in the order of the file.
        end, last_length: of the packet that ends last.
        last_decoded: when the last packet in the order of the file is to be decoded.
    """

    unit: Fraction
    zero_s: Fraction
    filler_s: Fraction
    starts: list[int] = field(default_factory=list)
    end: int = 0
    last_length: int = 0
    last_decoded: int | None = None

    def add(self, start: int, length: int) -> None:
        if not self.starts or start + length >= self.end:
            self.end, self.last_length = start + length, length
        self.starts.append(start)

    def step_back_s(self, decoded: int) -> Fraction:
        """Return by how much the time of decoding goes back, in seconds, and remember it."""
        previous, self.last_decoded = self.last_decoded, decoded
        return Fraction(0) if previous is None or decoded >= previous else (previous - decoded) * self.unit

    @property
    def last_length_s(self) -> Fraction:
        return self.last_length * self.unit or self.filler_s

    @property
    def end_s(self) -> Fraction:
        """When the stream ends, in seconds after time zero."""
        return self.seconds(self.end) + (Fraction(0) if self.last_length else self.filler_s)

    def seconds(self, stamp: int) -> Fraction:
        return stamp * self.unit - self.zero_s


def probe_media(path: str | os.PathLike) -> MediaInfo:
    """Return what a file holds, by all its packets, its first frame, and its audio up to what is not silent.

    Raises:
        FileNotFoundError, ValueError: see `read_video`.
    """
    timeline = read_timeline(path)
    if timeline.is_empty:
        raise ValueError(f"`{path}` may be damaged: none of its frames can be decoded.")
    with naming(timeline.path):
        extents, header_s, num_tracks = _read_packets(timeline)
        video, audio = extents.get(timeline.video), extents.get(timeline.audio)
        if video is not None:
            duration_s = _decoded_end(timeline, "video") if timeline.clock is None else video.end_s
        else:
            duration_s = _audio_end(timeline, audio)
        warnings = [*_duration_warnings(timeline, duration_s, header_s, video, audio)]
        if num_tracks > 1:
            warnings.append(f"it has {num_tracks} audio tracks: the default one is used, or else the largest")
        if audio is not None and _is_silent(timeline):
            warnings.append("its audio track is silent from beginning to end")
    if not duration_s:
        raise ValueError(f"`{path}` may be damaged: it lasts 0 seconds.")
    height, width = timeline.display.shown_size if timeline.display else (0, 0)
    return MediaInfo(height, width, audio is not None, duration_s, tuple(warnings))


def _read_packets(timeline: Timeline) -> tuple[dict[int, _Extent], Fraction | None, int]:
    """Return the extent of each stream, what the header says of the whole, and how many audio tracks there are.

    The header's word counts only where it is written: for bare streams FFmpeg guesses it from the bit rate.
    """
    with open_input(timeline.path) as container:
        streams = [container.streams[index] for index in (timeline.video, timeline.audio) if index is not None]
        fillers = [1 / average_rate(stream) if stream.type == "video" else Fraction(0) for stream in streams]
        extents = {
            stream.index: _Extent(stream.time_base, timeline.zero, filler_s)
            for stream, filler_s in zip(streams, fillers, strict=True)
        }
        is_written = container.duration and container.format.name not in CUT_ANYWHERE
        header_s = Fraction(container.duration, 1_000_000) if is_written else None
        for packet in container.demux(*streams):
            by_decoding = timeline.clock == "dts" and packet.stream_index == timeline.video
            stamp = packet.dts if by_decoding else packet.pts
            if stamp is None or packet.is_discard:
                continue
            extent = extents[packet.stream_index]
            if packet.dts is not None:  # unlike the others, in the order of the file
                step_s = extent.step_back_s(packet.dts)
                if step_s > MAX_STEP_BACK_S:
                    raise jump_back(timeline.path, extent.seconds(packet.dts) + step_s, step_s)
            extent.add(stamp, packet.duration or 0)
        if timeline.clock == "dts" and extents[timeline.video].starts:  # decoders hand out the first frame later
            video = extents[timeline.video]
            video.zero_s = min(video.starts) * video.unit
        return extents, header_s, sum(stream.type == "audio" for stream in container.streams)


def _audio_end(timeline: Timeline, audio: _Extent) -> Fraction:
    """Return when the audio ends, in seconds after time zero."""
    if not audio.last_length_s or timeline.is_bare_audio:
        return _decoded_end(timeline, "audio")
    said_s = timeline.audio_end_s
    if said_s is not None and 0 < audio.end_s - said_s < MAX_PADDING_PACKETS * audio.last_length_s:
        return said_s
    return audio.end_s


def _decoded_end(timeline: Timeline, kind: str) -> Fraction:
    """Return when the last frame ends, in seconds after time zero, for streams without timestamps."""
    return max((time + length for time, length, _ in timed_frames(timeline, kind, Fraction(0))), default=Fraction(0))


def _is_silent(timeline: Timeline) -> bool:
    frames = timed_frames(timeline, "audio", Fraction(0))
    return not any(np.abs(to_float(frame)).max(initial=0) > SILENCE for _, _, frame in frames)


def _duration_warnings(
    timeline: Timeline, duration_s: Fraction, header_s: Fraction | None, video: _Extent | None, audio: _Extent | None
):
    end_s = max([duration_s, *([audio.end_s] if audio else [])])
    if header_s is not None and header_s - end_s > MAX_DIFFERENCE_S:
        yield f"its header promises {float(header_s):.2f} s, but it holds {float(end_s):.2f} s: it may be cut off"
    if video is None or timeline.clock is None:
        return
    first = math.ceil(video.zero_s / video.unit)
    shown = sorted(start for start in video.starts if start >= first)
    length, start = max(((b - a, a) for a, b in zip(shown, shown[1:], strict=False)), default=(0, 0))
    if length * video.unit > MAX_STANDSTILL_S:
        where = f"for {float(length * video.unit):.2f} s from {float(video.seconds(start)):.2f} s on"
        yield f"it stands still {where}, without frames of its own"
    if audio is None or not audio.starts:
        return
    late_s, short_s = audio.seconds(min(audio.starts)), duration_s - audio.end_s
    if late_s > MAX_DIFFERENCE_S:
        yield f"its audio begins {float(late_s):.2f} s after its video"
    if abs(short_s) > MAX_DIFFERENCE_S:
        when = "before its video ends" if short_s > 0 else "after its video has ended, which is cut"
        yield f"its audio ends {float(abs(short_s)):.2f} s {when}"
