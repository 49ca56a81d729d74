# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a sound says, and how often that is wrong: pocketsphinx with its English model and a grammar of few words."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import jiwer
import numpy as np
from pocketsphinx import Decoder


SAMPLING_RATE = 16000  # Hz, of pocketsphinx's model
SILENCE = np.zeros(SAMPLING_RATE // 5, np.float32)  # before and after: the decoder expects some


class WordListener:
    """Hears words of a fixed vocabulary, one or more per sound.

    Args:
        words: lower case, of the CMU dictionary.
    """

    def __init__(self, words: Sequence[str]):
        with tempfile.TemporaryDirectory(prefix="diffusers-jova-") as folder:
            grammar = Path(folder) / "words.gram"
            grammar.write_text(f"#JSGF V1.0;\ngrammar words;\npublic <words> = ( {' | '.join(words)} )+ ;\n")
            self.decoder = Decoder(jsgf=str(grammar), samprate=SAMPLING_RATE, loglevel="FATAL")

    def hear(self, waveform: np.ndarray) -> str:
        """Return the words in a mono sound (N,) at 16 kHz in [-1, 1]; "" for none."""
        padded = np.concatenate([SILENCE, waveform, SILENCE])
        self.decoder.start_utt()
        self.decoder.process_raw((padded.clip(-1, 1) * 32767).astype(np.int16).tobytes(), full_utt=True)
        self.decoder.end_utt()
        hypothesis = self.decoder.hyp()
        return hypothesis.hypstr if hypothesis else ""


def word_error_rate(references: Sequence[str], hypotheses: Sequence[str]) -> float:
    """Return substitutions + deletions + insertions over the words of the references."""
    return jiwer.wer(list(references), list(hypotheses))


def confidence_interval(
    references: Sequence[str], hypotheses: Sequence[str], draws: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the word error rate, by a bootstrap over the clips."""
    errors = []
    for reference, hypothesis in zip(references, hypotheses):
        found = jiwer.process_words(reference, hypothesis)
        errors.append((found.substitutions + found.deletions + found.insertions, len(reference.split())))
    errors = np.array(errors)
    chosen = np.random.default_rng(seed).integers(len(errors), size=(draws, len(errors)))
    rates = errors[chosen, 0].sum(axis=1) / errors[chosen, 1].sum(axis=1)
    return tuple(np.percentile(rates, (2.5, 97.5)))
