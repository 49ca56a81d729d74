# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Optimizer, course of the learning rate, moving average, and gradients by modality."""

import importlib.util
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
import torch.nn as nn
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel

from .adapters import group_by_modality
from .config import TrainingConfig


logger = logging.getLogger(__name__)


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that learn."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


def create_optimizer(parameters: Iterable[nn.Parameter], config: TrainingConfig) -> torch.optim.Optimizer:
    """Return AdamW over `parameters`, with 8-bit moments if the settings ask for them.

    Raises:
        ValueError: If these need bitsandbytes and it is not installed.
    """
    cls = torch.optim.AdamW
    if config.use_8bit_adam:
        if importlib.util.find_spec("bitsandbytes") is None:
            raise ValueError("`use_8bit_adam` needs bitsandbytes: pip install bitsandbytes")
        import bitsandbytes

        cls = bitsandbytes.optim.AdamW8bit
    return cls(
        parameters,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        eps=config.adam_epsilon,
        weight_decay=config.weight_decay,
    )


def create_lr_scheduler(optimizer: torch.optim.Optimizer, config: TrainingConfig):
    """Return the schedule, stepped once per optimizer step.

    It is not handed to accelerate, which would step it once per process.
    """
    return get_scheduler(
        config.lr_scheduler,
        optimizer,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=config.max_train_steps,
    )


def create_ema(module: nn.Module, config: TrainingConfig) -> EMAModel | None:
    """Return a moving average of the parameters of `module` that learn, if the settings ask for one."""
    return EMAModel(trainable(module), decay=config.ema_decay) if config.use_ema else None


@contextmanager
def averaged(module: nn.Module, ema: EMAModel | None) -> Iterator[None]:
    """Run the block with the averaged weights in `module`, where there is an average."""
    if ema is None:
        yield
        return
    ema.store(trainable(module))
    ema.copy_to(trainable(module))
    try:
        yield
    finally:
        ema.restore(trainable(module))


def gradient_norms(module: nn.Module, scaler: torch.amp.GradScaler | None = None) -> dict[str, float]:
    """Return the norm of the gradients of each modality's parameters; 0 where none arrived.

    DeepSpeed keeps gradients to itself, all norms are 0 there.

    Args:
        scaler: Of float16's loss scaling, if there is one: what it multiplied is divided out.
    """
    scale = scaler.get_scale() if scaler is not None else 1.0
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    norms = {}
    for modality, names in group_by_modality(parameters).items():
        gradients = [parameters[name].grad for name in names if parameters[name].grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # sharded by FSDP2
        norms[modality] = norm.item() / scale
    return norms


def check_finite(loss: float, step: int, visits: list) -> None:
    """Raise ValueError for a loss that is not finite; its clips are named."""
    if not math.isfinite(loss):
        raise ValueError(
            f"The loss of step {step} is {loss}; its clips are {', '.join(visit.key for visit in visits)}. The "
            "checkpoints are whole. Lower `learning_rate`, or look at these clips in the cache."
        )
