# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

from diffusers_jova import JoVAPipeline


PREFIX = "transformer."
VIDEO_Q = "transformer_blocks.0.video.to_q"
FILE = "pytorch_lora_weights.safetensors"


def make_layers(transformer, seed: int, adapter_name: str = "made", **config) -> tuple[dict[str, torch.Tensor], dict]:
    """Add an adapter with random weights to `transformer`, take it off again and return its layers and metadata."""
    torch.manual_seed(seed)
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["to_q", "to_k", "to_v", "to_out.0"]} | config
    transformer.add_adapter(LoraConfig(**config, init_lora_weights=False), adapter_name)
    layers = get_peft_model_state_dict(transformer, adapter_name=adapter_name)
    metadata = transformer.peft_config[adapter_name].to_dict()
    transformer.delete_adapters(adapter_name)
    return {key: tensor.detach().clone() for key, tensor in layers.items()}, metadata


@pytest.fixture
def lora_pipe(own_pipe):
    """A pipeline without LoRA, to be given some."""
    return own_pipe


@pytest.fixture(scope="module")
def files(pipe, tmp_path_factory):
    """Folders with two LoRAs for `lora_pipe`, saved by it."""
    folders, transformer = {}, copy.deepcopy(pipe.transformer)
    for name, seed in (("one", 1), ("two", 2)):
        layers, metadata = make_layers(transformer, seed)
        folders[name] = tmp_path_factory.mktemp(name)
        JoVAPipeline.save_lora_weights(
            folders[name], transformer_lora_layers=layers, transformer_lora_adapter_metadata=metadata
        )
    return folders


def run(pipe, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the latents of one step: (video, audio)."""
    return pipe(
        "A face.",
        num_inference_steps=1,
        guidance_scale=1.0,
        generator=torch.Generator().manual_seed(0),
        output_type="latent",
        return_dict=False,
        **kwargs,
    )


def assert_same(ours, theirs, **tolerance):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **(tolerance or {"atol": 1e-4, "rtol": 1e-4}))


def assert_both_differ(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() > 1e-3


def test_saved_file_has_diffusers_keys_and_metadata_and_loads_again(lora_pipe, files):
    keys = load_file(files["one"] / FILE)
    assert f"{PREFIX}{VIDEO_Q}.lora_A.weight" in keys
    assert all(key.startswith(PREFIX) for key in keys)
    plain = run(lora_pipe)
    lora_pipe.load_lora_weights(files["one"], adapter_name="one")
    assert lora_pipe.get_list_adapters() == {"transformer": ["one"]}
    assert lora_pipe.transformer.peft_config["one"].lora_alpha == 8  # from the file's metadata
    assert_both_differ(run(lora_pipe), plain)
    lora_pipe.unload_lora_weights()
    assert_same(run(lora_pipe), plain)


@pytest.mark.parametrize("source", ["file", "folder and weight_name", "dictionary"])
def test_a_lora_loads_from_a_file_a_folder_and_a_dictionary(source, lora_pipe, files):
    lora_pipe.load_lora_weights(files["one"])
    expected = run(lora_pipe)
    lora_pipe.unload_lora_weights()
    if source == "file":
        lora_pipe.load_lora_weights(str(files["one"] / FILE))
    elif source == "dictionary":
        state_dict, metadata = lora_pipe.lora_state_dict(files["one"], return_lora_metadata=True)
        alpha = metadata["transformer.lora_alpha"]
        scaled = {key: x * (alpha / 4 if "lora_B" in key else 1) for key, x in state_dict.items()}
        lora_pipe.load_lora_weights(scaled)
    else:
        lora_pipe.load_lora_weights(files["one"], weight_name=FILE)
    assert_same(run(lora_pipe), expected)


def test_keys_with_the_prefix_of_comfyui_are_read(lora_pipe, files, tmp_path):
    layers = load_file(files["one"] / FILE)
    lora_pipe.load_lora_weights(layers)
    expected = run(lora_pipe)
    lora_pipe.unload_lora_weights()
    renamed = {f"diffusion_model.{key.removeprefix(PREFIX)}": x for key, x in layers.items()}
    save_file(renamed, tmp_path / "comfy.safetensors")
    lora_pipe.load_lora_weights(str(tmp_path / "comfy.safetensors"))
    assert_same(run(lora_pipe), expected)


def test_fusing_keeps_the_output_and_unfusing_brings_the_old_one_back(lora_pipe, files):
    plain = run(lora_pipe)
    lora_pipe.load_lora_weights(files["one"], adapter_name="one")
    with_lora = run(lora_pipe)
    lora_pipe.fuse_lora()
    assert lora_pipe.num_fused_loras == 1
    assert_same(run(lora_pipe), with_lora, atol=1e-3, rtol=1e-3)
    lora_pipe.unfuse_lora()
    assert_same(run(lora_pipe), with_lora, atol=1e-3, rtol=1e-3)
    lora_pipe.disable_lora()
    assert_same(run(lora_pipe), plain, atol=1e-3, rtol=1e-3)


def test_scales_by_set_adapters_and_by_attention_kwargs_agree(lora_pipe, files):
    plain = run(lora_pipe)
    lora_pipe.load_lora_weights(files["one"], adapter_name="one")
    full = run(lora_pipe)
    half = run(lora_pipe, attention_kwargs={"scale": 0.5})
    assert_both_differ(half, full)
    assert_same(run(lora_pipe, attention_kwargs={"scale": 0.0}), plain)
    lora_pipe.set_adapters("one", 0.5)
    assert_same(run(lora_pipe), half)


def test_second_lora_joins_one_that_is_loaded_and_deleting_it_leaves_the_first(lora_pipe, files):
    lora_pipe.load_lora_weights(files["one"], adapter_name="one")
    first = run(lora_pipe)
    lora_pipe.load_lora_weights(files["two"], adapter_name="two")  # finds its layers wrapped by the first
    second = run(lora_pipe)
    lora_pipe.set_adapters(["one", "two"], [1.0, 0.5])
    assert lora_pipe.get_active_adapters() == ["one", "two"]
    both = run(lora_pipe)
    assert_both_differ(both, first)
    assert_both_differ(both, second)
    lora_pipe.set_adapters("one")
    assert_same(run(lora_pipe), first)
    lora_pipe.delete_adapters("two")
    assert lora_pipe.get_list_adapters() == {"transformer": ["one"]}
    assert_same(run(lora_pipe), first)


def test_hotswap_replaces_the_weights_in_place(lora_pipe, files):
    lora_pipe.load_lora_weights(files["two"], adapter_name="two")
    expected = run(lora_pipe)
    lora_pipe.unload_lora_weights()
    lora_pipe.load_lora_weights(files["one"], adapter_name="swapped")
    layer = lora_pipe.transformer.get_submodule(VIDEO_Q).lora_A["swapped"]
    lora_pipe.load_lora_weights(files["two"], adapter_name="swapped", hotswap=True)
    assert lora_pipe.transformer.get_submodule(VIDEO_Q).lora_A["swapped"] is layer
    assert_same(run(lora_pipe), expected)


@pytest.mark.parametrize(
    "key",
    [
        "transformer.transformer_blocks.99.video.to_q.lora_A.weight",  # another model's
        "blocks.0.attn1.to_q.lora_A.weight",  # no prefix: upstream would leave it out in silence
        "lora_unet_double_blocks_0.lora_down.weight",  # kohya's format
        "lora_foo",
    ],
)
def test_a_lora_that_matches_nothing_raises(key, lora_pipe):
    with pytest.raises(
        ValueError, match=r"None of the [12] LoRA keys .* expected keys like 'transformer\.\S+lora_A"
    ) as e:
        halves = {key: torch.zeros(4, 32), key.replace("_A", "_B").replace("down", "up"): torch.zeros(32, 4)}
        lora_pipe.load_lora_weights(halves)
    assert key in str(e.value) or "a LoRA for Wan" in str(e.value)
    assert lora_pipe.get_list_adapters() == {}


def test_an_empty_lora_raises(lora_pipe):
    with pytest.raises(ValueError, match="None of the 0 LoRA keys"):
        lora_pipe.load_lora_weights({})


@pytest.mark.parametrize("source", ["file", "folder"])
def test_a_truncated_lora_is_named_and_nothing_is_unpickled(source, lora_pipe, files, tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("tried to unpickle"))
    broken = tmp_path / FILE
    broken.write_bytes((files["one"] / FILE).read_bytes()[:-100])
    path = str(broken if source == "file" else tmp_path)
    with pytest.raises(ValueError, match="is not a complete safetensors file") as e:
        lora_pipe.load_lora_weights(path)
    assert path in str(e.value)


def test_a_missing_lora_file_is_named(lora_pipe, tmp_path):
    with pytest.raises(FileNotFoundError, match="no LoRA file '.*missing.safetensors'"):
        lora_pipe.load_lora_weights(str(tmp_path / "missing.safetensors"))


def test_a_pickled_lora_loads_only_where_it_is_named(lora_pipe, files, tmp_path):
    layers = {key.removeprefix(PREFIX): x for key, x in load_file(files["one"] / FILE).items()}
    JoVAPipeline.save_lora_weights(tmp_path, transformer_lora_layers=layers, safe_serialization=False)
    with pytest.raises(OSError):
        lora_pipe.load_lora_weights(tmp_path)
    lora_pipe.load_lora_weights(tmp_path / "pytorch_lora_weights.bin")
    assert lora_pipe.get_list_adapters() == {"transformer": ["default_0"]}


def test_one_branch_alone_can_be_adapted(lora_pipe):
    plain = run(lora_pipe)
    layers, _ = make_layers(
        lora_pipe.transformer, 3, target_modules=r"single_transformer_blocks\.\d+\.audio\.to_out\.0"
    )
    lora_pipe.load_lora_weights({f"{PREFIX}{key}": x for key, x in layers.items()})
    video, audio = run(lora_pipe)
    torch.testing.assert_close(video, plain[0], atol=1e-5, rtol=1e-5)  # the last block's output goes nowhere else
    assert (audio - plain[1]).abs().max() > 1e-3


def test_a_lora_loads_under_group_offload(lora_pipe, load_pipeline, files):
    lora_pipe.load_lora_weights(files["one"])
    offloaded = load_pipeline()
    offloaded.transformer.enable_group_offload(torch.device("cpu"), offload_type="leaf_level")
    offloaded.load_lora_weights(files["one"])
    assert_same(run(offloaded), run(lora_pipe))
