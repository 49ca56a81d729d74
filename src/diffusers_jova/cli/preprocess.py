# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Cache latents, text embeddings and mouth boxes of a folder of clips, for training:

diffusers-jova preprocess --data clips/ --model jova-nano --output_dir cache/

Clips that cannot be read are skipped, named and counted at the end; the exit status is 1 if none is cached. Start the
same command again after an interruption: what is cached is not made again.
"""

import argparse

from ..command import logging_progress, say
from .engine import add_engine_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="folder of clips, one clip, or a dataset of Hugging Face")
    parser.add_argument("--model", required=True, help="folder of the pipeline whose encoders are used")
    parser.add_argument("--output_dir", required=True, help="folder of the cache; an unfinished one is continued")

    size = parser.add_argument_group(
        "size", "what clips are cut and resized to; by default the cache's where there is one, else the model's own"
    )
    size.add_argument(
        "--buckets", nargs="+", default=(), metavar="HxW[xN]", help="sizes, height x width (x frames, 4k + 1)"
    )
    size.add_argument("--height", type=int, help="pixels, instead of --buckets")
    size.add_argument("--width", type=int, help="pixels, instead of --buckets")
    size.add_argument("--num_frames", type=int, help="frames at most, 4k + 1")
    size.add_argument("--frame_rate", type=float, help="frames per second")

    text = parser.add_argument_group("text")
    text.add_argument("--instance_prompt", help="video caption of clips that have none")
    text.add_argument(
        "--max_sequence_length", type=int, help="most tokens per encoder (default: the cache's, else 512)"
    )
    text.add_argument(
        "--prompt_format",
        choices=("labelled", "plain"),
        help="what the encoders read: JoVA's three lines, or the video caption alone, as Wan's does (default: the "
        "cache's, else labelled)",
    )
    text.add_argument(
        "--no_line_dropout_variants",
        action="store_true",
        default=None,
        help="do not also encode prompts with single lines left out, which --line_dropout of training needs (default: "
        "as in the cache, else they are encoded)",
    )

    mouth = parser.add_argument_group("mouth")
    mouth.add_argument("--landmarks", help="dlib's landmark file (default: that of face_recognition_models)")
    mouth.add_argument(
        "--no_mouth",
        action="store_true",
        default=None,
        help="do not look for mouths: training then has no mouth loss (default: as in the cache, else look for them)",
    )
    mouth.add_argument(
        "--detect_every",
        type=int,
        help="detect faces on every k-th frame and follow them in between (default: the cache's, else 1)",
    )
    mouth.add_argument(
        "--crop",
        choices=("face", "centre"),
        help="what stays in the image where clips are cut to their bucket (default: the cache's, else face; centre "
        "with --no_mouth)",
    )
    mouth.add_argument("--preview", action="store_true", help="write an image per clip with boxes and mask")

    work = parser.add_argument_group("work")
    work.add_argument("--require_audio", action="store_true", help="skip videos without an audio track")
    work.add_argument(
        "--remove_missing",
        action="store_true",
        help="delete samples of clips that are not in --data, also those that came from other data",
    )
    work.add_argument(
        "--no_verify", action="store_true", help="do not read what is cached already to find damaged samples"
    )
    work.add_argument("--shard", default="0/1", metavar="i/n", help="do the i-th of n parts of the clips")
    work.add_argument(
        "--num_workers",
        type=int,
        default=1,
        help="processes that decode and look for mouths; 0: none but this one, which a damaged clip may crash "
        "(default: 1)",
    )
    work.add_argument("--device", help="cpu, cuda, mps ... (default: a GPU if there is one)")
    work.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="(default: the cache's, else bfloat16 on a GPU)"
    )
    work.add_argument("--dry_run", action="store_true", help="print what would be done and its memory, write nothing")
    add_engine_flags(parser, has_models=True)


def main(args: argparse.Namespace) -> int:
    from ..data.preprocessing import PreprocessingConfig, dry_run, preprocess  # late: it takes seconds

    options = vars(args).copy()
    is_dry = options.pop("dry_run")
    config = PreprocessingConfig(**options | {"buckets": tuple(args.buckets)})
    with logging_progress("%(levelname)s: %(message)s"):
        if is_dry:
            say(dry_run(config))
            return 0
        summary = preprocess(config)
        say(summary)
    return 0 if summary.rows else 1
