# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""pocketsphinx hears real speech right and noise wrong."""

import numpy as np
import pytest

from diffusers_jova.evaluation.words import WordListener, confidence_interval, word_error_rate
from diffusers_jova.nano.speech import DIGITS, speak


@pytest.fixture
def listener():
    """One per test: pocketsphinx adapts its cepstral mean to what it has heard before."""
    return WordListener(DIGITS)


@pytest.mark.needs_program("flite")
@pytest.mark.parametrize("text", ["three", "four nine", "one, five eight"])
def test_it_hears_digits(listener, text):
    assert listener.hear(speak("awb", text, pace=1.0)) == text.replace(",", "")


def test_it_hears_nothing_in_silence_and_goes_on(listener):
    assert listener.hear(np.zeros(16000, np.float32)) == ""
    assert listener.hear(np.zeros(0, np.float32)) == ""


def test_word_error_rate_counts_all_three_kinds():
    assert word_error_rate(["one two", "three four"], ["one two", "three four"]) == 0
    assert word_error_rate(["one two", "three four"], ["one five", "three"]) == 0.5
    assert word_error_rate(["one"], ["one one"]) == 1.0


def test_the_interval_holds_the_rate_and_shrinks_with_more_clips():
    references, hypotheses = ["one two"] * 20, ["one two"] * 16 + ["one three"] * 4
    low, high = confidence_interval(references, hypotheses)
    assert low < word_error_rate(references, hypotheses) == 0.1 < high
    low_many, high_many = confidence_interval(references * 10, hypotheses * 10)
    assert high_many - low_many < 0.5 * (high - low)
    assert confidence_interval(["one"], ["one"]) == (0, 0)
