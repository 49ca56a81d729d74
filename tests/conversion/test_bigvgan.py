# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN checkpoints: every weight-norm layout, equal to the original, reversible, refused when wrong."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from diffusers_jova.conversion.bigvgan import load_vocoder, to_diffusers, to_original


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


def assert_identical(actual, expected):
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)


@pytest.mark.parametrize(("name", "config"), [("snake", SNAKE), ("snakebeta", SNAKEBETA)])
@torch.no_grad()
def test_generator_equals_the_original(name, config):
    state_dict, tensors = checkpoint(name)
    vocoder = load_vocoder(state_dict, config)
    assert not vocoder.training
    torch.testing.assert_close(vocoder(tensors["input_mel"]), tensors["out.waveform"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["snake", "snakebeta"])
def test_folded_weight_norm_equals_the_original(name):
    state_dict, tensors = checkpoint(name)
    converted = to_diffusers(state_dict)
    folded = {key.removeprefix("folded."): t for key, t in tensors.items() if key.startswith("folded.")}
    assert "ups.0.0.weight" in folded  # transposed: the norm is per input channel
    for key, weight in folded.items():
        torch.testing.assert_close(converted[key], weight, rtol=0, atol=1e-6)
    assert not any("filter" in key for key in converted)


def test_every_layout_and_wrapper_gives_the_same_weights():
    state_dict, _ = checkpoint("snake")
    expected = to_diffusers(state_dict)
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
        to_original(expected),
        to_original(expected, filters=False),
    ]
    for layout in layouts:
        assert_identical(to_diffusers(layout), expected)


def test_plain_weights_round_trip_bit_by_bit_with_the_filters_of_the_original():
    state_dict, _ = checkpoint("snakebeta")
    plain = {key: tensor for key, tensor in state_dict.items() if not key.endswith(("weight_g", "weight_v"))}
    plain |= {key: tensor for key, tensor in to_diffusers(state_dict).items() if key.endswith("weight")}
    assert_identical(to_original(to_diffusers(plain)), plain)


def test_sampling_rate_comes_from_the_config_or_is_unknown():
    state_dict, _ = checkpoint("snake")
    assert load_vocoder(state_dict, SNAKE | {"sampling_rate": 16000}).config.sampling_rate == 16000
    assert load_vocoder(state_dict, SNAKE).config.sampling_rate is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resblock": "2"}, "resblock.*'2'"),
        ({"num_mels": 80}, r"num_mels.*80.*\(24, 16, 7\)"),
        ({"use_bias_at_final": False}, "unexpected: conv_post.bias"),
        ({"activation": "snakebeta"}, "missing: resblocks.0.activations.0.act.beta"),
        ({"upsample_kernel_sizes": [8, 4]}, r"ups.1.0.weight: shape \(12, 6, 8\), expected \(12, 6, 4\)"),
    ],
)
def test_config_of_another_model_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load_vocoder(checkpoint("snake")[0], SNAKE | change)


def test_incomplete_config_and_weights_are_refused():
    state_dict, _ = checkpoint("snake")
    with pytest.raises(ValueError, match="lacks upsample_rates"):
        load_vocoder(state_dict, {key: value for key, value in SNAKE.items() if key != "upsample_rates"})
    del state_dict["ups.0.0.weight_g"]
    with pytest.raises(ValueError, match="pair is missing: ups.0.0.weight_g"):
        load_vocoder(state_dict, SNAKE)
    with pytest.raises(ValueError, match="conv_pre.bias.*got 0"):
        to_diffusers({"encoder.weight": torch.zeros(1)})
