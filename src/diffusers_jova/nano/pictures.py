# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What an image of the nano model shows: which colours, and whose face."""

import numpy as np

from .faces import COLOURS, HAIR_COLOURS


# Where things are in a drawn image, over its size: top, bottom, left, right.
REGIONS = {
    "wall": ((0.0, 0.3, 0.0, 0.08), (0.0, 0.3, 0.92, 1.0)),
    "hair": ((0.07, 0.12, 0.42, 0.58),),
    "shirt": ((0.93, 1.0, 0.3, 0.7),),
}
TABLES = {"wall": COLOURS, "hair": HAIR_COLOURS, "shirt": COLOURS}


def region_colour(frames: np.ndarray, name: str) -> np.ndarray:
    """Return the median colour (3,) of "wall", "hair" or "shirt" in frames (N, H, W, 3) uint8."""
    height, width = frames.shape[1:3]
    pieces = [
        frames[:, round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        for top, bottom, left, right in REGIONS[name]
    ]
    return np.median(np.concatenate([piece.reshape(-1, 3) for piece in pieces]), axis=0)


def colour_word(frames: np.ndarray, name: str) -> str:
    """Return the word of the captions whose colour is nearest to that of "wall", "hair" or "shirt"."""
    colour = region_colour(frames, name)
    return min(TABLES[name], key=lambda word: np.linalg.norm(colour - np.array(TABLES[name][word])))


def identity_distance(frames: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean absolute difference of a clip's mean frame and an image (H, W, 3) uint8, over 255."""
    return float(np.abs(frames.astype(np.float32).mean(axis=0) - reference.astype(np.float32)).mean() / 255)
