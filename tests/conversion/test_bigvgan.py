# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN checkpoints: every weight-norm layout, equal to the original, reversible, refused when wrong."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusers_jova import BigVGANVocoder
from diffusers_jova.conversion.bigvgan import convert, plain_weights
from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.errors import ConversionError


GOLDEN = Path(__file__).parents[1] / "golden" / "mmaudio"
SNAKE = {
    "resblock": "1",
    "snake_logscale": True,
    "activation": "snake",
    "num_mels": 16,
    "upsample_rates": [4, 4],
    "upsample_kernel_sizes": [8, 8],
    "upsample_initial_channel": 24,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
}
SNAKEBETA = {
    "resblock": "1",
    "snake_logscale": True,
    "activation": "snakebeta",
    "use_tanh_at_final": False,
    "use_bias_at_final": False,
    "num_mels": 20,
    "upsample_rates": [4, 2, 2],
    "upsample_kernel_sizes": [8, 4, 4],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
}


def checkpoint(name):
    tensors = load_file(GOLDEN / f"bigvgan_{name}.safetensors")
    state_dict = {key.removeprefix("state_dict."): t for key, t in tensors.items() if key.startswith("state_dict.")}
    return state_dict, tensors


def plain(state_dict):
    """Return a generator's weights as ours stores them."""
    return {write.name: write.make(*write.sources) for write in plain_weights(state_dict)}


@pytest.fixture
def converted(tmp_path):
    """Return a function that converts a state dict and returns the folder that was written."""

    def convert_and_write(content, **options):
        torch.save(content, tmp_path / "g.pt")
        plan = convert(open_checkpoint(tmp_path / "g.pt"), **options)
        plan.check(None)
        plan.write(tmp_path / "out", overwrite=True)
        return tmp_path / "out"

    return convert_and_write


@pytest.mark.parametrize(("name", "config"), [("snake", SNAKE), ("snakebeta", SNAKEBETA)])
@torch.no_grad()
def test_generator_equals_the_original(converted, name, config):
    state_dict, tensors = checkpoint(name)
    vocoder = BigVGANVocoder.from_pretrained(converted(state_dict, config=config))
    assert not vocoder.training
    torch.testing.assert_close(vocoder(tensors["input_mel"]), tensors["out.waveform"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["snake", "snakebeta"])
def test_folded_weight_norm_equals_the_original(name):
    state_dict, tensors = checkpoint(name)
    weights = plain(state_dict)
    folded = {key.removeprefix("folded."): t for key, t in tensors.items() if key.startswith("folded.")}
    assert "ups.0.0.weight" in folded  # transposed: the norm is per input channel
    for key, weight in folded.items():
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=1e-6)
    assert not any("filter" in key for key in weights)


def test_every_layout_and_wrapper_gives_the_same_weights(converted, same_tensors):
    state_dict, _ = checkpoint("snake")
    expected = plain(state_dict)
    original = load_file(converted(state_dict, config=SNAKE, to="bigvgan") / "bigvgan_generator.safetensors")
    assert original.keys() - expected.keys() == {name for name in state_dict if "filter" in name}
    layouts = [
        {
            key.replace("weight_g", "parametrizations.weight.original0").replace(
                "weight_v", "parametrizations.weight.original1"
            ): tensor
            for key, tensor in state_dict.items()
        },
        {key: tensor for key, tensor in state_dict.items() if "filter" not in key},
        {"generator": state_dict},
        {f"vocoder.{key}": tensor for key, tensor in state_dict.items()} | {"vae.data_mean": torch.zeros(1)},
        original,
    ]
    for layout in layouts:
        folder = converted(layout, config=SNAKE)
        assert same_tensors(load_file(folder / "diffusion_pytorch_model.safetensors"), expected)


def test_plain_weights_round_trip_bit_by_bit_with_the_filters_of_the_original(converted, same_tensors):
    state_dict, _ = checkpoint("snakebeta")
    unfolded = {key: tensor for key, tensor in state_dict.items() if not key.endswith(("weight_g", "weight_v"))}
    unfolded |= {key: tensor for key, tensor in plain(state_dict).items() if key.endswith("weight")}
    folder = converted(unfolded, config=SNAKEBETA, to="bigvgan")
    assert same_tensors(load_file(folder / "bigvgan_generator.safetensors"), unfolded)


def test_sampling_rate_comes_from_the_config_or_is_unknown(converted):
    state_dict, _ = checkpoint("snake")
    for rate, config in ((16000, SNAKE | {"sampling_rate": 16000}), (None, SNAKE)):
        written = json.loads((converted(state_dict, config=config) / "config.json").read_text())
        assert written["sampling_rate"] == rate


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resblock": "2"}, "resblock.*'2'"),
        ({"num_mels": 80}, r"num_mels.*80.*\(24, 16, 7\)"),
        ({"upsample_rates": None}, "g.pt: "),
    ],
)
def test_config_of_another_model_is_refused(converted, change, message):
    with pytest.raises(ConversionError, match=message):
        converted(checkpoint("snake")[0], config=SNAKE | change)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"use_bias_at_final": False}, "unexpected: conv_post.bias"),
        ({"activation": "snakebeta"}, "missing: resblocks.0.activations.0.act.beta"),
        ({"upsample_kernel_sizes": [8, 4]}, "ups.1.0.weight is (12, 6, 8), expected (12, 6, 4)"),
    ],
)
def test_weights_of_another_config_are_named(tmp_path, change, line):
    torch.save(checkpoint("snake")[0], tmp_path / "g.pt")
    plan = convert(open_checkpoint(tmp_path / "g.pt"), config=SNAKE | change)
    assert line in str(plan.report)
    with pytest.raises(ConversionError, match="does not fit"):
        plan.check(None)


def test_incomplete_config_and_weights_are_refused(converted):
    state_dict, _ = checkpoint("snake")
    with pytest.raises(ConversionError, match="lacks upsample_rates"):
        converted(state_dict, config={key: value for key, value in SNAKE.items() if key != "upsample_rates"})
    del state_dict["ups.0.0.weight_g"]
    with pytest.raises(ConversionError, match="pair is missing: there is ups.0.0.weight_v alone"):
        converted(state_dict, config=SNAKE)
    with pytest.raises(ConversionError, match="conv_pre.bias.*got 0"):
        converted({"encoder.weight": torch.zeros(1)})
