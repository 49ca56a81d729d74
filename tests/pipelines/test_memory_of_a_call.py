# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The memory that a call is said to take is what it takes, counted on tensors with content."""

import re

import pytest
import torch
from diffusers import AutoencoderKLWan

from diffusers_jova import JoVATransformer3DModel, JoVAWanTransformer3DModel, compat
from diffusers_jova.cli.dispatch import main
from diffusers_jova.live_memory import GIB, LiveMemory
from diffusers_jova.pipeline_folder import read_pipeline_folder
from diffusers_jova.pipelines.memory import (
    CallMemory,
    CallOutline,
    Clip,
    Holding,
    TransformerOutline,
    decoder_activations,
    estimate_call,
)


TINY = {"num_attention_heads": 2, "attention_head_dim": 32, "num_layers": 2, "text_embed_dim": 16}
CONFIGS = {
    "jova": TINY | {"num_single_layers": 1, "text_embed_dim_2": 24},
    "wan": TINY | {"ffn_dim": 96, "text_len": 512},
    "wan 5b": TINY | {"ffn_dim": 96, "in_channels": 36, "out_channels": 36, "condition_fill": "noisy"},
}
CLASSES = {"jova": JoVATransformer3DModel, "wan": JoVAWanTransformer3DModel, "wan 5b": JoVAWanTransformer3DModel}
CLIP = Clip(32, 48, 9)
NANO_CLIP = Clip(64, 64, 21, 12.5)


def bytes_of(model):
    return sum(parameter.nbytes for parameter in model.parameters())


@pytest.fixture(params=CONFIGS)
def kind(request):
    return request.param


def test_weights_are_those_of_the_model_whatever_holds_them(kind):
    outline, model = TransformerOutline(CONFIGS[kind], torch.float32), CLASSES[kind](**CONFIGS[kind])
    assert outline.weights() == bytes_of(model)
    blocks = [bytes_of(block) for name in ("transformer_blocks", "single_transformer_blocks")
              for block in getattr(model, name, ())]  # fmt: skip
    assert outline.weights(one_block=True) == bytes_of(model) - sum(blocks) + 2 * max(blocks)
    model.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert outline.weights(float8=True) == bytes_of(model) < 0.7 * outline.weights()


def test_activations_are_those_of_a_forward_pass(kind):
    outline, model = TransformerOutline(CONFIGS[kind], torch.float32), CLASSES[kind](**CONFIGS[kind])
    inputs = outline.inputs(model.config, CLIP, batch_size=2)
    assert inputs["hidden_states"].shape == (2, 36, 3, 4, 6) and inputs["audio_hidden_states"].shape == (2, 40, 17)
    known = [*model.parameters(), *filter(torch.is_tensor, inputs.values())]
    with torch.no_grad(), LiveMemory(known) as memory:
        model(**inputs)
    assert outline.activations(CLIP, batch_size=2) == pytest.approx(memory.peak, rel=0.01)


def test_latents_are_as_many_as_the_vae_makes():
    outline = TransformerOutline(CONFIGS["wan 5b"], torch.float32, spatial_compression=16)
    inputs = outline.inputs(outline.config | {"vae_temporal_compression": 4, "audio_in_channels": None}, CLIP, 1)
    assert inputs["hidden_states"].shape == (1, 36, 3, 2, 3) and inputs["timestep"].shape == (1, 3)
    nano = CallOutline(read_pipeline_folder("jova-nano"), NANO_CLIP, torch.bfloat16)
    assert nano.transformer.spatial_compression == 16


def test_the_decoder_of_a_long_clip_is_counted_from_a_short_one():
    config = {"base_dim": 4, "z_dim": 16, "num_res_blocks": 1}
    vae, clip = AutoencoderKLWan(**config).eval(), Clip(32, 48, 29)
    latents = torch.zeros(1, 16, 8, 4, 6)
    with torch.no_grad(), LiveMemory([*vae.parameters(), latents]) as memory:
        vae.decode(latents)
    assert decoder_activations(config, clip, torch.float32, AutoencoderKLWan) == pytest.approx(memory.peak, rel=0.1)


def test_a_decoder_in_tiles_is_counted_from_one_tile():
    config, clip = {"base_dim": 4, "z_dim": 16, "num_res_blocks": 1}, Clip(192, 320, 1)
    vae, latents = AutoencoderKLWan(**config).eval(), torch.zeros(1, 16, 1, 24, 40)
    vae.enable_tiling()  # tiles of 256 and 128 columns
    with torch.no_grad(), LiveMemory([*vae.parameters(), latents]) as memory:
        vae.decode(latents)
    counted = decoder_activations(config, clip, torch.float32, AutoencoderKLWan, tiling=True)
    assert memory.peak <= counted < 1.3 * memory.peak


def test_a_folder_is_read_without_its_weights():
    folder = read_pipeline_folder("jova-nano")
    memory = estimate_call(folder, NANO_CLIP, torch.bfloat16)
    assert set(memory.weights) == {"transformer", "vae", "audio_vae", "vocoder", "text_encoder", "text_encoder_2"}
    assert memory.weights["transformer"] == TransformerOutline(folder.config("transformer"), torch.bfloat16).weights()
    assert memory.offloaded_peak == memory.weights["transformer"] + memory.activations["transformer"] < memory.peak


def test_peaks_by_hand():
    memory = CallMemory({"transformer": 10, "vae": 2, "text_encoder": 30}, {"transformer": 5, "vae": 9})
    assert memory.peak == 51 and memory.offloaded_peak == 30
    assert memory.without("text_encoder").peak == 21 and memory.without("text_encoder").offloaded_peak == 15
    assert memory.group_offloaded_peak == 2 + 30 and memory.without("text_encoder").group_offloaded_peak == 2 + 15


def test_each_way_to_hold_the_transformer_is_counted():
    outline = CallOutline(read_pipeline_folder("jova-nano"), NANO_CLIP, torch.bfloat16)
    assert outline.weights_on_card() == outline.weights == outline.weights_on_card(Holding(vae_tiling=True))
    for name, options in {
        "modulation_cache": {"modulation_cache": True},
        "group_offload": {"one_block": True},
        "layerwise_casting": {"float8": True},
    }.items():
        weights = outline.weights_on_card(Holding(**{name: True}))
        assert weights == outline.weights | {"transformer": outline.transformer.weights(**options)}, name
        assert weights["transformer"] < outline.weights["transformer"], name


@pytest.fixture
def card(monkeypatch):
    """Let `generate` find a card with so many bytes free."""

    def make(free):
        monkeypatch.setattr("diffusers_jova.cli.generate.device_of", lambda args: "cuda")
        monkeypatch.setattr("diffusers_jova.cli.memory.free_memory", lambda device: free)

    return make


def generate(tmp_path, *flags):
    return main(["generate", "--model", "jova-nano", "--prompt", "x", "--output", str(tmp_path / "x.mp4"), *flags])


@pytest.mark.parametrize(
    "free, flags, fits",
    [
        (57.3, (), "--modulation_cache (0.0 GiB), or `encode` before, and --prompt_embeds (0.1 GiB). A smaller"),
        (40, (), "What would fit: --cpu_offload --modulation_cache (0.0 GiB). A smaller --height"),
        (55, ("--cpu_offload", "--height", "512", "--width", "512"), "21 frames of 512 x 512. A smaller --height"),
    ],
)
def test_a_clip_too_large_for_the_card_is_refused_before_loading_with_what_fits(
    card, tmp_path, capsys, free, flags, fits
):
    card(free=free * 2**20)
    assert generate(tmp_path, *flags) == 2
    told = capsys.readouterr().err
    assert re.search(r"error: This clip needs about 0\.\d GiB of cuda, and 0\.\d GiB are free: weights of", told)
    assert fits in told and not list(tmp_path.iterdir())


def test_a_clip_that_fits_or_is_to_be_tried_goes_on(card, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "diffusers_jova.cli.generate.prepare_pipeline", lambda *args, **kwargs: seen.append(1) or 1 / 0
    )
    for free, flags in ((GIB, ()), (0, ("--ignore_memory_estimate",))):
        card(free)
        with pytest.raises(ZeroDivisionError):
            generate(tmp_path, *flags)
    monkeypatch.setattr(compat, "has", lambda *names: "FakeTensorMode" not in names)  # a torch without it
    card(free=0)
    with pytest.raises(ZeroDivisionError):
        generate(tmp_path)
    assert len(seen) == 3
