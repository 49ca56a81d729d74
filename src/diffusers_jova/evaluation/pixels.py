# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Frames at the sizes and rates that the measuring networks were given."""

from fractions import Fraction

import numpy as np


def resize_bilinear(image: np.ndarray, height: int, width: int, step: tuple[float, float] | None = None) -> np.ndarray:
    """Return an image (H, W, C) uint8 at another size, as OpenCV's `INTER_LINEAR` does: without a low-pass filter.

    OpenCV's fixed-point arithmetic may differ by one grey level, but for quarters and halves.

    Args:
        step: source rows and columns per output row and column; None for the quotient of the sizes.
    """
    row_step, column_step = step or (image.shape[0] / height, image.shape[1] / width)
    top, bottom, down = _neighbours(height, row_step, image.shape[0])
    left, right, across = _neighbours(width, column_step, image.shape[1])
    rows = image[top] * (1 - down)[:, None, None] + image[bottom] * down[:, None, None]
    pixels = rows[:, left] * (1 - across)[:, None] + rows[:, right] * across[:, None]
    return (pixels + 0.5).astype(np.uint8)


def _neighbours(size: int, step: float, source_size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    positions = ((np.arange(size, dtype=np.float32) + 0.5) * step - 0.5).clip(0, source_size - 1)
    first = positions.astype(np.int64)
    return first, np.minimum(first + 1, source_size - 1), (positions - first).astype(np.float32)


def frames_at_rate(num_frames: int, frame_rate: float | Fraction, target_rate: float | Fraction) -> np.ndarray:
    """Return which source frame each frame of a clip at `target_rate` shows, as FFmpeg's filter `fps` chooses.

    A frame belongs to the nearest output time; of several the last is shown, and gaps repeat the frame before.
    """
    ratio = Fraction(target_rate).limit_denominator(10**6) / Fraction(frame_rate).limit_denominator(10**6)
    first_shown = np.array([int(index * ratio + Fraction(1, 2)) for index in range(num_frames)])
    num_shown = int(num_frames * ratio + Fraction(1, 2))
    return np.searchsorted(first_shown, np.arange(num_shown), side="right") - 1
