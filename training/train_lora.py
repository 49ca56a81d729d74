# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a LoRA from a cache, and prove at the end what it learned.

    python training/train_lora.py --model DIR --cache_dir cache/ --output_dir lora/ --max_train_steps 1000 \\
        --rank 16 --alpha 16 --lora_modalities video,audio

The result is loaded by `pipe.load_lora_weights("lora/")`.
"""

from diffusers_jova.training.config import LoraTrainingConfig
from diffusers_jova.training.flags import run_script


def main(config: LoraTrainingConfig) -> None:
    from diffusers_jova.training.train_lora import train_lora  # late: it takes seconds

    train_lora(config)


if __name__ == "__main__":
    run_script(main, LoraTrainingConfig, __doc__)
