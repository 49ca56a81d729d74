# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What stands still goes on as it was given, and what moves is left to the model."""

import pytest
import torch

from diffusers_jova.pipelines.directions import GivenLatents
from diffusers_jova.pipelines.seams import MOTION_WEIGHT, offset_from_given


def still(value: float, num_frames: int) -> torch.Tensor:
    """Return latents (1, 1, F, 2, 2) of which every frame is `value`."""
    return torch.full((1, 1, num_frames, 2, 2), value)


@pytest.mark.parametrize(
    "first, last, wanted",
    [
        (2, 5, [0, 0, 3, 3, 3, 3]),  # a beginning is kept
        (0, 3, [5, 5, 5, 5, 0, 0]),  # a beginning is made anew
        (1, 4, [0, 3, 3 + 2 / 3, 3 + 4 / 3, 5, 0]),  # a span is
        (2, 2, [0, 0, 3, 0, 0, 0]),
    ],
)
def test_what_stands_still_takes_the_offset_of_its_border_and_between_two_goes_over(first, last, wanted):
    given = torch.cat([still(3.0, first), still(99.0, last + 1 - first), still(5.0, 5 - last)], dim=2)
    offset = offset_from_given(still(0.0, 6), given, first, last)
    torch.testing.assert_close(offset, torch.tensor(wanted).float()[:, None, None].expand(1, 1, 6, 2, 2))


@pytest.mark.parametrize("who_moves", ["given", "expected"])
def test_a_place_that_moves_takes_the_less_of_it_the_more_it_moves(who_moves):
    def share(amplitude: float) -> float:
        moving = torch.tensor([0.0, amplitude, 0.0, amplitude])[:, None, None].expand(1, 1, 4, 2, 2)
        parts = {"given": still(0.0, 4), "expected": still(0.0, 4)}
        parts[who_moves] = moving - moving[:, :, -1:] if who_moves == "given" else moving
        given = torch.cat([parts["given"] + 1.0, still(0.0, 4)], dim=2)
        expected = torch.cat([still(0.0, 4), parts["expected"]], dim=2)
        return offset_from_given(expected, given, 4, 7)[0, 0, -1, 0, 0].item()  # of a difference of 1

    assert share(0.0) == 1.0
    assert share(2.0) == pytest.approx(1 / (1 + MOTION_WEIGHT * 1.0))  # a variance of 1
    assert share(20.0) < 0.01


def test_places_that_are_equal_get_no_offset_and_no_nan():
    assert torch.equal(offset_from_given(still(1.0, 4), still(1.0, 4), 2, 3), still(0.0, 4))


def test_the_video_goes_on_from_the_given_frames_at_every_noise_level_and_audio_is_left_alone():
    given = GivenLatents(
        {"latents": still(3.0, 4)}, {"latents": torch.tensor([True, True, False, False])}, {}, "noised"
    )
    noise = torch.randn(1, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    for sigma in (torch.tensor(1.0), torch.tensor(0.25)):
        tensors = {"latents": (1 - sigma) * still(1.0, 4) + sigma * noise}
        velocities = {"latents": noise - still(1.0, 4), "audio_latents": torch.ones(1, 1, 7)}
        going_on = given.go_on(velocities, tensors, sigma)
        expected = tensors["latents"] - sigma * going_on["latents"]
        torch.testing.assert_close(expected[:, :, 2:], still(3.0, 2))
        assert going_on["audio_latents"] is velocities["audio_latents"]
    assert torch.isfinite(given.go_on(velocities, tensors, torch.tensor(0.0))["latents"]).all()


@pytest.mark.parametrize("is_given", [None, [True] * 4], ids=["nothing", "everything"])
def test_without_a_border_nothing_changes(is_given):
    masks = {"audio_latents": torch.tensor([True, False])} if is_given is None else {"latents": torch.tensor(is_given)}
    given = GivenLatents({}, masks, {}, "noised")
    velocities = {"latents": still(1.0, 4)}
    assert given.go_on(velocities, {"latents": still(0.0, 4)}, torch.tensor(0.5)) is velocities
