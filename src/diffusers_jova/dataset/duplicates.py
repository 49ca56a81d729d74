# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates in a whole set of clips, by the hashes of their frames and of their audio."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .filters import MAX_DISTANCE


# Two hashes of 256 bits that differ in at most 31 differ in at most one bit of one of 16 bands of 16 bits. Of half a
# million clips eight have the same band, by chance; bands of 8 bits, which need no second look, would have 2,000.
NUM_BANDS, BAND_BITS = 16, 16


class Hash(NamedTuple):
    """A perceptual hash: its bits as a number, and how many they are."""

    bits: int
    size: int

    def is_near(self, other: "Hash", max_distance: float) -> bool:
        return self.size == other.size and (self.bits ^ other.bits).bit_count() <= max_distance * self.size

    def bands(self) -> list[int]:
        """Return the bands of its last 256 bits, each with its number, so that those at other places differ."""
        mask = (1 << BAND_BITS) - 1
        return [band << BAND_BITS | (self.bits >> band * BAND_BITS) & mask for band in range(NUM_BANDS)]


def find_duplicates(measures: Sequence[Mapping[str, Any]], max_distance: float = MAX_DISTANCE) -> dict[int, int]:
    """Return the number of each clip that is nearly another one before it, and the number of that one.

    Two clips are near-duplicates where the hashes of their frames and of their audio both differ in at most
    `max_distance` of the bits: the same person in the same room says something else. Of clips without audio the
    frames decide, of audio alone the audio. Looked for among those of which sixteen bits at the same place differ in
    at most one, which near-duplicates up to a distance of 0.12 do: time grows with the clips, not with their pairs.
    """
    hashes = [tuple(_hash(each.get(f"{kind}_hash")) for kind in ("audio", "image")) for each in measures]
    seen: dict[int, list[int]] = {}
    found: dict[int, int] = {}
    for number, clip in enumerate(hashes):
        key = next((each for each in clip if each is not None), None)
        if key is None:
            continue
        bands = key.bands()
        nearby = [probe for band in bands for probe in (band, *(band ^ 1 << bit for bit in range(BAND_BITS)))]
        others = {other for probe in nearby if probe in seen for other in seen[probe]}
        near = [other for other in others if _are_near(clip, hashes[other], max_distance)]
        if near:
            found[number] = min(near)
            continue  # what is like this one is like the other, too
        for band in bands:
            seen.setdefault(band, []).append(number)
    return found


def _hash(text: str | None) -> Hash | None:
    return Hash(int(text, 16), 4 * len(text)) if text else None


def _are_near(a: Sequence[Hash | None], b: Sequence[Hash | None], max_distance: float) -> bool:
    for first, second in zip(a, b):
        if (first is None) != (second is None):
            return False
        if first is not None and not first.is_near(second, max_distance):
            return False
    return True
