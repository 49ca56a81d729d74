# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure every direction: what is made of a recording, a silent clip, a beginning and a clip with a span to retake.

    python benchmarks/directions.py
    python benchmarks/directions.py --model jova-nano outputs/my-nano --num_clips 40 --rows a2v v2a

Clips are those of the small model's corpus that its training never saw, noise seeds are 1000 and up. The columns are
explained in docs/nano_report.md, which holds the same table.
"""

import argparse
import sys

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run
from diffusers_jova.nano.directions import DIRECTIONS, HEADER, direction_rows, recording_rows
from diffusers_jova.nano.measuring import held_out_plans, record


def main(args: argparse.Namespace) -> None:
    plans = held_out_plans(args.num_clips)
    recordings = record(plans)
    print(HEADER)
    for line in recording_rows(args.rows, plans, recordings):
        print(line, flush=True)
    for model in args.model:
        pipe = JoVAPipeline.from_pretrained(model)
        pipe.set_progress_bar_config(disable=True)
        if args.num_inference_steps is not None:
            pipe.register_to_config(num_inference_steps=args.num_inference_steps)
        if len(args.model) > 1:
            print(f"{model}:")
        for line in direction_rows(pipe, args.rows, plans, recordings):
            print(line, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", nargs="+", default=["jova-nano"], help="pipelines to compare")
    parser.add_argument("--num_clips", type=int, default=16, help="held-out clips")
    parser.add_argument("--rows", nargs="+", choices=DIRECTIONS, default=list(DIRECTIONS), help="what to measure")
    parser.add_argument("--num_inference_steps", type=int, help="denoising steps; by default the pipeline's")
    sys.exit(run(main, parser.parse_args()))
