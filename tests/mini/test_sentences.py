# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The vocabulary and its sentences: what was measured, what is held out, which words are refused."""

from dataclasses import replace

import numpy as np
import pytest

from diffusers_jova.mini import hearing
from diffusers_jova.mini.hearing import covering_sentences, pronounce, words_heard
from diffusers_jova.mini.sentences import (
    CANDIDATES,
    KINDS_HELD_OUT,
    LEAST_HEARD,
    PATTERNS,
    Word,
    check_words,
    draw_sentence,
    is_held_out_place,
    kind_held_out,
    measured_words,
    read_words,
    vocabulary,
    words_by_kind,
    write_words,
)


def test_every_candidate_was_measured_and_at_least_150_words_passed():
    assert {kind: words.split() for kind, words in CANDIDATES.items()} == {
        kind: [word.text for word in measured_words().values() if word.kind == kind] for kind in CANDIDATES
    }
    assert len(vocabulary()) >= 150 and all(word.heard >= LEAST_HEARD for word in vocabulary().values())
    assert all(said > 0 for word in measured_words().values() for _, said in word.recordings.values())
    assert all(4 <= len(pattern) <= 6 for pattern in PATTERNS) and all(words_by_kind().values())


def test_a_word_that_is_not_heard_does_not_pass():
    word = Word("anna", "name", "ˈænə", "ˈanə", {"heart": (7, 8), "emma": (1, 2)})
    assert word.heard == 0.8 and word.passes
    assert not replace(word, recordings={"heart": (7, 8), "emma": (0, 2)}).passes
    assert not replace(word, recordings={}).passes


def test_training_sentences_have_nothing_that_is_held_out():
    rng = np.random.default_rng(0)
    for _ in range(200):
        pattern, words = draw_sentence(rng)
        assert kind_held_out(pattern, words) is None
        assert [measured_words()[word].kind for word in words] == list(PATTERNS[pattern])


@pytest.mark.parametrize("kind", KINDS_HELD_OUT)
def test_held_out_sentences_say_why(kind):
    pattern, words = draw_sentence(np.random.default_rng(1), kind)
    assert kind_held_out(pattern, words) == kind
    assert any(is_held_out_place(word, pattern, place) for place, word in enumerate(words)) == (kind == "place")


def test_words_that_are_held_out_at_a_place_are_in_training_at_another():
    places = {}
    for pattern, kinds in enumerate(PATTERNS):
        for place, kind in enumerate(kinds):
            for word in words_by_kind()[kind]:
                places.setdefault(word, []).append(is_held_out_place(word, pattern, place))
    assert 0.03 < np.mean(sum(places.values(), [])) < 0.2
    assert all(not all(held) for held in places.values())


def test_words_are_checked_and_the_nearest_named():
    assert check_words("Anna sees two red books") == ("anna", "sees", "two", "red", "books")
    with pytest.raises(ValueError, match=r"^Not among the \d+ words of the corpus: `flowrs` \(nearest: flowers, "):
        check_words("anna sees two red flowrs")


def test_a_table_is_read_as_it_was_written(tmp_path):
    words = list(measured_words().values())[:3]
    write_words(words, tmp_path / "words.csv")
    assert list(read_words(tmp_path / "words.csv").values()) == words


def test_sentences_to_measure_have_every_word():
    candidates = {kind: words.split() for kind, words in CANDIDATES.items()}
    sentences = covering_sentences(candidates, np.random.default_rng(0))
    assert {word for sentence in sentences for word in sentence} == {w for words in candidates.values() for w in words}
    assert len(sentences) < 100


def test_only_words_at_their_place_were_heard():
    assert words_heard(("anna", "sees", "two"), "anna two") == ["anna", "two"]
    assert words_heard(("anna", "sees", "two"), "") == []


@pytest.mark.needs_program("espeak-ng")
def test_the_table_has_the_pronunciations_of_espeak_ng():
    texts = ["anna", "the", "flowers"]
    assert pronounce(texts, british=True) == [measured_words()[text].british for text in texts]


def test_without_espeak_ng_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(hearing.subprocess, "run", lambda *args, **kwargs: open("/nowhere/at/all"))
    with pytest.raises(FileNotFoundError, match="apt install espeak-ng"):
        pronounce(["anna"], british=False)
