# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Numbers from PySceneDetect 0.5.1 and OpenCV 5.0.0 on the same frames."""

import numpy as np
import pytest

from diffusers_jova.evaluation.pixels import resize_bilinear
from diffusers_jova.evaluation.shots import find_shots, frame_changes


def scene(seed: int, num_frames: int, width: int = 320, height: int = 96) -> np.ndarray:
    """Blocks of colours around one, that move to the right."""
    generator = np.random.default_rng(seed)
    colour = generator.integers(0, 256, 3)
    small = np.clip(colour + generator.integers(-60, 60, (height // 8, width // 8, 3)), 0, 255).astype(np.uint8)
    large = small.repeat(8, axis=0).repeat(8, axis=1)
    return np.stack([np.roll(large, shift, axis=1) for shift in range(num_frames)])


def test_changes_equal_those_of_pyscenedetect():
    frames = np.random.default_rng(3).integers(0, 256, (3, 20, 30, 3), np.uint8)
    assert frame_changes(frames) == pytest.approx([60.21833, 60.67944], abs=0.02)


def test_cuts_equal_those_of_pyscenedetect():
    frames = np.concatenate([scene(*each) for each in ((1, 20), (2, 18), (3, 5), (4, 30), (5, 16))])
    assert find_shots(frames) == [(0, 20), (20, 38), (38, 73), (73, 89)]
    wide = np.concatenate([scene(seed, count, 640, 64) for seed, count in ((11, 10), (12, 10), (13, 10), (14, 40))])
    assert find_shots(wide) == [(0, 10), (10, 30), (30, 70)]


def test_a_fade_and_a_single_frame_are_one_shot():
    first, last = scene(21, 1)[0], scene(22, 1)[0]
    fade = np.stack([(first * (1 - t) + last * t).astype(np.uint8) for t in np.linspace(0, 1, 60)])
    assert find_shots(fade) == [(0, 60)]
    assert find_shots(fade[:1]) == [(0, 1)]


def test_resizing_equals_opencv_within_a_grey_level():
    image = np.random.default_rng(4).integers(0, 256, (5, 7, 3), np.uint8)
    smaller, larger = resize_bilinear(image, 4, 3)[..., 1], resize_bilinear(image, 6, 9)[..., 1]
    wanted = np.array([[182, 145, 198], [154, 85, 145], [135, 117, 162], [168, 42, 55]])
    assert np.abs(smaller - wanted).max() <= 1
    wanted = np.array([[39, 180, 246, 223, 163, 108, 149, 210, 240], [145, 169, 107, 20, 38, 139, 79, 43, 110]])
    assert np.abs(larger[[0, -1]] - wanted).max() <= 1
