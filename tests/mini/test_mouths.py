# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Mouths while they speak: closed for p, b and m, round for o, u and w, shaped by what comes before and after."""

import numpy as np
import pytest

from diffusers_jova.mini.mouths import CLOSED, FEATURES, SHAPES, merge_marks, mouth_features, mouth_units
from diffusers_jova.mini.sentences import measured_words
from diffusers_jova.mini.voices import Phone


RATE = 12.5


def spoken(symbols: str, start_s: float = 0.3, length_s: float = 0.1) -> list[Phone]:
    return [Phone(s, start_s + k * length_s, start_s + (k + 1) * length_s) for k, s in enumerate(symbols)]


def feature(symbols: str, name: str, place: int) -> float:
    phone = spoken(symbols)[place]
    moment = np.array([(phone.start_s + phone.end_s) / 2])
    return mouth_features(spoken(symbols), moment)[0, FEATURES.index(name)]


@pytest.mark.parametrize("symbol", CLOSED)
@pytest.mark.parametrize("length_s", [0.03, 0.08, 0.15])
def test_lips_close_for_p_b_and_m_however_short(symbol, length_s):
    for start_s in np.linspace(0.3, 0.38, 5):
        phones = [
            Phone("ɑ", 0.1, start_s),
            Phone(symbol, start_s, start_s + length_s),
            Phone("ɑ", start_s + length_s, 1),
        ]
        units = mouth_units(phones, 16, RATE)
        middle = units[int((start_s + length_s / 2) * RATE)]
        assert middle["jawOpen"] == 0 and middle["mouthPressLeft"] > 0.2
        assert units[int(0.9 * RATE)]["jawOpen"] > 0.3


def test_vowels_have_their_shapes():
    assert feature("tut", "round", 1) > 0.6 > 0.1 > feature("tit", "round", 1)
    assert feature("tit", "wide", 1) > 0.4 > 0.1 > feature("tut", "wide", 1)
    assert feature("kɑk", "jaw", 1) > 0.4 > 0.2 > feature("kik", "jaw", 1)
    assert feature("ɑfɑ", "bite", 1) > 0.6


def test_neighbours_shape_each_other():
    assert feature("ktu", "round", 1) > 2 * feature("kti", "round", 1)  # lips are round before the vowel is heard
    assert feature("ɑkɑ", "jaw", 1) > feature("iki", "jaw", 1)


def test_a_mouth_rests_before_and_after_and_moves_between():
    units = mouth_units(spoken("hɑlo", 1.0), 37, RATE)
    opening = np.array([frame["jawOpen"] for frame in units])
    assert opening[:8].max() < 0.02 and opening[25:].max() < 0.02 < 0.25 < opening.max()
    assert np.abs(np.diff(opening)).max() < 0.35  # no jumps


def test_marks_of_stress_and_length_give_their_time():
    merged = merge_marks(spoken("sˈiː z"))
    assert "".join(phone.symbol for phone in merged) == "siz"
    assert (merged[1].start_s, merged[1].end_s) == pytest.approx((0.4, 0.7))


def test_every_symbol_of_the_vocabulary_has_a_shape_or_is_a_mark():
    symbols = {symbol for word in measured_words().values() for symbol in word.american + word.british}
    assert symbols - set(SHAPES) <= set("ˈˌː̩")
