# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MMAudio's autoencoder checkpoints: folded once, recognised, reversible, refused when wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusers_jova import AutoencoderMMAudio
from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.errors import ConversionError
from diffusers_jova.conversion.mmaudio import convert, fold, is_folded


GOLDEN = Path(__file__).parents[1] / "golden" / "mmaudio"


def golden(mode):
    tensors = load_file(GOLDEN / f"vae_{mode}_small_encoder.safetensors")
    tensors |= load_file(GOLDEN / f"vae_{mode}_small_decoder.safetensors")
    raw = {name.removeprefix("state_dict."): t for name, t in tensors.items() if name.startswith("state_dict.")}
    folded = {name.removeprefix("folded."): t for name, t in tensors.items() if name.startswith("folded.")}
    return raw, folded


@pytest.fixture
def plan_of(tmp_path):
    """Return a function that returns the plan of a state dict's conversion."""

    def plan(state_dict, **options):
        save_file(state_dict, tmp_path / "v1.safetensors")
        return convert(open_checkpoint(tmp_path / "v1.safetensors"), **options)

    return plan


@pytest.fixture
def converted(plan_of, tmp_path):
    """Return a function that converts a state dict and returns the state dict of the file that was written."""

    def convert_and_load(state_dict, **options):
        plan = plan_of(state_dict, **options)
        plan.check(None)
        plan.write(tmp_path / "out", overwrite=True)
        return load_file(next((tmp_path / "out").glob("*.safetensors")))

    return convert_and_load


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_folding_equals_the_original(converted, mode):
    raw, folded = golden(mode)
    ours = converted(raw)
    assert len(folded) == 3  # both ends and the attention
    for name, weight in folded.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)
    assert torch.equal(ours["encoder.learnable_gain"], raw["encoder.learnable_gain"])


def test_folded_weights_are_recognised_and_round_trip_bit_by_bit(converted, same_tensors):
    raw, _ = golden("16k")
    folded = converted(raw)
    assert is_folded(folded) and not is_folded(raw)
    assert same_tensors(converted(folded), folded)
    original = converted(folded, to="mmaudio")
    assert same_tensors(original, folded)
    assert same_tensors(converted(original), folded)


def test_one_raw_row_makes_a_checkpoint_raw(converted):
    folded = converted(golden("16k")[0])
    name = "decoder.conv_out.weight"
    row = torch.ones(len(folded[name]), 1, 1)
    row[3] = 1.1
    assert not is_folded(folded | {name: folded[name] * row})


def test_half_precision_is_folded_in_float32(converted):
    raw, _ = golden("16k")
    half = {name: tensor.half() for name, tensor in raw.items()}
    name = "encoder.mid.attn_1.qkv.weight"
    weight = converted(half)[name]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, fold(half[name].float()))


@pytest.mark.parametrize("mode", ["16k", "44k"])
def test_raw_weights_for_the_original_fold_back_within_1e_6(converted, mode):
    folded = converted(golden(mode)[0])
    raw = converted(folded, to="mmaudio", raw=True)
    assert not is_folded(raw)
    for name, weight in converted(raw).items():
        torch.testing.assert_close(weight, folded[name], rtol=0, atol=1e-6)


def test_each_tensor_says_whether_its_numbers_changed(plan_of):
    rows = [str(write) for write in plan_of(golden("16k")[0]).writes]
    assert "encoder.conv_in.weight: computed from encoder.conv_in.weight" in rows
    assert "encoder.learnable_gain: copied from encoder.learnable_gain" in rows


def test_prefixes_are_stripped_and_other_modules_left_out(converted, same_tensors):
    raw, _ = golden("16k")
    wrapped = {f"vae.{name}": tensor for name, tensor in raw.items()}
    wrapped |= {"mel_converter.mel_basis": torch.zeros(80, 513), "vocoder.conv_pre.bias": torch.zeros(3)}
    assert same_tensors(converted(wrapped), converted(raw))
    flat = raw | {"mel_converter.mel_basis": torch.zeros(80, 513)}
    assert same_tensors(converted(flat), converted(raw))


@pytest.mark.parametrize(("mode", "width", "rate"), [("16k", 16, 16000), ("44k", 12, 44100)])
def test_loaded_model_has_the_widths_of_the_shapes(converted, tmp_path, mode, width, rate, same_tensors):
    ours = converted(golden(mode)[0])
    vae = AutoencoderMMAudio.from_pretrained(tmp_path / "out")
    assert not vae.training and vae.config.hidden_channels == width and vae.config.sampling_rate == rate
    assert list(vae.config.channel_multipliers) == [1, 2, 4] and vae.config.layers_per_block == 2
    assert same_tensors(vae.state_dict(), ours)


def test_wrong_mode_is_refused_with_the_shapes(plan_of):
    with pytest.raises(ConversionError, match=r"Mode '16k'.*80.*encoder.conv_in.weight has shape \(12, 128, 3\)"):
        plan_of(golden("44k")[0], audio_mode="16k")


def test_missing_unexpected_and_misshapen_weights_are_named(plan_of):
    raw, _ = golden("16k")
    raw["decoder.extra"] = raw.pop("decoder.mid.attn_1.qkv.weight")
    raw["data_std"] = torch.ones(1, 79, 1)
    plan = plan_of(raw)
    for line in (
        "missing: decoder.mid.attn_1.qkv.weight (192, 64, 1)",
        "unexpected: decoder.extra (192, 64, 1)",
        "data_std is (1, 79, 1), expected (1, 80, 1)",
    ):
        assert line in str(plan.report)
    with pytest.raises(ConversionError, match="1 missing, 1 unexpected, 1 of another shape"):
        plan.check(None)


def test_another_kind_of_file_is_refused(plan_of):
    with pytest.raises(ConversionError, match="encoder.conv_in.weight.*got 0 among 1 entries: blocks.0.weight"):
        plan_of({"blocks.0.weight": torch.zeros(1)})
