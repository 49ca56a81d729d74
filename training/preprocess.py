# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova preprocess` as a script; `--help` says more:

python training/preprocess.py --data clips/ --model jova-nano --output_dir cache/
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("preprocess"))
