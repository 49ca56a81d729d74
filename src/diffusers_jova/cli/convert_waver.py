# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a JoVA transformer from a Waver checkpoint, or a Waver checkpoint from one branch of a JoVA transformer:

diffusers-jova convert-waver --to jova --input waver.safetensors --output jova/transformer
diffusers-jova convert-waver --to waver --branch audio --input jova/transformer --output waver-audio
"""

import argparse

from ..conversion.errors import ConversionError
from ..presets import AUDIO_MODES, PRESETS
from .converting import add_conversion_arguments, execute, open_input, read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, choices=["jova", "waver"], help="layout to write")
    add_conversion_arguments(parser, key_map="waver")
    parser.add_argument("--branch", choices=["video", "audio"], help="which branch; to jova, the channels can tell it")
    parser.add_argument("--preset", metavar="NAME", help=f"preset that must fit: {', '.join(PRESETS)}")
    parser.add_argument("--config", metavar="FILE", help="config.json whose entries overrule what the shapes say")
    parser.add_argument("--audio_checkpoint", metavar="FILE_OR_DIR", help="to jova: an audio branch trained apart")
    parser.add_argument("--audio_mode", choices=list(AUDIO_MODES), help="to jova: audio VAE of the audio branch")
    parser.add_argument("--seed", type=int, default=0, help="to jova: seed of newly initialised tensors")


def main(args: argparse.Namespace) -> None:
    from ..conversion import waver  # late: it takes seconds
    from ..conversion.checkpoint import open_checkpoint

    checkpoint = open_input(args)
    options = {"branch": args.branch, "preset": args.preset, "key_map": args.key_map}
    options["config"] = read_json(args.config) if args.config else None
    if args.to == "waver":
        if args.audio_checkpoint or args.audio_mode:
            raise ConversionError("--audio_checkpoint and --audio_mode only go with --to jova.")
        plan = waver.to_waver(checkpoint, **options)
    else:
        audio = open_checkpoint(args.audio_checkpoint) if args.audio_checkpoint else None
        options |= {"audio_checkpoint": audio, "audio_mode": args.audio_mode, "seed": args.seed}
        plan = waver.to_jova(checkpoint, **options)
    execute(plan, args)
