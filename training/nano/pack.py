# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Put a trained transformer and the other components into one folder, with weights in 16 bits.

python training/nano/pack.py --base outputs/nano/base --transformer outputs/nano/joint/transformer \\
    --output_dir outputs/nano/jova-nano
"""

import argparse
import sys
from pathlib import Path

from diffusers_jova.command import run
from diffusers_jova.files import check_output
from diffusers_jova.nano.settings import COMPONENTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nano", choices=tuple(COMPONENTS), help="(default: nano)")
    parser.add_argument("--base", required=True, help="folder that train_components.py or convert-wan wrote")
    parser.add_argument("--transformer", required=True, help="folder that `train` wrote")
    parser.add_argument("--output_dir", required=True, help="folder of the pipeline; one that is there is replaced")
    parser.add_argument("--num_clips", type=int, default=32, help="to measure the VAEs on (default: %(default)s)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    check_output(args.output_dir, {"the base": args.base, "the transformer": args.transformer})
    from diffusers_jova import JoVAPipeline  # late: they take seconds
    from diffusers_jova.mini.recipe import RECIPES
    from diffusers_jova.training.initialization import read_config, transformer_class

    transformer = transformer_class(read_config(Path(args.transformer))).from_pretrained(args.transformer)
    pipe = JoVAPipeline.from_pretrained(args.base, transformer=transformer)
    recipe = RECIPES[args.recipe]
    recipe.pack(pipe, Path(args.output_dir), recipe.measure_vaes(pipe, args.num_clips))


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
