# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Spoken digits of flite's voices, and how bright the audio is in each frame of a video."""

import subprocess
import tempfile
import wave
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..evaluation.loudness import SAMPLING_RATE, frame_pieces


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Voice:
    """One of flite's voices.

    Attributes:
        caption: what an audio caption says of it.
        person: the word of the people who speak with it, see `faces.PEOPLE`.
        pitch: its middle in Hz.
    """

    caption: str
    person: str
    pitch: float


VOICES = {
    "slt": Voice("A clear female voice.", "woman", 170),
    "rms": Voice("A calm male voice.", "man", 100),
    "awb": Voice("A Scottish male voice.", "man", 125),
    "kal16": Voice("A robotic male voice.", "man", 105),
}
PACES = (0.85, 0.95)  # of flite's durations
FASTEST = 0.7  # for what would not fit
PITCHES = (0.94, 1.06)  # of the voice's own
LOUDNESS = 0.12  # root mean square of speech
SHORTEST_PAUSE = 2560  # samples: 0.16 s
FADE = 80  # samples, between speech and pause


@lru_cache(maxsize=64)
def speak(voice: str, text: str, pace: float = 0.85, pitch: float = 1.0) -> np.ndarray:
    """Return a text as flite says it, (N,) float32 at 16 kHz, at an even loudness, pauses cut off or silent.

    Args:
        text: a comma makes a pause.
        pace: of its duration, below 1 is faster.
        pitch: of the voice's own.

    Raises:
        FileNotFoundError: If flite is not installed.
        ValueError: If the voice has another sampling rate.
    """
    with tempfile.TemporaryDirectory(prefix="diffusers-jova-") as folder:
        path = Path(folder) / "text.wav"
        options = ["--setf", f"duration_stretch={pace}", "--setf", f"int_f0_target_mean={pitch * VOICES[voice].pitch}"]
        try:
            result = subprocess.run(
                ["flite", "-voice", voice, "-psdur", *options, "-t", text, "-o", str(path)],
                capture_output=True,
                text=True,
                check=True,
            )
        except FileNotFoundError:
            raise FileNotFoundError(
                "The program flite was not found: install it (Debian: apt install flite)."
            ) from None
        with wave.open(str(path)) as file:
            if file.getframerate() != SAMPLING_RATE:
                raise ValueError(f"flite's voice {voice!r} speaks at {file.getframerate()} Hz, not {SAMPLING_RATE}.")
            sound = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
    # "pau:0.139 s:0.210 ih:0.298 ... pau:0.529": each phone and when it ends, a pause first and last
    phones = [entry.split(":") for entry in result.stdout.split()]
    ends = [round(float(end_s) * SAMPLING_RATE) for _, end_s in phones]
    is_spoken = np.repeat([float(name != "pau") for name, _ in phones], np.diff(ends, prepend=0))
    is_spoken = np.convolve(is_spoken, np.ones(FADE) / FADE, mode="same")
    # the voices' pauses are not silent, and pocketsphinx hears words in their hiss
    length = min(len(sound), len(is_spoken))
    sound = (sound[:length] * is_spoken[:length])[: ends[-2]]
    for (name, _), start, end in reversed(list(zip(phones, [0, *ends], ends))[1:-1]):
        if name == "pau":
            missing = max(SHORTEST_PAUSE - (end - start), 0)
            sound = np.insert(sound, (start + end) // 2, np.zeros(missing, sound.dtype))
    sound = sound[ends[0] :]
    return (sound * (LOUDNESS / np.sqrt(np.mean(sound**2)))).astype(np.float32)


def frame_brightness(waveform: np.ndarray, num_frames: int, frame_rate: float, sampling_rate: int) -> np.ndarray:
    """Return the spectral centroid in Hz of a waveform (N,) during each frame of a video, (num_frames,)."""
    centroids = []
    for piece in frame_pieces(waveform, num_frames, frame_rate, sampling_rate):
        power = np.abs(np.fft.rfft(piece * np.hanning(len(piece)))) ** 2
        frequencies = np.fft.rfftfreq(len(piece), 1 / sampling_rate)
        centroids.append((power * frequencies).sum() / max(power.sum(), 1e-9))
    return np.array(centroids)
