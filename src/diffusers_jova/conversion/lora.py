# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""LoRA files for JoVA in three formats: diffusers, ComfyUI, kohya. `loaders.lora_layout` reads these and PEFT's.

| format | names | alpha |
|---|---|---|
| diffusers | `transformer.MODULE.lora_A.weight`, `lora_B` | in the metadata, `lora_adapter_metadata` |
| comfyui | `diffusion_model.MODULE.lora_A.weight`, `lora_B` | `diffusion_model.MODULE.alpha` |
| kohya | `lora_unet_MODULE_WITH_UNDERSCORES.lora_down.weight`, `lora_up` | `lora_unet_MODULE….alpha` |
"""

from __future__ import annotations

import json
from functools import partial

import torch

from ..loaders.lora_layout import DIFFUSERS, METADATA_KEY, PREFIX, find_adapter_config, peft_settings, read_layers
from .checkpoint import Checkpoint
from .errors import ConversionError
from .key_mapping import KeyMap
from .plan import Plan
from .report import Report
from .streaming import Write, same


VERSION = "lora-1"
# format -> prefix, ending by part, stem of the file
FORMATS = {
    "diffusers": (PREFIX, DIFFUSERS, "pytorch_lora_weights"),
    "comfyui": ("diffusion_model.", {"down": "lora_A.weight", "up": "lora_B.weight"}, "lora_comfyui"),
    "kohya": ("lora_unet_", {"down": "lora_down.weight", "up": "lora_up.weight"}, "lora_kohya"),
}


def convert(checkpoint: Checkpoint, to: str, alpha: float | None = None) -> Plan:
    """Return the plan of a LoRA file in another format; its own format is told by its names.

    Args:
        checkpoint: opened with `strip=False`.
        to: a key of `FORMATS`.
        alpha: of all layers, where the file does not say it or says it twice.
    """
    try:
        config = find_adapter_config(checkpoint.files[0])
        number = partial(_number, checkpoint)
        contents = read_layers(checkpoint.shapes, number, checkpoint.metadata, config, alpha)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    prefix, endings, weights_name = FORMATS[to]
    report = Report(mismatched=contents.mismatched)
    report.left_out = contents.dropped
    report.missing = dict.fromkeys(contents.missing, ())
    report.unexpected = {name: checkpoint.infos[name].shape for name in contents.unused}
    report.notes = [f"{name} is {why}" for name, why in contents.unused.items()][:5]
    report.note_inputs([checkpoint])
    writes: list[Write] = []
    for module, layer in contents.layers.items():
        name = prefix + (module.replace(".", "_") if to == "kohya" else module)
        parts = {part: source for part, source in layer.names.items() if part != "alpha"}
        if foreign := [source for part, source in parts.items() if part not in endings]:
            if foreign[0].endswith((".diff", ".diff_b")):
                raise ConversionError(f"{foreign[0]} is read by the pipeline's `load_lora_weights` only.")
            raise ConversionError(f"{foreign[0]} has no counterpart in {to}'s format; take --to diffusers.")
        report.matched += layer.names.values()
        table = KeyMap.of_names(VERSION, {source: f"{name}.{endings[part]}" for part, source in parts.items()})
        writes += table.match({source: checkpoint.infos[source] for source in parts.values()})[0]
        if to != "diffusers":
            alpha = alpha_tensor(layer.alpha)
            writes.append(Write(f"{name}.alpha", make=partial(same, alpha), how="computed", like=alpha.to("meta")))
    metadata = {"key_map": VERSION}
    if to == "diffusers" and contents.layers:
        settings = {f"{PREFIX}{key}": value for key, value in peft_settings(contents.layers).items()}
        metadata[METADATA_KEY] = json.dumps(settings, indent=2, sort_keys=True)
    return Plan(report, writes, checkpoint.files, weights_name=weights_name, metadata=metadata)


def alpha_tensor(alpha: float) -> torch.Tensor:
    """Return a scalar of float32, or of float64 where float32 would round it."""
    tensor = torch.tensor(alpha, dtype=torch.float32)
    return tensor if tensor.item() == alpha else torch.tensor(alpha, dtype=torch.float64)


def _number(checkpoint: Checkpoint, name: str) -> float:
    if (tensor := checkpoint[name]).numel() != 1:
        raise ConversionError(f"{name} must be one number, got the shape {tuple(tensor.shape)}.")
    return float(tensor)
