# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Windows of clips -> frames at the bucket's size."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from diffusers_jova.images import centre_crop, resize_frames


BUCKETS = [(480, 832), (832, 480), (640, 640), (720, 1280), (1280, 720), (64, 64), (192, 320), (544, 960), (368, 640)]
LANDSCAPES = [(144, 176), (240, 426), (288, 352), (360, 640), (480, 640), (480, 854), (576, 720), (606, 1080)]
LANDSCAPES += [(720, 1280), (800, 1280), (1080, 1350), (1080, 1440), (1080, 1920), (1440, 2560), (1606, 2848)]
SOURCES = [*LANDSCAPES, *(size[::-1] for size in LANDSCAPES), (224, 224), (1080, 1080)]


def assert_is_the_largest_centred_piece(source_height, source_width, height, width):
    crop = centre_crop(source_height, source_width, height, width)
    assert 0 <= crop[0] < crop[2] <= source_width and 0 <= crop[1] < crop[3] <= source_height
    scale = min(Fraction(source_height, height), Fraction(source_width, width))
    left, top = (source_width - width * scale) / 2, (source_height - height * scale) / 2
    expected = (left, top, left + width * scale, top + height * scale)
    assert crop == pytest.approx([float(x) for x in expected], abs=1e-9)


def test_crop_of_common_sizes_never_leaves_the_source():
    for source, bucket in product(SOURCES, BUCKETS):
        assert_is_the_largest_centred_piece(*source, *bucket)


def test_crop_of_any_size_never_leaves_the_source():
    rng = np.random.default_rng(0)
    for source in rng.integers(1, 5000, (2000, 2)):
        bucket = rng.integers(1, 80, 2) * 16
        assert_is_the_largest_centred_piece(*(int(size) for size in (*source, *bucket)))


@pytest.mark.parametrize("source, bucket", [((640, 360), (480, 832)), ((360, 640), (832, 480)), ((77, 100), (64, 32))])
def test_what_is_cropped_can_be_resized(source, bucket):
    frames = np.full((2, *source, 3), 200, np.uint8)
    resized = resize_frames(frames, centre_crop(*source, *bucket), *bucket)
    assert resized.shape == (2, *bucket, 3) and (resized == 200).all()
