# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a clip of each prompt in a file, in the places where `score` looks for them:

    diffusers-jova bench --model jova-nano --prompts prompts.jsonl --output_dir clips/
    diffusers-jova score clips/ --prompts prompts.jsonl --weights weights/ --out report.json

Each line of the file is a JSON object: `id`, and what there is of `set`, `prompt`, `audio_prompt` (several texts are
joined), `speech_text` (the transcript), `image` and `seed`. A clip is SET/ID.mp4; ID.bench.json beside it says what
made it. Clips that are there and would become the same stay, all others are made anew: after an interruption, start
the same command again. A prompt that fails does not stop the others: the last line counts them, and the exit status
is 1 if there is no clip at all.
"""

import argparse
from pathlib import Path

from ..command import logging_progress, say
from ..files import check_output
from .pipeline import (
    NUMBERS,
    add_pipeline_arguments,
    add_sampling_arguments,
    add_text_arguments,
    check_model,
    default_dtype,
    device_of,
    find_face_detector,
    given,
    loras_of,
    prepare_pipeline,
)
from .prompts import add_prompt_arguments, read_all_prompts


NEGATIVES = ("negative_prompt", "negative_audio_prompt")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_prompt_arguments(parser)
    add = parser.add_argument
    add("--output_dir", type=Path, required=True, help="folder of the clips")
    add("--wav", action="store_true", help="also write the audio as ID.wav, which AAC does not change")
    add("--batch_size", type=int, default=1, help="clips at a time (default: %(default)s)")
    add("--shard", default="0/1", metavar="i/n", help="make the i-th of n parts of the clips (default: %(default)s)")
    add_pipeline_arguments(parser)
    add_text_arguments(parser, NEGATIVES)
    add_sampling_arguments(parser)


def main(args: argparse.Namespace) -> int:
    args.model = check_model(args.model)
    loras, device = loras_of(args), device_of(args)
    args.dtype = args.dtype or default_dtype(device)
    detector = find_face_detector(args.crop)
    from ..evaluation.bench import BenchSettings, make_clips

    if args.batch_size < 1:
        raise ValueError(f"--batch_size must be 1 or more, got {args.batch_size}.")
    check_output(args.output_dir, {"Verse-Bench": args.from_verse_bench})
    settings = BenchSettings(
        model=args.model,
        call=given(args, *NUMBERS, *NEGATIVES, "batch_guidance"),
        seed=args.seed,
        dtype=args.dtype,
        loras=tuple(loras),
        detector=detector,
        wav=args.wav,
        batch_size=args.batch_size,
        shard=args.shard,
    )
    with logging_progress():
        prompts = read_all_prompts(args)
        results = make_clips(prompts, args.output_dir, settings, lambda: prepare_pipeline(args, device, loras))
    failed = [result for result in results if result.status == "failed"]
    for result in failed[:10]:
        say(f"failed: {result.name}: {result.reason}")
    made, kept = (sum(result.status == status for result in results) for status in ("made", "kept"))
    say(f"{args.output_dir}: {made} clips made, {kept} kept, {len(failed)} of {len(results)} failed.")
    return 1 if failed and not made + kept else 0
