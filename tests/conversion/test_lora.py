# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import copy
import json

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.key_mapping import ConversionError
from diffusers_jova.conversion.lora import METADATA_KEY, convert, module_names
from diffusers_jova.loaders.lora import JoVALoraLoaderMixin


TEXT_Q = "transformer_blocks.1.video_text.to_q"
CONFIG = {
    "r": 4,
    "lora_alpha": 6,
    "target_modules": ["to_q", "to_out.0", "net.0.proj", "text_embedder_2.linear"],
    "rank_pattern": {TEXT_Q: 2},
    "alpha_pattern": {"single_transformer_blocks.0.audio.to_q": 5, TEXT_Q: 0.5},
}


def adapted(jova, **changes):
    """Return a copy of the model with a random adapter."""
    model = copy.deepcopy(jova.model)
    torch.manual_seed(1)
    model.add_adapter(LoraConfig(**{**CONFIG, **changes}, init_lora_weights=False))
    return model


def save_like_diffusers(model, folder):
    JoVALoraLoaderMixin.save_lora_weights(
        folder,
        transformer_lora_layers=get_peft_model_state_dict(model, adapter_name="default"),
        transformer_lora_adapter_metadata=model.peft_config["default"].to_dict(),
    )
    return folder


def load_like_diffusers(jova, folder):
    model = copy.deepcopy(jova.model)
    state_dict, metadata = JoVALoraLoaderMixin.lora_state_dict(folder, return_lora_metadata=True)
    JoVALoraLoaderMixin.load_lora_into_transformer(state_dict, transformer=model, metadata=metadata)
    return model


def changes_of_weights(model):
    """Return what the adapter adds to each weight: scale · B · A."""
    return {
        name: layer.get_delta_weight(adapter)
        for name, layer in model.named_modules()
        if isinstance(layer, LoraLayer)
        for adapter in layer.lora_A
    }


def run(source, to, output):
    plan = convert(open_checkpoint(source, strip=False), to)
    plan.check(output)
    plan.write(output)
    return output


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}], ids=["plain", "rank-stabilised"])
@pytest.mark.parametrize("format", ["comfyui", "kohya"])
def test_an_adapter_does_the_same_after_going_there_and_back(jova, tmp_path, format, changes):
    model = adapted(jova, **changes)
    there = run(save_like_diffusers(model, tmp_path / "lora"), format, tmp_path / format)
    back = load_like_diffusers(jova, run(there, "diffusers", tmp_path / "back"))
    expected, actual = changes_of_weights(model), changes_of_weights(back)
    assert len(expected) > 40 and expected.keys() == actual.keys()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=0)


@pytest.mark.parametrize("format", ["comfyui", "kohya"])
def test_foreign_files_come_back_bit_by_bit_with_their_alphas(jova, tmp_path, format, same_tensors):
    there = run(save_like_diffusers(adapted(jova), tmp_path / "lora"), format, tmp_path / format)
    back = run(run(there, "diffusers", tmp_path / "back"), format, tmp_path / "again")
    first, second = (load_file(folder / f"lora_{format}.safetensors") for folder in (there, back))
    assert same_tensors(first, second)


def test_names_and_alphas_of_each_format(jova, tmp_path):
    folder = save_like_diffusers(adapted(jova), tmp_path / "lora")
    comfyui = load_file(run(folder, "comfyui", tmp_path / "comfyui") / "lora_comfyui.safetensors")
    kohya = load_file(run(folder, "kohya", tmp_path / "kohya") / "lora_kohya.safetensors")
    assert comfyui[f"diffusion_model.{TEXT_Q}.lora_A.weight"].shape == (2, 24)
    assert comfyui[f"diffusion_model.{TEXT_Q}.alpha"] == 0.5
    assert kohya["lora_unet_transformer_blocks_1_video_text_to_q.lora_up.weight"].shape == (24, 2)
    assert kohya["lora_unet_single_transformer_blocks_0_audio_to_q.alpha"] == 5
    assert kohya["lora_unet_video_embedder_text_embedder_2_linear.alpha"] == 6


def test_comfyui_names_load_through_the_pipelines_loader_too(jova, tmp_path):
    module = "transformer_blocks.0.video.to_q"
    save_file({f"lora_unet_{module.replace('.', '_')}.lora_{end}.weight": torch.randn(shape) for end, shape in
               {"down": (3, 24), "up": (24, 3)}.items()}, tmp_path / "k.safetensors")  # fmt: skip
    folder = run(tmp_path / "k.safetensors", "diffusers", tmp_path / "out")
    layer = load_like_diffusers(jova, folder).get_submodule(module)
    assert next(iter(layer.scaling.values())) == 1.0  # without an alpha the strength is 1


def test_no_two_modules_are_the_same_with_underscores():
    names = module_names(["transformer_blocks.11.video.to_q", "single_transformer_blocks_12_audio_to_q"])
    assert len({name.replace(".", "_") for name in names}) == len(names)
    assert {"transformer_blocks.11.audio_text.ff.net.2", "single_transformer_blocks.12.audio.cross_linear"} <= names


def test_what_is_no_lora_of_jova_is_reported(tmp_path):
    module = "transformer.transformer_blocks.0.video.to_q"
    tensors = {
        f"{module}.lora_A.weight": torch.ones(2, 4),
        f"{module}.lora_magnitude_vector.weight": torch.ones(4),
        "lora_te_text_model_q.lora_down.weight": torch.ones(2, 4),
        "transformer.transformer_blocks.0.video.to_k.lora_A.weight": torch.ones(2, 4),
        "transformer.transformer_blocks.0.video.to_k.lora_B.weight": torch.ones(4, 3),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    plan = convert(open_checkpoint(tmp_path, strip=False), "comfyui")
    with pytest.raises(ConversionError, match="1 missing, 2 unexpected, 1 of another shape"):
        plan.check(None)
    assert "transformer_blocks.0.video.to_q.lora_B.weight" in plan.report.missing


def test_a_layer_in_two_formats_at_once_is_refused(tmp_path):
    names = ("diffusion_model.proj_out.lora_A.weight", "lora_unet_proj_out.lora_down.weight")
    save_file({name: torch.ones(2, 4) for name in names}, tmp_path / "lora.safetensors")
    with pytest.raises(ConversionError, match="The down of proj_out is there twice"):
        convert(open_checkpoint(tmp_path, strip=False), "kohya")


def test_verb_converts_and_keeps_pefts_description(run_verb, jova, tmp_path):
    folder = save_like_diffusers(adapted(jova), tmp_path / "lora")
    for source, to in (("lora", "kohya"), ("kohya", "diffusers")):
        out = run_verb("convert_lora", "--to", to, "--input", tmp_path / source, "--output", tmp_path / to)
        assert out.status == 0, out.error
    before, after = (
        json.loads(open_checkpoint(path, strip=False).metadata[METADATA_KEY])
        for path in (folder, tmp_path / "diffusers")
    )
    for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern"):
        assert after[f"transformer.{name}"] == before[f"transformer.{name}"]
