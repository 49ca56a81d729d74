# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make the corpus of spoken sentences: mp4 files and captions, the same for the same seed.

Needs the extra mini; what else it is made of is fetched once (docs/mini.md) and kept in $JOVA_MINI_CACHE.

python training/mini/make_corpus.py --output_dir outputs/mini/corpus
python training/mini/make_corpus.py --output_dir person --num_train 24 --num_held_out 0 --identity 7 --voice emma
"""

import argparse
import sys

from diffusers_jova.command import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output_dir", required=True, help="folder of the corpus; an unfinished one is continued")
    parser.add_argument("--num_train", type=int, default=6000, help="clips to train on (default: 6000)")
    parser.add_argument("--num_held_out", type=int, default=300, help="clips with new sentences and new people")
    parser.add_argument(
        "--num_speech", type=int, default=0, help="sentences as audio alone, four times each (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--identity", type=int, help="seed of a person: all clips show this one person (default: many)"
    )
    parser.add_argument("--voice", help="such as heart or george: all clips have this voice (default: all twelve)")
    parser.add_argument("--num_workers", type=int, default=2, help="processes that draw (default: 2)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from diffusers_jova.mini.corpus import make_corpus  # late: it takes seconds

    make_corpus(**vars(args))


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
