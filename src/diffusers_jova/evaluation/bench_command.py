# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova bench`: a clip of each prompt in a file, in the places where `score` looks for them.

    diffusers-jova bench --model jova-nano --prompts prompts.jsonl --output_dir clips/
    diffusers-jova score clips/ --prompts prompts.jsonl --weights weights/ --out report.json

Each line of the file is a JSON object: `id`, and what there is of `set`, `prompt`, `audio_prompt` (several texts are
joined), `speech_text` (the transcript), `image` and `seed`. A clip is SET/ID.mp4; ID.bench.json beside it says what
made it. Clips that are there and would become the same stay, all others are made anew: after an interruption, start
the same command again. A prompt that fails does not stop the others; the exit status is then 1.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..command import say
from ..files import check_output
from .score_command import read_all_prompts, telling


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what `run` reads, beside what `generate` has, too."""
    prompts = parser.add_mutually_exclusive_group()
    prompts.add_argument("--prompts", type=Path, help="a JSON object a line")
    prompts.add_argument("--from_verse_bench", type=Path, metavar="DIR", help="Verse-Bench's folders instead")
    add = parser.add_argument
    add("--set", dest="sets", help="only these sets, with commas between")
    add("--output_dir", type=Path, required=True, help="folder of the clips")
    add("--wav", action="store_true", help="write the audio as ID.wav, too: as it is, without AAC")
    add("--batch_size", type=int, default=1, help="clips at a time (default: %(default)s)")
    add("--shard", default="0/1", metavar="i/n", help="make the i-th of n parts of the clips (default: %(default)s)")


def run(
    args: argparse.Namespace, call: dict[str, Any], loras: list[tuple[str, float]], detector: Any, load: Callable
) -> int:
    """Make the clips and return the exit status.

    Args:
        call: arguments of the pipeline's call that are the same for all clips.
        loras: files, folders or names with their scales.
        detector: of faces, for --crop face; None for the centre.
        load: from nothing to the pipeline; it is called if there is anything to do.
    """
    from .bench import BenchSettings, make_clips

    if args.batch_size < 1:
        raise ValueError(f"--batch_size must be 1 or more, got {args.batch_size}.")
    check_output(args.output_dir, {"Verse-Bench": args.from_verse_bench})
    settings = BenchSettings(
        model=args.model,
        call=call,
        seed=args.seed,
        dtype=args.dtype,
        loras=tuple(loras),
        detector=detector,
        wav=args.wav,
        batch_size=args.batch_size,
        shard=args.shard,
    )
    with telling():
        results = make_clips(read_all_prompts(args), args.output_dir, settings, load)
    failed = [result for result in results if result.status == "failed"]
    for result in failed[:10]:
        say(f"failed: {result.name}: {result.reason}")
    made, kept = (sum(result.status == status for result in results) for status in ("made", "kept"))
    say(f"{args.output_dir}: {made} clips made, {kept} kept, {len(failed)} failed.")
    return 1 if failed else 0
