# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train a small Wan from nothing, diffusers' own class on video alone: the base for the road from Wan to JoVA.

python training/nano/train_wan.py --config training/configs/nano.yaml --branch video --model outputs/road/parts \\
    --cache_dir outputs/road/cache --output_dir outputs/road/wan --max_train_steps 800

Settings are those of `diffusers-jova train`. Writes the folder of a WanPipeline, output_dir/pipeline, with the video
VAE and the text encoder of --model, for `diffusers-jova convert-wan`.
"""

import argparse
import sys

from diffusers_jova.cli.training import add_settings, settings_of
from diffusers_jova.command import run
from diffusers_jova.training.config import TrainingConfig


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_settings(parser, TrainingConfig)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from diffusers_jova.nano.wan import train_wan  # late: it takes seconds

    print(f"Wrote {train_wan(settings_of(args, TrainingConfig))}")


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
