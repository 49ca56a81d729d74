# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The BigVGAN vocoder: equal to the original and to diffusers, exact in tiles, safe in every precision."""

import re
import sys
from pathlib import Path

import pytest
import torch
from diffusers import MMAudioVocoder
from safetensors.torch import load_file
from torch import nn

from diffusers_jova.models.vocoder_bigvgan import ACTIVATION_REACH, AntiAliasedActivation, BigVGANVocoder, Snake


GOLDEN = Path(__file__).parents[1] / "golden" / "mmaudio"
TINY = {
    "num_mels": 20,
    "upsample_rates": (4, 2),
    "upsample_kernel_sizes": (8, 4),
    "upsample_initial_channel": 8,
    "resblock_kernel_sizes": (3, 7),
    "resblock_dilation_sizes": ((1, 3), (1, 3)),
}
VERSION_2 = {"sampling_rate": 44100, "use_tanh_at_final": False, "use_bias_at_final": False}


def tiny_vocoder(**config):
    torch.manual_seed(0)
    vocoder = BigVGANVocoder(**(TINY | config)).eval()
    with torch.no_grad():
        for parameter in vocoder.parameters():  # the initial weights are nearly silent
            parameter.normal_(0, 0.3)
    return vocoder


def mel(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def decibels(error, reference):
    return 20 * torch.log10(error.norm() / reference.norm()).item()


# `tests/conversion/test_bigvgan.py` holds the whole generators against the original.


@pytest.mark.parametrize("activation", ["snake", "snakebeta"])
@pytest.mark.parametrize("scale", ["log", "lin"])
@torch.no_grad()
def test_anti_aliased_activation_equals_the_original(activation, scale):
    tensors = load_file(GOLDEN / "antialiased_activation.safetensors")
    layer = AntiAliasedActivation(5, has_beta=activation == "snakebeta", logscale=scale == "log")
    name = f"{activation}_{scale}"
    layer.act.load_state_dict({key: tensors[f"{name}.{key}"] for key in layer.act.state_dict()})
    hidden_states = tensors[f"{name}.input"]
    torch.testing.assert_close(layer.filter, tensors["filter_12tap"], rtol=0, atol=1e-7)
    torch.testing.assert_close(layer.act(hidden_states), tensors[f"{name}.plain"], rtol=0, atol=5e-6)
    torch.testing.assert_close(layer.upsample(hidden_states), tensors[f"{name}.upsampled"], rtol=0, atol=5e-6)
    torch.testing.assert_close(layer(hidden_states), tensors[f"{name}.antialiased"], rtol=0, atol=5e-6)


@torch.no_grad()
def test_version_2_equals_mmaudio_vocoder_of_diffusers():
    vocoder = tiny_vocoder(**VERSION_2)
    upstream = MMAudioVocoder(**TINY).eval()
    missing, unexpected = upstream.load_state_dict(vocoder.state_dict(), strict=False)
    assert not unexpected and all(name.endswith("filter") for name in missing)
    log_mel = mel(2, 20, 40)
    waveform = vocoder(log_mel)
    assert (waveform.abs() == 1).any() and (waveform.abs() < 1).any()  # on both sides of the clamp
    torch.testing.assert_close(waveform, upstream(log_mel).sample, rtol=0, atol=1e-5)


@torch.no_grad()
def test_save_and_load_keep_every_number_and_store_no_filter(tmp_path):
    vocoder = tiny_vocoder(activation="snake", snake_logscale=False)
    vocoder.save_pretrained(tmp_path)
    assert not any("filter" in name for name in load_file(tmp_path / "diffusion_pytorch_model.safetensors"))
    loaded = BigVGANVocoder.from_pretrained(tmp_path)
    assert loaded.config.sampling_rate == 16000
    torch.testing.assert_close(loaded(mel(1, 20, 9)), vocoder(mel(1, 20, 9)), rtol=0, atol=0)


@pytest.mark.parametrize("tile", [5, 16, 50])
@torch.no_grad()
def test_tiles_equal_one_pass(tile):
    vocoder, log_mel = tiny_vocoder(), mel(2, 20, 130)
    assert vocoder.use_tiling  # by default
    vocoder.disable_tiling()
    waveform = vocoder(log_mel)
    vocoder.enable_tiling(tile)
    tiled = vocoder(log_mel)
    assert waveform.shape == tiled.shape == (2, 1, 130 * 8)
    assert decibels(tiled - waveform, waveform) < -100


def test_receptive_field_is_exact():
    vocoder, log_mel = tiny_vocoder().double(), mel(1, 20, 101).double().requires_grad_()
    vocoder(log_mel)[0, 0, 50 * 8 : 51 * 8].sum().backward()  # the samples of frame 50
    frames = log_mel.grad[0].abs().amax(0).nonzero().flatten()
    assert (frames.min(), frames.max()) == (50 - vocoder.receptive_field, 50 + vocoder.receptive_field)


def test_activation_reach_is_exact():
    layer, hidden_states = AntiAliasedActivation(1, True, True).double(), mel(1, 1, 41).double().requires_grad_()
    layer(hidden_states)[0, 0, 20].backward()
    touched = hidden_states.grad.flatten().nonzero().flatten()
    assert (touched.min(), touched.max()) == (20 - ACTIVATION_REACH, 20 + ACTIVATION_REACH)


def peak_megabytes(function):
    """Return how far `function()` raises this process's memory at its peak (Linux)."""

    def peak():
        return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from the present
    before = peak()
    function()
    return peak() - before


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@torch.no_grad()
def test_ten_minutes_need_little_memory():
    vocoder = BigVGANVocoder(
        upsample_rates=(16, 4),
        upsample_kernel_sizes=(32, 8),
        upsample_initial_channel=32,
        resblock_kernel_sizes=(3,),
        resblock_dilation_sizes=((1,),),
    )
    log_mel = mel(1, 80, 37500)
    assert peak_megabytes(lambda: vocoder(log_mel)) < 150
    assert vocoder(log_mel[..., :2000]).shape == (1, 1, 2000 * 64)


@torch.no_grad()
def test_bfloat16_is_close_to_float32(tmp_path):
    reference, log_mel = tiny_vocoder(), mel(1, 20, 40)
    reference.save_pretrained(tmp_path)
    loaded = BigVGANVocoder.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16 and loaded.activation_post.act.alpha.dtype == torch.float32
    waveform = reference(log_mel)
    for vocoder in (loaded, reference.to(torch.bfloat16)):
        low = vocoder(log_mel)
        assert low.dtype == torch.bfloat16 and decibels(low.float() - waveform, waveform) < -20


@torch.no_grad()
def test_snake_computes_its_phase_in_float32():
    snake, hidden_states = Snake(3, has_beta=True, logscale=True), 50 * mel(1, 3, 40).bfloat16()
    snake.alpha.fill_(1)
    snake.beta.fill_(-6)  # the sine outweighs the input
    expected = snake(hidden_states.float())
    output = snake.bfloat16()(hidden_states)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), expected, rtol=0.02, atol=1)


def test_gradient_checkpointing_gives_the_same_gradients():
    def gradients(checkpointing):
        vocoder, calls = tiny_vocoder().train(), []
        if checkpointing:
            vocoder.enable_gradient_checkpointing()
        vocoder.resblocks[0].register_forward_pre_hook(lambda *_: calls.append(1))
        vocoder(mel(1, 20, 12)).square().mean().backward()
        return {name: parameter.grad for name, parameter in vocoder.named_parameters()}, len(calls)

    plain, calls = gradients(False)
    checkpointed, more_calls = gradients(True)
    assert (calls, more_calls) == (1, 2)  # a checkpointed block runs again in the backward pass
    assert all(gradient is not None for gradient in plain.values())
    torch.testing.assert_close(checkpointed, plain)


@torch.no_grad()
def test_layerwise_casting_runs_in_the_compute_dtype():
    vocoder, log_mel = tiny_vocoder(), mel(1, 20, 20)
    reference = vocoder(log_mel)
    vocoder.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert vocoder.ups[0][0].weight.dtype == torch.float8_e4m3fn
    assert vocoder.conv_pre.weight.dtype == vocoder.resblocks[0].activations[0].act.alpha.dtype == torch.float32
    assert decibels(vocoder(log_mel) - reference, reference) < -10


@pytest.mark.parametrize(
    "offload", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}]
)
@torch.no_grad()
def test_group_offload_brings_every_weight_back_in_time(offload, tmp_path):
    # Offloaded to disk, a weight read outside its module's forward would be garbage here, not only on a GPU.
    vocoder, log_mel = tiny_vocoder(), mel(1, 20, 20)
    vocoder.enable_tiling(10)
    reference = vocoder(log_mel)
    vocoder.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path), **offload)
    torch.testing.assert_close(vocoder(log_mel), reference, rtol=0, atol=0)


def test_stages_are_modules_that_hooks_can_reach():
    assert all(isinstance(up, nn.Sequential) for up in tiny_vocoder().ups)


def test_forward_refuses_other_mel_bands():
    with pytest.raises(ValueError, match=r"20 mel bands.*\(1, 80, 9\)"):
        tiny_vocoder()(torch.zeros(1, 80, 9))


def test_config_is_checked():
    for config, message in (
        ({"activation": "relu"}, "activation"),
        ({"upsample_kernel_sizes": (8,)}, "equally long"),
        ({"upsample_kernel_sizes": (8, 3)}, "even numbers"),
        ({"resblock_kernel_sizes": (3,)}, "equally long"),
    ):
        with pytest.raises(ValueError, match=message):
            BigVGANVocoder(**(TINY | config))
