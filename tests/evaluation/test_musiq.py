# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, blocks, checksum, golden, jitter, name_seeded_weights

from diffusers_jova.evaluation.musiq import load_musiq, multiscale_patches, musiq_scores


@pytest.fixture(scope="module")
def musiq():
    return load_musiq(name_seeded_weights("musiq"))


def picture(case: str) -> np.ndarray:
    expected = golden("musiq")
    height, width = expected[f"{case}_size"]
    seed = int(expected["seed"]) + height
    small = np.random.default_rng(seed).integers(0, 256, (-(-height // 10), -(-width // 10), 3), np.uint8)
    image = jitter(blocks(small, 10, height, width), seed + 1, 20)
    assert checksum(image) == expected[f"{case}_crc"]
    return image


@pytest.mark.parametrize("case", ["a", "b"])
def test_patches_tokens_and_score_equal_the_original(musiq, case):
    expected, image = golden("musiq"), picture(case)
    patches = multiscale_patches(torch.from_numpy(image).permute(2, 0, 1).float() / 255)
    table = torch.stack([patches.positions, patches.scales, patches.mask.long()], dim=1)
    assert np.array_equal(table, expected[f"{case}_positions_scales_mask"])
    pixels, rows = patches.pixels.flatten(1), expected[f"{case}_rows"]
    assert_equals(pixels.mean(dim=1), expected[f"{case}_patch_mean"])
    assert_equals(pixels.std(dim=1), expected[f"{case}_patch_std"])
    assert_equals(pixels[rows, ::61], expected[f"{case}_patch_rows_every61"])
    with torch.no_grad():
        assert_equals(musiq.embed(patches.pixels)[rows, ::4], expected[f"{case}_token_rows_every4"])
    scores = musiq_scores(musiq, [image])
    np.testing.assert_allclose(scores, expected[f"{case}_score"][0], rtol=0, atol=2e-5)


def test_every_frame_has_a_score_of_its_own(musiq):
    frames = [picture("a"), picture("a")[::-1]]
    both = musiq_scores(musiq, frames)
    assert both[0] != both[1]
    assert both[1] == pytest.approx(musiq_scores(musiq, frames[1:])[0])


def test_empty_slots_do_not_move_the_score(musiq):
    image = torch.from_numpy(picture("a")).permute(2, 0, 1).float() / 255
    patches = multiscale_patches(image)
    assert not patches.mask.all()
    tokens = musiq.embed(patches.pixels).detach()
    changed = torch.where(patches.mask[:, None], tokens, tokens + 5)
    assert torch.allclose(musiq.transformer_encoder(tokens, patches), musiq.transformer_encoder(changed, patches))


def test_a_narrow_picture_keeps_a_pixel_at_every_scale():
    patches = multiscale_patches(torch.zeros(3, 2, 1000))
    assert patches.pixels.shape == (49 + 144 + 32, 3, 32, 32)
