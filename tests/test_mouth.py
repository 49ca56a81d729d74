# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffusers_jova.mouth import (
    contact_sheet,
    draw_mask_test,
    draw_overlay,
    mask_test,
    mouth_mask,
    to_frames,
    to_pixels,
)


NO_MOUTH = [np.nan] * 4


def mask_by_pixels(boxes, latent_shape, spatial, temporal):
    """Return the mask by looking at every pixel of every latent frame: is it touched by the union of the boxes?"""
    depth, height, width = latent_shape
    mask = np.zeros(latent_shape)
    for k in range(depth):
        window = boxes[:1] if k == 0 else boxes[temporal * (k - 1) + 1 : temporal * k + 1]
        window = [box for box in window if np.isfinite(box).all()]
        if not window:
            continue
        x1, y1 = min(box[0] for box in window), min(box[1] for box in window)
        x2, y2 = max(box[2] for box in window), max(box[3] for box in window)
        for y in range(height * spatial):
            for x in range(width * spatial):
                if x < x2 and x + 1 > x1 and y < y2 and y + 1 > y1:
                    mask[k, y // spatial, x // spatial] = 1
    return mask


def test_mask_equals_a_loop_over_pixels_for_a_thousand_random_boxes():
    rng, num_boxes = np.random.default_rng(0), 0
    while num_boxes < 1000:
        depth, spatial, temporal = rng.integers(1, 4), rng.choice([4, 8]), rng.choice([2, 4])
        latent_shape = (int(depth), int(rng.integers(1, 5)), int(rng.integers(1, 5)))
        size = np.array([latent_shape[2], latent_shape[1]]) * spatial
        num_frames = int(temporal * (depth - 1) + 1)
        corner = rng.uniform(-3, 1, (num_frames, 2)) + rng.random((num_frames, 2)) * size
        boxes = np.concatenate([corner, corner + rng.uniform(0.1, 12, (num_frames, 2))], axis=1)
        if rng.random() < 0.5:
            boxes = boxes.round()  # edges that fall on pixels and cells
            boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        boxes[rng.random(num_frames) < 0.2] = np.nan
        boxes = boxes.astype(np.float32)
        expected = mask_by_pixels(boxes, latent_shape, spatial, temporal)
        found = mouth_mask(boxes, latent_shape, int(spatial), int(temporal))
        assert found.shape == latent_shape and found.dtype == torch.float32
        np.testing.assert_array_equal(found.numpy(), expected)
        num_boxes += num_frames


def test_equation_5_by_hand():
    # The boxes of frames 1 ... 4 together are (9, 18, 33, 28): columns 1 ... 4, rows 2 and 3. Frame 0 is on its own.
    boxes = [(0, 0, 8, 8), (10, 20, 30, 28), (12, 18, 33, 27), (9, 21, 24, 25), (11, 20, 25, 26)]
    mask = mouth_mask(np.array(boxes), (2, 5, 6))
    expected = torch.zeros(2, 5, 6)
    expected[0, 0, 0] = 1
    expected[1, 2:4, 1:5] = 1
    assert torch.equal(mask, expected)


def test_the_cells_between_two_distant_boxes_of_a_window_are_in_the_mask():
    boxes = np.array([NO_MOUTH, (0, 0, 4, 4), NO_MOUTH, NO_MOUTH, (28, 20, 32, 24)])
    mask = mouth_mask(boxes, (2, 3, 4))
    assert mask[0].sum() == 0 and mask[1].sum() == 12  # the smallest box around both, as Eq. 5 says


@pytest.mark.parametrize("x2, columns", [(16, 1), (16.01, 2), (15, 1), (24, 2)])
def test_boxes_are_half_open(x2, columns):
    assert mouth_mask(np.array([[8, 8, x2, 16]]), (1, 4, 4))[0].sum() == columns


def test_no_face_gives_an_empty_mask_without_nan():
    mask = mouth_mask(np.full((9, 4), np.nan), (3, 4, 4))
    assert torch.equal(mask, torch.zeros(3, 4, 4))


def test_a_box_without_area_is_no_mouth():
    assert mouth_mask(np.array([[8, 8, 8, 20.0]]), (1, 4, 4)).sum() == 0


@pytest.mark.parametrize("num_frames", [0, 4, 6, 9])
def test_boxes_that_do_not_fit_the_latents_are_refused(num_frames):
    with pytest.raises(ValueError, match="N = 5"):
        mouth_mask(np.zeros((num_frames, 4)), (2, 4, 4))


def test_pixels_round_trip():
    frames = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8)
    assert to_pixels(frames).shape == (1, 3, 5, 8, 8)
    np.testing.assert_array_equal(to_frames(to_pixels(frames)), frames)


class RepeatingVAE:
    """Latents are the mean of a cell in the last frame of its window; decoding repeats them."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(scale_factor_temporal=4)

    def encode(self, pixels):
        latents = torch.nn.functional.avg_pool3d(pixels[:, :, ::4], (1, 8, 8))
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: latents))

    def decode(self, latents):
        frames = torch.cat([latents[:, :, :1], latents[:, :, 1:].repeat_interleave(4, dim=2)], dim=2)
        return SimpleNamespace(sample=frames.repeat_interleave(8, dim=3).repeat_interleave(8, dim=4))


def test_zeroed_latents_change_the_mouth_and_nothing_else():
    frames = np.full((5, 32, 32, 3), 255, np.uint8)
    boxes = np.array([(9, 9, 15, 15)] * 4 + [NO_MOUTH], np.float32)
    result = mask_test(RepeatingVAE(), frames, boxes)
    assert result.inside == pytest.approx(127)  # white (1) became grey (0)
    assert result.outside == 0
    assert (result.masked[:, 8:16, 8:16] == 128).all()
    assert (result.reconstruction == 255).all()


def test_mask_test_without_a_mouth_is_refused():
    with pytest.raises(ValueError, match="no mouth"):
        mask_test(RepeatingVAE(), np.zeros((1, 8, 8, 3), np.uint8), np.full((1, 4), np.nan))


def test_overlay_reddens_the_cells_and_draws_the_box():
    frames, boxes = np.full((5, 32, 32, 3), 100, np.uint8), np.array([NO_MOUTH] * 4 + [(10, 10, 14, 14)])
    drawn = draw_overlay(frames, boxes, mouth_mask(boxes, (2, 4, 4)))
    assert (drawn[0] == 100).all()  # latent frame 0 has no mouth
    assert tuple(drawn[1, 8, 8]) != (100, 100, 100) and tuple(drawn[1, 7, 8]) == (100, 100, 100)
    assert tuple(drawn[4, 10, 10]) == (60, 255, 60) and tuple(drawn[1, 10, 10]) != (60, 255, 60)
    assert contact_sheet([drawn, frames]).size == (5 * 34, 2 * 34)


def test_the_figure_shows_the_frames_with_their_boxes_above_the_clip_without_a_mouth():
    frames, boxes = np.full((5, 32, 32, 3), 255, np.uint8), np.array([(9, 9, 15, 15)] * 4 + [NO_MOUTH], np.float32)
    test = mask_test(RepeatingVAE(), frames, boxes)
    figure = np.asarray(draw_mask_test(test, frames, boxes))
    above, below = (row.reshape(34, 5, 34, 3).swapaxes(0, 1)[:, 1:-1, 1:-1] for row in (figure[:34], figure[34:]))
    assert np.array_equal(below, test.masked)
    assert tuple(above[0, 9, 9]) == (60, 255, 60) and (above[0, 10:14, 10:14] == 255).all()  # a box, and no mask
    assert np.array_equal(above[4], frames[4])  # without a mouth
