# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a BigVGANVocoder of a BigVGAN generator, or go back (best_netG.pt as MMAudio hosts it is CC-BY-NC 4.0):

python conversion/convert_bigvgan.py --input bigvgan_generator.pt --config config.json --output vocoder
python conversion/convert_bigvgan.py --input best_netG.pt --audio_mode 16k --output vocoder
python conversion/convert_bigvgan.py --to bigvgan --input vocoder --output bigvgan
"""

import argparse

from diffusers_jova.conversion.command import add_arguments, execute, open_input, read_json, run


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="jova", choices=["jova", "bigvgan"], help="layout to write, jova by default")
    add_arguments(parser)
    parser.add_argument("--audio_mode", choices=["16k", "44k"], help="one of MMAudio's two vocoders")
    parser.add_argument("--config", metavar="FILE", help="NVIDIA's config.json, by default the one beside the weights")
    return parser.parse_args(argv)


def main(args):
    from diffusers_jova.conversion import audio  # late: it takes seconds

    config = read_json(args.config) if args.config else None
    execute(audio.vocoder(open_input(args), args.to, args.audio_mode, config), args)


if __name__ == "__main__":
    run(main, parse_args())
