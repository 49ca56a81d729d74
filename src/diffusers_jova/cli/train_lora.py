# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a LoRA from a cache, and prove at the end what it learned.

    diffusers-jova train-lora --model jova-nano --config lora_nano --cache_dir cache/ --output_dir lora/
    diffusers-jova train-lora --model DIR --cache_dir cache/ --output_dir lora/ --max_train_steps 1000 \\
        --rank 16 --alpha 16 --lora_modalities video,audio

--config takes a YAML file, or the name of one that comes with the package. The result is loaded by
`pipe.load_lora_weights("lora/")`, or by `diffusers-jova generate --lora lora/`.
"""

import argparse

from ..training.config import LoraTrainingConfig
from .training import add_settings, settings_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_settings(parser, LoraTrainingConfig)


def main(args: argparse.Namespace) -> None:
    config = settings_of(args, LoraTrainingConfig)
    from ..training.train_lora import train_lora  # late: it takes seconds

    train_lora(config)
