# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""LoRA files for Wan, in the layouts that people have, change the video branch as they change Wan, and audio not."""

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from diffusers_jova import JoVATransformer3DModel, JoVAWanTransformer3DModel
from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.errors import ConversionError
from diffusers_jova.conversion.lora import convert
from diffusers_jova.loaders import lora_file
from diffusers_jova.loaders.lora import JoVALoraLoaderMixin
from diffusers_jova.models.wan_names import BLOCK_PARTS, OTHER_PARTS, jova_name


TINY = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "ffn_dim": 48, "freq_dim": 16}
RANK, STRENGTH = 4, 0.5
LINEAR = {name: part for name, part in BLOCK_PARTS.items() if "norm" not in name and name != "modulation"}


class Host(JoVALoraLoaderMixin):
    """As much of a pipeline as the loader needs."""

    _lora_loadable_modules = ["transformer"]
    components = {}
    hf_device_map = None

    def __init__(self, transformer):
        self.transformer = transformer


class WanHost(Host):
    lora_state_dict = WanPipeline.lora_state_dict
    load_lora_weights = WanPipeline.load_lora_weights
    load_lora_into_transformer = WanPipeline.load_lora_into_transformer
    _maybe_expand_t2v_lora_for_i2v = WanPipeline._maybe_expand_t2v_lora_for_i2v


@pytest.fixture
def models():
    """A tiny Wan, and the model of which it is the video branch; all parameters drawn."""
    torch.manual_seed(0)
    wan = WanTransformer3DModel(in_channels=16, out_channels=16, text_dim=12, **TINY).eval()
    model = JoVAWanTransformer3DModel(in_channels=16, audio_in_channels=5, text_embed_dim=12, text_len=6, **TINY)
    for parameter in (*wan.parameters(), *model.parameters()):
        torch.nn.init.normal_(parameter, std=0.2)
    model.load_state_dict({jova_name(name): x for name, x in wan.state_dict().items()}, strict=False)
    return wan, model.eval()


def halves(modules: list[str], generator: torch.Generator, wan) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Return a random (rank, in) and (out, rank) for each of Wan's modules, by diffusers' name."""
    found = {}
    for module in modules:
        layer = wan.get_submodule(module)
        down = torch.randn(RANK, layer.in_features, generator=generator)
        found[module] = (down, torch.randn(layer.out_features, RANK, generator=generator))
    return found


def in_blocks(parts) -> list[str]:
    return [f"blocks.{number}.{part}" for number in range(TINY["num_layers"]) for part in parts]


def diffusers_layout(wan, generator):
    layers = halves([*in_blocks(LINEAR.values()), "proj_out", "condition_embedder.time_proj"], generator, wan)
    names = {"lora_A": 0, "lora_B": 1}
    return {f"transformer.{m}.{name}.weight": pair[i] for m, pair in layers.items() for name, i in names.items()}


def original_layout(wan, generator):
    """ComfyUI's, by the names of Wan's authors, with alphas."""
    parts = {**{f"blocks.{n}.{k}": f"blocks.{n}.{v}" for n in range(2) for k, v in LINEAR.items()}}
    layers = halves(list(parts.values()), generator, wan)
    tensors = {}
    for name, module in parts.items():
        down, up = layers[module]
        tensors[f"diffusion_model.{name}.lora_A.weight"] = down
        tensors[f"diffusion_model.{name}.lora_B.weight"] = up
        tensors[f"diffusion_model.{name}.alpha"] = torch.tensor(STRENGTH * RANK)
    return tensors


def kohya_layout(wan, generator):
    parts = {f"blocks.{n}.{k}": f"blocks.{n}.{v}" for n in range(2) for k, v in LINEAR.items()}
    layers = halves(list(parts.values()), generator, wan)
    tensors = {}
    for name, module in parts.items():
        down, up = layers[module]
        key = f"lora_unet_{name.replace('.', '_')}"
        tensors |= {f"{key}.lora_down.weight": down, f"{key}.lora_up.weight": up}
        tensors[f"{key}.alpha"] = torch.tensor(STRENGTH * RANK)
    return tensors


def lightx2v_layout(wan, generator):
    """Low-rank layers, differences of biases for all of them, and of whole weights for some."""
    parts = {f"blocks.{n}.{k}": f"blocks.{n}.{v}" for n in range(2) for k, v in LINEAR.items()}
    parts |= {name: part for name, part in OTHER_PARTS.items() if "embedding.0" in name or "embedding.2" in name}
    parts = {name: part for name, part in parts.items() if name != "patch_embedding"}
    layers = halves(list(parts.values()), generator, wan)
    tensors = {}
    for name, module in parts.items():
        down, up = layers[module]
        tensors[f"diffusion_model.{name}.lora_down.weight"] = down
        tensors[f"diffusion_model.{name}.lora_up.weight"] = up
        tensors[f"diffusion_model.{name}.diff_b"] = torch.randn(len(up), generator=generator)
        if "attn" in name:  # a strength, which the difference of the bias does not have
            tensors[f"diffusion_model.{name}.alpha"] = torch.tensor(STRENGTH * RANK)
    for number in range(2):
        for norm in ("self_attn.norm_q", "norm3"):
            tensors[f"diffusion_model.blocks.{number}.{norm}.diff"] = torch.ones(32)
        tensors[f"diffusion_model.blocks.{number}.norm3.diff_b"] = torch.zeros(32)
    head = wan.proj_out.weight
    tensors["diffusion_model.head.head.diff"] = torch.randn(head.shape, generator=generator)
    tensors["diffusion_model.head.head.diff_b"] = torch.randn(len(head), generator=generator)
    tensors["diffusion_model.patch_embedding.diff"] = torch.ones(32, 16, 1, 2, 2)
    return tensors


LAYOUTS = [diffusers_layout, original_layout, kohya_layout, lightx2v_layout]


@torch.no_grad()
def run_both(wan, model) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return Wan's video, ours without audio, and the audio of our audio branch alone."""
    generator = torch.Generator().manual_seed(1)
    video = torch.randn(2, 16, 2, 4, 6, generator=generator)
    text = torch.randn(2, 6, 12, generator=generator)
    audio = torch.randn(2, 5, 7, generator=generator)
    timestep = torch.tensor([700.0, 20.0])
    reference = wan(video, timestep, text, return_dict=False)[0]
    inputs = {"encoder_hidden_states": text, "timestep": timestep, "return_dict": False}
    return reference, model(video, **inputs)[0], model(audio_hidden_states=audio, **inputs)[1]


def load(host: Host, tensors: dict, path) -> None:
    save_file(tensors, path)
    host.load_lora_weights(str(path), adapter_name="a")


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_lora_for_wan_changes_video_as_in_wan_and_leaves_audio_alone(models, layout, tmp_path):
    wan, model = models
    before, _, audio_before = run_both(wan, model)
    tensors = layout(wan, torch.Generator().manual_seed(2))
    load(Host(model), tensors, tmp_path / "lora.safetensors")
    load(WanHost(wan), tensors, tmp_path / "lora.safetensors")
    reference, video, audio = run_both(wan, model)
    assert (reference - before).abs().max() > 0.1
    assert (video - reference).abs().max() <= 1e-4 * reference.abs().max()
    assert torch.equal(audio, audio_before)
    assert not [name for name, _ in model.named_parameters() if "lora" in name and "audio" in name]


def test_settings_in_a_diffusers_file_for_wan_keep_their_strength(models, tmp_path):
    wan, model = models
    pattern = {"blocks.1.attn1.to_q": 16}
    config = LoraConfig(
        r=4, lora_alpha=2, target_modules=["to_q", "to_k"], alpha_pattern=pattern, init_lora_weights=False
    )
    torch.manual_seed(3)
    wan.add_adapter(config, adapter_name="a")
    WanPipeline.save_lora_weights(
        tmp_path,
        transformer_lora_layers=get_peft_model_state_dict(wan, adapter_name="a"),
        transformer_lora_adapter_metadata=wan.peft_config["a"].to_dict(),
    )
    Host(model).load_lora_weights(str(tmp_path / "pytorch_lora_weights.safetensors"), adapter_name="a")
    reference, video, _ = run_both(wan, model)
    assert (video - reference).abs().max() <= 1e-4 * reference.abs().max()
    scales = {m.scaling["a"] for m in model.modules() if hasattr(m, "scaling")}
    assert scales == {0.5, 4.0}


def test_what_is_not_loaded_of_a_lora_for_wan_is_named(models, tmp_path, monkeypatch):
    wan, model = models
    warnings = []
    monkeypatch.setattr(lora_file.logger, "warning", warnings.append)
    load(Host(model), lightx2v_layout(wan, torch.Generator().manual_seed(2)), tmp_path / "lora.safetensors")
    assert len(warnings) == 1
    for name in ("patch_embedding.diff", "blocks.1.self_attn.norm_q.diff", "blocks.0.norm3.diff"):
        assert name in warnings[0]
    assert "norm3.diff_b" not in warnings[0]  # it is zero


def test_attention_alone_in_kohyas_form_loads(models, tmp_path):
    wan, model = models
    tensors = {k: v for k, v in kohya_layout(wan, torch.Generator().manual_seed(2)).items() if "self_attn" in k}
    with pytest.raises(KeyError):  # upstream wants all layers of a block
        load(WanHost(wan), tensors, tmp_path / "lora.safetensors")
    load(Host(model), tensors, tmp_path / "lora.safetensors")
    adapted = [name for name, m in model.named_modules() if hasattr(m, "scaling")]
    assert len(adapted) == 8 and all(".video.attn1.to_" in name for name in adapted)


def test_lora_for_wan_is_converted_with_its_strength(models, tmp_path):
    wan, model = models
    tensors = original_layout(wan, torch.Generator().manual_seed(2))
    save_file(tensors, tmp_path / "wan.safetensors")
    plan = convert(open_checkpoint(tmp_path / "wan.safetensors", strip=False), "kohya")
    plan.check(tmp_path / "converted")
    plan.write(tmp_path / "converted")
    Host(model).load_lora_weights(str(tmp_path / "converted"), weight_name="lora_kohya.safetensors")
    load(WanHost(wan), tensors, tmp_path / "lora.safetensors")
    reference, video, _ = run_both(wan, model)
    assert (video - reference).abs().max() <= 1e-4 * reference.abs().max()

    save_file(lightx2v_layout(wan, torch.Generator().manual_seed(2)), tmp_path / "diff.safetensors")
    with pytest.raises(ConversionError, match=r"diff_b is read by the pipeline's `load_lora_weights` only"):
        convert(open_checkpoint(tmp_path / "diff.safetensors", strip=False), "diffusers")


def test_lora_of_clip_layers_is_refused(models, tmp_path):
    wan, model = models
    tensors = original_layout(wan, torch.Generator().manual_seed(2))
    tensors["diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight"] = torch.zeros(4, 32)
    with pytest.raises(ValueError, match=r"k_img.*a layer for CLIP's image tokens"):
        load(Host(model), tensors, tmp_path / "lora.safetensors")


def test_lora_for_wan_does_not_fit_the_other_transformer(models, tmp_path):
    wan, _ = models
    torch.manual_seed(0)
    other = JoVATransformer3DModel(
        num_attention_heads=1, attention_head_dim=8, num_layers=1, num_single_layers=1, text_embed_dim=4
    )
    with pytest.raises(ValueError, match="belongs to this JoVATransformer3DModel.*for Wan"):
        load(Host(other), original_layout(wan, torch.Generator().manual_seed(2)), tmp_path / "lora.safetensors")


def test_names_of_wans_authors_are_those_of_diffusers_converter():
    names = {f"blocks.3.{original}": f"blocks.3.{name}" for original, name in BLOCK_PARTS.items()} | OTHER_PARTS
    endings = {name: "" if name.endswith("modulation") else ".weight" for name in names}
    converted = convert_wan_transformer_to_diffusers({name + ending: name for name, ending in endings.items()})
    assert converted == {names[name] + ending: name for name, ending in endings.items()}
