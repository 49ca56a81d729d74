# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of a scheduler, where those of diffusers differ."""

import inspect

import numpy as np
import torch
from diffusers import SchedulerMixin
from diffusers.schedulers import FlowMatchEulerDiscreteScheduler


def set_timesteps(
    scheduler: SchedulerMixin, num_inference_steps: int, sigmas: list[float] | np.ndarray | None, device: torch.device
) -> None:
    """Set the noise levels of a call: `sigmas`, or else JoVA's even steps from 1, or the scheduler's own.

    Only `FlowMatchEulerDiscreteScheduler` gets JoVA's steps, with which it was trained and measured; another scheduler
    came with other weights, and has its own.

    Raises:
        ValueError: If `sigmas` are given to a scheduler that takes none.
    """
    if sigmas is None and isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        sigmas = np.linspace(1.0, 1 / num_inference_steps, num_inference_steps)
    if sigmas is None:
        scheduler.set_timesteps(num_inference_steps, device=device)
    elif "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(sigmas=np.asarray(sigmas), device=device)  # some refuse a list
    else:
        raise ValueError(
            f"`sigmas` was given, but {type(scheduler).__name__} takes none. Leave them out, or put a "
            "FlowMatchEulerDiscreteScheduler into the pipeline."
        )
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # else it looks for the first step's timestep, for which the host waits


def take_step(
    scheduler: SchedulerMixin,
    velocity: torch.Tensor,
    timestep: torch.Tensor,
    sample: torch.Tensor,
    generator: torch.Generator | list[torch.Generator] | None,
) -> torch.Tensor:
    """Return the sample after a step. `generator` goes to schedulers that draw noise; others do not know it."""
    extra = {"generator": generator} if "generator" in inspect.signature(scheduler.step).parameters else {}
    return scheduler.step(velocity, timestep, sample, return_dict=False, **extra)[0]
