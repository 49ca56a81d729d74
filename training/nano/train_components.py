# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Train everything of a small model but its transformer, and put the pipeline's folder together.

python training/nano/train_components.py --corpus outputs/nano/corpus --output_dir outputs/nano/base
python training/nano/train_components.py --recipe mini --corpus outputs/mini/corpus --output_dir outputs/mini/base

A component that is there is kept, so an interrupted run is continued.
"""

import argparse
import sys
from pathlib import Path

from diffusers_jova.command import run
from diffusers_jova.files import check_output, lock_folder
from diffusers_jova.nano.settings import COMPONENTS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="nano", choices=tuple(COMPONENTS), help="(default: nano)")
    parser.add_argument("--corpus", required=True, help="folder that make_corpus.py wrote")
    parser.add_argument("--output_dir", required=True, help="folder of the pipeline")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(COMPONENTS["nano"]), help="train these, and do not put together yet"
    )
    for name in COMPONENTS["nano"]:
        steps = ", ".join(f"{recipe} {each[name]}" for recipe, each in COMPONENTS.items())
        parser.add_argument(f"--{name}_steps", type=int, help=f"(default: {steps})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mixed_precision", choices=("no", "bf16"), default="no", help="of the VAEs")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    check_output(args.output_dir, {"the corpus": args.corpus})
    from diffusers_jova.mini.recipe import RECIPES  # late: it takes seconds

    recipe = RECIPES[args.recipe]
    corpus, output_dir = Path(args.corpus), Path(args.output_dir)
    with lock_folder(output_dir):
        for name in args.only or recipe.steps:
            steps = getattr(args, f"{name}_steps")
            steps = recipe.steps[name] if steps is None else steps
            recipe.train_component(name, corpus, output_dir, steps, args.seed, args.mixed_precision)
        if not args.only:
            recipe.assemble(output_dir, args.seed)


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
