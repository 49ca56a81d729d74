# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a clip must be to stay: one table, of which each row is a measure, its threshold and the reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Filter:
    """A measure and its threshold.

    Attributes:
        measure: its name in `measures`.
        is_least: whether the threshold is the least value that stays, or the most.
        threshold: the default; None: nothing is left out for it.
        reason: why a clip is left out.
        unit: of the measure, in words.
        of_faces: whether it says something only where faces are looked for.
        has_sides: whether its size counts, on either side of zero.
    """

    measure: str
    is_least: bool
    threshold: float | None
    reason: str
    unit: str
    of_faces: bool = False
    has_sides: bool = False

    @property
    def name(self) -> str:
        """Its name as a flag and in a file of settings: `min_sharpness`, `max_clipping`."""
        return f"{'min' if self.is_least else 'max'}_{self.measure}"

    def size(self, value: float) -> float:
        """Return what of a value is compared with the threshold."""
        return abs(value) if self.has_sides else value

    def leaves_out(self, measures: Mapping[str, Any], threshold: float | None) -> bool:
        """Whether a clip does not stay; one without a value stays, since others say why it has none."""
        value = measures.get(self.measure)
        if threshold is None or value is None:
            return False
        value = self.size(value)
        return value < threshold if self.is_least else value > threshold


FILTERS = (
    Filter("resolution", True, 240, "it is too small", "pixels of the shorter side"),
    Filter("sharpness", True, 0.3, "it is blurred", "0 (blurred) to 1, by Crete's measure"),
    Filter("motion", True, 0.1, "nothing moves", "percent of the longer side per second"),
    Filter("motion", False, 60, "it moves too much", "percent of the longer side per second"),
    Filter("cuts", False, 0, "it has a cut", "cuts"),
    Filter("text", False, 0.01, "it shows text", "part of the frame that lines of text cover"),
    Filter("faces", False, 1, "it shows several faces", "faces in one frame", of_faces=True),
    Filter("face_frames", True, 0.8, "its face is not seen all the time", "part of the frames", of_faces=True),
    Filter(
        "face_size", True, 0.15, "its face is too small", "height of the landmarks over the frame's", of_faces=True
    ),
    Filter("turn", False, 0.5, "its face is turned away", "0 (from the front) to 1 (in profile)", of_faces=True),
    Filter("mouth", True, 0.8, "its mouth is not seen all the time", "part of the frames", of_faces=True),
    Filter("audio", True, 1, "it has no audio", "1 with audio, 0 without"),
    Filter("loudness", True, -50, "it is too quiet", "dB of full scale"),
    Filter("silence", False, 0.9, "it is mostly silent", "part of the time below -50 dB"),
    Filter("clipping", False, 0.001, "its audio is clipped", "part of the samples"),
    Filter("snr", True, 10, "its audio is noisy", "dB from the quietest tenth to the loudest"),
    Filter("speech", True, 0.15, "nobody speaks for most of it", "part of the time, by Silero's detector"),
    Filter("other", False, 0.5, "it has music or noise without speech", "part of the time"),
    Filter("lips", True, 0.3, "its lips do not move with its audio", "Pearson's r with the loudness", of_faces=True),
    Filter(
        "lag_s", False, 0.1, "its lips are early or late", "seconds, by the loudness", of_faces=True, has_sides=True
    ),
    Filter("sync", True, 3, "SyncNet is not sure of its lips", "LSE-C", of_faces=True),
    Filter(
        "sync_lag_s", False, 0.1, "its lips are early or late by SyncNet", "seconds", of_faces=True, has_sides=True
    ),
)
NAMES = tuple(each.name for each in FILTERS)
MAX_DISTANCE = 0.1  # part of the bits of two hashes that may differ between near-duplicates


def choose_thresholds(given: Mapping[str, float | None], has_faces: bool = True) -> dict[str, float | None]:
    """Return the threshold of each filter: what is given, else its default.

    Args:
        given: by name; None switches a filter off.
        has_faces: whether faces are looked for.

    Raises:
        ValueError: for a name that no filter has.
    """
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise ValueError(f"There is no filter `{unknown[0]}`: there are {', '.join(NAMES)}.")
    return {
        each.name: None if each.of_faces and not has_faces else given.get(each.name, each.threshold)
        for each in FILTERS
    }


def reasons_against(measures: Mapping[str, Any], thresholds: Mapping[str, float | None]) -> list[str]:
    """Return why a clip does not stay; nothing if it does."""
    return [each.reason for each in FILTERS if each.leaves_out(measures, thresholds[each.name])]
