# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The verbs for the VAEs, the vocoder and the whole pipeline; the examples of the docs are in test_pages_run.py."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKLWan, DiffusionPipeline, MMAudioVAE
from safetensors.torch import load_file

from diffusers_jova import AutoencoderMMAudio, BigVGANVocoder, JoVAPipeline
from diffusers_jova.conversion.wan_vae import original_names
from diffusers_jova.pipeline_folder import find_model


DOCS = Path(__file__).parents[2] / "docs" / "conversion.md"
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def audio_vae():
    """MMAudio's 44.1 kHz autoencoder, narrow, with raw weights, as its state dict."""
    torch.manual_seed(0)
    model = AutoencoderMMAudio(
        sampling_rate=44100, n_fft=2048, hop_length=512, num_mels=128, log_base="e", latent_channels=40,
        hidden_channels=8, fmax=22050.0,
    )  # fmt: skip
    return {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}


def test_mmaudio_raw_to_ours_to_raw_is_the_same_model_within_1e_6(run_verb, audio_vae, tmp_path):
    torch.save(audio_vae, tmp_path / "v1-44.pth")
    for arguments in (
        ("--input", tmp_path / "v1-44.pth", "--output", tmp_path / "ours"),
        ("--to", "mmaudio", "--raw", "--input", tmp_path / "ours", "--output", tmp_path / "raw"),
        ("--input", tmp_path / "raw", "--output", tmp_path / "again"),
    ):
        assert (out := run_verb("convert_mmaudio", *arguments)).status == 0, out.error
    ours, again = (AutoencoderMMAudio.from_pretrained(tmp_path / name).state_dict() for name in ("ours", "again"))
    for name in ours:
        torch.testing.assert_close(again[name], ours[name], rtol=0, atol=1e-6)
    assert AutoencoderMMAudio.from_pretrained(tmp_path / "ours").config.sampling_rate == 44100


def test_mmaudio_folded_goes_through_every_layout_bit_by_bit(run_verb, audio_vae, tmp_path, same_tensors):
    torch.save(audio_vae, tmp_path / "raw.pth")
    assert run_verb("convert_mmaudio", "--input", tmp_path / "raw.pth", "--output", tmp_path / "ours").status == 0
    for source, to in (("ours", "upstream"), ("upstream", "mmaudio"), ("mmaudio", "jova")):
        out = run_verb("convert_mmaudio", "--to", to, "--input", tmp_path / source, "--output", tmp_path / to)
        assert out.status == 0 and "the weights are folded" in out.output
    ours = load_file(tmp_path / "ours" / WEIGHTS)
    assert same_tensors(load_file(tmp_path / "jova" / WEIGHTS), ours)
    assert same_tensors(load_file(tmp_path / "mmaudio" / "v1-44.safetensors"), ours)
    upstream = MMAudioVAE.from_pretrained(tmp_path / "upstream")
    mine = AutoencoderMMAudio.from_pretrained(tmp_path / "ours")
    waveform = torch.randn(1, 8192).clamp(-1, 1)
    with torch.no_grad():
        expected = upstream.encode(waveform).latent_dist.mean
        torch.testing.assert_close(mine.encode(waveform).latent_dist.mean, expected, rtol=1e-4, atol=1e-4)


def test_the_16k_autoencoder_cannot_be_the_upstream_class(run_verb, tmp_path):
    AutoencoderMMAudio(hidden_channels=4).save_pretrained(tmp_path / "ours")
    arguments = ("--to", "upstream", "--input", tmp_path / "ours", "--output", tmp_path / "out")
    assert "natural logarithm" in run_verb("convert_mmaudio", *arguments).error


@pytest.mark.parametrize("verb", ["convert_mmaudio", "convert_bigvgan", "convert_wan_vae"])
def test_the_file_of_another_model_is_refused(run_verb, waver_files, tmp_path, verb):
    out = run_verb(verb, "--input", waver_files["video"], "--output", tmp_path / "out")
    assert out.status == 2 and out.error.startswith("error: waver.safetensors")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mode, rate", [("16k", 16000), ("44k", 44100)])
def test_bigvgan_with_weight_norm_becomes_ours_and_goes_back(run_verb, tmp_path, mode, rate, same_tensors):
    v2 = {"num_mels": 128, "upsample_rates": [8, 4, 2, 2, 2, 2], "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4]}
    v2 |= {"use_tanh_at_final": False, "use_bias_at_final": False}
    torch.manual_seed(0)
    model = BigVGANVocoder(upsample_initial_channel=64, **(v2 if mode == "44k" else {}))
    plain = model.state_dict()
    generator = {}
    for name, tensor in plain.items():
        if name.endswith(".weight") and tensor.ndim == 3:
            generator[f"{name}_v"] = 2 * tensor
            generator[f"{name}_g"] = tensor.norm(dim=(1, 2), keepdim=True)
        else:
            generator[name] = tensor
    torch.save({"generator": generator}, tmp_path / "g.pt")
    out = run_verb("convert_bigvgan", "--input", tmp_path / "g.pt", "--output", tmp_path / "ours")
    assert out.status == 0 and f"taken for MMAudio's {mode} vocoder" in out.output, out.error
    ours = BigVGANVocoder.from_pretrained(tmp_path / "ours")
    assert ours.config.sampling_rate == rate
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, plain[name])
    for to, source, output in (("bigvgan", "ours", "original"), ("jova", "original", "again")):
        arguments = ("--to", to, "--input", tmp_path / source, "--output", tmp_path / output)
        assert (out := run_verb("convert_bigvgan", *arguments)).status == 0, out.error
    assert same_tensors(load_file(tmp_path / "again" / WEIGHTS), load_file(tmp_path / "ours" / WEIGHTS))
    assert "activation_post.upsample.filter" in load_file(tmp_path / "original" / "bigvgan_generator.safetensors")


def test_wan_vae_goes_to_the_originals_names_and_back_bit_by_bit(run_verb, tmp_path, same_tensors):
    model = AutoencoderKLWan(base_dim=8)
    model.save_pretrained(tmp_path / "vae")
    out = run_verb("convert_wan_vae", "--to", "wan", "--input", tmp_path / "vae", "--output", tmp_path / "wan")
    assert out.status == 0 and "194 matched, 0 initialised, 0 missing" in out.output
    original = load_file(tmp_path / "wan" / "Wan2.1_VAE.safetensors")
    assert {"encoder.conv1.weight", "decoder.upsamples.14.residual.6.bias", "conv2.bias"} <= original.keys()
    torch.save(original, tmp_path / "Wan2.1_VAE.pth")
    arguments = ("--input", tmp_path / "Wan2.1_VAE.pth", "--output", tmp_path / "back")
    assert run_verb("convert_wan_vae", *arguments).status == 0
    back = AutoencoderKLWan.from_pretrained(tmp_path / "back")
    assert same_tensors(back.state_dict(), model.state_dict())
    assert back.config.latents_mean == model.config.latents_mean


def test_every_name_of_the_wan_vae_has_one_original():
    with torch.device("meta"):
        names = AutoencoderKLWan().state_dict()
    assert len(set(original_names(names).values())) == len(names) == 194


def parts_of(folder):
    parts = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name != "examples"]
    return [argument for part in parts for argument in (f"--{part.name}", part)]


def test_parts_become_a_pipeline_that_loads(run_verb, folder, pipe, tmp_path, same_tensors):
    out = run_verb("assemble_jova", *parts_of(folder), "--output", tmp_path / "jova")
    assert out.status == 0, out.error
    index = json.loads((tmp_path / "jova" / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers_jova", "JoVATransformer3DModel"]
    for loader in (JoVAPipeline, DiffusionPipeline):
        loaded = loader.from_pretrained(tmp_path / "jova")
        assert same_tensors(loaded.transformer.state_dict(), pipe.transformer.state_dict())
    assert loaded.tokenizer("a").input_ids == pipe.tokenizer("a").input_ids
    assert run_verb("assemble_jova", *parts_of(folder), "--output", tmp_path / "jova").status == 2


@pytest.mark.parametrize(
    "part, file, change, message",
    [
        ("vae", "config.json", {"z_dim": 8}, "latent channels: transformer.out_channels has 16, vae has 8"),
        ("audio_vae", "config.json", {"latent_channels": 40}, "audio_in_channels has 20, audio_vae has 40"),
        ("vocoder", "config.json", {"sampling_rate": 44100}, "sampling rate: audio_vae has 16000, vocoder has 44100"),
        ("vocoder", "config.json", {"num_mels": 100}, "mel bands"),
        ("audio_vae", "config.json", {"hop_length": 128}, "audio latents per second"),
        ("text_encoder", "config.json", {"d_model": 999}, "text width: transformer.text_embed_dim has"),
        ("text_encoder_2", "config.json", {"hidden_size": 999}, "text width: transformer.text_embed_dim_2 has"),
        (
            "vocoder",
            "config.json",
            {"_class_name": "Vocos"},
            "--vocoder must be BigVGANVocoder or GriffinLimVocoder or",
        ),
    ],
)
def test_a_part_that_does_not_fit_is_named(run_verb, folder, tmp_path, part, file, change, message):
    shutil.copytree(folder, tmp_path / "parts")
    config = tmp_path / "parts" / part / file
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    out = run_verb("assemble_jova", *parts_of(tmp_path / "parts"), "--output", tmp_path / "jova")
    assert out.status == 2 and message in out.error
    assert not (tmp_path / "jova").exists()


def test_parts_that_go_together_are_asked_for(run_verb, folder, tmp_path):
    arguments = parts_of(folder)
    without = arguments.index("--vocoder")
    del arguments[without : without + 2]
    out = run_verb("assemble_jova", *arguments, "--dry_run")
    assert out.status == 2 and "audio_vae and vocoder go together" in out.error


def test_a_truncated_part_is_refused(run_verb, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "parts")
    weights = tmp_path / "parts" / "transformer" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    out = run_verb("assemble_jova", *parts_of(tmp_path / "parts"), "--output", tmp_path / "jova")
    assert out.status == 2 and "truncated" in out.error


def test_the_docs_page_shows_the_key_map_as_it_is():
    table = (DOCS.parents[1] / "src/diffusers_jova/conversion/key_maps/waver.yaml").read_text()
    page = DOCS.read_text()
    names = re.findall(r"(?:rename|to): (\S+)", table)
    assert len(names) == 12
    assert all(f"`{name}`" in page for name in names)


ENCODERS = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")


def test_jova_nano_is_put_together_again_of_its_own_parts(run_verb, tmp_path, same_tensors):
    nano = Path(find_model("jova-nano"))
    out = run_verb("assemble_jova", *parts_of(nano), "--output", tmp_path / "jova")
    assert out.status == 0, out.error
    assert "defaults: " in out.output and "frame_rate=12.5" in out.output and "known words: 10" in out.output
    shipped, ours = (json.loads((folder / "model_index.json").read_text()) for folder in (nano, tmp_path / "jova"))
    assert ours == shipped
    loaded, original = (JoVAPipeline.from_pretrained(folder) for folder in (tmp_path / "jova", nano))
    assert same_tensors(loaded.vocoder.state_dict(), original.vocoder.state_dict())
    assert loaded.config.num_frames == 21 and type(loaded.vocoder).__name__ == "GriffinLimVocoder"


def test_a_part_may_be_a_pipeline_that_has_it_by_folder_or_by_name(run_verb, folder, tmp_path):
    names = (argument for part in ENCODERS for argument in (f"--{part}", "jova-nano"))
    parts = ("--transformer", "jova-nano", "--vae", "jova-nano", "--audio_vae", "jova-nano", *names)
    out = run_verb("assemble_jova", *parts, "--vocoder", folder, "--output", tmp_path / "jova")
    assert out.status == 0, out.error
    pipe = JoVAPipeline.from_pretrained(tmp_path / "jova")
    assert type(pipe.vocoder).__name__ == "BigVGANVocoder" and pipe.config.height == 64
    out = run_verb("assemble_jova", "--transformer", "jova-nano", "--vae", folder, "--dry_run")
    assert out.status == 2
    assert "transformer.in_channels has 33, two times vae plus 1 of the mask has 33" not in out.error
    assert "frames per latent: transformer has 1, vae has 4" in out.error


@pytest.mark.parametrize(
    "change, message",
    [
        ({"log_base": "e"}, "base of the logarithm: audio_vae has 10, vocoder has e"),
        ({"fmax": 7600.0}, "highest frequency: audio_vae has 8000.0, vocoder has 7600.0"),
        ({"n_fft": 2048}, "samples per window: audio_vae has 1024, vocoder has 2048"),
        ({"hop_length": 160}, "samples per mel frame: audio_vae has 256, vocoder has 160"),
    ],
)
def test_a_vocoder_for_another_log_mel_is_named(run_verb, tmp_path, change, message):
    shutil.copytree(Path(find_model("jova-nano")) / "vocoder", tmp_path / "vocoder")
    config = tmp_path / "vocoder" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    parts = [argument for part in ("transformer", "vae", "audio_vae") for argument in (f"--{part}", "jova-nano")]
    out = run_verb("assemble_jova", *parts, "--vocoder", tmp_path / "vocoder", "--dry_run")
    assert out.status == 2 and message in out.error


def test_a_config_without_an_entry_or_nested_too_deep_is_no_traceback(run_verb, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "parts")
    config = tmp_path / "parts" / "vae" / "config.json"
    known = json.loads(config.read_text())
    config.write_text(json.dumps({name: value for name, value in known.items() if name != "z_dim"}))
    assert run_verb("assemble_jova", *parts_of(tmp_path / "parts"), "--dry_run").status == 0
    config.write_text('{"a":' * 200_000)
    out = run_verb("assemble_jova", *parts_of(tmp_path / "parts"), "--dry_run")
    assert out.status == 2 and "config.json is nested too deep" in out.error
