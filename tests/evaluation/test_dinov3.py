# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

from copy import deepcopy

import numpy as np
import pytest
import torch
from name_seeded import blocks, checksum, golden, jitter
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from diffusers_jova.evaluation.dinov3 import Dino, dino_pixels, measure_identity
from diffusers_jova.evaluation.measurement import Status


@pytest.mark.parametrize("case", ["up", "down"])
def test_pixels_equal_torchvision(case):
    expected = golden("dinov3_preprocess")
    height, width = expected[f"{case}_size"]
    seed = int(expected["seed"]) + height
    small = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    picture = jitter(blocks(small, 10, height, width), seed + 1, 40)
    assert checksum(picture) == expected[f"{case}_crc"]
    pixels = dino_pixels(picture).numpy()
    np.testing.assert_allclose(pixels[:, 100:116, 60:76], expected[f"{case}_patch_y100_x60_16"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pixels[:, :8, :8], expected[f"{case}_corner_8"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pixels.mean(axis=(1, 2)), expected[f"{case}_mean"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(pixels.std(axis=(1, 2), ddof=1), expected[f"{case}_std"], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def dino():
    config = DINOv3ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_register_tokens=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dino(DINOv3ViTModel(config))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3), np.uint8)


def test_features_are_those_tokens_of_the_network(dino, pictures):
    features = dino.features(pictures, batch_size=2)
    tokens = dino.model(torch.stack([dino_pixels(picture) for picture in pictures])).last_hidden_state
    assert tokens.shape == (3, 201, 16)
    assert torch.allclose(features["patch"], tokens[:, 199], atol=1e-5)
    assert torch.allclose(features["cls"], tokens[:, 0], atol=1e-5)
    assert torch.allclose(features["patchmean"], tokens[:, 5:].mean(dim=1), atol=1e-5)


def test_identity_of_a_still_clip_is_one(dino, pictures):
    still = np.stack([pictures[0]] * 3)
    measured = measure_identity(dino, still, pictures[0])
    assert measured.values == {"ID": pytest.approx(1)}
    assert set(measured.details) == {"patch", "cls", "patchmean"}


def test_identity_is_the_mean_over_frames(dino, pictures):
    alone = [measure_identity(dino, pictures[index : index + 1], pictures[2], "cls").values["ID"] for index in (0, 1)]
    both = measure_identity(dino, pictures[:2], pictures[2], "cls")
    assert both.values["ID"] == pytest.approx(np.mean(alone), abs=1e-6)
    assert both.values["ID"] == both.details["cls"] != both.details["patch"]


def test_a_missing_reference_has_a_status_and_an_unknown_protocol_is_refused(dino, pictures):
    assert measure_identity(dino, pictures, None).status == Status.NO_REFERENCE
    with pytest.raises(ValueError, match="patch, cls, patchmean, got 'pooler'"):
        measure_identity(dino, pictures, pictures[0], "pooler")


def test_the_network_is_loaded_from_a_folder(dino, pictures, tmp_path):
    deepcopy(dino.model).save_pretrained(tmp_path)  # which writes into the configuration
    loaded = Dino.from_folder(tmp_path)
    assert torch.equal(loaded.features(pictures[:1])["patch"], dino.features(pictures[:1])["patch"])
