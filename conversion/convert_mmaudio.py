# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make an AutoencoderMMAudio of MMAudio's autoencoder, or go back (the published weights are CC-BY-NC 4.0):

python conversion/convert_mmaudio.py --input v1-16.pth --output audio_vae
python conversion/convert_mmaudio.py --to mmaudio --raw --input audio_vae --output v1-16
python conversion/convert_mmaudio.py --to upstream --input v1-44.pth --output mmaudio_vae
"""

import argparse

from diffusers_jova.conversion.command import add_arguments, execute, open_input, run


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    targets = ["jova", "mmaudio", "upstream"]
    parser.add_argument(
        "--to", default="jova", choices=targets, help="jova by default; upstream: diffusers' MMAudioVAE"
    )
    add_arguments(parser)
    parser.add_argument("--audio_mode", choices=["16k", "44k"], help="by default what the latent channels say")
    parser.add_argument("--raw", action="store_true", help="to mmaudio: unfold the weights, as MMAudio loads them")
    return parser.parse_args(argv)


def main(args):
    from diffusers_jova.conversion import audio  # late: it takes seconds

    execute(audio.autoencoder(open_input(args), args.to, args.audio_mode, args.raw), args)


if __name__ == "__main__":
    run(main, parse_args())
