# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make the corpus of talking digits: mp4 files and captions, the same for the same seed. Needs flite.

python training/nano/make_corpus.py --output_dir outputs/nano/corpus
python training/nano/make_corpus.py --output_dir person --num_train 24 --num_held_out 0 --identity 10007 --voice slt
"""

import argparse
import sys

from diffusers_jova.command import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, help="folder of the corpus; an unfinished one is continued")
    parser.add_argument("--num_train", type=int, default=6000, help="clips to train on (default: 6000)")
    parser.add_argument("--num_held_out", type=int, default=300, help="clips with new combinations and new faces")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--identity", type=int, help="seed of a face: all clips show this one person (default: many)")
    parser.add_argument("--voice", help="slt, rms, awb or kal16: all clips have this voice (default: all of them)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that draw (default: 2)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from diffusers_jova.nano.corpus import make_corpus  # late: it takes seconds

    make_corpus(**vars(args))


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
