# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What `bench` and `score` share: from which prompts clips are, or were, made."""

import argparse
from pathlib import Path


def add_prompt_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `read_all_prompts` reads."""
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompts", type=Path, help="one JSON object per line: `id` and what the clip is made from")
    prompts.add_argument(
        "--from-verse-bench", "--from_verse_bench", type=Path, metavar="DIR", help="Verse-Bench's folders instead"
    )
    parser.add_argument("--set", dest="sets", help="only these sets, with commas between")


def read_all_prompts(args: argparse.Namespace) -> list:
    """Return the prompts that --prompts or --from-verse-bench, and --set, name."""
    from ..evaluation.prompt_file import read_prompts
    from ..evaluation.verse_bench import read_verse_bench

    if args.from_verse_bench is not None:
        prompts = read_verse_bench(args.from_verse_bench)
    elif args.prompts is not None:
        prompts = read_prompts(args.prompts)
    else:
        raise ValueError("What are the clips made from? Give --prompts FILE or --from-verse-bench DIR.")
    if args.sets is None:
        return prompts
    sets = [name.strip() for name in args.sets.split(",")]
    known = sorted({prompt.set for prompt in prompts})
    if missing := set(sets) - set(known):
        raise ValueError(f"--set: there is no set {', '.join(sorted(missing))}; there are: {', '.join(known)}.")
    return [prompt for prompt in prompts if prompt.set in sets]
