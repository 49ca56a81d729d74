# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What an image of a small model shows: which colours, and whose face."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .faces import COLOURS, HAIR_COLOURS


Regions = Mapping[str, Sequence[tuple[float, float, float, float]]]

# Where things are in a drawn image, over its size: top, bottom, left, right.
REGIONS: Regions = {
    "wall": ((0.0, 0.3, 0.0, 0.08), (0.0, 0.3, 0.92, 1.0)),
    "hair": ((0.07, 0.12, 0.42, 0.58),),
    "shirt": ((0.93, 1.0, 0.3, 0.7),),
}
TABLES = {"wall": COLOURS, "hair": HAIR_COLOURS, "shirt": COLOURS}


def region_colour(frames: np.ndarray, name: str, regions: Regions = REGIONS) -> np.ndarray:
    """Return the median colour (3,) of a thing, such as "wall", in frames (N, H, W, 3) uint8."""
    height, width = frames.shape[1:3]
    pieces = [
        frames[:, round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        for top, bottom, left, right in regions[name]
    ]
    return np.median(np.concatenate([piece.reshape(-1, 3) for piece in pieces]), axis=0)


def colour_word(
    frames: np.ndarray, name: str, regions: Regions = REGIONS, tables: Mapping[str, Mapping[str, Any]] = TABLES
) -> str:
    """Return the word of the captions whose colour is nearest to that of a thing in frames (N, H, W, 3) uint8.

    Args:
        name: of the thing, such as "wall".
        regions: where the things are.
        tables: of each thing, the colours from 0 to 255 by their words.
    """
    colour = region_colour(frames, name, regions)
    return min(tables[name], key=lambda word: np.linalg.norm(colour - np.array(tables[name][word])))


def identity_distance(frames: np.ndarray, reference: np.ndarray) -> float:
    """Return the mean absolute difference of a clip's mean frame and an image (H, W, 3) uint8, over 255."""
    return float(np.abs(frames.astype(np.float32).mean(axis=0) - reference.astype(np.float32)).mean() / 255)
