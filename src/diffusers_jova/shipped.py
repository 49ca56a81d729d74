# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The checkpoints that come with the package, by name."""

import os
from pathlib import Path


PACKAGE = Path(__file__).parent
FOLDERS = (PACKAGE / "checkpoints", PACKAGE.parents[1] / "checkpoints")  # of an installed wheel, of a checkout


def find_model(name: str | os.PathLike) -> str:
    """Return the folder of a checkpoint that comes with the package, such as "jova-nano"; any other name as it is.

    A folder of that name where the user is goes first, as everywhere in diffusers.
    """
    name = os.fspath(name)
    if not os.path.isdir(name) and os.path.basename(name) == name:
        for folder in FOLDERS:
            if (folder / name / "model_index.json").is_file():
                return str(folder / name)
    return name
