# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make an AutoencoderMMAudio from MMAudio's autoencoder, or go back (the published weights are CC-BY-NC 4.0):

diffusers-jova convert-mmaudio --input v1-16.pth --output audio_vae
diffusers-jova convert-mmaudio --to mmaudio --raw --input audio_vae --output v1-16
diffusers-jova convert-mmaudio --to upstream --input v1-44.pth --output mmaudio_vae
"""

import argparse

from ..presets import AUDIO_MODES
from .converting import add_conversion_arguments, execute, open_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    targets = ["jova", "mmaudio", "upstream"]
    parser.add_argument(
        "--to", default="jova", choices=targets, help="jova by default; upstream: diffusers' MMAudioVAE"
    )
    add_conversion_arguments(parser)
    parser.add_argument("--audio_mode", choices=list(AUDIO_MODES), help="by default what the latent channels say")
    parser.add_argument("--raw", action="store_true", help="to mmaudio: unfold the weights, as MMAudio loads them")


def main(args: argparse.Namespace) -> None:
    from ..conversion import mmaudio  # late: it takes seconds

    execute(mmaudio.convert(open_input(args), args.to, args.audio_mode, args.raw), args)
