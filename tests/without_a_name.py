# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Take away private names of diffusers in turn, make a clip without each, and do what needs it: see test_compat.py."""

import importlib
import sys
import traceback
import types

import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES


def take_away(place):
    """Let `place` be gone for whoever imports it from now on, and return a function that puts it back."""
    module_name, _, path = place.partition(":")
    module = importlib.import_module(module_name)
    *parts, name = path.split(".")
    if parts:
        owner = getattr(module, parts[0])
        value = vars(owner)[name]
        delattr(owner, name)
        return lambda: setattr(owner, name, value)
    # a copy, since diffusers itself cannot do without what is in the module
    copy = types.ModuleType(module_name)
    vars(copy).update({key: value for key, value in vars(sys.modules[module_name]).items() if key != name})
    sys.modules[module_name] = copy
    return lambda: sys.modules.update({module_name: module})


def make_clip(pipe, **kwargs):
    size = {"height": 32, "width": 32, "num_frames": 5, "num_inference_steps": 1}
    return pipe("x", **size, output_type="np", **kwargs)


def use(name, pipe, folder):
    import diffusers_jova
    from diffusers_jova.conversion import wan_vae
    from diffusers_jova.models import attention
    from diffusers_jova.training.memory import estimate_memory

    pyramid = PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    )
    return {
        "ContextParallelInput": lambda: pipe.transformer._cp_plan,
        "ContextParallelOutput": lambda: pipe.transformer._cp_plan,
        "TransformerBlockMetadata": lambda: pipe.transformer.enable_cache(FirstBlockCacheConfig()),
        "TransformerBlockRegistry": lambda: pipe.transformer.enable_cache(FirstBlockCacheConfig()),
        "StateManager": lambda: pipe.transformer.enable_cache(pyramid),
        "PYRAMID_HOOK": lambda: pipe.transformer.enable_cache(pyramid),
        "normalized_guidance": lambda: make_clip(pipe, guidance_scale=3.0, apg_norm_threshold=27.0),
        "LOADABLE_CLASSES": lambda: diffusers_jova.JoVAPipeline.from_pretrained(folder),
        "SINGLE_FILE_LOADABLE_CLASSES": lambda: type(pipe.transformer).from_single_file("x.safetensors"),
        "best_guess_weight_name": lambda: pipe.load_lora_weights("someone/lora"),
        "get_model_file": lambda: pipe.load_lora_weights("someone/lora"),
        "load_state_dict": lambda: pipe.load_lora_weights(folder / "lora.bin"),
        "_check_attention_backend_requirements": lambda: attention.installed_backends(),
        "convert_wan_vae_to_diffusers": lambda: wan_vae.original_names([]),
        "FakeTensorMode": lambda: estimate_memory({}, None, None),
    }[name]()


def without(name, places, folder):
    for module in [module for module in sys.modules if module.partition(".")[0] == "diffusers_jova"]:
        del sys.modules[module]
    LOADABLE_CLASSES.pop("diffusers_jova", None)
    put_back = [take_away(place) for place in places]
    try:
        from diffusers_jova import create_pipeline

        pipe = create_pipeline(num_layers=1, num_single_layers=1)
        pipe.set_progress_bar_config(disable=True)
        clip = make_clip(pipe)
        assert clip.frames.shape == (1, 5, 32, 32, 3) and abs(clip.audio).max() > 0, clip
        if name is None:
            return "", ""
        try:
            use(name, pipe, folder)
            return "", "nothing was raised"
        except Exception as error:
            return "", f"{type(error).__name__}: {error}"
    except Exception:
        return traceback.format_exc(), ""
    finally:
        for function in reversed(put_back):
            function()


def report(sender, folder, names, attributes):
    """Send {name: (what failed before the name was needed, what was said where it was)} through a pipe.

    Args:
        names: {name: its places, "module:name"}.
        attributes: places of attributes, "module:class.attribute".
    """
    torch.save({"a": torch.zeros(1)}, folder / "lora.bin")
    for module in ("conversion.wan_vae", "pipelines.random_pipeline", "training.memory"):
        importlib.import_module(f"diffusers_jova.{module}")  # brings what diffusers itself makes of these names
    reports = {name: without(name, places, folder) for name, places in names.items()}
    reports |= {place: without(None, [place], folder) for place in attributes}
    reports["all"] = without(None, [place for places in names.values() for place in places], folder)
    sender.send(reports)
