# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova convert-wan-vae` as a script; `--help` says more:

python conversion/convert_wan_vae.py --input Wan2.1_VAE.pth --output vae
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("convert-wan-vae"))
