# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make an AutoencoderKLWan from the original Wan 2.1 VAE, or go back:

diffusers-jova convert-wan-vae --input Wan2.1_VAE.pth --output vae
diffusers-jova convert-wan-vae --to wan --input vae --output wan
"""

import argparse

from .converting import add_conversion_arguments, execute, open_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    choices = ["diffusers", "wan"]
    parser.add_argument("--to", default="diffusers", choices=choices, help="layout to write, diffusers by default")
    add_conversion_arguments(parser)


def main(args: argparse.Namespace) -> None:
    from ..conversion import wan_vae  # late: it takes seconds

    convert = {"diffusers": wan_vae.to_diffusers, "wan": wan_vae.to_original}[args.to]
    execute(convert(open_input(args)), args)
