# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make an AutoencoderKLWan of the original Wan 2.1 VAE, or go back:

python conversion/convert_wan_vae.py --input Wan2.1_VAE.pth --output vae
python conversion/convert_wan_vae.py --to wan --input vae --output wan
"""

import argparse

from diffusers_jova.conversion.command import add_arguments, execute, open_input, run


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    choices = ["diffusers", "wan"]
    parser.add_argument("--to", default="diffusers", choices=choices, help="layout to write, diffusers by default")
    add_arguments(parser)
    return parser.parse_args(argv)


def main(args):
    from diffusers_jova.conversion import wan_vae  # late: it takes seconds

    convert = {"diffusers": wan_vae.to_diffusers, "wan": wan_vae.to_original}[args.to]
    execute(convert(open_input(args)), args)


if __name__ == "__main__":
    run(main, parse_args())
