# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training of whole weights, of one branch or of both: `train(config)`."""

from collections.abc import Callable

from .accelerator import create_accelerator
from .adapters import choose_what_learns
from .checkpoint import find_checkpoint
from .config import TrainingConfig
from .dataset import open_clips
from .initialization import check_condition, load_transformer, settle_condition_mode
from .loop import never, training_loop
from .memory import check_plan, print_plan
from .optimization import averaged
from .output_dir import own_output_dir, prepare_output_dir
from .validation_prompts import encode_validation_prompts
from .weights import save_weights


def train(config: TrainingConfig, is_over: Callable[[], bool] = never) -> None:
    """Train a transformer from a cache and write it to `output_dir`/transformer. Called by all processes.

    Where the video branch stays as it is (`video_lora_rank`, `freeze_video`), its LoRA lies beside that folder.

    Args:
        is_over: Asked after each step, of all processes alike: true ends the run there, and what it has become is
            the result.

    Raises:
        ValueError, FileNotFoundError: If settings, folders, cache and model do not fit together.
        MemoryError: If the run does not fit into memory.
        InUseError: If another run is at work in `output_dir`.
    """
    with own_output_dir(config):
        # 1. Everything that can go wrong early: settings, folders, cache, memory
        checkpoint = find_checkpoint(config.output_dir, config.resume_from_checkpoint)
        clips = open_clips(config)
        check_condition(config, clips)
        accelerator = create_accelerator(config, clips)
        if config.dry_run:
            return print_plan(config, clips, accelerator)
        check_plan(config, clips, accelerator)
        prepare_output_dir(config, accelerator)

        # 2. Text encoders come and go before the transformer is loaded
        prompts = encode_validation_prompts(config, accelerator)
        transformer = load_transformer(config)
        settle_condition_mode(transformer, config)
        choose_what_learns(transformer, config)

        # 3. The loop
        trained = training_loop(transformer, clips, config, accelerator, prompts, checkpoint, is_over)

        # 4. The result, averaged if there is an average
        with averaged(transformer, trained.ema):
            state_dict = accelerator.get_state_dict(trained.model)
            if accelerator.is_main_process:
                for path in save_weights(transformer, config, config.output_dir, state_dict):
                    print(f"Wrote {path}")
        accelerator.end_training()
