# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest

from diffusers_jova.evaluation.loudness import SAMPLING_RATE, frame_loudness, measure_loudness
from diffusers_jova.evaluation.measurement import Status


tone = np.sin(2 * np.pi * 440 * np.arange(SAMPLING_RATE) / SAMPLING_RATE).astype(np.float32)


def test_a_full_sine_has_minus_three_decibels_and_half_of_it_six_less():
    assert measure_loudness(tone).values == pytest.approx({"loudness": -3.01, "silence": 0}, abs=0.01)
    assert measure_loudness(tone / 2).values["loudness"] == pytest.approx(-9.03, abs=0.01)


def test_the_silent_part_is_counted_whatever_comes_first():
    for waveform in (np.concatenate([tone, 0 * tone]), np.concatenate([0 * tone, tone])):
        assert measure_loudness(waveform).values["silence"] == pytest.approx(0.5, abs=0.02)


def test_digital_silence_has_values_and_no_audio_has_none():
    assert measure_loudness(0 * tone).values == {"loudness": pytest.approx(-120), "silence": 1}
    assert measure_loudness(None).status == measure_loudness(tone[:0]).status == Status.SILENT


def test_each_frame_has_the_loudness_of_its_own_time():
    waveform = np.concatenate([0 * tone[:8000], tone[:8000]])
    assert frame_loudness(waveform, 4, 4, SAMPLING_RATE) == pytest.approx([0, 0, 0.707, 0.707], abs=1e-3)
