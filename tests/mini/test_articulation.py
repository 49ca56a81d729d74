# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Lips against phones: what a mouth is asked for, and mouths that do it, do nothing, or do what others should."""

import numpy as np
import pytest

from diffusers_jova.evaluation import phones as cmu
from diffusers_jova.mini import articulation
from diffusers_jova.mini.articulation import SYMBOLS, aligned_phones, articulate, symbols_of
from diffusers_jova.mini.corpus import NUM_FRAMES
from diffusers_jova.mini.mouths import SHAPES
from diffusers_jova.mini.voices import Phone


def say(symbols: str, onset_s: float, phone_s: float = 0.12) -> list[Phone]:
    return [Phone(s, onset_s + k * phone_s, onset_s + (k + 1) * phone_s) for k, s in enumerate(symbols)]


CLIPS = [say("mapaɪtabusa", 0.3), say("satabimapa", 0.8), say("tapamaɪbata", 1.2)]


@pytest.fixture
def obedient():
    """Lips that are open as the jaw should be, and shut where they should be."""
    asked = articulate(np.zeros((len(CLIPS), NUM_FRAMES)), CLIPS)
    return np.where(asked.shut, 0.0, asked.jaws)


def test_every_phone_of_the_dictionary_has_a_shape():
    assert SYMBOLS.keys() == cmu.OPENING_AND_WIDTH.keys() - {"SIL"}
    assert {symbol for symbols in SYMBOLS.values() for symbol in symbols} <= SHAPES.keys()
    said = [cmu.Phone("SIL", 0.0, 0.2), cmu.Phone("M", 0.2, 0.3), cmu.Phone("AY", 0.3, 0.5)]
    assert symbols_of(said) == [Phone("m", 0.2, 0.3), Phone("a", 0.3, 0.4), Phone("ɪ", 0.4, 0.5)]


def test_lips_that_do_what_is_asked_are_told_from_lips_of_others(obedient):
    right = articulate(obedient, CLIPS)
    assert right.lips.in_time == pytest.approx(1.0) and right.lips.shuffled < 0.6
    closed, elsewhere = right.closure
    assert closed == 0 and elsewhere > 0.3
    wrong = articulate(np.roll(obedient, 1, axis=0), CLIPS)
    assert wrong.lips.in_time < 0.7 and wrong.closure[0] > 0.3


def test_lips_that_never_move_close_as_little_as_anywhere():
    still = articulate(np.full((len(CLIPS), NUM_FRAMES), 0.2), CLIPS)
    assert still.lips.in_time == 0 and still.closure == pytest.approx((1.0, 1.0))


def test_clips_whose_words_are_not_found_and_frames_without_a_face_do_not_count(obedient):
    gaps = obedient.copy()
    gaps[1] = 5.0
    gaps[0, :3] = np.nan
    some = articulate(gaps, [CLIPS[0], None, CLIPS[2]])
    assert some.found.tolist() == [True, False, True] and not some.shut[1].any()
    assert some.lips.in_time > 0.99 and some.closure[0] == 0
    none = articulate(gaps, [None] * 3)
    assert not none.found.any() and np.isnan(none.closure).all()


def test_a_span_has_its_own_lips(obedient):
    part = articulate(obedient, CLIPS).within(slice(12, 24))
    assert part.gaps.shape == part.jaws.shape == part.shut.shape == part.vowels.shape == (len(CLIPS), 12)


def test_each_clip_is_aligned_with_its_own_words(monkeypatch):
    class Aligner:
        def align(self, text, waveform):
            return None if text == "lost" else [cmu.Phone("SIL", 0, 0.1), cmu.Phone("B", 0.1, waveform[0])]

    class Pool:
        def __init__(self, number):
            self.map = lambda function, *values, chunksize: map(function, *values)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(articulation, "_aligner", Aligner)
    monkeypatch.setattr(articulation, "ProcessPoolExecutor", Pool)
    found = aligned_phones(["bee", "lost"], np.array([[0.5], [0.6]]))
    assert found == [[Phone("b", 0.1, 0.5)], None]
