# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`python -m diffusers_jova`, which is `diffusers-jova`: see `cli`."""

import sys

from .cli.dispatch import main


if __name__ == "__main__":
    sys.exit(main())
