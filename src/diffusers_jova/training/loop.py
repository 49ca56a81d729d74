# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The loop of every run, for whole weights and for a LoRA: `train` and `train_lora` differ in what stands around it.

What a step computes is in `step`, what of the model learns is said by `requires_grad` before the loop begins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.nn as nn
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from ..models.transformer_jova import JoVATransformer3DModel
from .checkpoint import Checkpoints
from .config import TrainingConfig
from .dataset import CachedClips, create_batches
from .initialization import read_scales
from .optimization import check_finite, create_ema, create_lr_scheduler, create_optimizer, gradient_norms, trainable
from .step import training_step
from .tracking import TrainingLog
from .validation import validate_step


def never() -> bool:
    return False


@dataclass
class Trained:
    """What the loop leaves.

    Attributes:
        model: The transformer as accelerate wrapped it; of sharded weights it alone can gather them.
        ema: The moving average, where there is one: the result is the average then.
        step: Optimizer steps done, those before a resumed checkpoint included.
    """

    model: nn.Module
    ema: EMAModel | None
    step: int


def training_loop(
    transformer: JoVATransformer3DModel,
    clips: CachedClips,
    config: TrainingConfig,
    accelerator: Accelerator,
    prompts: Sequence[dict[str, Any]] = (),
    checkpoint: Path | None = None,
    is_over: Callable[[], bool] = never,
) -> Trained:
    """Train those parameters of `transformer` that require gradients, in place, until step `max_train_steps`.

    Args:
        transformer: On CPU or on its device, in training mode.
        clips: To learn from.
        prompts: Encoded, of the validation clips.
        checkpoint: To go on from.
        is_over: Asked after each step, of all processes alike: true ends the loop.
    """
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    scales = read_scales(config.model, transformer.config)
    optimizer = create_optimizer(trainable(transformer), config)
    lr_scheduler = create_lr_scheduler(optimizer, config)
    model, optimizer = accelerator.prepare(transformer, optimizer)
    ema = create_ema(transformer, config)  # on the device, where `prepare` has moved the weights
    checkpoints = Checkpoints(accelerator, transformer, lr_scheduler, ema, config, clips.digest())
    step = checkpoints.load(checkpoint) if checkpoint else 0
    batches = create_batches(clips, config, accelerator, step)  # their order follows from seed and step: no cursor
    log = TrainingLog(accelerator, config, step)
    # a run that was killed between a checkpoint and its validation owes these clips
    validate_step(step, config, transformer, ema, prompts, accelerator, log, missing_only=True)

    while step < config.max_train_steps:
        for _ in range(accelerator.gradient_accumulation_steps):
            batch = next(batches).to(accelerator.device)
            with accelerator.accumulate(model):  # processes exchange gradients at the last batch of a step only
                output = training_step(model, batch, scales, config)
                check_finite(output.loss.item(), step + 1, batch.visits)  # before it reaches weights and checkpoints
                accelerator.backward(output.loss)  # divided by the number of batches, and scaled for float16
                log.add(output)
                if accelerator.sync_gradients:
                    norms = gradient_norms(transformer, accelerator.scaler)  # as they came, before they are shortened
                    grad_norm = accelerator.clip_grad_norm_(trainable(model), config.max_grad_norm or float("inf"))
                optimizer.step()  # this and the next do nothing before the last batch
                optimizer.zero_grad()
        learning_rate = lr_scheduler.get_last_lr()[0]  # the one that this step had
        lr_scheduler.step()
        if ema is not None:
            ema.step(trainable(transformer))
        step += 1
        log.write(step, learning_rate, norms, float(grad_norm))

        if step % config.checkpointing_steps == 0 or step == config.max_train_steps:
            checkpoints.save(step)
        validate_step(step, config, transformer, ema, prompts, accelerator, log)  # after the checkpoint, see above
        if is_over():
            break
    checkpoints.close()
    return Trained(model, ema, step)
