# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What both training scripts do before and after their loop."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState, init_empty_weights
from accelerate.utils import broadcast_object_list, parse_flag_from_env
from diffusers.training_utils import EMAModel
from torch.utils.data import DataLoader

from ..command import start_logging
from ..files import whole_folder
from ..media import check_output_path
from ..models.transformer_jova import JoVATransformer3DModel
from ..shards import who_writes
from .adapters import quantize_base
from .checkpoint import CONFIG_FILE, clean_up
from .config import LoraTrainingConfig, TrainingConfig, accumulation_steps, write_yaml
from .dataset import Batch, CachedClips, StepSampler, collate
from .initialization import branch_config, find_transformer, load_transformer, read_config
from .memory import (
    GIB,
    MemoryEstimate,
    check_memory,
    estimate_memory,
    format_estimate,
    free_memory,
    give_back_freed_memory,
    largest_batch,
)
from .optimization import averaged
from .tracking import TrainingLog
from .validation import encode_prompts, is_validated, validate, validation_folder


logger = logging.getLogger(__name__)

WEIGHT_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def create_accelerator(config: TrainingConfig, clips: CachedClips) -> Accelerator:
    """Return the accelerator of this process.

    Args:
        config: Settings of the run.
        clips: Whether a batch may lack a modality decides how gradients are exchanged.

    Raises:
        ValueError: If the number of processes is not the one asked for, or does not divide `global_batch_size`.
    """
    # without the flag each of several processes on CPU would believe that it is alone
    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    steps = accumulation_steps(config, state.num_processes)
    # a batch may lack a modality, whose branch is then not run and gets no gradients; without single-stream blocks
    # the last block's text leads nowhere
    some_unused = len(clips.kinds) > 1 or (config.branch == "joint" and clips.kinds != {"both"})
    some_unused |= not planned_config(config)["num_single_layers"]
    handler = DistributedDataParallelKwargs(find_unused_parameters=some_unused, gradient_as_bucket_view=True)
    accelerator = Accelerator(
        gradient_accumulation_steps=steps,
        mixed_precision=config.mixed_precision,
        log_with=None if config.report_to == "none" else config.report_to,
        project_dir=str(Path(config.output_dir) / "logs"),
        kwargs_handlers=[handler],
        step_scheduler_with_optimizer=False,
    )
    if accelerator.device.type == "cpu":
        give_back_freed_memory()
    start_logging()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("diffusers_jova").setLevel(logging.INFO if accelerator.is_main_process else logging.ERROR)
    logger.info(
        f"{accelerator.num_processes} process(es) on {accelerator.device}, {accelerator.distributed_type.value}; "
        f"{accelerator.num_processes} x {config.train_batch_size} x {steps} clips per step"
    )
    return accelerator


def prepare_output_dir(config: TrainingConfig, accelerator: Accelerator) -> None:
    """Make the output folder, remove what a killed run left half written, and note the settings.

    Raises:
        OSError: If the folder cannot be made or written to.
    """
    if accelerator.is_main_process:
        folder = Path(config.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        check_output_path(folder / "x.mp4")
        clean_up(folder)
        write_yaml(config, folder / CONFIG_FILE)
        if holder := who_writes(config.cache_dir):
            logger.warning(
                f"Another run ({holder}) is writing the cache `{config.cache_dir}`: this one trains on what its index "
                "holds now."
            )
    accelerator.wait_for_everyone()


def weight_dtype(config: TrainingConfig) -> torch.dtype:
    """Return the number format of the weights: full precision where they learn, else that of the forward pass."""
    return WEIGHT_DTYPES[config.mixed_precision] if isinstance(config, LoraTrainingConfig) else torch.float32


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether a process holds only a part of the weights."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def planned_config(config: TrainingConfig) -> dict[str, Any]:
    """Return the config of the transformer that will be trained, without loading it."""
    own = find_transformer(config.model)
    if config.branch == "joint":
        return read_config(own)
    source = {"video": config.video_transformer, "audio": config.audio_transformer}[config.branch]
    return branch_config(read_config(find_transformer(source) if source else own), config.branch)


def plan_memory(config: TrainingConfig, clips: CachedClips, accelerator: Accelerator) -> MemoryEstimate:
    """Return the estimate of one process's memory, and log it.

    Raises:
        MemoryError: If it exceeds what is free; not in a dry run.
    """
    estimate = estimate_memory(
        planned_config(config),
        largest_batch(clips, config.train_batch_size),
        config,
        dtype=weight_dtype(config),
        device=accelerator.device.type,
        num_shards=accelerator.num_processes if is_sharded(accelerator) else 1,
    )
    if not config.dry_run:
        free = free_memory(accelerator.device)
        check_memory(estimate, free, config)
        logger.info(f"Memory: about {estimate.peak / GIB:.2f} GiB of the {free / GIB:.1f} GiB that are free.")
    return estimate


def print_plan(config: TrainingConfig, clips: CachedClips, estimate: MemoryEstimate, accelerator: Accelerator) -> None:
    """Print what a dry run is for."""
    if accelerator.is_main_process:
        kinds = {kind: sum(len(m) == (2 if kind == "both" else 1) and (kind == "both" or m[0] == kind)
                           for m in clips.modalities.values()) for kind in sorted(clips.kinds)}  # fmt: skip
        print(f"{len(clips)} clips in {len(clips.buckets())} bucket(s): {kinds}")
        print(f"memory of one process on {accelerator.device.type}, beside the idle program:")
        print(format_estimate(estimate))


def encode_validation_prompts(config: TrainingConfig, accelerator: Accelerator) -> list[dict[str, Any]]:
    """Return the encoded validation prompts on every process; the main process encodes."""
    prompts = [encode_prompts(config, accelerator.device)] if accelerator.is_main_process else [None]
    if accelerator.num_processes > 1:
        broadcast_object_list(prompts)
    return prompts[0]


def create_batches(
    clips: CachedClips, config: TrainingConfig, accelerator: Accelerator, first_step: int
) -> Iterator[Batch]:
    """Return this process's endless batches from optimizer step `first_step` on."""
    sampler = StepSampler(
        clips.buckets(),
        config.train_batch_size,
        accelerator.gradient_accumulation_steps,
        accelerator.process_index,
        accelerator.num_processes,
        config.seed,
        first_step,
    )
    loader = DataLoader(
        clips,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=config.dataloader_num_workers,
        pin_memory=accelerator.device.type == "cuda",
        generator=torch.Generator(),  # its own, so that the process's generator stays where it is
    )
    return iter(loader)


def validate_step(
    step: int,
    config: TrainingConfig,
    transformer: JoVATransformer3DModel,
    ema: EMAModel | None,
    prompts: list[dict[str, Any]],
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


def load_base(config: LoraTrainingConfig, device: torch.device) -> JoVATransformer3DModel:
    """Return the transformer that a LoRA is put on, quantised if `base_quantization` says so."""
    transformer = load_transformer(config, weight_dtype(config))
    if config.base_quantization is not None:
        quantize_base(transformer, config.base_quantization, device)
    return transformer


def save_transformer(
    transformer: JoVATransformer3DModel, state_dict: dict[str, torch.Tensor], output_dir: str | os.PathLike
) -> Path:
    """Write the weights as `output_dir`/transformer, whole or not at all, and return the folder.

    Args:
        transformer: For its class and config.
        state_dict: The weights, gathered from all processes.
    """
    folder = Path(output_dir) / "transformer"
    with init_empty_weights():
        whole = JoVATransformer3DModel.from_config(transformer.config)
    whole.load_state_dict(state_dict, assign=True)
    with whole_folder(folder, overwrite=True) as partial:
        whole.save_pretrained(partial)
    return folder
