# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from diffusers_jova.training.losses import flow_matching_loss, mouth_loss


def velocities(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 2, 4, 4, generator=generator), torch.randn(2, 3, 2, 4, 4, generator=generator)


def mouth(rows=slice(1, 3), columns=slice(2, 4)):
    mask = torch.zeros(2, 2, 4, 4, dtype=torch.bool)
    mask[:, :, rows, columns] = True
    return mask


def test_the_plain_loss_is_one_mean_per_sample():
    prediction, target = velocities()
    loss = flow_matching_loss(prediction, target)
    assert loss.shape == (2,)
    assert loss[1] == pytest.approx((prediction[1] - target[1]).square().mean().item())


def test_half_precision_is_compared_in_float32():
    prediction, target = torch.full((1, 4), 300.0, dtype=torch.float16), torch.zeros(1, 4)
    assert flow_matching_loss(prediction, target).item() == 90_000.0


def test_the_mouth_loss_is_the_mean_over_the_mouths_cells():
    prediction, target = velocities()
    loss = mouth_loss(prediction, target, mouth())
    expected = (prediction - target)[:, :, :, 1:3, 2:4].square().flatten(1).mean(1)
    assert torch.allclose(loss, expected)


def test_dividing_by_all_cells_weighs_the_mouth_by_its_size():
    prediction, target = velocities()
    by_mask, by_all = (mouth_loss(prediction, target, mouth(), reduction) for reduction in ("mask", "all"))
    assert torch.allclose(by_all, by_mask * 4 / 16)  # 2 x 2 of 4 x 4 cells


def test_the_whole_picture_as_mouth_gives_the_plain_loss():
    prediction, target = velocities()
    everywhere = torch.ones(2, 2, 4, 4)
    for reduction in ("mask", "all"):
        assert torch.allclose(
            mouth_loss(prediction, target, everywhere, reduction), flow_matching_loss(prediction, target)
        )


def test_nothing_outside_the_mouth_counts():
    prediction, target = velocities()
    loss = mouth_loss(prediction, target, mouth())
    prediction[:, :, :, 0] = 1e6
    assert torch.equal(mouth_loss(prediction, target, mouth()), loss)


@pytest.mark.parametrize("reduction", ["mask", "all"])
def test_a_sample_without_a_mouth_adds_exactly_nothing(reduction):
    prediction, target = velocities()
    prediction.requires_grad_()
    mask = mouth()
    mask[1] = False
    loss = mouth_loss(prediction, target, mask, reduction)
    loss.sum().backward()
    assert loss[0] > 0 and loss[1] == 0
    assert prediction.grad[0].any() and not prediction.grad[1].any()
    assert torch.isfinite(prediction.grad).all()


def test_no_mouth_at_all_is_no_nan_even_beside_infinite_errors():
    prediction = torch.full((1, 3, 2, 4, 4), torch.inf)
    assert mouth_loss(prediction, torch.zeros_like(prediction), torch.zeros(1, 2, 4, 4)).item() == 0.0
