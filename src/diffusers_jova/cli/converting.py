# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the verbs that convert checkpoints share: flags, and the order check, report, write."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command import say
from ..conversion.errors import ConversionError


if TYPE_CHECKING:  # they take seconds to import, which `--help` should not
    from ..conversion.checkpoint import Checkpoint
    from ..conversion.plan import Plan


def add_conversion_arguments(parser: argparse.ArgumentParser, key_map: str | None = None) -> None:
    """Add the flags that every verb has; `key_map` is the verb's built-in table, if it works by one."""
    parser.add_argument("--input", required=True, metavar="FILE_OR_DIR", help="checkpoint to convert")
    parser.add_argument("--output", metavar="DIR", help="folder to write; not needed with --dry_run")
    parser.add_argument("--overwrite", action="store_true", help="replace the output folder if it exists")
    parser.add_argument("--dry_run", action="store_true", help="read headers, report, write nothing")
    parser.add_argument(
        "--list_tensors",
        action="store_true",
        help="name each tensor: copied, reordered, computed, zero or new, from what",
    )
    parser.add_argument("--max_shard_size", default="5GB", help="largest file to write: 200MB, 5GB")
    parser.add_argument(
        "--allow_missing",
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help="names, with *, of tensors that may be missing, unexpected or of another shape",
    )
    parser.add_argument("--prefix", help="take only tensors whose names begin with this, such as ema.")
    if key_map is not None:
        parser.add_argument("--key_map", default=key_map, metavar="FILE.yaml", help="table of names to use")


def check_has_output(args: argparse.Namespace) -> None:
    """Raise ConversionError unless --output is given, or nothing is to be written."""
    if args.output is None and not args.dry_run:
        raise ConversionError("Say where to write with --output DIR, or pass --dry_run.")


def open_input(args: argparse.Namespace, strip: bool = True) -> Checkpoint:
    """Return the checkpoint of --input; see `open_checkpoint`."""
    from ..conversion.checkpoint import open_checkpoint

    check_has_output(args)
    return open_checkpoint(args.input, prefix=args.prefix, strip=strip)


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the JSON object of a --config file."""
    from ..conversion.checkpoint import read_config

    config = read_config(Path(path))
    if not config:
        raise ConversionError(f"--config {path} does not exist or is empty.")
    return config


def execute(plan: Plan, args: argparse.Namespace) -> None:
    """Print the plan, check it, and write the output unless this is a dry run."""
    say(plan.describe(args.max_shard_size, list_tensors=args.list_tensors))
    plan.check(args.output, args.overwrite, args.allow_missing)
    if args.dry_run:
        print("dry run: nothing was written")
    else:
        plan.write(args.output, args.max_shard_size, args.overwrite)
        print(f"wrote {args.output}")
