# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from diffusers_jova.pipelines.conditioning import condition_channels, grey_where_not_given, video_input


CLEAN = torch.randn(2, 3, 2, 4, 5, generator=torch.Generator().manual_seed(0))  # the beginnings of two clips
BLACK = torch.full((1, 3, 1, 4, 5), -7.0)


@pytest.mark.parametrize("num_given", [0, 1, 2])
def test_a_given_beginning_stands_before_the_filler_and_the_mask_tells_them_apart(num_given):
    is_given = torch.ones(2, num_given, dtype=torch.bool)
    channels = condition_channels(CLEAN[:, :, :num_given], is_given, BLACK, num_latent_frames=4)
    assert channels.shape == (2, 3 + 4, 4, 4, 5)
    condition, mask = channels.split([3, 4], dim=1)
    assert torch.equal(condition[:, :, :num_given], CLEAN[:, :, :num_given])
    assert condition[:, :, num_given:].eq(-7).all()
    assert mask[:, :, :num_given].eq(1).all() and mask[:, :, num_given:].eq(0).all()


def test_each_sample_says_which_of_its_frames_are_given():
    is_given = torch.tensor([[True, False], [False, True]])
    condition, mask = condition_channels(CLEAN, is_given, BLACK, num_latent_frames=3).split([3, 4], dim=1)
    assert torch.equal(condition[0, :, 0], CLEAN[0, :, 0]) and torch.equal(condition[1, :, 1], CLEAN[1, :, 1])
    assert condition[0, :, 1:].eq(-7).all() and condition[1, :, 0].eq(-7).all() and condition[1, :, 2].eq(-7).all()
    assert mask[:, 0, :, 0, 0].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert torch.equal(mask, mask[:, :1, :, :1, :1].expand_as(mask))


def test_values_of_a_frame_that_is_not_given_do_not_matter():
    is_given = torch.tensor([[True, False]] * 2)
    spoiled = CLEAN.clone()
    spoiled[:, :, 1] = float("nan")
    channels = [condition_channels(latents, is_given, BLACK, num_latent_frames=4) for latents in (CLEAN, spoiled)]
    assert torch.equal(*channels) and channels[1].isfinite().all()


def test_a_filler_may_differ_from_frame_to_frame():
    filler = torch.arange(4.0)[:, None, None].expand(2, 3, 4, 4, 5)
    channels = condition_channels(CLEAN[:, :, :1], torch.ones(2, 1, dtype=torch.bool), filler, num_latent_frames=4)
    assert torch.equal(channels[:, :3, 1:], filler[:, :, 1:]) and torch.equal(channels[:, :3, :1], CLEAN[:, :, :1])
    assert torch.equal(filler, torch.arange(4.0)[:, None, None].expand(2, 3, 4, 4, 5))  # and it is left as it was


def test_the_mask_has_a_channel_for_each_video_frame_of_a_latent_frame():
    is_given = torch.ones(2, 2, dtype=torch.bool)
    assert condition_channels(CLEAN, is_given, BLACK, num_latent_frames=2, temporal_compression=8).shape[1] == 3 + 8


def test_the_noisy_latents_stand_first_in_the_video_input():
    noise, condition = torch.randn(2, 3, 2, 4, 5), torch.randn(2, 7, 2, 4, 5)
    channels = video_input(noise, condition)
    assert torch.equal(channels[:, :3], noise) and torch.equal(channels[:, 3:], condition)
    assert video_input(noise, None) is noise


@pytest.mark.parametrize("temporal_compression, given", [(1, [0, 2]), (4, [0, 1, 2, 3, 4, 9, 10, 11, 12])])
def test_grey_stands_where_no_frame_is_given(temporal_compression, given):
    is_given = torch.tensor([True, False, True] if temporal_compression == 1 else [True, True, False, True])
    frames = torch.rand(2, 3, (len(is_given) - 1) * temporal_compression + 1, 4, 6) / 2 + 0.5
    video = grey_where_not_given(frames, is_given, 4, temporal_compression, (4, 6))
    num_frames = 3 * temporal_compression + 1
    assert video.shape == (2, 3, num_frames, 4, 6)
    for k in range(num_frames):
        assert torch.equal(video[:, :, k], frames[:, :, k] if k in given else torch.zeros(2, 3, 4, 6)), k
    assert torch.equal(
        grey_where_not_given(None, torch.tensor([False]), 4, temporal_compression, (4, 6)),
        torch.zeros(1, 3, num_frames, 4, 6),
    )
