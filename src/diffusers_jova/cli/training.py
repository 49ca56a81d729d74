# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What `train` and `train-lora` share: settings from flags and a file, also from one that comes with the package."""

import argparse
from pathlib import Path
from typing import TypeVar

from ..training.config import TrainingConfig
from ..training.flags import add_flags, config_from


PACKAGE = Path(__file__).parents[1]
FOLDERS = (PACKAGE / "training" / "configs", PACKAGE.parents[1] / "training" / "configs")  # of a wheel, of a checkout
CONFIGS = (
    *("lora_nano", "mini", "mini_joint", "nano", "nano_tasks", "paper_stage1", "paper_stage2"),
    *("waver_sigmas", "wan_stage1_audio", "wan_stage2"),
)

Config = TypeVar("Config", bound=TrainingConfig)


def add_settings(parser: argparse.ArgumentParser, cls: type[TrainingConfig]) -> None:
    """Add `--config` and a flag for each setting."""
    parser.allow_abbrev = False
    add_flags(parser, cls)


def settings_of(args: argparse.Namespace, cls: type[Config]) -> Config:
    """Return the settings of flags and `--config`."""
    if args.config is not None:
        args.config = str(find_config(args.config))
    return config_from(args, cls)


def find_config(name: str) -> Path:
    """Return the file of settings at a path or, where there is none, the one of this name that comes with the package.

    Raises:
        FileNotFoundError: If there is neither.
    """
    if Path(name).is_file():
        return Path(name)
    for folder in FOLDERS:
        if name in CONFIGS and (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    raise FileNotFoundError(
        f"There is no settings file `{name}`: give --config a YAML file, or one of {', '.join(CONFIGS)}, which come "
        "with the package."
    )
