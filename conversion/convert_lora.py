# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Convert a LoRA between diffusers, ComfyUI and kohya names; the format that it is in is seen from its names:

python conversion/convert_lora.py --to comfyui --input pytorch_lora_weights.safetensors --output lora-comfyui
python conversion/convert_lora.py --to diffusers --input lora_kohya.safetensors --output lora
python conversion/convert_lora.py --to diffusers --input peft_folder --output lora
"""

import argparse

from diffusers_jova.conversion.command import add_arguments, execute, open_input, run


def parse_args(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", required=True, choices=["diffusers", "comfyui", "kohya"], help="format to write")
    add_arguments(parser)
    parser.add_argument("--alpha", type=float, help="alpha of all layers, whatever the file says")
    return parser.parse_args(argv)


def main(args):
    from diffusers_jova.conversion import lora  # late: it takes seconds

    execute(lora.convert(open_input(args, strip=False), args.to, args.alpha), args)


if __name__ == "__main__":
    run(main, parse_args())
