# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights

from diffusers_jova.evaluation.s3fd import MEAN_RGB, load_s3fd, non_maximum_suppression, scaled, select_faces


@pytest.fixture(scope="module")
def s3fd():
    return load_s3fd(name_seeded_weights("s3fd"))


@pytest.fixture(scope="module")
def image():
    expected = golden("s3fd")
    height, width, _ = expected["image_shape"]
    generator = np.random.default_rng(int(expected["seed"]))
    small = generator.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    image = small.repeat(8, axis=0).repeat(8, axis=1)
    image = np.clip(image + generator.integers(-20, 21, image.shape), 0, 255).astype(np.uint8)
    assert checksum(image) == expected["crc_image"]
    return image


def test_quarter_size_equals_opencv(image):
    assert np.array_equal(scaled(image, 0.25), golden("s3fd")["scaled_rgb"])


def test_heads_priors_and_selection_equal_the_original(s3fd, image):
    expected = golden("s3fd")
    pixels = torch.from_numpy(scaled(image, 0.25)).float() - torch.tensor(MEAN_RGB)
    pixels = pixels.permute(2, 0, 1)[None]
    with torch.no_grad():
        offsets, scores, priors = s3fd.raw(pixels)
        assert_equals(s3fd.conf[0](s3fd.features(pixels)[0])[0], expected["conf0_raw"])
    assert_equals(offsets, expected["loc"])
    assert_equals(scores, expected["logits"])
    assert_equals(priors, expected["priors"])
    faces = select_faces(offsets, scores, priors)
    assert len(faces) == expected["detect_n"]
    assert_equals(faces, expected["detect_out"])


def test_boxes_equal_the_original(s3fd, image):
    expected = golden("s3fd")
    assert_equals(s3fd.detect(image, float(expected["conf_th"])), expected["boxes"], 1e-4)


def test_no_face_gives_no_boxes(s3fd, image):
    assert s3fd.detect(image, 1.0).shape == (0, 5)


def test_a_box_that_overlaps_a_surer_one_goes():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 1, 10, 11], [0, 9, 10, 19.0]])
    assert non_maximum_suppression(boxes, 0.3) == [0, 2]
    assert non_maximum_suppression(boxes, 0.9) == [0, 1, 2]


def test_the_smallest_picture_has_faces_or_none_and_a_smaller_one_is_refused(s3fd):
    assert s3fd.detect(np.zeros((128, 128, 3), np.uint8)).shape[1] == 5
    with pytest.raises(ValueError, match="128 pixels or more to each side, got 200 x 120: take a larger `scale`"):
        s3fd.detect(np.zeros((120, 200, 3), np.uint8))
    assert s3fd.detect(np.zeros((120, 200, 3), np.uint8), scale=0.5).shape[1] == 5
