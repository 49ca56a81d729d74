# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Cuts in a clip, which end the tracks of faces: the rule of PySceneDetect 0.5's ContentDetector, which SyncNet's
authors use. Later versions have a lower threshold, and merge cuts that follow each other quickly."""

import numpy as np
from skimage.color import rgb2hsv


THRESHOLD = 30.0  # of 255
MIN_SHOT = 15  # frames
OPENCV_HSV = np.array([180, 255, 255])  # the scales of hue, saturation and value in 8 bits
STEPS = ((3200, 12), (2100, 8), (1700, 6), (1200, 5), (900, 4), (600, 3), (400, 2))  # from a width in pixels on


def find_shots(frames: np.ndarray, threshold: float = THRESHOLD) -> list[tuple[int, int]]:
    """Return (first, end) of each shot: a cut is where the mean change of hue, saturation and value is `threshold`.

    A cut within 15 frames of the cut before is passed over.

    Args:
        frames: (M, H, W, 3) uint8, RGB.
    """
    cuts: list[int] = []
    for index, change in enumerate(frame_changes(frames), start=1):
        if change >= threshold and (not cuts or index - cuts[-1] >= MIN_SHOT):
            cuts.append(index)
    return list(zip([0, *cuts], [*cuts, len(frames)]))


def frame_changes(frames: np.ndarray) -> np.ndarray:
    """Return the mean change from each frame to the next, (M - 1,), of every few pixels where a frame is wide."""
    step = next((step for width, step in STEPS if frames.shape[2] >= width), 1)
    changes, previous = [], None
    for frame in frames:
        hsv = (rgb2hsv(frame[::step, ::step]) * OPENCV_HSV).round()
        hsv[..., 0] %= OPENCV_HSV[0]
        if previous is not None:
            changes.append(np.abs(hsv - previous).mean())
        previous = hsv
    return np.array(changes)
