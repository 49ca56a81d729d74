# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""LoRA files as trainers write them: read with the strength that they say, or refused by name, and nothing between."""

import copy
import json
import math

import peft
import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from diffusers_jova import JoVAPipeline
from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.lora import convert


FILE = "pytorch_lora_weights.safetensors"
VIDEO_Q = "transformer_blocks.0.video.to_q"
AUDIO_V = "single_transformer_blocks.0.audio.to_v"
CONFIGS = {
    "alpha": {"r": 4, "lora_alpha": 10},
    "patterns": {"r": 4, "lora_alpha": 6, "rank_pattern": {VIDEO_Q: 2}, "alpha_pattern": {AUDIO_V: 9, VIDEO_Q: 0.5}},
    "rank-stabilised": {"r": 3, "lora_alpha": 6, "use_rslora": True, "rank_pattern": {VIDEO_Q: 2}},
}


@pytest.fixture
def lora_pipe(own_pipe):
    """A pipeline without LoRA, to be given some."""
    return own_pipe


@pytest.fixture(scope="module")
def plain(pipe):
    return run(pipe)


@pytest.fixture(scope="module", params=CONFIGS)
def adapter(request, pipe, plain):
    """A LoRA's layers, its PEFT config, the alpha / rank of each module, and what the pipeline makes with it."""
    pipe = copy.deepcopy(pipe)
    layers, config = make_adapter(pipe.transformer, **CONFIGS[request.param])
    modules = {name: m for name, m in pipe.transformer.named_modules() if isinstance(m, LoraLayer)}
    strengths = {name: module.scaling["made"] for name, module in modules.items()}
    expected = run(pipe)
    assert (expected[0] - plain[0]).abs().max() > 1e-3
    return layers, config, strengths, expected


def make_adapter(transformer, **config) -> tuple[dict[str, torch.Tensor], LoraConfig]:
    """Add an adapter "made" with random weights to `transformer`; return copies of its layers, and its config."""
    torch.manual_seed(3)
    config = {"target_modules": ["to_q", "to_v", "to_out.0"], "init_lora_weights": False} | config
    transformer.add_adapter(LoraConfig(**config), "made")
    layers = get_peft_model_state_dict(transformer, adapter_name="made")
    return {name: x.detach().clone() for name, x in layers.items()}, transformer.peft_config["made"]


def run(pipe) -> tuple[torch.Tensor, torch.Tensor]:
    return pipe(
        "A face.",
        num_inference_steps=1,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        return_dict=False,
    )


def alpha_keys(layers, strengths, prefix="", underscores=False, dtype=torch.float32):
    """Return the alpha tensors of the layers, as ComfyUI and kohya keep them."""
    ranks = {name.removesuffix(".lora_A.weight"): len(x) for name, x in layers.items() if "lora_A" in name}
    return {
        f"{prefix}{module.replace('.', '_') if underscores else module}.alpha": torch.tensor(
            strength * rank, dtype=dtype
        )
        for (module, strength), rank in ((item, ranks[item[0]]) for item in strengths.items())
    }


def diffusers(folder, layers, config, strengths):
    JoVAPipeline.save_lora_weights(
        folder, transformer_lora_layers=layers, transformer_lora_adapter_metadata=config.to_dict()
    )
    return folder / FILE


def diffusers_of_the_model_alone(folder, layers, config, strengths):
    metadata = {key: list(value) if isinstance(value, set) else value for key, value in config.to_dict().items()}
    save_file(layers, folder / FILE, {"lora_adapter_metadata": json.dumps(metadata)})
    return folder / FILE


def peft_folder(folder, layers, config, strengths):
    config.save_pretrained(folder)
    save_file({f"base_model.model.{name}": x for name, x in layers.items()}, folder / "adapter_model.safetensors")
    return folder


def peft_file_with_the_adapters_name(folder, layers, config, strengths):
    config.save_pretrained(folder)
    renamed = {name.replace(".weight", ".my_lora.weight"): x for name, x in layers.items()}
    save_file(renamed, folder / "adapter_model.safetensors")
    return folder / "adapter_model.safetensors"


def peft_pickle(folder, layers, config, strengths):
    config.save_pretrained(folder)
    torch.save({f"base_model.model.{name}": x for name, x in layers.items()}, folder / "adapter_model.bin")
    return folder / "adapter_model.bin"


def comfyui(folder, layers, config, strengths):
    layers = {f"diffusion_model.{name}": x for name, x in layers.items()}
    alphas = alpha_keys(layers, {f"diffusion_model.{name}": value for name, value in strengths.items()})
    save_file(layers | alphas, folder / "comfy.safetensors")
    return folder / "comfy.safetensors"


def comfyui_with_up_and_down_under_pefts_prefix(folder, layers, config, strengths):
    prefix = "base_model.model.diffusion_model."
    names = {name: name.replace("lora_A", "lora_down").replace("lora_B", "lora_up") for name in layers}
    renamed = {prefix + names[name]: x for name, x in layers.items()}
    save_file(renamed | alpha_keys(layers, strengths, prefix, dtype=torch.float64), folder / "c.safetensors")
    return folder / "c.safetensors"


def kohya(folder, layers, config, strengths):
    renamed = {}
    for name, x in layers.items():
        module, _, end = name.rpartition(".lora_")
        renamed[f"lora_unet_{module.replace('.', '_')}.lora_{'down' if end[0] == 'A' else 'up'}.weight"] = x
    metadata = {"ss_network_alpha": "1", "ss_network_dim": "4", "format": "pt"}  # the tensors say it exactly
    save_file(renamed | alpha_keys(layers, strengths, "lora_unet_", True), folder / "k.safetensors", metadata)
    return folder / "k.safetensors"


def converted(to):
    def write(folder, layers, config, strengths):
        source = peft_folder(folder, layers, config, strengths)
        plan = convert(open_checkpoint(source, strip=False), to)
        plan.check(None)
        plan.write(folder / "converted")
        return folder / "converted"

    write.__name__ = f"our own {to}"
    return write


LAYOUTS = [diffusers, diffusers_of_the_model_alone, peft_folder, peft_file_with_the_adapters_name, peft_pickle]
LAYOUTS += [comfyui, comfyui_with_up_and_down_under_pefts_prefix, kohya]
LAYOUTS += [converted("diffusers"), converted("comfyui"), converted("kohya")]


@pytest.mark.parametrize("write", LAYOUTS, ids=lambda write: write.__name__)
def test_every_layout_gives_the_clip_of_the_adapter_it_was_made_from(lora_pipe, adapter, write, tmp_path):
    layers, config, strengths, expected = adapter
    lora_pipe.load_lora_weights(write(tmp_path, layers, config, strengths), adapter_name="loaded")
    assert not any(x.is_meta for x in lora_pipe.transformer.parameters())
    for module, strength in strengths.items():
        scaling = lora_pipe.transformer.get_submodule(module).scaling["loaded"]
        assert math.isclose(scaling, strength, rel_tol=1e-7), module
    loaded = lora_pipe.transformer.peft_config["loaded"]
    assert loaded.rank_pattern == config.rank_pattern
    assert config.use_rslora or loaded.alpha_pattern == config.alpha_pattern
    for one, other in zip(run(lora_pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_state_dict_keeps_its_strength_with_and_without_metadata(lora_pipe, adapter, tmp_path):
    layers, config, strengths, expected = adapter
    file = diffusers(tmp_path, layers, config, strengths)
    lora_pipe.load_lora_weights(lora_pipe.lora_state_dict(file))
    for one, other in zip(run(lora_pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    state_dict, metadata = lora_pipe.lora_state_dict(file, return_lora_metadata=True)
    assert state_dict.keys() == {f"transformer.{name}" for name in layers}
    assert metadata["transformer.lora_alpha"] == config.lora_alpha


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_lora_of_half_precision_and_an_alpha_of_bfloat16_load(lora_pipe, dtype):
    down, up = torch.randn(3, 32).to(dtype), torch.randn(32, 3).to(dtype)
    alpha = torch.tensor([5.0], dtype=torch.bfloat16)  # of one dimension, as some trainers write it
    names = ("lora_down.weight", "lora_up.weight", "alpha")
    tensors = dict(zip((f"diffusion_model.{VIDEO_Q}.{name}" for name in names), (down, up, alpha), strict=True))
    lora_pipe.load_lora_weights(tensors, adapter_name="small")
    layer = lora_pipe.transformer.get_submodule(VIDEO_Q)
    assert layer.scaling["small"] == 5 / 3
    assert torch.equal(layer.lora_A["small"].weight, down)
    assert all(x.isfinite().all() for x in run(lora_pipe))


@pytest.mark.parametrize("setting", ["use_dora", "lora_bias"])
def test_dora_and_biases_of_lora_load_as_they_were_saved_and_are_missed_when_they_are_not_there(
    lora_pipe, setting, tmp_path
):
    layers, config = make_adapter(lora_pipe.transformer, r=4, lora_alpha=6, **{setting: True})
    expected = run(lora_pipe)
    lora_pipe.unload_lora_weights()
    file = diffusers(tmp_path, layers, config, {})
    lora_pipe.load_lora_weights(file)
    for one, other in zip(run(lora_pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    lora_pipe.unload_lora_weights()
    ending = {"use_dora": ".lora_magnitude_vector", "lora_bias": ".lora_B.bias"}[setting]
    layers.pop(VIDEO_Q + ending)
    with pytest.raises(ValueError, match=f"transformer.{VIDEO_Q}{ending}: missing"):
        lora_pipe.load_lora_weights(diffusers(tmp_path, layers, config, {}))


# --- refused, with nothing changed ---

A, B = f"transformer.{VIDEO_Q}.lora_A.weight", f"transformer.{VIDEO_Q}.lora_B.weight"
WHOLE = {A: torch.ones(4, 32), B: torch.ones(32, 4)}


def unchanged(pipe, plain) -> bool:
    transformer = pipe.transformer
    return (
        not hasattr(transformer, "peft_config")
        and not transformer._hf_peft_config_loaded
        and not any(isinstance(module, LoraLayer) for module in transformer.modules())
        and all(torch.equal(one, other) for one, other in zip(run(pipe), plain, strict=True))
    )


REFUSED = {
    "no prefix, half": ({f"{VIDEO_Q}.lora_A.weight": torch.ones(4, 32)}, f"{B}: missing"),
    "no down": ({B: torch.ones(32, 4)}, f"{A}: missing"),
    "no up of one": (WHOLE | {A.replace("to_q", "to_k"): torch.ones(4, 32)}, "to_k.lora_B.weight: missing"),
    "alpha alone": (WHOLE | {f"transformer.{AUDIO_V}.alpha": torch.tensor(1.0)}, "to_v.lora_A.weight: missing"),
    "ranks": ({A: torch.ones(4, 32), B: torch.ones(32, 5)}, r"\(4, 32\) and its other half \(32, 5\) do not fit"),
    "another width": (
        {A: torch.ones(4, 48), B: torch.ones(32, 4)},
        r"shape \(4, 48\), this transformer needs \(4, 32\)",
    ),
    "another height": ({A: torch.ones(4, 32), B: torch.ones(48, 4)}, r"shape \(48, 4\), .* needs \(32, 4\)"),
    "a convolution's": ({A: torch.ones(4, 32, 1, 1), B: torch.ones(32, 4, 1, 1)}, "do not fit"),
    "rank 0": ({A: torch.ones(0, 32), B: torch.ones(32, 0)}, "do not fit"),
    "too many blocks": (WHOLE | {k.replace("_blocks.0", "_blocks.7"): x for k, x in WHOLE.items()}, "no linear layer"),
    "a module of another model": (WHOLE | {"transformer.blocks.0.attn1.to_q.lora_A.weight": WHOLE[A]}, "attn1.to_q"),
    "text encoder": (WHOLE | {"lora_te1_layers_0_q.lora_down.weight": torch.ones(4, 32)}, "of a text encoder"),
    "LoKr": (WHOLE | {f"lycoris_{VIDEO_Q}.lokr_w1": torch.ones(4, 4)}, "lokr_w1: a LyCORIS adapter"),
    "LoHa alone": ({f"diffusion_model.{VIDEO_Q}.hada_w1_a": torch.ones(4, 4)}, "None of the 1 .*hada_w1_a.*LyCORIS"),
    "DoRA of kohya": (WHOLE | {f"transformer.{VIDEO_Q}.dora_scale": torch.ones(32, 1)}, "dora_scale: DoRA in kohya's"),
    "whole weights": (WHOLE | {"diffusion_model.proj_out.diff": torch.ones(2, 2)}, "proj_out.diff: a change of whole"),
    "modules_to_save": (
        WHOLE | {"transformer.proj_out.modules_to_save.weight": torch.ones(2)},
        "modules_to_save.weight: a",
    ),
    "twice": (WHOLE | {A.replace("transformer.t", "diffusion_model.t"): WHOLE[A]}, "is there twice, as .* and as "),
    "two adapters": ({A.replace(".weight", f".{n}.weight"): WHOLE[A] for n in "ab"} | {B: WHOLE[B]}, "is there twice"),
    "NaN": (WHOLE | {B: torch.full((32, 4), float("nan"))}, "lora_B.weight: has NaN or Inf"),
    "meta": (WHOLE | {B: torch.ones(32, 4, device="meta")}, "lora_B.weight: has no content"),
    "integers": (WHOLE | {B: torch.ones(32, 4, dtype=torch.int8)}, "is of torch.int8"),
    "alpha of NaN": (WHOLE | {f"transformer.{VIDEO_Q}.alpha": torch.tensor(float("nan"))}, "alpha is nan"),
    "many alphas": (
        WHOLE | {f"transformer.{VIDEO_Q}.alpha": torch.ones(4)},
        r"must be one number, got the shape \(4,\)",
    ),
    "no tensor": (WHOLE | {"epoch": 3}, "'epoch' is a <class 'int'>"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_right_is_refused_by_name_and_changes_nothing(lora_pipe, plain, case):
    tensors, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        lora_pipe.load_lora_weights(tensors)
    assert unchanged(lora_pipe, plain)


@pytest.mark.parametrize("name", ["a.b", "half", "used"])
def test_a_name_that_cannot_be_an_adapters_is_refused_and_changes_nothing(lora_pipe, name):
    lora_pipe.load_lora_weights(WHOLE, adapter_name="used")
    before = run(lora_pipe)
    with pytest.raises(ValueError, match="cannot be '(a.b|half)'|already in use"):
        lora_pipe.load_lora_weights(WHOLE, adapter_name=name)
    assert lora_pipe.get_list_adapters() == {"transformer": ["used"]}
    assert all(torch.equal(one, other) for one, other in zip(run(lora_pipe), before, strict=True))


@pytest.mark.parametrize("loaded", [0, 2])
def test_a_failure_inside_the_loader_leaves_adapters_and_modules_as_they_were(lora_pipe, plain, loaded, monkeypatch):
    for i in range(loaded):
        lora_pipe.load_lora_weights({name: x * (i + 1) for name, x in WHOLE.items()}, adapter_name=f"old_{i}")
    if loaded:
        lora_pipe.set_adapters(["old_0", "old_1"], [0.5, 2.0])
    before, keys = run(lora_pipe), list(lora_pipe.transformer.state_dict())

    def fail(*args, **kwargs):
        raise MemoryError("no memory")

    more = WHOLE | {name.replace("to_q", "to_k"): x for name, x in WHOLE.items()}
    with monkeypatch.context() as patch:
        patch.setattr(peft, "set_peft_model_state_dict", fail)
        with pytest.raises(MemoryError):
            lora_pipe.load_lora_weights(more, adapter_name="new")
    assert list(lora_pipe.transformer.state_dict()) == keys
    assert lora_pipe.get_list_adapters() == ({"transformer": ["old_0", "old_1"]} if loaded else {})
    assert all(torch.equal(one, other) for one, other in zip(run(lora_pipe), before, strict=True))
    lora_pipe.load_lora_weights(more, adapter_name="new")  # the name is free again
    lora_pipe.unload_lora_weights()
    assert unchanged(lora_pipe, plain)


# --- out again ---


@pytest.mark.parametrize("way", ["unload", "delete", "disable", "fail"])
def test_without_the_lora_the_base_is_bit_identical(lora_pipe, plain, way):
    weights = {name: x.clone() for name, x in lora_pipe.transformer.state_dict().items()}
    lora_pipe.load_lora_weights(WHOLE, adapter_name="one")
    assert not torch.equal(run(lora_pipe)[0], plain[0])
    if way == "unload":
        lora_pipe.unload_lora_weights()
    elif way == "delete":
        lora_pipe.delete_adapters("one")
    elif way == "disable":
        lora_pipe.disable_lora()
    else:
        with pytest.raises(ValueError):
            lora_pipe.load_lora_weights({A: WHOLE[A]}, adapter_name="two")
        lora_pipe.unload_lora_weights()
    assert all(torch.equal(one, other) for one, other in zip(run(lora_pipe), plain, strict=True))
    lora_pipe.unload_lora_weights()
    after = lora_pipe.transformer.state_dict()
    assert after.keys() == weights.keys() and all(torch.equal(after[name], weights[name]) for name in weights)


def test_unfusing_gives_the_base_back_within_rounding_and_a_fused_lora_cannot_be_deleted(lora_pipe):
    pipe = lora_pipe
    weight = pipe.transformer.get_submodule(VIDEO_Q).weight.clone()
    pipe.load_lora_weights(WHOLE, adapter_name="one")
    pipe.fuse_lora()
    with pytest.raises(ValueError, match="'one' is fused into the weights: call `unfuse_lora"):
        pipe.delete_adapters("one")
    assert pipe.get_list_adapters() == {"transformer": ["one"]}
    pipe.unfuse_lora()
    pipe.delete_adapters("one")
    pipe.unload_lora_weights()
    torch.testing.assert_close(pipe.transformer.get_submodule(VIDEO_Q).weight, weight, atol=1e-6, rtol=0)


# --- in place of another ---


def test_hotswap_takes_the_new_strength_of_every_layer_and_set_adapters_scales_it(lora_pipe, adapter, tmp_path):
    layers, config, strengths, expected = adapter
    file = diffusers(tmp_path, layers, config, strengths)
    ranks = {name: x.shape for name, x in layers.items()}
    old = {f"transformer.{name}": torch.randn(shape) for name, shape in ranks.items()}
    lora_pipe.load_lora_weights(old, adapter_name="swapped")
    lora_pipe.load_lora_weights(file, adapter_name="swapped", hotswap=True)
    lora_pipe.set_adapters("swapped", 1.0)
    for one, other in zip(run(lora_pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    swapped = get_peft_model_state_dict(lora_pipe.transformer, adapter_name="swapped")
    again = diffusers(tmp_path, swapped, lora_pipe.transformer.peft_config["swapped"], {})
    lora_pipe.unload_lora_weights()
    lora_pipe.load_lora_weights(again)
    for one, other in zip(run(lora_pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_a_hotswap_that_cannot_be_leaves_the_old_lora(lora_pipe):
    lora_pipe.load_lora_weights(WHOLE, adapter_name="one")
    before = run(lora_pipe)
    other = {name.replace("to_q", "to_k"): x for name, x in WHOLE.items()}
    with pytest.raises(ValueError, match="'one' has none at transformer_blocks.0.video.to_k"):
        lora_pipe.load_lora_weights(other, adapter_name="one", hotswap=True)
    lora_pipe.load_lora_weights(other, adapter_name="one_more")
    lora_pipe.set_adapters("one")
    with pytest.raises(ValueError, match="`hotswap` of 'one' would also change .*to_k.lora_A.one_more.weight"):
        lora_pipe.load_lora_weights(WHOLE, adapter_name="one", hotswap=True)
    assert all(torch.equal(one, other) for one, other in zip(run(lora_pipe), before, strict=True))


# --- files and folders ---


def test_a_folder_of_several_files_needs_a_name_and_an_empty_one_says_so(lora_pipe, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*.safetensors file in"):
        lora_pipe.load_lora_weights(tmp_path)
    for name in ("a", "b"):
        save_file(WHOLE, tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"has 2 files \(a.safetensors, b.safetensors\): name one with `weight_name`"):
        lora_pipe.load_lora_weights(tmp_path)
    lora_pipe.load_lora_weights(tmp_path, weight_name="b.safetensors")
    (tmp_path / "sub").mkdir()
    save_file(WHOLE, tmp_path / "sub" / "checkpoint.safetensors")  # upstream passes over such names
    lora_pipe.load_lora_weights(tmp_path, subfolder="sub", adapter_name="sub")
    assert lora_pipe.get_list_adapters() == {"transformer": ["default_0", "sub"]}


@pytest.mark.parametrize("write", [peft_folder, comfyui], ids=lambda write: write.__name__)
def test_a_lora_in_the_cache_of_the_hub_loads_with_its_strength(lora_pipe, adapter, write, tmp_path):
    layers, config, strengths, expected = adapter
    repository, commit = tmp_path / "models--someone--lora", "0" * 40
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    write(snapshot, layers, config, strengths)
    (name,) = (path.name for path in snapshot.glob("*.safetensors"))
    lora_pipe.load_lora_weights("someone/lora", weight_name=name, cache_dir=tmp_path, local_files_only=True)
    for one, other in zip(run(lora_pipe), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("damage", ["deep", "null metadata", "duplicate", "number in metadata", "metadata not JSON"])
def test_headers_of_all_kinds_load_or_are_refused_with_the_files_name(lora_pipe, damage, tmp_path):
    path = tmp_path / "lora.safetensors"
    save_file(WHOLE, path, {"a": "1"})
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length].decode().strip()
    old = '"__metadata__":{"a":"1"}'
    assert old in header
    new = {
        "deep": '"__metadata__":' + "[" * 200_000,
        "null metadata": '"__metadata__":null',
        "duplicate": old + "," + json.dumps({A: json.loads(header)[A]})[1:-1],
        "number in metadata": '"__metadata__":{"a":1}',
        "metadata not JSON": '"__metadata__":{"lora_adapter_metadata":"{"}',
    }[damage]
    text = header.replace(old, new).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
    if damage == "null metadata":
        lora_pipe.load_lora_weights(path)
        return
    with pytest.raises(ValueError, match="lora_adapter_metadata is not JSON" if "JSON" in damage else str(path)):
        lora_pipe.load_lora_weights(path)


def test_saving_without_metadata_warns_that_the_strength_is_lost(adapter, tmp_path, caplog):
    layers, config, _, _ = adapter
    with caplog.at_level("WARNING", logger="diffusers_jova.loaders.lora"):
        JoVAPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers)
    assert "it will be loaded with strength 1" in caplog.text
    caplog.clear()
    with caplog.at_level("WARNING", logger="diffusers_jova.loaders.lora"):
        diffusers(tmp_path, layers, config, {})
    assert caplog.text == ""
    assert load_file(tmp_path / FILE).keys() == {f"transformer.{name}" for name in layers}
