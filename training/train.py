# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a transformer from a cache: stage 1 one branch at a time, stage 2 both together.

    python training/train.py --branch video --model DIR --cache_dir cache/ --output_dir video/ --max_train_steps 80000
    python training/train.py --branch audio --init_audio_from_video --model DIR --cache_dir cache/ --output_dir audio/
    python training/train.py --branch joint --video_transformer video/ --audio_transformer audio/ \\
        --model DIR --cache_dir cache/ --output_dir out/ --max_train_steps 50000

Several GPUs: torchrun --nproc_per_node 8 training/train.py ..., or accelerate launch with a file of training/configs.
The result is output_dir/transformer: load it and pass it to JoVAPipeline.from_pretrained(DIR, transformer=...).
"""

from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.flags import run_script


def main(config: TrainingConfig) -> None:
    from diffusers_jova.training.train import train  # late: it takes seconds, which `--help` should not wait for

    train(config)


if __name__ == "__main__":
    run_script(main, TrainingConfig, __doc__)
