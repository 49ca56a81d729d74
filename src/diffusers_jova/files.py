# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def whole_file(path: str | os.PathLike, writer: str = "") -> Iterator[Path]:
    """Give a temporary name beside `path`, with its suffix, which becomes `path` when the block succeeds.

    The name is the same each time, so that what a killed run left behind is written over. Of processes that may write
    the same file at a time, each needs its own `writer`.

    Raises:
        OSError: if writing failed, for example on a full disk; the message names `path` and says that nothing is lost.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}{writer and '.'}{writer}.partial{path.suffix}")
    try:
        yield partial
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:  # safetensors wraps the errors of the disk in its own
        raise OSError(
            f"Cannot write `{path}`: {error}. What was written before is whole: free some space, or correct the "
            "permissions, and start the same command again."
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def replace_folder(source: Path, target: Path) -> None:
    """Give `source` the name `target`; a folder that has it already goes."""
    if target.exists():
        remove_folder(target)
    os.replace(source, target)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a killed process leaves no half of it under its name."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed)
