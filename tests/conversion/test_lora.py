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
from diffusers_jova.conversion.errors import ConversionError
from diffusers_jova.conversion.lora import METADATA_KEY, convert
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


def run(source, to, output, alpha=None):
    plan = convert(open_checkpoint(source, strip=False), to, alpha)
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


def test_a_file_without_an_alpha_has_strength_1(jova, tmp_path):
    module = "transformer_blocks.0.video.to_q"
    save_file({f"lora_unet_{module.replace('.', '_')}.lora_{end}.weight": torch.randn(shape) for end, shape in
               {"down": (3, 24), "up": (24, 3)}.items()}, tmp_path / "k.safetensors")  # fmt: skip
    folder = run(tmp_path / "k.safetensors", "diffusers", tmp_path / "out")
    layer = load_like_diffusers(jova, folder).get_submodule(module)
    assert next(iter(layer.scaling.values())) == 1.0  # without an alpha the strength is 1


def test_what_is_no_lora_of_jova_is_reported(tmp_path):
    module = "transformer.transformer_blocks.0.video.to_q"
    tensors = {
        f"{module}.lora_A.weight": torch.ones(2, 4),
        f"{module}.dora_scale": torch.ones(4, 1),
        "lora_te_text_model_q.lora_down.weight": torch.ones(2, 4),
        "transformer.transformer_blocks.0.video.to_k.lora_A.weight": torch.ones(2, 4),
        "transformer.transformer_blocks.0.video.to_k.lora_B.weight": torch.ones(4, 3),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    plan = convert(open_checkpoint(tmp_path, strip=False), "comfyui")
    with pytest.raises(ConversionError, match="1 missing, 2 unexpected, 1 of another shape"):
        plan.check(None)
    assert f"{module}.lora_B.weight" in plan.report.missing
    assert "lora_te_text_model_q.lora_down.weight is a LoRA of a text encoder" in str(plan.report)


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


def save_like_peft(model, folder, **changes):
    """Write what `PeftModel.save_pretrained` writes: adapter_model.safetensors and adapter_config.json."""
    folder.mkdir()
    layers = get_peft_model_state_dict(model, adapter_name="default")
    save_file({f"base_model.model.{name}": x.contiguous() for name, x in layers.items()},
              folder / "adapter_model.safetensors")  # fmt: skip
    model.peft_config["default"].save_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize("changes", [{}, {"use_rslora": True}], ids=["plain", "rank-stabilised"])
@pytest.mark.parametrize("format", ["comfyui", "kohya", "diffusers"])
def test_a_folder_of_peft_keeps_its_strength_in_every_format_and_through_all_of_them(jova, tmp_path, format, changes):
    model = adapted(jova, **changes)
    there = run(save_like_peft(model, tmp_path / "peft"), format, tmp_path / format)
    expected = changes_of_weights(model)
    for folder in (there, run(there, "diffusers", tmp_path / "back")):
        actual = changes_of_weights(load_like_diffusers(jova, folder))
        assert actual.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(actual[name], expected[name], rtol=1e-5, atol=0)


def test_patterns_of_a_larger_model_fit_the_layers_under_its_prefix(tmp_path):
    names = tuple(f"base_model.model.transformer.proj_out.lora_{half}.weight" for half in "AB")
    config = {"peft_type": "LORA", "r": 8, "lora_alpha": 8}
    config |= {"rank_pattern": {"^transformer.proj_out": 4}, "alpha_pattern": {"^transformer.proj_out": 10}}
    save_one_layer(tmp_path / "adapter_model.safetensors", names)
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    out = load_file(run(tmp_path, "comfyui", tmp_path / "out") / "lora_comfyui.safetensors")
    assert out["diffusion_model.proj_out.alpha"] == 10


@pytest.mark.parametrize("alpha", [0.1, 7.25, 16 / 3])
def test_an_alpha_that_float32_would_round_comes_back_exactly(jova, tmp_path, alpha):
    folder = save_like_diffusers(adapted(jova, lora_alpha=alpha), tmp_path / "lora")
    there = run(run(folder, "kohya", tmp_path / "kohya"), "comfyui", tmp_path / "comfyui")
    back = open_checkpoint(run(there, "diffusers", tmp_path / "back"), strip=False)
    assert json.loads(back.metadata[METADATA_KEY])["transformer.lora_alpha"] == alpha


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"r": 8}, "settings say rank 8 for .*its lora_A has rank 4"),
        ({"lora_alpha": "a lot"}, "`lora_alpha` of this LoRA must be a number, got 'a lot'"),
        ({"lora_alpha": None}, "give no `lora_alpha`"),
        ({"alpha_pattern": {"(": 3}}, "`alpha_pattern` .* cannot be read"),
        ({"peft_type": "LOKR"}, "This adapter is LOKR, not LORA"),
        ({"modules_to_save": ["proj_out"]}, "`modules_to_save`"),
        ({"bias": "lora_only"}, "`bias`"),
        ({"layer_replication": [[0, 1], [0, 1]]}, "`layer_replication`"),
        ({"init_lora_weights": "pissa_niter_16"}, "began as 'pissa_niter_16'"),
        ({"use_dora": True}, "missing"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_by_name(jova, tmp_path, changes, message):
    folder = save_like_peft(adapted(jova), tmp_path / "peft", **changes)
    with pytest.raises(ConversionError, match=message):
        run(folder, "diffusers", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_files_adapter_config_is_left_alone_and_a_damaged_one_refused(jova, tmp_path):
    folder = save_like_peft(adapted(jova), tmp_path / "peft")
    other = folder / "other.safetensors"
    other.write_bytes((folder / "adapter_model.safetensors").read_bytes())
    run(other, "comfyui", tmp_path / "other")
    alpha = load_file(tmp_path / "other" / "lora_comfyui.safetensors")[f"diffusion_model.{TEXT_Q}.alpha"]
    assert alpha == 2  # the rank: strength 1
    (folder / "adapter_config.json").write_text("[" * 200_000)
    with pytest.raises(ConversionError, match="adapter_config.json is nested too deep"):
        run(folder / "adapter_model.safetensors", "comfyui", tmp_path / "out")


def save_one_layer(path, names, metadata=None, rank=4, **more):
    down, up = torch.ones(rank, 24), torch.ones(24, rank)
    save_file({names[0]: down, names[1]: up, **more}, path, metadata)
    return path


KOHYA = ("lora_unet_proj_out.lora_down.weight", "lora_unet_proj_out.lora_up.weight")
PEFT = ("diffusion_model.proj_out.lora_A.weight", "diffusion_model.proj_out.lora_B.weight")


@pytest.mark.parametrize(
    "names, metadata, alpha",
    [
        (KOHYA, {"ss_network_alpha": "1.0", "ss_network_dim": "4"}, 1),
        (KOHYA, {"ss_network_alpha": "None", "ss_network_dim": "4"}, 4),
        (PEFT, {"ss_network_alpha": "4", "ss_network_dim": "4"}, 4),
        (PEFT, {"lora_alpha": "16", "r": "4"}, 16),
        (PEFT, {"lora_alpha": "16", "use_rslora": "True"}, 32),
        (PEFT, None, 4),
    ],
)
def test_alpha_in_the_metadata_of_other_trainers_is_read(tmp_path, names, metadata, alpha):
    path = save_one_layer(tmp_path / "lora.safetensors", names, metadata)
    out = load_file(run(path, "comfyui", tmp_path / "out") / "lora_comfyui.safetensors")
    assert out["diffusion_model.proj_out.alpha"] == alpha


def test_metadata_that_may_mean_two_strengths_is_refused_and_alpha_says_which(tmp_path):
    metadata = {"ss_network_alpha": "1", "ss_network_dim": "4"}
    path = save_one_layer(tmp_path / "lora.safetensors", PEFT, metadata)
    with pytest.raises(ConversionError, match="strength may be in the weights already.*--alpha"):
        run(path, "diffusers", tmp_path / "out")
    run(path, "comfyui", tmp_path / "out", alpha=4.0)
    assert load_file(tmp_path / "out" / "lora_comfyui.safetensors")["diffusion_model.proj_out.alpha"] == 4


def test_an_alpha_that_contradicts_the_settings_is_refused(tmp_path):
    more = {"diffusion_model.proj_out.alpha": torch.tensor(2.0)}
    path = save_one_layer(tmp_path / "lora.safetensors", PEFT, {"lora_alpha": "16"}, **more)
    with pytest.raises(ConversionError, match="proj_out.alpha is 2, but the file's settings say 16"):
        run(path, "diffusers", tmp_path / "out")


def test_null_metadata_is_none(jova, tmp_path):
    folder = run(save_like_diffusers(adapted(jova), tmp_path / "lora"), "kohya", tmp_path / "kohya")
    file = folder / "lora_kohya.safetensors"
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length]) | {"__metadata__": None}
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    back = changes_of_weights(load_like_diffusers(jova, run(file, "diffusers", tmp_path / "back")))
    for name, expected in changes_of_weights(adapted(jova)).items():
        torch.testing.assert_close(back[name], expected, rtol=1e-5, atol=0)
