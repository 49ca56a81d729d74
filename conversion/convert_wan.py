# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova convert-wan` as a script; `--help` says more:

python conversion/convert_wan.py --to jova --input Wan2.1-T2V-1.3B-Diffusers --output jova-wan
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("convert-wan"))
