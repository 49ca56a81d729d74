# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The MMAudio autoencoder: equal to the original and to diffusers, exact in tiles, safe in every precision."""

import re
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
import torch.nn.functional as F
from diffusers import MMAudioVAE
from diffusers.models.autoencoders.autoencoder_mmaudio import (
    MMAudioAttnBlock1D,
    MMAudioDownsample1D,
    MMAudioResnetBlock1D,
    MMAudioUpsample1D,
    mp_silu,
    mp_sum,
    normalize,
)
from safetensors.torch import load_file, save_file
from torch import nn

from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.mmaudio import convert, fold
from diffusers_jova.models.autoencoder_mmaudio import (
    AutoencoderMMAudio,
    MMAudioPosterior,
    MMAudioWholeAttnProcessor,
)


GOLDEN = Path(__file__).parents[1] / "golden" / "mmaudio"
TINY = {"hidden_channels": 8, "channel_multipliers": (1, 2, 2), "layers_per_block": 1}


def golden(name):
    return load_file(GOLDEN / f"{name}.safetensors")


def golden_vae(mode):
    tensors = golden(f"vae_{mode}_small_encoder") | golden(f"vae_{mode}_small_decoder")
    state_dict = {name.removeprefix("state_dict."): t for name, t in tensors.items() if name.startswith("state_dict.")}
    with TemporaryDirectory() as folder:
        save_file(state_dict, f"{folder}/v1.safetensors")
        convert(open_checkpoint(f"{folder}/v1.safetensors"), audio_mode=mode).write(f"{folder}/vae")
        return AutoencoderMMAudio.from_pretrained(f"{folder}/vae"), tensors


def tiny_vae(**config):
    torch.manual_seed(0)
    vae = AutoencoderMMAudio(**(TINY | config)).eval()
    vae.data_mean.normal_()
    vae.data_std.uniform_(0.5, 2)
    nn.init.constant_(vae.encoder.learnable_gain, 0.3)
    nn.init.constant_(vae.decoder.learnable_gain, -0.3)
    return vae


def noise(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) * 1.8 - 0.9


def decibels(error, reference):
    return 20 * torch.log10(error.norm() / reference.norm()).item()


@pytest.mark.parametrize("mode", ["16k", "44k"])
@torch.no_grad()
def test_encoder_and_decoder_equal_the_original(mode):
    vae, tensors = golden_vae(mode)
    posterior = vae.encode_mel(tensors["input_mel"]).latent_dist
    torch.testing.assert_close(posterior.parameters, tensors["out.posterior_parameters"], rtol=0, atol=2e-5)
    generator = torch.Generator().manual_seed({"16k": 1603, "44k": 4403}[mode])
    torch.testing.assert_close(posterior.sample(generator), tensors["out.posterior_sample"], rtol=0, atol=1e-4)
    for latents, log_mel in (
        (tensors["input_z"], tensors["out.decode_of_z"]),
        (tensors["input_z_odd"], tensors["out.decode_of_z_odd"]),
        (posterior.mode(), tensors["out.decode_of_posterior_mean"]),
    ):
        torch.testing.assert_close(vae.decode(latents).sample, log_mel, rtol=0, atol=2e-5)


@pytest.mark.parametrize(("mode", "tolerance"), [("16k", 2e-5), ("44k", 2e-4)])
def test_mel_spectrogram_equals_the_original(mode, tolerance):
    tensors = golden(f"mel_{mode}")
    log_mel = golden_vae(mode)[0].mel_spectrogram(tensors["waveform"])
    torch.testing.assert_close(log_mel, tensors["log_mel"], rtol=0, atol=tolerance)


def test_silence_has_a_finite_gradient():
    waveform = torch.zeros(1, 2048, requires_grad=True)
    tiny_vae().mel_spectrogram(waveform).sum().backward()
    assert torch.isfinite(waveform.grad).all()


@torch.no_grad()
def test_blocks_equal_the_original():
    tensors = golden("vae_blocks")
    for name, block in {
        "resnet_same": MMAudioResnetBlock1D(12, 12),
        "resnet_widen": MMAudioResnetBlock1D(12, 20),
        "attn": MMAudioAttnBlock1D(16, processor=MMAudioWholeAttnProcessor()),
        "down": MMAudioDownsample1D(10),
        "up": MMAudioUpsample1D(10),
    }.items():
        block.load_state_dict({key: fold(tensors[f"state_dict.{name}.{key}"]) for key in block.state_dict()})
        torch.testing.assert_close(block(tensors[f"{name}.input"]), tensors[f"{name}.output"], rtol=0, atol=5e-6)
    torch.testing.assert_close(mp_silu(tensors["mp_silu.input"]), tensors["mp_silu.output"], rtol=0, atol=5e-6)
    total = mp_sum(tensors["mp_sum_t0.3.a"], tensors["mp_sum_t0.3.b"], t=0.3)
    torch.testing.assert_close(total, tensors["mp_sum_t0.3.output"], rtol=0, atol=5e-6)
    normalized = normalize(tensors["pixel_norm.input"], dim=1)
    torch.testing.assert_close(normalized, tensors["pixel_norm.output"], rtol=0, atol=5e-6)


def test_posterior_equals_the_original():
    tensors = golden("vae_blocks")
    posterior = MMAudioPosterior(tensors["posterior.parameters"])
    for name in ("mean", "logvar", "std", "var"):
        torch.testing.assert_close(getattr(posterior, name), tensors[f"posterior.{name}"])
    sample = posterior.sample(torch.Generator().manual_seed(79))
    torch.testing.assert_close(sample, tensors["posterior.sample"])


def test_posterior_divergence_is_the_textbook_one_per_sample():
    mean, logvar = noise(3, 4, 5), noise(3, 4, 5, seed=1)
    posterior = MMAudioPosterior(torch.cat([mean, logvar], dim=1))
    gaussian = torch.distributions.Normal(mean, (logvar / 2).exp())
    standard = torch.distributions.Normal(0.0, 1.0)
    expected = torch.distributions.kl_divergence(gaussian, standard).sum(dim=(1, 2))
    torch.testing.assert_close(posterior.kl(), expected)
    torch.testing.assert_close(posterior.kl(posterior), torch.zeros(3))
    torch.testing.assert_close(posterior.nll(mean), -gaussian.log_prob(mean).sum(dim=(1, 2)))


@pytest.mark.parametrize("loudness", [1, 1e4])  # 1e4: activations run into their clip at 256
@torch.no_grad()
def test_44k_equals_mmaudio_vae_of_diffusers(loudness):
    vae, _ = golden_vae("44k")
    for name, parameter in vae.named_parameters():
        parameter *= loudness if "conv2" in name and "block" in name else 1
    upstream = MMAudioVAE(hidden_channels=vae.config.hidden_channels).eval()
    missing, unexpected = upstream.load_state_dict({f"vae.{k}": v for k, v in vae.state_dict().items()}, strict=False)
    assert not unexpected and set(missing) == {"mel_converter.mel_basis", "mel_converter.hann_window"}
    waveform = noise(2, 30000)
    ours, theirs = vae.encode(waveform).latent_dist, upstream.encode(waveform).latent_dist
    torch.testing.assert_close(ours.parameters, theirs.parameters, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(vae.decode(ours.mean).sample, upstream.decode(ours.mean).sample, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(("mode", "rate", "samples"), [("16k", 31.25, 512), ("44k", 44100 / 1024, 1024)])
def test_latent_rate_follows_from_the_config(mode, rate, samples):
    vae, _ = golden_vae(mode)
    assert (vae.latent_rate, vae.samples_per_latent) == (rate, samples)
    num_samples = 7 * samples + samples // 2
    assert vae.encode(noise(1, num_samples)).latent_dist.mean.shape == (1, vae.config.latent_channels, 7)


@torch.no_grad()
def test_save_and_load_keep_every_number(tmp_path):
    vae = tiny_vae(latents_mean=[0.5] * 20)
    vae.save_pretrained(tmp_path)
    loaded = AutoencoderMMAudio.from_pretrained(tmp_path)
    assert loaded.config.latents_mean == [0.5] * 20 and loaded.config.latents_std is None
    waveform = noise(1, 8000)
    torch.testing.assert_close(loaded(waveform).sample, vae(waveform).sample, rtol=0, atol=0)
    torch.testing.assert_close(loaded(waveform, return_dict=False)[0], vae(waveform).sample, rtol=0, atol=0)


@torch.no_grad()
def test_bfloat16_keeps_mel_and_statistics_in_float32(tmp_path):
    reference = tiny_vae()
    reference.save_pretrained(tmp_path)
    vae = AutoencoderMMAudio.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert vae.dtype == torch.bfloat16
    torch.testing.assert_close(vae.data_mean, reference.data_mean, rtol=0, atol=0)
    waveform = noise(1, 16000)
    with torch.autocast("cpu", torch.bfloat16):
        mel = vae.mel_spectrogram(waveform)
    torch.testing.assert_close(mel, reference.mel_spectrogram(waveform), rtol=0, atol=0)
    ours, theirs = vae.encode(waveform).latent_dist.mean, reference.encode(waveform).latent_dist.mean
    assert ours.dtype == torch.bfloat16 and decibels(ours.float() - theirs, theirs) < -30
    decoded = vae.decode(ours).sample
    assert decoded.dtype == torch.float32 and decibels(decoded - reference.decode(theirs).sample, decoded) < -30


@pytest.mark.parametrize("tile", [1, 7, 32])
@pytest.mark.parametrize("frames", [120, 121])
@torch.no_grad()
def test_tiles_equal_one_pass(tile, frames):
    vae, _ = golden_vae("16k")
    log_mel = 2 * noise(2, 80, frames) - 2
    moments = vae.encode_mel(log_mel).latent_dist.parameters
    decoded = vae.decode(moments[:, :20]).sample
    vae.enable_tiling(tile)
    tiled = vae.encode_mel(log_mel).latent_dist.parameters
    assert tiled.shape == moments.shape and decibels(tiled - moments, moments) < -100
    tiled = vae.decode(moments[:, :20]).sample
    assert tiled.shape == decoded.shape and decibels(tiled - decoded, decoded) < -100
    vae.disable_tiling()
    torch.testing.assert_close(vae.decode(moments[:, :20]).sample, decoded, rtol=0, atol=0)


@pytest.mark.parametrize("num_samples", [20000, 20480])
def test_mel_in_tiles_equals_one_pass(num_samples):
    vae, waveform = tiny_vae(), noise(2, num_samples)
    log_mel = vae.mel_spectrogram(waveform)
    vae.enable_tiling(5)
    torch.testing.assert_close(vae.mel_spectrogram(waveform), log_mel, rtol=0, atol=1e-5)


@torch.no_grad()
def test_tiled_convolutions_never_see_more_than_a_tile_and_its_halo():
    vae, lengths = tiny_vae(), []
    for name, module in vae.named_modules():
        if isinstance(module, nn.Conv1d) and "attn" not in name:
            module.register_forward_hook(lambda _, inputs, output: lengths.append(output.shape[-1]))
    vae.enable_tiling(16)
    vae(noise(1, 512 * 300))
    assert max(lengths) <= 2 * (16 + 2 * 16)


@torch.no_grad()
def test_attention_in_query_chunks_equals_diffusers_attention(monkeypatch):
    monkeypatch.setattr("diffusers_jova.models.autoencoder_mmaudio.QUERY_CHUNK", 10)
    theirs = MMAudioAttnBlock1D(16)
    ours = MMAudioAttnBlock1D(16, processor=MMAudioWholeAttnProcessor())
    ours.load_state_dict(theirs.state_dict())
    hidden_states, lengths, attention = noise(2, 16, 37), [], F.scaled_dot_product_attention
    expected = theirs(hidden_states)

    def spy(query, key, value):
        lengths.append((query.shape[2], key.shape[2]))
        return attention(query, key, value)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    torch.testing.assert_close(ours(hidden_states), expected, rtol=0, atol=1e-6)
    assert lengths == [(10, 37), (10, 37), (10, 37), (7, 37)]


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
def test_ten_minutes_in_tiles_need_little_memory():
    vae = AutoencoderMMAudio(hidden_channels=16, channel_multipliers=(4, 1, 1), layers_per_block=1)
    vae.enable_tiling()
    waveform = noise(1, 600 * 16000)
    assert peak_megabytes(lambda: vae(waveform)) < 150
    assert vae(waveform[:, :512000]).sample.shape == (1, 80, 2000)


@torch.no_grad()
def test_slicing_equals_the_whole_batch():
    vae, waveform, batches = tiny_vae(), noise(3, 8000), []
    whole = vae(waveform).sample
    vae.encoder.register_forward_hook(lambda _, inputs, output: batches.append(len(output)))
    vae.enable_slicing()
    torch.testing.assert_close(vae(waveform).sample, whole, rtol=0, atol=1e-5)
    assert batches == [1, 1, 1]


def test_gradient_checkpointing_gives_the_same_gradients():
    def gradients(checkpointing):
        vae, calls = tiny_vae().train(), []
        if checkpointing:
            vae.enable_gradient_checkpointing()
        vae.encoder.mid["attn_1"].register_forward_pre_hook(lambda *_: calls.append(1))
        vae.decoder.up[0].block[0].register_forward_pre_hook(lambda *_: calls.append(1))
        vae(noise(1, 8000)).sample.square().mean().backward()
        return {name: parameter.grad for name, parameter in vae.named_parameters()}, len(calls)

    plain, calls = gradients(False)
    checkpointed, more_calls = gradients(True)
    assert (calls, more_calls) == (2, 4)  # each checkpointed block runs again in the backward pass
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in plain.values())
    torch.testing.assert_close(checkpointed, plain)


@torch.no_grad()
def test_layerwise_casting_runs_in_the_compute_dtype():
    vae, waveform = tiny_vae(), noise(1, 8000)
    reference = vae(waveform).sample
    vae.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    assert vae.encoder.mid["attn_1"].qkv.weight.dtype == torch.float8_e4m3fn
    assert vae.encoder.conv_in.weight.dtype == torch.float32
    assert decibels(vae(waveform).sample - reference, reference) < -15


@pytest.mark.parametrize(
    "offload", [{"offload_type": "leaf_level"}, {"offload_type": "block_level", "num_blocks_per_group": 1}]
)
@torch.no_grad()
def test_group_offload_brings_every_weight_back_in_time(offload, tmp_path):
    # Offloaded to disk, a weight read outside its module's forward would be garbage here, not only on a GPU.
    vae, waveform, log_mel, latents = tiny_vae(), noise(1, 8000), noise(1, 80, 40), noise(1, 20, 20)
    vae.enable_tiling(5)

    def run():
        return vae(waveform).sample, vae.encoder(log_mel, tile_length=5), vae.decoder(latents, tile_length=5)

    reference = run()
    vae.enable_group_offload(torch.device("cpu"), offload_to_disk_path=str(tmp_path), **offload)
    torch.testing.assert_close(run(), reference, rtol=0, atol=0)


@torch.no_grad()
def test_encode_and_decode_work_under_group_offload():
    vae, waveform = tiny_vae(), noise(1, 8000)
    latents = vae.encode(waveform).latent_dist.mean
    log_mel = vae.decode(latents).sample
    vae.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    torch.testing.assert_close(vae.encode(waveform).latent_dist.mean, latents, rtol=0, atol=0)
    torch.testing.assert_close(vae.decode(latents).sample, log_mel, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(1, 1, 8000), r"\(batch, samples\).*\(1, 1, 8000\)"),
        (torch.zeros(1, 8000, dtype=torch.int16), "floating-point.*int16"),
        (torch.zeros(1, 511), "512 samples or more.*got 511"),
        (torch.full((1, 8000), torch.nan), "finite"),
    ],
)
def test_encode_refuses_a_bad_waveform(waveform, message):
    with pytest.raises(ValueError, match=message):
        tiny_vae().encode(waveform)


def test_decode_refuses_latents_with_channels_last():
    with pytest.raises(ValueError, match=r"\(batch, 20, length\).*\(1, 30, 20\). Transpose it"):
        tiny_vae().decode(torch.zeros(1, 30, 20))


def test_encode_mel_refuses_other_mel_bands():
    with pytest.raises(ValueError, match=r"80 mel bands.*\(1, 128, 40\)"):
        tiny_vae().encode_mel(torch.zeros(1, 128, 40))


def test_config_is_checked():
    for config, message in (
        ({"log_base": "2"}, "log_base"),
        ({"channel_multipliers": (1,)}, "two levels"),
        ({"latents_std": [1.0]}, "latents_std.*20 numbers.*got 1"),
    ):
        with pytest.raises(ValueError, match=message):
            AutoencoderMMAudio(**(TINY | config))
