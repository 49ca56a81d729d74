# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure a trained jova-mini: words, lips, phones, every direction. Writes mini_report.md and its images.

python training/mini/report.py --model outputs/mini/jova-mini --corpus outputs/mini/corpus --output_dir docs
python training/mini/report.py --model outputs/mini/jova-mini --corpus outputs/mini/corpus --output_dir outputs/look \\
    --num_clips 8 --num_pictured 4 --num_given 4 --num_voiced 2 --steps 8

Needs the extras mini, faces and eval. By default it makes some 1,400 clips; the second command is a first look.
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
    parser.add_argument("--corpus", required=True, type=Path, help="folder that make_corpus.py wrote")
    parser.add_argument("--output_dir", required=True, type=Path, help="folder of the report")
    parser.add_argument("--num_clips", type=int, default=200, help="held-out clips of each kind (default: 200)")
    parser.add_argument("--num_pictured", type=int, default=100, help="of them with an image (default: 100)")
    parser.add_argument(
        "--num_given", type=int, default=100, help="of them whose recording or frames are given (default: 100)"
    )
    parser.add_argument(
        "--num_voiced", type=int, default=25, help="clips of each voice that no training clip has (default: 25)"
    )
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="to compare (default: %(default)s)")
    parser.add_argument("--num_inference_steps", type=int, help="of the other clips (default: the model's)")
    parser.add_argument("--whisper", type=Path, help="folder of a Whisper model, of transformers or of faster-whisper")
    parser.add_argument("--device", default="cpu", help="that makes the clips (default: cpu)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    check_output(args.output_dir, {"the model": args.model, "the corpus": args.corpus})
    from diffusers_jova import JoVAPipeline  # late: they take seconds
    from diffusers_jova.evaluation.word_errors import open_whisper
    from diffusers_jova.mini.report import Numbers, write_report

    pipe = JoVAPipeline.from_pretrained(args.model).to(args.device)
    pipe.set_progress_bar_config(disable=True)
    if args.num_inference_steps is not None:
        pipe.register_to_config(num_inference_steps=args.num_inference_steps)
    numbers = Numbers(args.num_clips, args.num_pictured, args.num_given, args.num_voiced, args.steps)
    whisper = None if args.whisper is None else open_whisper(args.whisper, args.device)
    command = "python training/mini/report.py " + shlex.join(sys.argv[1:])
    print(write_report(pipe, args.corpus, args.output_dir, command, numbers, whisper))


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
