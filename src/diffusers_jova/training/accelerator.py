# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The processes of a run: how many there are, on which devices, and how each of them is set up."""

import ctypes
import logging
from pathlib import Path

import diffusers
import transformers
from accelerate import Accelerator, DistributedDataParallelKwargs, DistributedType, PartialState
from accelerate.utils import parse_flag_from_env

from ..command import start_logging
from .config import TrainingConfig, accumulation_steps
from .dataset import CachedClips
from .initialization import planned_config


logger = logging.getLogger(__name__)

M_MMAP_THRESHOLD, LARGE_TENSOR = -3, 2**20  # malloc.h's number of the option; bytes


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
    # the last block's text leads nowhere (on a Wan base, text is not in the blocks' tokens)
    some_unused = len(clips.kinds) > 1 or (config.branch == "joint" and clips.kinds != {"both"})
    some_unused |= planned_config(config).get("num_single_layers") == 0
    some_unused |= config.cross_modal_dropout > 0  # some fusions have layers for the other modality alone
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


def is_sharded(accelerator: Accelerator) -> bool:
    """Whether a process holds only a part of the weights."""
    return accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)


def give_back_freed_memory() -> None:
    """Let glibc return every freed tensor to the system, where the C library is glibc.

    Else it keeps small ones between those still in use: a LoRA's activations then take twice their size on CPU.
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_TENSOR)
    except (AttributeError, OSError):  # another C library
        pass
