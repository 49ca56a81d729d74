# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A clip -> the windows of it that become samples, each cut to a bucket and with the words that are spoken in it."""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

from ..latents import nearest_num_frames
from .cache import TEXTS
from .clips import Segment, Source
from .probe import Probe


@dataclass(frozen=True)
class Bucket:
    """A size that clips are cut and resized to: pixels, pixels, frames (4k + 1)."""

    height: int
    width: int
    num_frames: int


@dataclass(frozen=True)
class Window:
    """A piece of a clip that becomes one sample.

    Attributes:
        key: the sample's name, from the source's name and the window's number.
        bucket: what it is cut to; `num_frames` is the most frames it may have.
        start_s: where it begins, in seconds of the file.
        num_frames: the frames to read at most, 4k + 1.
        texts: the three texts, "" where there is none.
        source_sha256: of the file's content.
        source_area: pixels of a frame of the file, or of its crop; 0 without video.
    """

    source: Source
    key: str
    bucket: Bucket
    start_s: Fraction
    num_frames: int
    texts: Mapping[str, str]
    source_sha256: str
    source_area: int = 0

    @property
    def digest(self) -> str:
        """A hash of all that decides about the sample: the file's content, the window and the texts."""
        content = [self.source_sha256, str(self.start_s), self.num_frames, sorted(self.texts.items())]
        content += [self.bucket.height, self.bucket.width, self.bucket.num_frames]
        content += [list(self.source.crop)] if self.source.crop else []
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]


def choose_bucket(found: Probe, buckets: tuple[Bucket, ...], frame_rate: Fraction) -> Bucket:
    """Return the bucket of the nearest shape; of those, the one that keeps most frames; then the largest that does
    not enlarge the image."""
    num_frames = round(found.duration_s * frame_rate)

    def cost(bucket: Bucket) -> tuple:
        kept = nearest_num_frames(min(num_frames, bucket.num_frames))[0]
        if not found.has_video:
            return (-kept,)
        shape = abs(math.log(found.width * bucket.height / (found.height * bucket.width)))
        area = bucket.height * bucket.width
        enlarges = area > found.height * found.width
        return round(shape, 6), -kept, enlarges, area if enlarges else -area

    return min(buckets, key=cost)


def plan_windows(
    source: Source, found: Probe, sha256: str, bucket: Bucket, frame_rate: Fraction
) -> tuple[list[Window], list[str]]:
    """Return the windows of a clip, and what there is to warn of.

    A clip that fits is one window. A longer one is split where `segments` say when the words are spoken, so that each
    window holds whole segments and no others' words; without them its first window is kept, and no transcript, which
    would say more than is heard. The up to three frames that 4k + 1 costs take no words away.
    """
    texts = {name: source.texts.get(name, "") for name in TEXTS}
    make = partial(Window, source, bucket=bucket, source_sha256=sha256, source_area=found.height * found.width)
    begin_s = source.start_s or Fraction(0)
    num_frames = round(found.duration_s * frame_rate)
    if num_frames > bucket.num_frames and source.segments:
        windows: list[Window] = []
        warnings: list[str] = []
        for group in _group(source.segments, bucket.num_frames / frame_rate):
            start_s, kept, warning = _place(group, source.segments, found.duration_s, bucket, frame_rate)
            warnings += [warning] if warning else []
            if kept:
                key = f"{sample_key(source.name)}-{len(windows):03d}"
                spoken = texts | {"transcript": _words(group)}
                windows.append(make(key=key, start_s=begin_s + start_s, num_frames=kept, texts=spoken))
        return windows, warnings

    texts["transcript"] = texts["transcript"] or _words(source.segments)
    below, above = nearest_num_frames(min(num_frames, bucket.num_frames))
    # audio alone is filled up with silence instead: nothing of it is lost
    kept = below if found.has_video or below >= num_frames else min(above, bucket.num_frames)
    warnings = []
    if (lost := num_frames - kept) > 1:
        reason = "it has 4k + 1 frames then"
        if num_frames > bucket.num_frames:
            reason = "it is longer than the bucket, and no `segments` say where words begin and end"
            if texts["transcript"] and found.has_audio:
                reason += "; the transcript may say more than is heard, and is dropped"
                texts["transcript"] = ""
        warnings.append(f"loses {lost} of {num_frames} frames ({float(lost / frame_rate):.2f} s): {reason}")
    return [make(key=sample_key(source.name), start_s=begin_s, num_frames=kept, texts=texts)], warnings


def _group(segments: tuple[Segment, ...], longest_s: Fraction) -> list[list[Segment]]:
    """Return runs of segments, each as long as a window allows."""
    groups: list[list[Segment]] = []
    for segment in segments:
        if groups and max(segment.end, *(s.end for s in groups[-1])) - groups[-1][0].start <= longest_s:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return groups


def _place(
    group: list[Segment], segments: tuple[Segment, ...], duration_s: Fraction, bucket: Bucket, frame_rate: Fraction
) -> tuple[Fraction, int, str]:
    """Return start in seconds, number of frames (0: none) and warning of the window for a run of segments.

    The longest one between the words before and the words after. Where 4k + 1 frames that hold the run's own words do
    not fit there, it reaches up to three frames into the neighbours'.
    """
    start, end = _exact(group[0].start), _exact(max(s.end for s in group))
    where, end = f"{float(start):.2f}-{float(end):.2f} s", min(end, duration_s)
    words = (end - start) * frame_rate  # in frames; one of them may be lost
    if words > bucket.num_frames + 1:
        longest_s = float(bucket.num_frames / frame_rate)
        return start, 0, f"the segment at {where} is left out: it is longer than the bucket's {longest_s:.2f} s"
    if words <= 0:
        return start, 0, f"the segment at {where} is left out: the clip lasts {float(duration_s):.2f} s"
    others = [segment for segment in segments if segment not in group]
    floor = max((_exact(s.end) for s in others if s.start < start), default=Fraction(0))
    ceiling = min((_exact(s.start) for s in others if s.start >= start), default=duration_s)
    floor, ceiling = min(floor, start), max(min(ceiling, duration_s), end)

    kept = nearest_num_frames(min(math.floor((ceiling - floor) * frame_rate), bucket.num_frames))[0]
    warning = ""
    if kept + 1 < words:
        kept = nearest_num_frames(math.ceil(words - 1))[0]
        kept += 0 if kept + 1 >= words else 4
        over_s = float(kept / frame_rate - (ceiling - floor))
        if over_s * frame_rate > 1:
            warning = f"the window at {where} reaches {over_s:.2f} s into the words beside it"
        ceiling = min(start + kept / frame_rate, duration_s)
        floor = min(floor, ceiling - kept / frame_rate)
    return max(min(start, ceiling - kept / frame_rate), floor, Fraction(0)), kept, warning


def _exact(seconds: float) -> Fraction:
    return Fraction(seconds).limit_denominator(10**6)


def _words(segments) -> str:
    return " ".join(segment.text for segment in segments if segment.text)


def sample_key(name: str) -> str:
    """Return a file name made of `name`, with a hash of it: names that differ keep differing."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(name).stem)[:60].strip("_")
    return f"{stem or 'clip'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
