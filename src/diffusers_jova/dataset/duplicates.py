# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates in a whole set of clips, by the hashes of their frames and of their audio."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .filters import MAX_DISTANCE


NUM_BANDS = 32  # of 8 bits, one of which two hashes of 256 bits share that differ in up to 31


def find_duplicates(measures: Sequence[Mapping[str, Any]], max_distance: float = MAX_DISTANCE) -> dict[int, int]:
    """Return the number of each clip that is nearly another one before it, and the number of that one.

    Two clips are near-duplicates where the hashes of their frames and of their audio both differ in at most
    `max_distance` of the bits: the same person in the same room says something else. Of clips without audio the
    frames decide, of audio alone the audio. Looked for among those that share eight bits at the same place, which
    near-duplicates up to a distance of 0.12 do: time grows with the clips, not with their pairs.
    """
    hashes = [tuple(_bits(each.get(f"{kind}_hash")) for kind in ("audio", "image")) for each in measures]
    seen: dict[tuple[int, int], list[int]] = {}
    found: dict[int, int] = {}
    for number, clip in enumerate(hashes):
        key = next((bits for bits in clip if bits is not None), None)
        if key is None:
            continue
        bands = list(enumerate(np.packbits(key[: 8 * NUM_BANDS]).tolist()))
        near = sorted({other for band in bands for other in seen.get(band, ())})
        other = next((other for other in near if _are_near(clip, hashes[other], max_distance)), None)
        if other is not None:
            found[number] = other
            continue  # what is like this one is like the other, too
        for band in bands:
            seen.setdefault(band, []).append(number)
    return found


def _bits(text: str | None) -> np.ndarray | None:
    return None if not text else np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8))


def _are_near(a: Sequence[np.ndarray | None], b: Sequence[np.ndarray | None], max_distance: float) -> bool:
    for first, second in zip(a, b):
        if (first is None) != (second is None):
            return False
        if first is not None and (len(first) != len(second) or (first != second).mean() > max_distance):
            return False
    return True
