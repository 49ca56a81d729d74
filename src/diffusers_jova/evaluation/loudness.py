# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How loud audio is, in all and during each frame of a video."""

import numpy as np

from .measurement import Measurement, Status


SAMPLING_RATE = 16000  # Hz, of all that listens without weights
PIECE_S = 0.02  # that is silent or not
SILENCE_DB = -50.0  # relative to full scale
FLOOR_DB = -120.0  # what digital silence is given


def frame_loudness(waveform: np.ndarray, num_frames: int, frame_rate: float, sampling_rate: int) -> np.ndarray:
    """Return the root mean square of a waveform (N,) during each frame of a video, (num_frames,)."""
    return np.array(
        [np.sqrt(np.mean(piece**2)) for piece in frame_pieces(waveform, num_frames, frame_rate, sampling_rate)]
    )


def frame_pieces(waveform: np.ndarray, num_frames: int, frame_rate: float, sampling_rate: int) -> list[np.ndarray]:
    """Return the samples during each frame; what is missing at the end is silence."""
    edges = np.round(np.arange(num_frames + 1) / frame_rate * sampling_rate).astype(int)
    waveform = np.pad(np.asarray(waveform, np.float64), (0, max(edges[-1] - len(waveform), 0)))
    return [waveform[start:end] for start, end in zip(edges[:-1], edges[1:])]


def measure_loudness(waveform: np.ndarray | None) -> Measurement:
    """Return `loudness`, the root mean square in dB of full scale, at least -120, and `silence`, the part below -50.

    Status `silent` without audio; digital silence has values.

    Args:
        waveform: (samples,) float in [-1, 1], mono at 16 kHz.
    """
    if waveform is None or not len(waveform):
        return Measurement(Status.SILENT)
    size = round(PIECE_S * SAMPLING_RATE)
    pieces = np.array_split(waveform, max(len(waveform) // size, 1))
    levels = np.array([decibels(piece) for piece in pieces])
    values = {"loudness": decibels(waveform), "silence": float((levels < SILENCE_DB).mean())}
    return Measurement(Status.OK, values, {"peak": float(np.abs(waveform).max())})


def decibels(waveform: np.ndarray) -> float:
    """Return the root mean square of audio in dB of full scale, at least -120."""
    mean_square = float(np.mean(np.square(waveform, dtype=np.float64)))
    return 10 * float(np.log10(max(mean_square, 10 ** (FLOOR_DB / 10))))
