# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, blocks, checksum, golden, jitter, name_seeded_weights

from diffusers_jova.evaluation.maniqa import crop_places, is_enlarged, load_maniqa, maniqa_scores


TOLERANCE = 5e-5


def test_layers_and_score_equal_the_original(record):
    expected = golden("maniqa")
    seed = int(expected["seed"])
    small = np.random.default_rng(seed).integers(0, 256, (28, 28, 3), np.uint8)
    image = jitter(blocks(small, 8, 224, 224), seed + 1, 30)
    assert checksum(image) == expected["crc_image"]
    network = load_maniqa(name_seeded_weights("maniqa"))
    conv1, swin1, swin2 = (
        record(layer) for layer in (network.conv1, network.swintransformer1, network.swintransformer2)
    )
    sixth, ninth = record(network.vit.blocks[6]), record(network.vit.blocks[9])

    with torch.no_grad():
        score, weight = network((torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255 - 0.5) / 0.5)
    assert_equals(sixth[0][1][0, ::98, ::8], expected["block6"], TOLERANCE)
    assert_equals(ninth[0][1][0, ::98, ::8], expected["block9"], TOLERANCE)
    assert_equals(conv1[0][1][0, ::32, ::7, ::7], expected["conv1"], TOLERANCE)
    assert_equals(swin1[0][1][0, ::32, ::7, ::7], expected["swin1"], TOLERANCE)
    assert_equals(swin2[0][1][0, ::16, ::7, ::7], expected["swin2"], TOLERANCE)
    assert_equals(score[0], expected["patch_score"], TOLERANCE)
    assert_equals(weight[0], expected["patch_weight"], TOLERANCE)
    assert_equals((score * weight).sum(dim=1) / weight.sum(dim=1), expected["score"], TOLERANCE)


class MeanOfCrops(torch.nn.Module):
    """A stand-in whose score is a crop's mean colour."""

    def __init__(self):
        super().__init__()
        self.conv1 = torch.nn.Conv2d(1, 1, 1)
        self.seen = []

    def score(self, pixels):
        self.seen.append(pixels)
        return pixels.mean(dim=(1, 2, 3))


def test_a_frame_is_the_mean_of_twenty_crops_of_its_full_size():
    frame = np.random.default_rng(0).integers(0, 256, (240, 300, 3), np.uint8)
    network = MeanOfCrops()
    scores = maniqa_scores(network, [frame], "grid")
    crops = torch.cat(network.seen)
    assert crops.shape == (20, 3, 224, 224)
    assert scores == pytest.approx([crops.mean().item()], abs=1e-6)
    assert torch.equal(crops[0], (torch.from_numpy(frame[:224, :224]).permute(2, 0, 1).float() / 255 - 0.5) / 0.5)
    assert torch.equal(crops[-1][:, -1, -1], (torch.from_numpy(frame[-1, -1]).float() / 255 - 0.5) / 0.5)


def test_drawn_crops_depend_on_the_seed_alone_and_stay_inside():
    first, again, other = (crop_places(300, 230, "verse", np.random.RandomState(seed)) for seed in (0, 0, 1))
    assert first == again != other
    assert all(0 <= top < 76 and 0 <= left < 6 for top, left in first)


@pytest.mark.parametrize("size", [(224, 400), (100, 100), (400, 200)])
def test_a_small_frame_is_enlarged(size):
    frame = np.full((*size, 3), 255, np.uint8)
    assert is_enlarged(frame)
    assert maniqa_scores(MeanOfCrops(), [frame]) == pytest.approx([1])


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="verse, grid, got 'pyiqa'"):
        crop_places(300, 300, "pyiqa", np.random.RandomState(0))
