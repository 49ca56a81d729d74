# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips made while training, always with the same noise; VAEs and vocoder come and go."""

import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from diffusers.training_utils import EMAModel

from ..files import reading_folder, whole_folder
from ..models.transformer_jova import JoVATransformer3DModel
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.pipeline_output import JoVAPipelineOutput
from .accelerator import is_sharded
from .config import TrainingConfig
from .optimization import averaged
from .tracking import TrainingLog


logger = logging.getLogger(__name__)

ENCODERS = ("tokenizer", "text_encoder", "tokenizer_2", "text_encoder_2")
DECODERS = ("vae", "audio_vae", "vocoder")


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
    """Write one clip as `path`.mp4, or as `path`.wav where there is audio only, and return the file."""
    from ..media import write_video, write_wav  # late: where no clips are made, training does without PyAV

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
    prompts: Sequence[dict[str, Any]],
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
    clear_device_cache(garbage_collection=True)
    transformer.train(was_training)
    return [(folder / path.name, output) for path, output in made]


def validation_folder(config: TrainingConfig, step: int) -> Path:
    """Return where the clips of a step are."""
    return Path(config.output_dir) / "validation" / f"step-{step}"


def is_validated(config: TrainingConfig, step: int, num_prompts: int) -> bool:
    """Return whether all clips of a step are there."""
    folder = validation_folder(config, step)
    return all(any(folder.glob(f"{index:02d}.*")) for index in range(num_prompts))


def validate_step(
    step: int,
    config: TrainingConfig,
    transformer: JoVATransformer3DModel,
    ema: EMAModel | None,
    prompts: Sequence[dict[str, Any]],
    accelerator: Accelerator,
    log: TrainingLog,
    missing_only: bool = False,
) -> None:
    """Make the validation clips of `step`, if it is a step of validation. Called by all processes.

    Args:
        transformer, ema: Their averaged weights make the clips, where there is an average.
        missing_only: Of a resumed run: make only what a kill between checkpoint and validation took away.
    """
    if not prompts or step == 0 or step % config.validation_steps:
        return
    is_done = missing_only and is_validated(config, step, len(prompts))
    accelerator.wait_for_everyone()  # all have looked before one writes
    if is_done:
        return
    if accelerator.is_main_process or is_sharded(accelerator):
        with averaged(transformer, ema), accelerator.autocast():
            folder, device = validation_folder(config, step), accelerator.device
            for path, clip in validate(config, transformer, prompts, folder, device, accelerator.is_main_process):
                log.add_clip(step, f"validation/{path.stem}", path, clip)
    accelerator.wait_for_everyone()
