# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Near-duplicates in a whole set of clips, by the hashes of their frames and of their audio."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from .filters import MAX_DISTANCE


class Hash(NamedTuple):
    """A perceptual hash: its bits as a number, and how many they are."""

    bits: int
    size: int

    def is_near(self, other: "Hash", max_distance: float) -> bool:
        return self.size == other.size and (self.bits ^ other.bits).bit_count() <= max_distance * self.size

    def probes(self, max_distance: float) -> tuple[list[int], list[int]]:
        """Return keys to be found by, and keys to look for: a hash that is near has one of the former among these.

        The bits are divided into so many bands that those that differ cannot be two in each of them, so near ones
        have a band in which one bit differs at most. Of 256 bits and a distance of 0.1 these are 13 bands of 19 and
        20 bits: of half a million clips 160 have such a band by chance.
        """
        num_bands = min(max(int(max_distance * self.size) // 2 + 1, 1), self.size)
        edges = [band * self.size // num_bands for band in range(num_bands + 1)]
        own, near = [], []
        for band, (first, end) in enumerate(pairwise(edges)):
            width = end - first
            key = band << 32 | self.bits >> first & (1 << width) - 1  # those of other bands differ, but for wide ones
            own.append(key)
            near += [key, *(key ^ 1 << bit for bit in range(width))]
        return own, near


def find_duplicates(measures: Sequence[Mapping[str, Any]], max_distance: float = MAX_DISTANCE) -> dict[int, int]:
    """Return the number of each clip that is nearly another one before it, and the number of that one.

    Two clips are near-duplicates where the hashes of their frames and of their audio both differ in at most
    `max_distance` of the bits: the same person in the same room says something else. Of clips without audio the
    frames decide, of audio alone the audio. Only clips that share a key are compared, see `Hash.probes`.
    """
    hashes = [tuple(_hash(each.get(f"{kind}_hash")) for kind in ("audio", "image")) for each in measures]
    seen: dict[int, list[int]] = {}
    found: dict[int, int] = {}
    for number, clip in enumerate(hashes):
        key = next((each for each in clip if each is not None), None)
        if key is None:
            continue
        own, nearby = key.probes(max_distance)
        others = {other for probe in nearby if probe in seen for other in seen[probe]}
        near = [other for other in others if _are_near(clip, hashes[other], max_distance)]
        if near:
            found[number] = min(near)
            continue  # what is like this one is like the other, too
        for probe in own:
            seen.setdefault(probe, []).append(number)
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
