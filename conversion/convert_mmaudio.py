# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova convert-mmaudio` as a script; `--help` says more:

python conversion/convert_mmaudio.py --input v1-16.pth --output audio_vae
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("convert-mmaudio"))
