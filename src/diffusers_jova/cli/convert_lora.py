# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Convert a LoRA between diffusers, ComfyUI and kohya names; its own format is told by its names:

diffusers-jova convert-lora --to comfyui --input pytorch_lora_weights.safetensors --output lora-comfyui
diffusers-jova convert-lora --to diffusers --input lora_kohya.safetensors --output lora
diffusers-jova convert-lora --to diffusers --input peft_folder --output lora
"""

import argparse

from .converting import add_conversion_arguments, execute, open_input


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, choices=["diffusers", "comfyui", "kohya"], help="format to write")
    add_conversion_arguments(parser)
    parser.add_argument("--alpha", type=float, help="alpha of all layers, whatever the file says")


def main(args: argparse.Namespace) -> None:
    from ..conversion import lora  # late: it takes seconds

    execute(lora.convert(open_input(args, strip=False), args.to, args.alpha), args)
