# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What audio says, and how often that is wrong: pocketsphinx with all of English, or a grammar of few words."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
from pocketsphinx import Decoder

from ..vocabulary import spoken_words
from .loudness import SAMPLING_RATE
from .measurement import Measurement, Status


DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SILENCE = np.zeros(SAMPLING_RATE // 5, np.float32)  # before and after: the decoder expects some
INAUDIBLE = 1e-4  # of a peak, -80 dB: in 16 bits hardly more than zeros, in which the decoder finds words


class WordListener:
    """Hears words of a fixed vocabulary, any number of them per clip.

    Words of a list are heard without pocketsphinx's last pass, `bestpath`: over all that a murmur might say it takes
    minutes, and it gets more of the recordings wrong (docs/decisions.md, 2026-11-28).

    Args:
        words: lower case, of the CMU dictionary; None for English as pocketsphinx's language model has it.
    """

    def __init__(self, words: Sequence[str] | None = None):
        if words is None:
            self.decoder = Decoder(samprate=SAMPLING_RATE, loglevel="FATAL")
        else:
            with tempfile.TemporaryDirectory(prefix="diffusers-jova-") as folder:
                grammar = Path(folder) / "words.gram"
                grammar.write_text(f"#JSGF V1.0;\ngrammar words;\npublic <words> = ( {' | '.join(words)} )* ;\n")
                self.decoder = Decoder(jsgf=str(grammar), samprate=SAMPLING_RATE, loglevel="FATAL", bestpath=False)
        self.cepstral_mean = self.decoder.get_cmn(False)

    def hear(self, waveform: np.ndarray) -> str:
        """Return the words in mono audio (N,) at 16 kHz in [-1, 1], whatever was heard before; "" for none."""
        if np.abs(waveform).max(initial=0) < INAUDIBLE:
            return ""
        listen(self.decoder, np.concatenate([SILENCE, waveform, SILENCE]), self.cepstral_mean)
        hypothesis = self.decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


def listen(decoder: Decoder, waveform: np.ndarray, cepstral_mean: str) -> None:
    """Let pocketsphinx hear mono audio (N,) at 16 kHz in [-1, 1], as if it were its first.

    Args:
        cepstral_mean: of the new decoder; it adapts it to what it hears, and then heard words in silence.
    """
    decoder.set_cmn(cepstral_mean)
    decoder.start_utt()
    decoder.process_raw((waveform.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
    decoder.end_utt()


def measure_spoken_words(listener: WordListener, text: str | None, waveform: np.ndarray | None) -> Measurement:
    """Return `words`, the errors in what is heard over the words of the text; in silence all of them are missing.

    Statuses: `no_text` without words in the text, `silent` without audio.

    Args:
        waveform: (samples,) float in [-1, 1], mono at 16 kHz.
    """
    wanted = spoken_words(text or "")
    if not wanted:
        return Measurement(Status.NO_TEXT)
    if waveform is None:
        return Measurement(Status.SILENT)
    heard = listener.hear(waveform)
    errors, num_words = count_errors(wanted, heard)
    details = {"transcript": heard, "errors": errors, "words": num_words}
    return Measurement(Status.OK, {"words": errors / num_words}, details)


def count_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Return substitutions + deletions + insertions, and the words of the reference."""
    found = jiwer.process_words(reference, hypothesis)
    return found.substitutions + found.deletions + found.insertions, len(reference.split())


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return substitutions + deletions + insertions over the words of the references."""
    return jiwer.wer(list(references), list(hypotheses))


def confidence_interval(
    references: Sequence[str], hypotheses: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the word error rate, by a bootstrap over the clips."""
    errors = np.array([count_errors(*texts) for texts in zip(references, hypotheses)])
    chosen = np.random.default_rng(seed).integers(len(errors), size=(draws, len(errors)))
    rates = errors[chosen, 0].sum(axis=1) / errors[chosen, 1].sum(axis=1)
    return tuple(np.percentile(rates, (2.5, 97.5)))
