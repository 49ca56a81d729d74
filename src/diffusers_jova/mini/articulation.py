# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether lips do what the phones ask for: the jaw that opens for vowels, and the lips that close for p, b and m.

When each phone is said is known of a recording. Of any other clip it is found by aligning its audio with its words.
"""
# N clips, F frames

from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..evaluation.phones import PhoneAligner
from ..nano.measuring import Lips
from .corpus import FRAME_RATE
from .mouths import VOWELS, closed_frames, merge_marks, mouth_units
from .voices import Phone


# The phones of the CMU dictionary, as `mouths.SHAPES` has them; both halves of a diphthong last equally long (ours)
SYMBOLS = {
    **{
        "AA": "ɑ",
        "AE": "æ",
        "AH": "ʌ",
        "AO": "ɔ",
        "AW": "aʊ",
        "AY": "aɪ",
        "EH": "ɛ",
        "ER": "ɜ",
        "EY": "eɪ",
        "IH": "ɪ",
    },
    **{"IY": "i", "OW": "oʊ", "OY": "ɔɪ", "UH": "ʊ", "UW": "u", "B": "b", "CH": "ʧ", "D": "d", "DH": "ð", "F": "f"},
    **{"G": "ɡ", "HH": "h", "JH": "ʤ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "ŋ", "P": "p", "R": "ɹ"},
    **{"S": "s", "SH": "ʃ", "T": "t", "TH": "θ", "V": "v", "W": "w", "Y": "j", "Z": "z", "ZH": "ʒ"},
}


@dataclass(frozen=True)
class Articulation:
    """What the lips do, and what the phones ask for.

    Attributes:
        gaps: (N, F), between the lips, over the nose's length; NaN without a face.
        jaws: (N, F), how far the jaw should open; NaN where the words were not found in the audio.
        shut: (N, F) bool, where lips should be closed for p, b or m.
        vowels: (N, F) bool, where the middle of a vowel is, and no p, b or m.
    """

    gaps: np.ndarray
    jaws: np.ndarray
    shut: np.ndarray
    vowels: np.ndarray

    @property
    def found(self) -> np.ndarray:
        """(N,) bool, the clips with phones."""
        return np.isfinite(self.jaws[:, 0])

    @property
    def lips(self) -> Lips:
        """The lips of the clips with phones, which should follow the jaw."""
        return Lips(self.gaps[self.found], self.jaws[self.found])

    def within(self, frames: slice) -> "Articulation":
        """Return the same of some frames alone."""
        return Articulation(*(values[:, frames] for values in (self.gaps, self.jaws, self.shut, self.vowels)))

    @property
    def closure(self) -> tuple[float, float]:
        """How wide lips are open for p, b and m, over how wide they are for vowels, and the same with others' phones.

        Over the mean of the clips' medians. The second is the mean gap where other clips' lips should be closed: what
        a mouth reaches that moves whenever it likes. NaN without any p, b, m or vowel.
        """
        seen = np.isfinite(self.gaps)
        medians = [np.median(gaps[chosen]) for gaps, chosen in zip(self.gaps, self.vowels & seen) if chosen.any()]
        if not medians:
            return np.nan, np.nan
        gaps, shut = np.where(seen, self.gaps, 0.0), self.shut.astype(float)
        own = np.array([(shut * gaps).sum(), (shut * seen).sum()])
        every = np.array([(shut.sum(0) * gaps).sum(), (shut.sum(0) * seen).sum()])
        (gap, number), (gap_of_others, number_of_others) = own, every - own
        wide = np.mean(medians)
        return (
            gap / number / wide if number else np.nan,
            gap_of_others / number_of_others / wide if number_of_others else np.nan,
        )


def symbols_of(phones: Iterable) -> list[Phone]:
    """Return phones of the CMU dictionary in the symbols of `mouths.SHAPES`, without pauses.

    Args:
        phones: of `evaluation.phones`, with `name`, `start_s` and `end_s`.
    """
    found = []
    for phone in phones:
        parts = SYMBOLS.get(phone.name, "")
        edges = np.linspace(phone.start_s, phone.end_s, len(parts) + 1)
        found += [Phone(symbol, float(start), float(end)) for symbol, start, end in zip(parts, edges, edges[1:])]
    return found


def aligned_phones(
    transcripts: Sequence[str], waveforms: np.ndarray, num_workers: int = 2
) -> list[list[Phone] | None]:
    """Return the phones of clips that say known words; None where the words are not found in the audio.

    Args:
        transcripts: N texts of words in pocketsphinx's dictionary.
        waveforms: (N, samples) float in [-1, 1], mono at 16 kHz.
        num_workers: processes that listen.
    """
    with ProcessPoolExecutor(num_workers) as pool:
        return list(pool.map(_align, transcripts, waveforms, chunksize=5))


def _align(transcript: str, waveform: np.ndarray) -> list[Phone] | None:
    found = _aligner().align(transcript, waveform)
    return None if found is None else symbols_of(found) or None


_aligner = lru_cache(maxsize=1)(PhoneAligner)  # one of each process


def articulate(gaps: np.ndarray, phones: Sequence[Sequence[Phone] | None]) -> Articulation:
    """Return how lips (N, F) go with the phones of their clips; None: of which they are not known."""
    num_frames = gaps.shape[1]
    asked = [
        (np.full(num_frames, np.nan), *np.zeros((2, num_frames), bool)) if each is None else _asked(each, num_frames)
        for each in phones
    ]
    return Articulation(gaps, *(np.stack(values) for values in zip(*asked)))


def _asked(phones: Sequence[Phone], num_frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return how far the jaw should open in each frame, where lips should be closed, and where vowels are."""
    jaw = np.array([units["jawOpen"] for units in mouth_units(phones, num_frames, FRAME_RATE)])
    merged = merge_marks(phones)
    shut = closed_frames(merged, num_frames, FRAME_RATE) >= 1
    middles = [int((phone.start_s + phone.end_s) / 2 * FRAME_RATE) for phone in merged if phone.symbol in VOWELS]
    vowels = np.isin(np.arange(num_frames), middles) & ~shut
    return jaw, shut, vowels
