# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What validation clips are made of: arguments of the pipeline's call, their texts encoded ahead."""

import inspect
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from accelerate.utils.memory import clear_device_cache

from ..data.cache import cache_setting, read_sample, read_shared
from ..files import reading_folder
from ..headers import read_json_lines
from ..pipelines.directions import Given
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.prompts import PROMPT_EMBEDS
from .config import TrainingConfig
from .dataset import TEXT_SUFFIXES, CachedClips


logger = logging.getLogger(__name__)

TEXT_ARGUMENTS = ("prompt", "audio_prompt", "transcript", "negative_prompt", "negative_audio_prompt")
NOT_ENCODERS = ("transformer", "vae", "audio_vae", "vocoder")
BRANCH_MODALITIES = {"joint": ("video", "audio"), "video": ("video",), "audio": ("audio",)}


def read_validation_prompts(entries: Sequence[str | dict]) -> list[dict[str, Any]]:
    """Return the arguments of the pipeline's call for each clip to make.

    Args:
        entries: Each a text (plain or with its three labels), a mapping of arguments, or the name of a `.jsonl`,
            `.yaml` or `.yml` file that holds mappings.

    Raises:
        ValueError, FileNotFoundError: If a file cannot be read, or an entry is neither a text nor a mapping.
    """
    prompts = []
    for entry in entries:
        if isinstance(entry, str) and entry.endswith((".jsonl", ".yaml", ".yml")):
            prompts += read_prompt_file(Path(entry))
        elif isinstance(entry, str):
            prompts.append({"prompt": entry})
        else:
            prompts.append(entry)
    for prompt in prompts:
        if not isinstance(prompt, dict) or not prompt:
            raise ValueError(f"A validation prompt is a text or the arguments of the pipeline's call, got {prompt!r}.")
    return prompts


def read_prompt_file(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of validation prompts `{path}`.")
    if path.suffix == ".jsonl":
        return [row for _, row in read_json_lines(path)]
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"`{path}` cannot be read: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"`{path}` must hold a list of mappings.")
    return [{"prompt": entry} if isinstance(entry, str) else entry for entry in entries]


def check_prompts(prompts: list[dict[str, Any]], branch: str = "joint") -> None:
    """Check the validation prompts, files that they give as `audio` or `video` included.

    Raises:
        ValueError: If the pipeline does not know an argument, or cannot use what is given.
        FileNotFoundError: If a file is missing.
    """
    parameters = inspect.signature(JoVAPipeline.__call__).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    defaults["modalities"] = BRANCH_MODALITIES[branch]
    for prompt in prompts:
        unknown = sorted(set(prompt) - set(defaults))
        if unknown:
            raise ValueError(f"A validation prompt has `{unknown[0]}`, which `JoVAPipeline` does not take.")
        Given.from_arguments(defaults | prompt)


def encode_prompts(config: TrainingConfig, device: torch.device) -> list[dict[str, Any]]:
    """Return the validation prompts as arguments of the pipeline's call, their texts encoded; the encoders are freed.

    Called before the transformer is loaded: the two are never in memory together.
    """
    prompts = read_validation_prompts(config.validation_prompts)
    check_prompts(prompts, config.branch)
    if not prompts:
        return []
    logger.info(f"Loading the text encoders of `{config.model}` for {len(prompts)} validation prompt(s) ...")
    absent = dict.fromkeys(NOT_ENCODERS)
    with reading_folder(config.model):
        # as in the cache: the three lines even where the base, from Wan, reads plain prompts, unless it holds these
        prompt_format = cache_setting(config.cache_dir, "prompt_format")
        pipe = JoVAPipeline.from_pretrained(
            config.model, prompt_format=prompt_format, **absent, dtype=torch.float32
        ).to(device)
    encoded = []
    with torch.no_grad():
        for prompt in prompts:
            texts = {name: prompt[name] for name in TEXT_ARGUMENTS if name in prompt}
            embeds = [None if tensor is None else tensor.cpu() for tensor in pipe.encode_prompt(**texts)]
            rest = {name: value for name, value in prompt.items() if name not in TEXT_ARGUMENTS}
            rest = {"modalities": BRANCH_MODALITIES[config.branch], **rest}
            encoded.append(rest | dict(zip(PROMPT_EMBEDS, embeds)))
    del pipe
    clear_device_cache(garbage_collection=True)
    logger.info(f"{len(encoded)} validation prompt(s) encoded, text encoders freed.")
    return encoded


def prompt_of_clip(clips: CachedClips, key: str) -> dict[str, Any]:
    """Return a clip's own text and size as arguments of the pipeline's call, from the cache alone."""
    row, tensors, shared = clips.rows[key], read_sample(clips.cache_dir, key), read_shared(clips.cache_dir)
    prompt = {"modalities": clips.modalities[key], "frame_rate": float(row["frame_rate"])}
    if "video" in clips.modalities[key]:
        prompt |= {name: row[name] for name in ("height", "width", "num_frames")}
    else:
        prompt["num_frames"] = max(round(row["duration_s"] * row["frame_rate"]), 1)
    for suffix in TEXT_SUFFIXES:
        unconditional = shared.get(f"unconditional.prompt_embeds{suffix}")
        if unconditional is not None:
            prompt[f"prompt_embeds{suffix}"] = tensors.get(f"prompt_embeds{suffix}", unconditional)[None].float()
            prompt[f"negative_prompt_embeds{suffix}"] = unconditional[None].float()
    return prompt


def encode_validation_prompts(config: TrainingConfig, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return the encoded validation prompts on every process; the main process encodes."""
    prompts = [encode_prompts(config, accelerator.device)] if accelerator.is_main_process else [None]
    if accelerator.num_processes > 1:
        broadcast_object_list(prompts)
    return prompts[0]
