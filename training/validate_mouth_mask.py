# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova validate-mouth-mask` as a script; `--help` says more:

python training/validate_mouth_mask.py --video clip.mp4 --model jova-nano --output mouth.png
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("validate-mouth-mask"))
