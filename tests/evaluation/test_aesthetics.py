# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, golden, name_seeded_weights
from transformers import SiglipImageProcessorPil, SiglipVisionConfig, SiglipVisionModel

from diffusers_jova.evaluation.aesthetics import AestheticPredictor, combine_aesthetics, load_aesthetic_head


@pytest.fixture(scope="module")
def head_weights():
    return name_seeded_weights("aesthetic_head")


@pytest.fixture(scope="module")
def siglip():
    config = SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SiglipVisionModel(config).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3), np.uint8)


def test_the_head_equals_the_original(head_weights):
    expected = golden("aesthetic_head")
    assert_equals(load_aesthetic_head(head_weights)(torch.from_numpy(expected["embeds"])), expected["score"])


def test_the_head_does_not_depend_on_the_length_of_an_embedding(head_weights):
    head, embeddings = load_aesthetic_head(head_weights), torch.from_numpy(golden("aesthetic_head")["embeds"])
    assert torch.allclose(head(embeddings), head(7 * embeddings), atol=1e-5)


def test_pixels_equal_those_of_transformers(siglip, head_weights, frames):
    predictor = AestheticPredictor(siglip, load_aesthetic_head(head_weights))
    processor = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    wanted = processor(images=frames[0], return_tensors="pt").pixel_values[0]
    assert (predictor.pixels(frames[0]) - wanted).abs().max() < 1e-6


def test_frames_are_scored_one_by_one(siglip, head_weights, frames):
    predictor = AestheticPredictor(siglip, load_aesthetic_head(head_weights))
    scores = predictor.scores(frames)
    assert scores.shape == (5,)
    assert scores[4] == pytest.approx(predictor.scores(frames[4:])[0], abs=1e-5)
    pixels = torch.stack([predictor.pixels(frame) for frame in frames])
    assert_equals(scores, predictor.head(siglip(pixels).pooler_output)[:, 0])


def test_as_is_the_mean_of_three_scores_between_zero_and_one():
    measured = combine_aesthetics(np.array([4.0, 6]), np.array([70.0, 80]), np.array([0.3, 0.5]))
    assert measured.details == pytest.approx({"predictor": 0.5, "musiq": 0.75, "maniqa": 0.4})
    assert measured.values == {"AS": pytest.approx(0.55)}
