# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a BigVGANVocoder from a BigVGAN generator, or go back (best_netG.pt as MMAudio hosts it is CC-BY-NC 4.0):

diffusers-jova convert-bigvgan --input bigvgan_generator.pt --config config.json --output vocoder
diffusers-jova convert-bigvgan --input best_netG.pt --audio_mode 16k --output vocoder
diffusers-jova convert-bigvgan --to bigvgan --input vocoder --output bigvgan
"""

import argparse

from ..presets import AUDIO_MODES
from .converting import add_conversion_arguments, execute, open_input, read_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", default="jova", choices=["jova", "bigvgan"], help="layout to write, jova by default")
    add_conversion_arguments(parser)
    parser.add_argument("--audio_mode", choices=list(AUDIO_MODES), help="one of MMAudio's two vocoders")
    parser.add_argument("--config", metavar="FILE", help="NVIDIA's config.json, by default the one beside the weights")


def main(args: argparse.Namespace) -> None:
    from ..conversion import bigvgan  # late: it takes seconds

    config = read_json(args.config) if args.config else None
    execute(bigvgan.convert(open_input(args), args.to, args.audio_mode, config), args)
