# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure what the road from a Wan reached: words, lips and faces after each stage, beside another pipeline.

python training/nano/wan_report.py --model outputs/road/start --audio outputs/road/audio/transformer \\
    --joint outputs/road/joint/transformer --beside checkpoints/jova-nano --output_dir outputs/road/report

Needs flite, and the extras faces and eval. About ten minutes on two cores; --num_clips 20 for a first look.
"""

import argparse
import sys
from pathlib import Path

from diffusers_jova.command import run
from diffusers_jova.files import check_output


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, type=Path, help="folder that convert-wan wrote")
    parser.add_argument("--audio", required=True, type=Path, help="folder of the transformer after stage 1")
    parser.add_argument("--joint", required=True, type=Path, help="folder of the transformer after stage 2")
    parser.add_argument("--beside", required=True, type=Path, help="folder of a pipeline to measure beside it")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder of the report")
    parser.add_argument("--num_clips", type=int, default=100, help="held-out clips of each row (default: 100)")
    parser.add_argument("--num_inference_steps", type=int, help="(default: jova-nano's)")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus (default: 0)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    inputs = {"the model": args.model, "stage 1": args.audio, "stage 2": args.joint, "the other pipeline": args.beside}
    check_output(args.output_dir, inputs)
    from diffusers_jova.nano.wan_report import write_wan_report  # late: it takes seconds

    print(write_wan_report(**vars(args)))


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
