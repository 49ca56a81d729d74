# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.picture import measure_motion, measure_sharpness


def moving(size, step, num_frames=5):
    """A soft pattern that moves to the right by `step` of the picture's width per frame."""
    wide = np.random.default_rng(0).uniform(size=(32, 96)).astype(np.float32)
    wide = gaussian_filter(wide.repeat(size // 32, 0).repeat(size // 32, 1), size / 24)
    wide = (255 * (wide - wide.min()) / np.ptp(wide)).astype(np.uint8)
    starts = [round(size - index * step * size) for index in range(num_frames)]
    return np.stack([wide[:, start : start + size, None].repeat(3, axis=2) for start in starts])


def test_motion_is_the_speed_of_what_moves_at_any_size_and_rate():
    for size in (64, 192):
        assert measure_motion(moving(size, 1 / 32), 10).values["motion"] == pytest.approx(100 / 32 * 10, rel=0.15)
    assert measure_motion(moving(64, 1 / 32), 25).values["motion"] == pytest.approx(100 / 32 * 25, rel=0.15)


def test_a_still_clip_does_not_move_and_one_frame_is_too_short():
    still = moving(64, 0)
    assert measure_motion(still, 25).values["motion"] == 0
    assert measure_motion(still[:1], 25).status == Status.SHORT


def test_blur_takes_sharpness():
    frames = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)
    values = [measure_sharpness(gaussian_filter(frames, (0, s, s, 0))).values["sharpness"] for s in (0, 1, 2, 4)]
    assert values == sorted(values, reverse=True) and values[0] - values[-1] > 0.3
