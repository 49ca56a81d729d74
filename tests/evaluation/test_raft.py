# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights

from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.raft import load_raft, measure_motion, measured_size, padded


@pytest.fixture(scope="module")
def raft():
    return load_raft(name_seeded_weights("raft_large"))


def pair(case: str) -> list[torch.Tensor]:
    expected = golden("raft")
    height, width = expected[f"{case}_size"]
    generator = np.random.default_rng(int(expected["seed"]) + height)
    small = generator.integers(0, 256, (height // 4 + 4, width // 4 + 4, 3), np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    frames = [large[y : y + height, x : x + width] for y, x in ((3, 5), (1, 8))]
    assert [checksum(frame) for frame in frames] == [expected[f"{case}_crc{index}"] for index in (1, 2)]
    return frames


def pixels(frame: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(frame.copy()).permute(2, 0, 1)[None].float()


@pytest.mark.parametrize("case, iterations, tolerance", [("a", 2, 1e-5), ("b", 2, 1e-5), ("b", 20, 5e-5)])
def test_flow_equals_the_original(raft, case, iterations, tolerance):
    expected = golden("raft")
    low, up = raft.flow(*map(pixels, pair(case)), iterations)
    assert list(up.shape[2:]) == expected[f"{case}_padded"].tolist()
    assert_equals(low[0], expected[f"{case}_flow_low_{iterations}"], tolerance)
    assert_equals(up[0, :, ::6, ::6], expected[f"{case}_flow_up_{iterations}"], tolerance)
    assert float(up.abs().mean()) == pytest.approx(float(expected[f"{case}_mean_abs_{iterations}"]), rel=tolerance)


def test_motion_of_a_clip_is_the_mean_over_its_pairs(raft, monkeypatch):
    expected, frames = golden("raft"), pair("a")
    flow = raft.flow
    monkeypatch.setattr(raft, "flow", lambda first, second: flow(first, second, 2))
    measured = measure_motion(raft, np.stack(frames), 25)
    assert measured.values["MS"] == pytest.approx(float(expected["a_mean_abs_2"]), rel=1e-5)
    assert measured.details == {
        "frame_rate": 25, "height": 128, "width": 160, "enlarged": False, "px_per_s": 25 * measured.values["MS"],
    }  # fmt: skip


def test_a_single_frame_is_short_and_a_small_one_is_enlarged(raft, monkeypatch):
    assert measure_motion(raft, np.zeros((1, 128, 128, 3), np.uint8), 25).status == Status.SHORT
    flow = raft.flow
    monkeypatch.setattr(raft, "flow", lambda first, second: flow(first, second, 1))
    measured = measure_motion(raft, np.zeros((2, 96, 120, 3), np.uint8), 25)
    assert measured.details["enlarged"]
    assert np.isfinite(measured.values["MS"])


def test_pictures_too_small_for_the_network_are_refused(raft):
    with pytest.raises(ValueError, match="128 pixels or more, got 120 x 96"):
        raft.flow(torch.zeros(1, 3, 96, 120), torch.zeros(1, 3, 96, 120))


def test_padding_repeats_the_border_on_both_sides():
    picture = padded(torch.arange(5.0).expand(1, 3, 8, 5))
    assert picture[0, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize(
    "size, measured", [((480, 768), (240, 384)), ((512, 512), (512, 512)), ((720, 1280), (360, 640))]
)
def test_verse_measures_at_half_the_size_until_640_pixels(size, measured):
    assert measured_size(*size) == measured
    assert measured_size(*size, "native") == size


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match="verse, native, got 'half'"):
        measured_size(1, 1, "half")
