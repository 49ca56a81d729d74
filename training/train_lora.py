# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova train-lora` as a script; `--help` says more:

python training/train_lora.py --model DIR --cache_dir cache/ --output_dir out/
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("train-lora"))
