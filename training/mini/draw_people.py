# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Draw people of the corpus of spoken sentences, each while speaking, on one sheet, to look at before a training.

python training/mini/draw_people.py --output people.png
python training/mini/draw_people.py --output strip.png --person 7 --voice emma --sentence "maria buys five red books"
"""

import argparse
import sys

from diffusers_jova.command import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, help="image to write")
    parser.add_argument("--number", type=int, default=40, help="people (default: 40)")
    parser.add_argument("--first", type=int, default=0, help="seed of the first one (default: 0)")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--person", type=int, help="seed of one person, of whom every frame is shown")
    parser.add_argument("--voice", default="heart", help="that says the sentence (default: heart)")
    parser.add_argument("--sentence", default="maria buys five red books", help="of words of the vocabulary")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import numpy as np
    from PIL import Image

    from diffusers_jova.mini.corpus import make_poses, place_speech
    from diffusers_jova.mini.people import Person
    from diffusers_jova.mini.portraits import Portrait
    from diffusers_jova.mini.sentences import check_words
    from diffusers_jova.mini.voices import VOICES, speak

    phones = place_speech(speak(args.voice, check_words(args.sentence)), onset_s=0.2).phones
    if args.person is None:
        seeds = range(args.first, args.first + args.number)
        frames = [Portrait(Person.from_seed(seed)).draw(make_poses(phones, seed)[5 + 7 * seed % 20]) for seed in seeds]
    else:
        portrait = Portrait(Person.from_seed(args.person, person=VOICES[args.voice].person))
        frames = [portrait.draw(pose) for pose in make_poses(phones, args.person)]
    frames += [np.zeros_like(frames[0])] * (-len(frames) % args.columns)
    rows = [np.concatenate(frames[k : k + args.columns], axis=1) for k in range(0, len(frames), args.columns)]
    Image.fromarray(np.concatenate(rows)).save(args.output)


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
