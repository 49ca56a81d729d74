# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MMAudio's autoencoder checkpoints: folded once, recognised, reversible, refused when wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusers_jova.conversion.mmaudio import fold, is_folded, load_autoencoder, to_diffusers, to_original


GOLDEN = Path(__file__).parents[1] / "golden" / "mmaudio"


def checkpoint(mode):
    tensors = load_file(GOLDEN / f"vae_{mode}_small_encoder.safetensors")
    tensors |= load_file(GOLDEN / f"vae_{mode}_small_decoder.safetensors")
    raw = {name.removeprefix("state_dict."): t for name, t in tensors.items() if name.startswith("state_dict.")}
    folded = {name.removeprefix("folded."): t for name, t in tensors.items() if name.startswith("folded.")}
    return raw, folded


def assert_identical(actual, expected):
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_folding_equals_the_original(mode):
    raw, folded = checkpoint(mode)
    converted = to_diffusers(raw)
    assert len(folded) == 3  # both ends and the attention
    for name, weight in folded.items():
        torch.testing.assert_close(converted[name], weight, rtol=0, atol=1e-6)
    assert torch.equal(converted["encoder.learnable_gain"], raw["encoder.learnable_gain"])


def test_folded_weights_are_recognised_and_round_trip_bit_by_bit():
    raw, _ = checkpoint("16k")
    folded = to_diffusers(raw)
    assert is_folded(folded) and not is_folded(raw)
    assert_identical(to_diffusers(folded), folded)
    assert_identical(to_original(folded), folded)
    assert_identical(to_diffusers(to_original(folded)), folded)


def test_one_raw_row_makes_a_checkpoint_raw():
    folded = to_diffusers(checkpoint("16k")[0])
    name = "decoder.conv_out.weight"
    row = torch.ones(len(folded[name]), 1, 1)
    row[3] = 1.1
    assert not is_folded(folded | {name: folded[name] * row})


def test_half_precision_is_folded_in_float32():
    raw, _ = checkpoint("16k")
    half = {name: tensor.half() for name, tensor in raw.items()}
    name = "encoder.mid.attn_1.qkv.weight"
    converted = to_diffusers(half)[name]
    assert converted.dtype == torch.float32
    assert torch.equal(converted, fold(half[name].float()))


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_raw_weights_for_the_original_fold_back_within_1e_6(mode):
    folded = to_diffusers(checkpoint(mode)[0])
    raw = to_original(folded, folded=False)
    assert not is_folded(raw)
    for name, weight in to_diffusers(raw).items():
        torch.testing.assert_close(weight, folded[name], rtol=0, atol=1e-6)


def test_prefixes_are_stripped_and_other_modules_left_out():
    raw, _ = checkpoint("16k")
    wrapped = {f"vae.{name}": tensor for name, tensor in raw.items()}
    wrapped |= {"mel_converter.mel_basis": torch.zeros(80, 513), "vocoder.conv_pre.bias": torch.zeros(3)}
    assert_identical(to_diffusers(wrapped), to_diffusers(raw))
    flat = raw | {"mel_converter.mel_basis": torch.zeros(80, 513)}
    assert_identical(to_diffusers(flat), to_diffusers(raw))


@pytest.mark.parametrize(("mode", "width", "rate"), [("16k", 16, 16000), ("44k", 12, 44100)])
def test_loaded_model_has_the_widths_of_the_shapes(mode, width, rate):
    raw, _ = checkpoint(mode)
    vae = load_autoencoder(raw, mode=mode)
    assert not vae.training and vae.config.hidden_channels == width and vae.config.sampling_rate == rate
    assert list(vae.config.channel_multipliers) == [1, 2, 4] and vae.config.layers_per_block == 2
    assert_identical(vae.state_dict(), to_diffusers(raw))


def test_wrong_mode_is_refused_with_the_shapes():
    with pytest.raises(ValueError, match=r"mode='16k'.*80.*encoder.conv_in.weight has shape \(12, 128, 3\)"):
        load_autoencoder(checkpoint("44k")[0], mode="16k")
    with pytest.raises(ValueError, match="'16k', '44k'.*got '48k'"):
        load_autoencoder(checkpoint("16k")[0], mode="48k")


def test_missing_unexpected_and_misshapen_weights_are_named():
    raw, _ = checkpoint("16k")
    raw["decoder.extra"] = raw.pop("decoder.mid.attn_1.qkv.weight")
    raw["data_std"] = torch.ones(1, 79, 1)
    with pytest.raises(ValueError) as error:
        load_autoencoder(raw, mode="16k")
    for line in (
        "missing: decoder.mid.attn_1.qkv.weight (192, 64, 1)",
        "unexpected: decoder.extra (192, 64, 1)",
        "data_std: shape (1, 79, 1), expected (1, 80, 1)",
    ):
        assert line in str(error.value)


def test_another_kind_of_file_is_refused():
    with pytest.raises(ValueError, match="encoder.conv_in.weight.*got 0 among 1 entries: blocks.0.weight"):
        to_diffusers({"blocks.0.weight": torch.zeros(1)})
