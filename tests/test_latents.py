# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import math
from fractions import Fraction
from types import SimpleNamespace

import pytest
import torch

from diffusers_jova.latents import (
    denormalize_latents,
    fit_audio,
    fold_frame_mask,
    nearest_num_frames,
    normalize_latents,
    num_audio_latents,
    num_audio_samples,
    num_latent_frames,
)


@pytest.mark.parametrize("num_frames, expected", [(1, 1), (5, 2), (121, 31)])
def test_latent_frames_are_one_and_a_quarter_of_the_rest(num_frames, expected):
    assert num_latent_frames(num_frames) == expected


@pytest.mark.parametrize("num_frames, expected", [(1, (1, 5)), (4, (1, 5)), (120, (117, 121)), (121, (121, 125))])
def test_nearest_frame_counts_lie_on_both_sides(num_frames, expected):
    assert nearest_num_frames(num_frames) == expected
    assert nearest_num_frames(0) == nearest_num_frames(-7) == (1, 5)


@pytest.mark.parametrize(
    "num_frames, frame_rate, rate, expected",
    [(25, 12.5, 31.25, 63), (16, 16, 31.25, 32), (24, 24, 32, 32), (121, 24, 44100 / 1024, 218), (1, 24, 31.25, 2)],
)
def test_audio_latents_cover_the_frames_and_no_more(num_frames, frame_rate, rate, expected):
    assert num_audio_latents(num_frames, frame_rate, rate) == expected
    assert num_audio_latents(num_frames, frame_rate, rate) / rate >= num_frames / frame_rate - 1e-6


def test_a_whole_number_of_latents_is_not_rounded_up():
    assert num_audio_latents(3, 0.3, 0.2) == 2  # 3 / 0.3 * 0.2 is 2.0000000000000004 in floating point


@pytest.mark.parametrize(
    "frame_rate, expected", [(24, 80667), (24000 / 1001, 80747), (25, 77440), (23.976, 80747), (12.5, 154880)]
)
def test_audio_samples_last_as_long_as_the_frames(frame_rate, expected):
    assert num_audio_samples(121, frame_rate, 16000) == expected


NTSC = {23.976: 24000, 23.98: 24000, 29.97: 30000, 47.952: 48000, 59.94: 60000, 119.88: 120000, 14.985: 15000}
EXACT_RATES = {rate: Fraction(number, 1001) for rate, number in NTSC.items()} | {
    rate: Fraction(rate) for rate in (12.5, 24.0, 25.0, 30.0, 24000 / 1001)
}
EXACT_RATES[24000 / 1001] = Fraction(24000, 1001)


@pytest.mark.parametrize("frame_rate", EXACT_RATES)
@pytest.mark.parametrize("sampling_rate, samples_per_latent", [(16000, 512), (44100, 1024), (48000, 1440)])
def test_lengths_of_sound_are_exact(frame_rate, sampling_rate, samples_per_latent):
    exact = EXACT_RATES[frame_rate]
    for num_frames in range(1, 4001, 4):
        num_samples = num_frames / exact * sampling_rate
        num_latents = math.ceil(num_samples / samples_per_latent)
        for rate in (frame_rate, exact):
            assert num_audio_samples(num_frames, rate, sampling_rate) == round(num_samples)
            assert num_audio_latents(num_frames, rate, sampling_rate / samples_per_latent) == num_latents


def test_audio_is_cut_or_padded_with_silence():
    audio = torch.ones(2, 10)
    assert fit_audio(audio, 4).shape == (2, 4)
    longer = fit_audio(audio, 13)
    assert longer.shape == (2, 13)
    assert longer[:, :10].eq(1).all() and longer[:, 10:].eq(0).all()


def test_mask_of_the_first_frame_fills_the_first_latent_frame_only():
    mask = torch.zeros(2, 9)
    mask[0, 0] = 1
    folded = fold_frame_mask(mask)
    assert folded.shape == (2, 4, 3)
    assert folded[0, :, 0].eq(1).all()
    assert folded[0, :, 1:].eq(0).all() and folded[1].eq(0).all()


def test_later_frames_keep_their_order_in_the_folded_mask():
    mask = torch.arange(9.0)[None]
    assert fold_frame_mask(mask)[0].T.tolist() == [[0, 0, 0, 0], [1, 2, 3, 4], [5, 6, 7, 8]]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5, 6)])
@pytest.mark.parametrize(
    "config",
    [
        SimpleNamespace(latents_mean=[1.0, 2.0, 3.0], latents_std=[0.5, 1.0, 2.0]),
        SimpleNamespace(latents_mean=None, latents_std=None),
        SimpleNamespace(scaling_factor=0.417),
        SimpleNamespace(),
    ],
)
def test_normalising_there_and_back_is_the_identity(shape, config):
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(denormalize_latents(normalize_latents(latents, config), config), latents)


def test_normalising_subtracts_the_mean_and_divides_by_the_deviation_of_each_channel():
    config = SimpleNamespace(latents_mean=[1.0, 2.0], latents_std=[0.5, 2.0])
    normalized = normalize_latents(torch.full((1, 2, 3), 3.0), config)
    assert normalized[0].tolist() == [[4.0] * 3, [0.5] * 3]
    assert normalize_latents(torch.ones(1, 2, 3), SimpleNamespace(scaling_factor=0.5)).eq(0.5).all()
