# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A clip that is a piece of a film -> a file of its own."""

from fractions import Fraction
from pathlib import Path

import numpy as np

from ..data.clips import Source
from ..images import resize_frame
from ..media import iter_frames, read_audio, write_video
from ..media.reading import read_timeline


def cut(
    source: Source,
    path: Path,
    target: Path,
    *,
    longest_s: Fraction | None = None,
    max_frame_rate: Fraction | None = None,
    side: int | None = None,
    crf: int = 18,
) -> None:
    """Write the frames and the audio of a clip with video to an mp4 of its own.

    Args:
        path: at which the source's file can be read.
        target: of the mp4.
        longest_s: how much of it at most, in seconds.
        max_frame_rate: frames per second at most; None for the film's own.
        side: pixels of the shorter side; None for the clip's own.
        crf: see `write_video`.

    Raises:
        ValueError: if it cannot be read.
        OSError: if it cannot be written.
    """
    start_s = source.start_s or Fraction(0)
    length_s = None if source.end_s is None else source.end_s - start_s
    given = [length for length in (length_s, longest_s) if length is not None]
    duration_s, rate = min(given, default=None), read_timeline(path).frame_rate
    rate = rate if max_frame_rate is None else min(rate, max_frame_rate)
    frames = []
    for frame in iter_frames(path, rate, start_s=start_s, duration_s=duration_s):
        x1, y1, x2, y2 = source.crop or (0, 0, frame.shape[1], frame.shape[0])
        if side is None:
            frames.append(frame[y1:y2, x1:x2])
        else:
            scale = side / min(x2 - x1, y2 - y1)
            width, height = (2 * max(round(scale * length / 2), 1) for length in (x2 - x1, y2 - y1))
            frames.append(resize_frame(frame, (x1, y1, x2, y2), height, width))
    audio, sampling_rate = read_audio(path, None, None, start_s=start_s, duration_s=len(frames) / rate)
    write_video(target, np.stack(frames), rate, audio, sampling_rate, ai_generated=False, crf=crf)
