# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a transformer from a cache: stage 1 one branch at a time, stage 2 both together.

    diffusers-jova train --branch video --model DIR --cache_dir cache/ --output_dir video/ --max_train_steps 80000
    diffusers-jova train --branch audio --init_audio_from_video --model DIR --cache_dir cache/ --output_dir audio/
    diffusers-jova train --branch joint --video_transformer video/ --audio_transformer audio/ \\
        --model DIR --cache_dir cache/ --output_dir out/ --max_train_steps 50000

On a base that is trained already, such as a Wan, --video_lora_rank 64 keeps the video's weights and trains a LoRA on
them (--config wan_stage2). --config takes a YAML file, or the name of one that comes with the package. Several GPUs:
torchrun --nproc_per_node 8 -m diffusers_jova train ..., or accelerate launch -m diffusers_jova train ...
The result is output_dir/transformer: load it and pass it to JoVAPipeline.from_pretrained(DIR, transformer=...).
"""

import argparse

from ..training.config import TrainingConfig
from .training import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, TrainingConfig)


def main(args: argparse.Namespace) -> None:
    config = settings_of(args, TrainingConfig)
    from ..training.train import train  # late: it takes seconds

    train(config)
