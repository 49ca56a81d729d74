# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""LoRA files for JoVA in three formats: diffusers/PEFT, ComfyUI, kohya.

| format | names | alpha |
|---|---|---|
| diffusers | `transformer.MODULE.lora_A.weight`, `lora_B` | in the metadata, `lora_adapter_metadata` |
| comfyui | `diffusion_model.MODULE.lora_A.weight`, `lora_B` | `diffusion_model.MODULE.alpha` |
| kohya | `lora_unet_MODULE_WITH_UNDERSCORES.lora_down.weight`, `lora_up` | `lora_unet_MODULE….alpha` |

Underscores do not say where the dots were, so names are looked up among the modules of a `JoVATransformer3DModel`. The
strength of a layer is alpha / rank in all three; without an alpha it is 1.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from diffusers_jova.models.transformer_jova import JoVATransformer3DModel

from .checkpoint import Checkpoint
from .key_mapping import ConversionError
from .plan import Plan, meta_model, note_sources
from .report import Report
from .streaming import Step


METADATA_KEY = "lora_adapter_metadata"
DOWN = (".lora_A.weight", ".lora_A.default.weight", ".lora_down.weight", ".lora.down.weight")
UP = (".lora_B.weight", ".lora_B.default.weight", ".lora_up.weight", ".lora.up.weight")
ALPHA = (".alpha",)
ENDINGS = {ending: part for part, endings in (("down", DOWN), ("up", UP), ("alpha", ALPHA)) for ending in endings}
DOTTED_PREFIXES = ("base_model.model.", "transformer.", "diffusion_model.", "model.diffusion_model.", "")
UNDERSCORE_PREFIXES = ("lora_unet_", "lora_transformer_")
# format -> prefix, ending of the down and of the up projection, stem of the file
FORMATS = {
    "diffusers": ("transformer.", ".lora_A.weight", ".lora_B.weight", "pytorch_lora_weights"),
    "comfyui": ("diffusion_model.", ".lora_A.weight", ".lora_B.weight", "lora_comfyui"),
    "kohya": ("lora_unet_", ".lora_down.weight", ".lora_up.weight", "lora_kohya"),
}


@dataclass
class Layer:
    """One adapted module: the names of its tensors in the file, and the alpha that was found for it."""

    down: str | None = None
    up: str | None = None
    alpha: float | None = None


def convert(checkpoint: Checkpoint, to: str) -> Plan:
    """Return the plan of a LoRA file in another format; the one it is in is seen from its names.

    Args:
        checkpoint: opened with `strip=False`.
        to: a key of `FORMATS`.
    """
    layers, report = read_layers(checkpoint)
    note_sources(report, [checkpoint])
    prefix, down_ending, up_ending, weights_name = FORMATS[to]
    whole = {
        module: layer
        for module, layer in layers.items()
        if layer.down and layer.up and layer.down not in report.mismatched
    }
    ranks = {module: checkpoint.infos[layer.down].shape[0] for module, layer in whole.items()}
    alphas = {module: float(ranks[module] if layer.alpha is None else layer.alpha) for module, layer in whole.items()}
    steps = []
    for module, layer in whole.items():
        name = prefix + (module.replace(".", "_") if to == "kohya" else module)
        for source, ending in ((layer.down, down_ending), (layer.up, up_ending)):
            steps.append(Step({name + ending: checkpoint.infos[source].meta()}, partial(_read, checkpoint, source)))
        if to != "diffusers":
            alpha = torch.tensor(alphas[module], dtype=torch.float32)
            steps.append(Step({f"{name}.alpha": alpha.to("meta")}, lambda alpha=alpha: [alpha]))
    metadata = {"key_map": "lora-1"}
    if to == "diffusers" and whole:
        settings = {f"transformer.{key}": value for key, value in peft_settings(ranks, alphas).items()}
        metadata[METADATA_KEY] = json.dumps(settings, indent=2, sort_keys=True)
    return Plan(report, steps, checkpoint.files, weights_name=weights_name, metadata=metadata)


def _read(checkpoint: Checkpoint, name: str) -> list[torch.Tensor]:
    return [checkpoint[name]]


def read_layers(checkpoint: Checkpoint) -> tuple[dict[str, Layer], Report]:
    """Return the layers of a LoRA file by the module they belong to, and a report.

    A module that JoVA does not have, or a kind of adapter other than LoRA, is unexpected; half of a pair is missing;
    a pair whose ranks differ has the wrong shape.
    """
    modules = module_names(checkpoint)
    by_underscores: dict[str, str] = {}
    for module in modules:
        if (other := by_underscores.setdefault(module.replace(".", "_"), module)) != module:
            raise ConversionError(f"{module} and {other} are the same with underscores; kohya cannot tell them apart.")
    layers: dict[str, Layer] = {}
    report = Report()
    for name, info in checkpoint.infos.items():
        ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
        module = find_module(name.removesuffix(ending), modules, by_underscores) if ending else None
        if module is None:
            report.unexpected[name] = info.shape
            continue
        layer, part = layers.setdefault(module, Layer()), ENDINGS[ending]
        if getattr(layer, part) is not None:
            raise ConversionError(f"The {part} of {module} is there twice; one is {name}.")
        setattr(layer, part, float(checkpoint[name]) if part == "alpha" else name)
        report.matched.append(name)

    settings = peft_metadata(checkpoint)
    for module, layer in layers.items():
        for part, ending in (("down", DOWN[0]), ("up", UP[0])):
            if getattr(layer, part) is None:
                report.missing[module + ending] = ()
        if layer.down and layer.up:
            down, up = (checkpoint.infos[name].shape for name in (layer.down, layer.up))
            if len(down) != 2 or len(up) != 2 or down[0] != up[1]:
                report.mismatched[layer.down] = (down, up)
            elif layer.alpha is None and settings:
                layer.alpha = peft_alpha(settings, module, rank=down[0])
    return layers, report


def module_names(names: Iterable[str]) -> set[str]:
    """Return the linear layers that a JoVA transformer can have, with as many blocks as `names` speak of."""
    depths = {"": 1, "single_": 1}
    for name in names:
        for stage, index in re.findall(r"(single_|)transformer_blocks[._](\d+)", name):
            depths[stage] = max(depths[stage], int(index) + 1)
    settings = {"num_attention_heads": 1, "attention_head_dim": 6, "text_embed_dim": 1, "text_embed_dim_2": 1}
    settings |= {"num_layers": depths[""], "num_single_layers": depths["single_"], "attention_fusion": "cross_linear"}
    model = meta_model(JoVATransformer3DModel, settings)
    return {name for name, module in model.named_modules() if isinstance(module, nn.Linear)}


def find_module(name: str, modules: set[str], by_underscores: dict[str, str]) -> str | None:
    for prefix in DOTTED_PREFIXES:
        if name.startswith(prefix) and name.removeprefix(prefix) in modules:
            return name.removeprefix(prefix)
    for prefix in UNDERSCORE_PREFIXES:
        if name.startswith(prefix):
            return by_underscores.get(name.removeprefix(prefix).replace(".", "_"))
    return None


def peft_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the settings of the transformer's adapter that diffusers wrote into the file, or {}."""
    settings = json.loads(checkpoint.metadata.get(METADATA_KEY, "{}"))
    return {key.removeprefix("transformer."): value for key, value in settings.items()}


def peft_alpha(settings: dict[str, Any], module: str, rank: int) -> float:
    """Return the alpha of a module for the strength alpha / rank; in PEFT's rsLoRA that is alpha / sqrt(rank)."""
    patterns = settings.get("alpha_pattern") or {}
    found = (alpha for key, alpha in patterns.items() if re.fullmatch(rf"(.*\.)?({key})", module))
    alpha = next(found, settings.get("lora_alpha", rank))
    return alpha * math.sqrt(rank) if settings.get("use_rslora") else alpha


def peft_settings(ranks: dict[str, int], alphas: dict[str, float]) -> dict[str, Any]:
    """Return PEFT's description of an adapter: the most common rank and alpha, and the exceptions."""
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": False,
        "lora_bias": False,
    }
