# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips made while training: prompts are encoded before the transformer is loaded, decoders come and go."""

import gc
import inspect
import logging
import os
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from ..data.cache import read_sample, read_shared
from ..files import reading_folder, whole_folder
from ..media import write_video, write_wav
from ..models.transformer_jova import JoVATransformer3DModel
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.pipeline_output import JoVAPipelineOutput
from ..pipelines.prompts import PROMPT_EMBEDS
from .config import TrainingConfig, read_validation_prompts
from .dataset import TEXT_SUFFIXES, CachedClips


logger = logging.getLogger(__name__)

TEXT_ARGUMENTS = ("prompt", "audio_prompt", "transcript", "negative_prompt", "negative_audio_prompt")
ENCODERS = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
DECODERS = ("vae", "audio_vae", "vocoder")
BRANCH_MODALITIES = {"joint": ("video", "audio"), "video": ("video",), "audio": ("audio",)}


def check_prompts(prompts: list[dict[str, Any]]) -> None:
    """Raise ValueError for a validation prompt with an argument that the pipeline does not know."""
    known = set(inspect.signature(JoVAPipeline.__call__).parameters)
    for prompt in prompts:
        unknown = sorted(set(prompt) - known)
        if unknown:
            raise ValueError(f"A validation prompt has `{unknown[0]}`, which `JoVAPipeline` does not take.")


def encode_prompts(config: TrainingConfig, device: torch.device) -> list[dict[str, Any]]:
    """Return the validation prompts as arguments of the pipeline's call, their texts encoded; the encoders are freed.

    Called before the transformer is loaded: the two are never in memory together.
    """
    prompts = read_validation_prompts(config.validation_prompts)
    check_prompts(prompts)
    if not prompts:
        return []
    logger.info(f"Loading the text encoders of `{config.model}` for {len(prompts)} validation prompt(s) ...")
    absent = dict.fromkeys(("transformer", *DECODERS))
    with reading_folder(config.model):
        pipe = JoVAPipeline.from_pretrained(config.model, **absent, dtype=torch.float32).to(device)
    encoded = []
    with torch.no_grad():
        for prompt in prompts:
            texts = {name: prompt[name] for name in TEXT_ARGUMENTS if name in prompt}
            embeds = [None if tensor is None else tensor.cpu() for tensor in pipe.encode_prompt(**texts)]
            rest = {name: value for name, value in prompt.items() if name not in TEXT_ARGUMENTS}
            rest = {"modalities": BRANCH_MODALITIES[config.branch], **rest}
            encoded.append(rest | dict(zip(PROMPT_EMBEDS, embeds)))
    del pipe
    free_memory()
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


def load_decoders(config: TrainingConfig, transformer: JoVATransformer3DModel, device: torch.device) -> JoVAPipeline:
    """Return a pipeline around `transformer` with VAEs and vocoder, without text encoders."""
    with torch.random.fork_rng(), reading_folder(config.model):
        pipe = JoVAPipeline.from_pretrained(
            config.model, transformer=transformer, **dict.fromkeys(ENCODERS), dtype=torch.float32
        )
    for name in DECODERS:
        component = getattr(pipe, name)
        if component is not None:
            component.to(device)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def call_pipeline(
    pipe: JoVAPipeline, prompt: dict[str, Any], seed: int, device: torch.device, **overrides: Any
) -> JoVAPipelineOutput:
    """Return what the pipeline makes of one encoded prompt, always with the same noise."""
    arguments = {
        name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in prompt.items()
    }
    return pipe(**arguments, generator=torch.Generator().manual_seed(seed), **overrides)


def write_clip(path: Path, output: JoVAPipelineOutput, index: int = 0) -> Path:
    """Write one clip as `path`.mp4, or as `path`.wav where there is sound only, and return the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    audio = None if output.audio is None else output.audio[index]
    if output.frames is None:
        return write_wav(path.with_suffix(".wav"), audio, output.audio_sampling_rate)
    return write_video(
        path.with_suffix(".mp4"), output.frames[index], output.frame_rate, audio, output.audio_sampling_rate
    )


def validate(
    config: TrainingConfig,
    transformer: JoVATransformer3DModel,
    prompts: list[dict[str, Any]],
    folder: str | os.PathLike,
    device: torch.device,
    is_writer: bool = True,
) -> list[tuple[Path, JoVAPipelineOutput]]:
    """Make a clip of each prompt with the same seeds as ever, write them to `folder`, and return files and clips.

    The folder appears whole or not at all. Of processes that share the weights all make the clips; one is the writer.
    """
    folder = Path(folder)
    was_training = transformer.training
    transformer.eval()
    pipe = load_decoders(config, transformer, device)
    made = []
    with whole_folder(folder, overwrite=True) if is_writer else nullcontext() as partial:
        for index, prompt in enumerate(prompts):
            logger.info(f"Validation {folder.name}: clip {index + 1} of {len(prompts)} ...")
            output = call_pipeline(pipe, prompt, config.validation_seed + index, device, output_type="np")
            if is_writer:
                made.append((write_clip(partial / f"{index:02d}", output), output))
    del pipe
    free_memory()
    transformer.train(was_training)
    return [(folder / path.name, output) for path, output in made]


def validation_folder(config: TrainingConfig, step: int) -> Path:
    """Return where the clips of a step are."""
    return Path(config.output_dir) / "validation" / f"step-{step}"


def is_validated(config: TrainingConfig, step: int, num_prompts: int) -> bool:
    """Return whether all clips of a step are there."""
    folder = validation_folder(config, step)
    return all(any(folder.glob(f"{index:02d}.*")) for index in range(num_prompts))


def free_memory() -> None:
    """Give back the memory of what was deleted."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
