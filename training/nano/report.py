# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure a trained jova-nano: words, lips, pictures, steps. Writes nano_report.md and its pictures.

python training/nano/report.py --model outputs/nano/jova-nano --output_dir outputs/nano/report

Needs flite, and the extras faces and eval. About fourteen minutes on two cores; --num_clips 20 for a first look.
"""

import argparse
import shlex
import sys
from pathlib import Path

from diffusers_jova.command import run
from diffusers_jova.files import check_output
from diffusers_jova.nano.settings import STEPS


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the pipeline")
    parser.add_argument("--output_dir", required=True, help="folder of the report")
    parser.add_argument("--num_clips", type=int, default=200, help="held-out clips of each kind (default: 200)")
    parser.add_argument("--num_pictured", type=int, default=100, help="of them with a picture (default: 100)")
    parser.add_argument(
        "--num_given", type=int, default=200, help="of them whose recording or frames are given (default: 200)"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="to compare (default: %(default)s)")
    parser.add_argument("--num_inference_steps", type=int, help="of the other clips (default: the model's)")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus (default: 0)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    check_output(args.output_dir, {"the model": args.model})
    from diffusers_jova import JoVAPipeline  # late: they take seconds
    from diffusers_jova.nano.report import write_report

    pipe = JoVAPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    if args.num_inference_steps is not None:
        pipe.register_to_config(num_inference_steps=args.num_inference_steps)
    command = "python training/nano/report.py " + shlex.join(sys.argv[1:])
    folder = Path(args.output_dir)
    print(
        write_report(pipe, folder, command, args.num_clips, args.num_pictured, args.num_given, args.steps, args.seed)
    )


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
