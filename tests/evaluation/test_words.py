# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""pocketsphinx hears real speech right and noise wrong."""

from pathlib import Path

import numpy as np
import pytest

from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.words import (
    DIGITS,
    SAMPLING_RATE,
    WordListener,
    confidence_interval,
    measure_spoken_words,
    word_error_rate,
)
from diffusers_jova.media import read_video
from diffusers_jova.mini.sentences import vocabulary
from diffusers_jova.nano.speech import speak


CLIPS = Path(__file__).parent / "clips"


@pytest.fixture
def listener():
    """One per test: it keeps what it last heard."""
    return WordListener(DIGITS)


@pytest.mark.needs_program("flite")
@pytest.mark.parametrize("text", ["three", "four nine", "one, five eight"])
def test_it_hears_digits(listener, text):
    assert listener.hear(speak("awb", text, pace=1.0)) == text.replace(",", "")


@pytest.mark.needs_program("flite")
def test_it_hears_a_word_of_many_that_pocketsphinx_takes_back_in_its_last_pass():
    listener = WordListener(list(vocabulary()))
    recording = speak("rms", "alice keeps seven white feathers", pace=1.0)
    assert listener.hear(recording) == "alice keeps seven white feathers"  # with bestpath "alice keeps kevin …"


def test_it_hears_nothing_in_silence_and_goes_on(listener):
    assert listener.hear(np.zeros(16000, np.float32)) == ""
    assert listener.hear(np.zeros(0, np.float32)) == ""


@pytest.mark.parametrize("words", [DIGITS, list(vocabulary())], ids=["digits", "sentences"])
@pytest.mark.parametrize("loudness", [1e-5, 1e-4, 1e-3, 1e-2])
def test_it_hears_no_word_in_a_hiss(words, loudness):
    hiss = np.random.default_rng(0).normal(0, loudness, 2 * SAMPLING_RATE).astype(np.float32)
    assert WordListener(words).hear(hiss) == ""


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


def test_what_was_heard_before_changes_nothing(listener):
    recording = read_video(CLIPS / "rms.mp4", sampling_rate=SAMPLING_RATE).waveform[0]
    noise = np.random.default_rng(0).normal(0, 0.3, 4 * SAMPLING_RATE).astype(np.float32)
    assert listener.hear(recording) == "three eight zero five"
    listener.hear(noise)
    assert listener.decoder.get_cmn(False) != listener.cepstral_mean  # pocketsphinx adapts
    assert listener.hear(recording) == "three eight zero five"
    assert listener.hear(np.zeros(16000, np.float32)) == ""


def test_errors_are_counted_over_the_words_of_the_text(listener):
    recording = read_video(CLIPS / "rms.mp4", sampling_rate=SAMPLING_RATE).waveform[0]
    assert measure_spoken_words(listener, "Three, eight -- ZERO five!", recording).values == {"words": 0}
    measured = measure_spoken_words(listener, "three nine zero", recording)
    assert measured.values == {"words": pytest.approx(2 / 3)}
    assert measured.details == {"transcript": "three eight zero five", "errors": 2, "words": 3}
    assert measure_spoken_words(listener, "one two", 0 * recording).values == {"words": 1}


def test_words_without_text_or_audio_have_a_status(listener):
    assert measure_spoken_words(listener, None, np.zeros(1600, np.float32)).status == Status.NO_TEXT
    assert measure_spoken_words(listener, "?!", np.zeros(1600, np.float32)).status == Status.NO_TEXT
    assert measure_spoken_words(listener, "one", None).status == Status.SILENT


def test_without_a_list_all_english_words_are_heard():
    recording = read_video(CLIPS / "rms.mp4", sampling_rate=SAMPLING_RATE).waveform[0]
    heard = WordListener().hear(recording)
    assert heard == "three eight zero five"
