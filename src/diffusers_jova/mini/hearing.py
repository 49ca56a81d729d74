# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which words a recogniser hears on the corpus's own voices: a word that it does not hear there judges no model."""

import subprocess
from collections import Counter
from collections.abc import Sequence

import jiwer
import numpy as np

from ..evaluation.words import WordListener
from .sentences import CANDIDATES, PATTERNS, Word
from .voices import VOICES, say


SPEECH_RATE = 1.0  # Kokoro's own
UNSTRESSED = ("the", "my", "your", "is")  # inside a sentence


def pronounce(words: Sequence[str], british: bool) -> list[str]:
    """Return how espeak-ng pronounces each of some words, in the symbols that Kokoro knows.

    Raises:
        FileNotFoundError: Without the program espeak-ng.
    """
    command = ["espeak-ng", "-q", "--ipa", "-v", "en-gb" if british else "en-us"]
    try:
        result = subprocess.run(command, input="\n".join(words), capture_output=True, text=True, check=True)
    except FileNotFoundError:
        raise FileNotFoundError(
            "The program espeak-ng was not found: install it (Debian: apt install espeak-ng)."
        ) from None
    spoken = [line.strip().replace("r", "ɹ") for line in result.stdout.strip().splitlines()]
    return [
        symbols.replace("ˈ", "").replace("ˌ", "") if word in UNSTRESSED else symbols
        for word, symbols in zip(words, spoken)
    ]


def covering_sentences(candidates: dict[str, Sequence[str]], rng: np.random.Generator) -> list[tuple[str, ...]]:
    """Return sentences that have every candidate at least once, with as few repetitions as the patterns allow.

    Args:
        candidates: by kind, see `sentences.CANDIDATES`.
    """
    decks: dict[str, list[str]] = {kind: [] for kind in candidates}
    missing = {word for words in candidates.values() for word in words}

    def deal(kind: str) -> str:
        if not decks[kind]:
            decks[kind] = list(rng.permutation(candidates[kind]))
        return str(decks[kind].pop())

    sentences = []
    while missing:
        needed = Counter(kind for kind, words in candidates.items() for word in words if word in missing)
        pattern = max(PATTERNS, key=lambda kinds: (np.mean([needed[kind] for kind in kinds]), rng.uniform()))
        sentences.append(tuple(deal(kind) for kind in pattern))
        missing -= set(sentences[-1])
    return sentences


def count_heard(voice: str, words: dict[str, Word], seed: int = 0) -> dict[str, tuple[int, int]]:
    """Return how often each word was heard in sentences that a voice says, and how often it was said.

    The recogniser is pocketsphinx with a free loop over all the words: it has no grammar of sentences to guess from.
    """
    candidates = {kind: [word.text for word in words.values() if word.kind == kind] for kind in CANDIDATES}
    rng = np.random.default_rng([seed, list(VOICES).index(voice)])
    listener = WordListener(list(words))
    said: Counter[str] = Counter()
    heard: Counter[str] = Counter()
    for sentence in covering_sentences({kind: texts for kind, texts in candidates.items() if texts}, rng):
        symbols = [words[text].british if VOICES[voice].is_british else words[text].american for text in sentence]
        found = listener.hear(say(voice, " ".join(symbols), SPEECH_RATE).waveform)
        said.update(sentence)
        heard.update(words_heard(sentence, found))
    return {text: (heard[text], said[text]) for text in words}


def words_heard(sentence: Sequence[str], found: str) -> list[str]:
    """Return the words of a sentence that are at their place in what was heard."""
    (chunks,) = jiwer.process_words(" ".join(sentence), found).alignments
    return [
        word for chunk in chunks if chunk.type == "equal" for word in sentence[chunk.ref_start_idx : chunk.ref_end_idx]
    ]


def new_table() -> dict[str, Word]:
    """Return all candidates with their pronunciations, not measured yet, by their text."""
    kinds = {word: kind for kind, words in CANDIDATES.items() for word in words.split()}
    spoken = zip(kinds, pronounce(list(kinds), british=False), pronounce(list(kinds), british=True))
    return {text: Word(text, kinds[text], american, british) for text, american, british in spoken}
