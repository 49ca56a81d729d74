# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova convert-lora` as a script; `--help` says more:

python conversion/convert_lora.py --to comfyui --input pytorch_lora_weights.safetensors --output lora-comfyui
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("convert-lora"))
