# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Write a small pipeline with random weights, to try the other verbs with; what it makes is noise:

diffusers-jova create --output nano/
"""

import argparse
from pathlib import Path

from ..files import whole_folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="jova-nano", help="which sizes (default: %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the pipeline; must not exist yet")
    parser.add_argument("--seed", type=int, default=0, help="of all weights (default: %(default)s)")


def main(args: argparse.Namespace) -> None:
    if args.output.exists():
        raise FileExistsError(f"{str(args.output)!r} exists already: remove it, or choose another --output.")
    if not args.output.absolute().parent.is_dir():
        raise FileNotFoundError(f"The folder {str(args.output.absolute().parent)!r} does not exist: create it first.")
    from ..pipelines.random_pipeline import create_pipeline  # late: it takes seconds

    with whole_folder(args.output) as folder:
        create_pipeline(args.preset, args.seed).save_pretrained(folder)
    print(f"Wrote {args.output}: a {args.preset} pipeline with random weights. What it makes is noise.")
