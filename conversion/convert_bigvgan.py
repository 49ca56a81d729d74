# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova convert-bigvgan` as a script; `--help` says more:

python conversion/convert_bigvgan.py --input best_netG.pt --audio_mode 16k --output vocoder
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("convert-bigvgan"))
