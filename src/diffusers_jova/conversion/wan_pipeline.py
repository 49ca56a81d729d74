# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The folder of a Wan pipeline: which transformer of it to take, and what becomes of its other parts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ..models.wan_base import check_timesteps_of_frames
from ..pipeline_folder import INDEX, is_pipeline_folder, read_pipeline_folder
from ..presets import wan_call_defaults
from .assemble import find_part, misfits, model_index, part_class, read_config, weights_of
from .errors import ConversionError
from .plan import Plan


# which folders of diffusers' pipelines and of the original repositories hold the experts of Wan2.2-A14B
EXPERTS = {"high": ("transformer", "high_noise_model"), "low": ("transformer_2", "low_noise_model")}
KEPT = ("vae", "text_encoder", "tokenizer", "scheduler")
PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")


def find_transformer(path: str | Path, expert: str | None = None) -> Path:
    """Return the file or folder with the weights of the transformer to take from `path`.

    Args:
        path: a transformer's file or folder, or a pipeline's folder, diffusers' or the original one.
        expert: "high" or "low" noise, of a Wan2.2-A14B.

    Raises:
        ConversionError: If there are two and none is named, or there is none such.
    """
    path = Path(path)
    if path.suffix == ".gguf":
        raise ConversionError(
            f"{path.name} is a GGUF file. Take the bfloat16 safetensors of the same model, or turn it back with "
            "diffusers: `WanTransformer3DModel.from_single_file(FILE, quantization_config="
            "GGUFQuantizationConfig(compute_dtype=torch.bfloat16))`, `.dequantize()` it and `.save_pretrained(DIR)`."
        )
    index = 0 if is_pipeline_folder(path) else 1
    if index == 0:
        parts = read_pipeline_folder(path).parts
        found = {name: path / folders[0] for name, folders in EXPERTS.items() if folders[0] in parts}
    else:
        found = {name: path / folders[1] for name, folders in EXPERTS.items() if (path / folders[1]).is_dir()}
    if len(found) == 2 and expert is None:
        raise ConversionError(
            f"{path.name} is a Wan2.2-A14B with two experts, and one becomes the video branch: --expert high takes "
            "that of high noise, which makes layout and motion, --expert low that of low noise, which makes detail. "
            "Neither alone does what the two do together; either has to be trained on all noise levels."
        )
    if expert is None:
        return next(iter(found.values()), path)
    if expert not in found or len(found) < 2:
        raise ConversionError(f"--expert {expert} goes with a Wan2.2-A14B of two experts, which {path.name} is not.")
    return found[expert]


def temporal_compression(path: str | Path) -> int:
    """Return how many video frames are one latent frame: of the VAE in the folder of a pipeline, else Wan's 4."""
    return read_pipeline_folder(path).vae_scale_factor_temporal if is_pipeline_folder(Path(path)) else 4


def with_parts(
    plan: Plan, path: str | Path, expert: str | None = None, audio_parts: Mapping[str, str | Path | None] | None = None
) -> Plan:
    """Return a plan that writes a whole pipeline, if `path` is one: the transformer, and copies of Wan's other parts.

    The scheduler stays Wan's own, with its shift.

    Args:
        plan: of the transformer.
        path: of the pipeline in diffusers' layout. The plan of any other path is returned as it is.
        audio_parts: folders of "audio_vae" and "vocoder", or pipelines that have them.

    Raises:
        ConversionError: If it is another pipeline, or the parts do not fit each other.
    """
    path, audio_parts = Path(path), {name: part for name, part in (audio_parts or {}).items() if part is not None}
    if not is_pipeline_folder(path):
        if audio_parts:
            raise ConversionError(
                f"{path} is not the folder of a whole pipeline in diffusers' layout, so there is none to put "
                f"{' and '.join(audio_parts)} into. Convert the transformer, then put the parts together with "
                "`assemble`."
            )
        return plan
    index = read_pipeline_folder(path).index
    if index.get("_class_name") not in PIPELINES:
        raise ConversionError(f"{path.name} is a {index.get('_class_name')}, not a {' or a '.join(PIPELINES)}.")
    parts = {name: path / name for name in KEPT if name in read_pipeline_folder(path).parts}
    parts |= {name: find_part(name, part) for name, part in audio_parts.items()}
    configs = {name: read_config(name, folder) for name, folder in parts.items()}
    configs["transformer"] = json.loads(plan.files["config.json"])
    classes = {name: part_class(name, config) for name, config in configs.items()}
    if problems := misfits(configs):
        raise ConversionError("The parts do not fit:\n  " + "\n  ".join(problems))
    condition_fill = configs["transformer"]["condition_fill"]
    try:
        check_timesteps_of_frames(index, condition_fill)
    except ValueError as error:
        raise ConversionError(f"{path.name}: {error}") from None

    options = wan_call_defaults(expert, condition_fill)
    files = {f"transformer/{name}": text for name, text in plan.files.items()}
    files[INDEX] = json.dumps(model_index(classes) | options, indent=2, sort_keys=True) + "\n"
    copies = {
        f"{name}/{file.relative_to(folder).as_posix()}": file
        for name, folder in parts.items()
        for file in weights_of(folder)
    }
    return replace(plan, subfolder="transformer", files=files, copies=copies)
