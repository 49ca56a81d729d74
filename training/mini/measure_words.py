# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure which candidate words a recogniser hears on every voice, and write the table that makes the vocabulary.

Needs espeak-ng and the extras mini and eval; about a quarter of an hour on one core. A voice that is measured is kept.

python training/mini/measure_words.py
python training/mini/measure_words.py --output words.csv --voices heart george
"""

import argparse
import sys
from pathlib import Path

from diffusers_jova.command import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="table to write (default: the one of the package)")
    parser.add_argument("--voices", nargs="+", help="voices to measure (default: all that the table does not have)")
    parser.add_argument("--seed", type=int, default=0, help="of the sentences (default: 0)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from diffusers_jova.mini.hearing import count_heard, new_table
    from diffusers_jova.mini.sentences import TABLE, read_words, write_words
    from diffusers_jova.mini.voices import VOICES

    output = args.output or TABLE
    words = read_words(output) if output.is_file() else new_table()
    measured = next(iter(words.values())).recordings
    for voice in args.voices or [voice for voice in VOICES if voice not in measured]:
        counts = count_heard(voice, words, args.seed)
        for text, count in counts.items():
            words[text].recordings[voice] = count
        write_words(words.values(), output)
        heard, said = (sum(column) for column in zip(*counts.values()))
        print(f"{voice}: {heard} of {said} words heard", flush=True)
    passed = sum(word.passes for word in words.values())
    print(f"{passed} of {len(words)} candidates were heard often enough.")


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
