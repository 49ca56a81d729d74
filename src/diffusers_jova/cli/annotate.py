# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Write down what is said, seen and heard in clips, by models of transformers, for training:

diffusers-jova annotate --data filtered/ --output_dir annotated/

What a person wrote is kept. The output folder has a metadata.jsonl that `preprocess --data` reads. Start the same
command again after an interruption: what is annotated is not annotated again.
"""

import argparse

from ..command import logging_progress, say
from .engine import add_engine_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="folder of clips, or of rows of clips that another step wrote")
    parser.add_argument("--output_dir", required=True, help="folder of the rows; an unfinished one is continued")
    parser.add_argument(
        "--levels",
        nargs="+",
        default=("transcript", "video_caption", "audio_caption"),
        metavar="LEVEL",
        help="what to annotate (default: transcript video_caption audio_caption)",
    )
    parser.add_argument(
        "--redo",
        nargs="+",
        default=(),
        metavar="LEVEL",
        help="write anew what another model wrote, or one that was asked otherwise; what a person wrote is kept",
    )

    models = parser.add_argument_group("models", "folder of a checkpoint of transformers, or its name on the Hub")
    models.add_argument(
        "--transcriber", default="openai/whisper-large-v3", help="a Whisper that can time words (default: %(default)s)"
    )
    models.add_argument(
        "--video_captioner",
        default="omni-research/Tarsier2-Recap-7b",
        help="a Tarsier2, a Qwen2-VL, or another image-text-to-text model (default: %(default)s)",
    )
    models.add_argument(
        "--audio_captioner",
        default="nvidia/audio-flamingo-3-hf",
        help="an Audio Flamingo 3, whose weights are not for commercial use (default: %(default)s)",
    )
    models.add_argument("--prompts", help="YAML file of what the models are asked (default: one that comes along)")
    models.add_argument("--language", help="that is spoken, such as en (default: found out clip by clip)")
    models.add_argument("--device", help="cpu, cuda, ...; auto: several (default: a GPU if there is one)")
    models.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="(default: bfloat16 on a GPU, else float32)"
    )
    models.add_argument(
        "--quantization", choices=("nf4", "int8"), help="number format of the weights (needs bitsandbytes)"
    )

    work = parser.add_argument_group("work")
    work.add_argument("--batch_size", type=int, default=4, help="clips a model sees at a time (default: %(default)s)")
    work.add_argument(
        "--num_frames", type=int, default=16, help="most frames that the video captioner sees (default: %(default)s)"
    )
    work.add_argument(
        "--max_pixels", type=int, default=460800, help="most pixels of such a frame (default: %(default)s)"
    )
    work.add_argument(
        "--max_new_tokens", type=int, default=256, help="longest caption, in tokens (default: %(default)s)"
    )
    work.add_argument(
        "--max_segment_s",
        type=float,
        default=4.0,
        help="longest run of words in `segments`, in seconds; preprocess splits clips between them "
        "(default: %(default)s)",
    )
    work.add_argument(
        "--num_workers",
        type=int,
        default=1,
        help="processes that read files; 0: none but this one, which a damaged clip may crash (default: %(default)s)",
    )
    work.add_argument("--dry_run", action="store_true", help="print how much there is to do, write nothing")
    add_engine_flags(parser, has_models=True)


def main(args: argparse.Namespace) -> int:
    from ..dataset.annotation.annotate import AnnotationConfig, annotate, dry_run  # late: it takes seconds

    options = vars(args).copy()
    is_dry = options.pop("dry_run")
    config = AnnotationConfig(**options | {"levels": tuple(args.levels), "redo": tuple(args.redo)})
    with logging_progress("%(levelname)s: %(message)s"):
        if is_dry:
            say(dry_run(config))
            return 0
        summary = annotate(config)
        say(summary)
    return 0 if summary.has_result else 1
