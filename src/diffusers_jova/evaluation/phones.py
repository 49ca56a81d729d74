# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether lips make the sounds that are said: pocketsphinx finds each phone of the text in the audio, and what the
mouth does for it is held against dlib's landmarks.
"""
# F frames, P = 68 landmarks; NaN: no face

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from pocketsphinx import Decoder

from ..vocabulary import spoken_words
from .lips import best_lag, correlation, mouth_openings, mouth_widths, shifted, why_not_lips
from .loudness import SAMPLING_RATE
from .measurement import Measurement, Status
from .words import SILENCE, listen


STEPS_PER_SECOND = 100  # of pocketsphinx's times

# What a mouth does for the phones of the CMU dictionary [ours]: opening, 0 (closed) to 1, and width, -1 (round) to 1.
SHAPES = {
    "AA AE AO AW AY": (1.0, 0.0),
    "AH EH ER EY": (0.7, 0.3),
    "IH IY Y": (0.35, 0.8),
    "OW OY": (0.6, -0.6),
    "UH UW W": (0.3, -1.0),
    "B M P": (0.0, 0.0),
    "F V": (0.1, 0.2),
    "CH JH SH ZH": (0.25, -0.4),
    "L R": (0.35, -0.2),
    "D DH G HH K N NG S T TH Z": (0.2, 0.3),
    "SIL": (0.0, 0.0),
}
OPENING_AND_WIDTH = {phone: shape for phones, shape in SHAPES.items() for phone in phones.split()}
REST = OPENING_AND_WIDTH["SIL"]
GLIDE_S = 0.16  # over which one shape becomes the next
CURVE_RATE = 1000  # Hz, of the curve before it is averaged over frames


class Phone(NamedTuple):
    """A phone of the CMU dictionary, "SIL" for a pause, and when it is said."""

    name: str
    start_s: float
    end_s: float


class PhoneAligner:
    """Finds the phones of a known text in audio, with pocketsphinx's English model and dictionary."""

    def __init__(self):
        self.decoder = Decoder(samprate=SAMPLING_RATE, loglevel="FATAL", bestpath=False)
        self.cepstral_mean = self.decoder.get_cmn(False)

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text that are not in the dictionary."""
        return [word for word in spoken_words(text).split() if self.decoder.lookup_word(word) is None]

    def align(self, text: str, waveform: np.ndarray) -> list[Phone] | None:
        """Return the phones in order; None where the text cannot be found in the audio.

        Args:
            text: of words in the dictionary.
            waveform: (samples,) float in [-1, 1], mono at 16 kHz.

        Raises:
            ValueError: for a word that is not in the dictionary, or no word.
        """
        words, unknown = spoken_words(text), self.unknown_words(text)
        if not words or unknown:
            named = f"does not have {', '.join(unknown)}" if unknown else "needs words"
            raise ValueError(f"pocketsphinx's dictionary {named}: phones are found for English words written out.")
        padded = np.concatenate([SILENCE, waveform, SILENCE])
        try:
            self.decoder.set_align_text(words)
            listen(self.decoder, padded, self.cepstral_mean)  # finds the words
            self.decoder.set_alignment()
            listen(self.decoder, padded, self.cepstral_mean)  # finds the phones in them
            found = self.decoder.get_alignment()
        except RuntimeError:
            return None
        before = len(SILENCE) / SAMPLING_RATE
        return [
            Phone(phone.name, start - before, start - before + phone.duration / STEPS_PER_SECOND)
            for word in found or ()
            for phone in word
            for start in [phone.start / STEPS_PER_SECOND]
        ] or None


def mouth_shapes(phones: Sequence[Phone], num_frames: int, frame_rate: float) -> np.ndarray:
    """Return how far a mouth that says phones is open, and how wide, in each frame, (F, 2)."""
    seconds = (np.arange(round(num_frames / frame_rate * CURVE_RATE)) + 0.5) / CURVE_RATE
    curve = np.tile(REST, (len(seconds), 1))
    for phone in phones:
        curve[(seconds >= phone.start_s) & (seconds < phone.end_s)] = OPENING_AND_WIDTH.get(phone.name, REST)
    window = np.hanning(round(GLIDE_S * CURVE_RATE) + 2)[1:-1]
    padded = np.pad(curve, ((len(window) // 2, len(window) - 1 - len(window) // 2), (0, 0)), mode="edge")
    smooth = np.stack([np.convolve(column, window / window.sum(), mode="valid") for column in padded.T], axis=1)
    middles = (np.arange(num_frames) + 0.5) / frame_rate
    edges = np.searchsorted(seconds, [middles - 0.5 / frame_rate, middles + 0.5 / frame_rate])
    return np.stack([smooth[start : max(end, start + 1)].mean(axis=0) for start, end in edges.T])


def measure_lips_by_phones(
    aligner: PhoneAligner,
    landmarks: np.ndarray,
    frame_rate: float | Fraction,
    text: str | None,
    waveform: np.ndarray | None,
) -> Measurement:
    """Return how the lips' gap goes with what the phones ask for: r in time, and the lag in frames of the best r.

    The mouth's width is only a detail. Statuses: those of `measure_lips_by_loudness`;
    `no_text` without words in the text, `no_sync` where the words cannot be found in the audio.

    Args:
        landmarks: (F, P, 2) of `lips.find_landmarks`.
        waveform: (samples,) float in [-1, 1], mono at 16 kHz.

    Raises:
        ValueError: for a word that is not in pocketsphinx's dictionary.
    """
    if not spoken_words(text or ""):
        return Measurement(Status.NO_TEXT)
    gaps = mouth_openings(landmarks)
    problem = why_not_lips(gaps, waveform)
    if problem is not None:
        return Measurement(problem)
    phones = aligner.align(text, waveform)
    if phones is None:
        return Measurement(Status.NO_SYNC, details={"reason": "the words were not found in the audio"})
    opening, width = mouth_shapes(phones, len(gaps), float(frame_rate)).T
    lag = best_lag(gaps, opening)
    details = {
        "lag": lag,
        "r_at_lag": correlation(*shifted(gaps, opening, lag)),
        "r_of_width": correlation(mouth_widths(landmarks), width),
    }
    return Measurement(Status.OK, {"lips-phones": correlation(gaps, opening), "lag-phones": float(abs(lag))}, details)
