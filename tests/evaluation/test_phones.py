# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Phones in recorded speech, and the mouth that says them."""

from pathlib import Path

import numpy as np
import pytest

from diffusers_jova.evaluation.loudness import SAMPLING_RATE
from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.phones import Phone, PhoneAligner, measure_lips_by_phones, mouth_shapes
from diffusers_jova.media import read_video


CLIPS = Path(__file__).parent / "clips"
TEXT = "three eight zero five"


@pytest.fixture
def aligner():
    return PhoneAligner()


@pytest.fixture
def recording():
    """A voice that says TEXT from 0.57 s to 2.46 s."""
    return read_video(CLIPS / "rms.mp4", sampling_rate=SAMPLING_RATE).waveform[0]


def landmarks_of(openings):
    """Landmarks of a mouth that is open so far, in noses."""
    landmarks = np.zeros((len(openings), 68, 2))
    landmarks[:, 33, 1] = 1
    landmarks[:, 66, 1] = openings
    return landmarks


def test_phones_of_the_text_are_found_when_they_are_said(aligner, recording):
    phones = aligner.align("Three, eight: zero five!", recording)
    spoken = [phone for phone in phones if phone.name != "SIL"]
    assert " ".join(phone.name for phone in spoken) == "TH R IY EY T Z IH R OW F AY V"
    assert spoken[0].start_s == pytest.approx(0.57, abs=0.06) and spoken[-1].end_s == pytest.approx(2.46, abs=0.06)
    assert all(a.end_s == pytest.approx(b.start_s) for a, b in zip(phones[:-1], phones[1:]))


def test_what_was_heard_before_changes_nothing(aligner, recording):
    first = aligner.align(TEXT, recording)
    noise = np.random.default_rng(0).normal(0, 0.3, 5 * SAMPLING_RATE).astype(np.float32)
    aligner.align("one", noise)
    assert aligner.align(TEXT, recording) == first


def test_a_word_that_is_in_no_dictionary_is_named(aligner, recording):
    with pytest.raises(ValueError, match="does not have zzyzx, 5"):
        aligner.align("three zzyzx 5", recording)
    with pytest.raises(ValueError, match="needs words"):
        aligner.align("...", recording)


def test_a_mouth_closes_for_lips_and_is_round_or_wide_for_vowels():
    phones = [Phone(name, 0.3 * k, 0.3 * (k + 1)) for k, name in enumerate(["AA", "M", "IY", "UW", "SIL"])]
    opening, width = mouth_shapes(phones, 15, 10).T
    assert opening[1] == pytest.approx(1) and opening[4] == pytest.approx(0) and opening[13] == pytest.approx(0)
    assert width[10] == pytest.approx(-1) and width[7] == pytest.approx(0.8)
    assert mouth_shapes([], 4, 25).tolist() == [[0, 0]] * 4


def test_lips_that_say_the_phones_are_in_time_and_late_ones_late(aligner, recording):
    openings = mouth_shapes(aligner.align(TEXT, recording), 36, 12.5)[:, 0]
    for lag in (-5, 0, 3):
        measured = measure_lips_by_phones(aligner, landmarks_of(np.roll(openings, lag)), 12.5, TEXT, recording)
        assert measured.status == Status.OK
        assert measured.details["lag"] == lag and measured.values["lag-phones"] == abs(lag)
        assert measured.details["r_at_lag"] == pytest.approx(1)
        assert (measured.values["lips-phones"] == pytest.approx(1)) == (lag == 0)


def test_what_cannot_be_measured_has_a_status(aligner, recording):
    def status(landmarks=None, text=TEXT, waveform=recording):
        landmarks = landmarks_of([0.0] * 36) if landmarks is None else landmarks
        return measure_lips_by_phones(aligner, landmarks, 12.5, text, waveform).status

    assert status(text=None) == status(text=" ... ") == Status.NO_TEXT
    assert status(waveform=None) == status(waveform=0 * recording) == Status.SILENT
    assert status(np.full((36, 68, 2), np.nan)) == Status.NO_FACE
    assert status(landmarks_of([0.0] * 9)) == Status.SHORT
    assert status(text="seven one four nine two seven one four nine two") == Status.NO_SYNC
    assert status() == Status.OK
