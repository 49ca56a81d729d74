# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The faults that benchmarks plant in clips of the corpus."""

import numpy as np
import pytest

from diffusers_jova.dataset import films
from diffusers_jova.dataset.filters import FILTERS
from diffusers_jova.nano.faults import FAULTS, RATE, SAMPLING_RATE, on_canvas, shift


OTHERS = {"no face", films.SEVERAL, "it is nearly the same as another clip"}


def noise(seed):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (5, 128, 128, 3), np.uint8), rng.uniform(-0.5, 0.5, round(5 / RATE * SAMPLING_RATE))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_changes_a_clip_keeps_its_length_and_has_a_reason_that_some_step_gives(name):
    (frames, waveform), other = noise(0), noise(1)
    spoil, reasons = FAULTS[name]
    found = spoil(frames, waveform, other, np.random.default_rng(0))
    assert found[0].shape == frames.shape and found[0].dtype == np.uint8 and found[1].shape == waveform.shape
    assert (found[0] != frames).any() or (found[1] != waveform).any()
    assert np.array_equal(frames, noise(0)[0]) and np.array_equal(waveform, noise(0)[1])  # what was given stays
    assert set(reasons) <= {each.reason for each in FILTERS} | OTHERS


def test_audio_is_shifted_by_frames_and_small_copies_stand_where_they_are_put():
    waveform = np.zeros(SAMPLING_RATE)
    waveform[0] = 1
    assert np.flatnonzero(shift(waveform, 2)) == [round(2 / RATE * SAMPLING_RATE)]
    frames = np.full((1, 128, 128, 3), 9, np.uint8)
    (found,) = on_canvas(frames, 0.5, [(0, 0.25), (0.5, 0.25)])
    assert (found[32:96] == 9).all() and (found[:32] == 128).all() and (found[96:] == 128).all()
