# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova assemble` as a script; `--help` says more:

python conversion/assemble_jova.py --transformer transformer --vae vae --output jova
"""

import sys

from diffusers_jova.cli.dispatch import run_verb


if __name__ == "__main__":
    sys.exit(run_verb("assemble"))
