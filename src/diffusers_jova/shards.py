# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""One of n equal parts of some work on a folder: which part, and that nobody else does it at the same time."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .files import InUseError, lock_folder, lock_holder


def parse_shard(shard: str) -> tuple[int, int]:
    """Return (index from 0, count) of "i/n". Both ways of counting work: n/n is the same part as 0/n.

    Raises:
        ValueError: if it is not of this form.
    """
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    index, count = (int(number) for number in match.groups()) if match else (1, 0)
    if index > count or count < 1:
        raise ValueError(f"`--shard` is i/n, with i from 0 to n - 1 or from 1 to n, got {shard!r}.")
    return index % count, count


@contextmanager
def own_cache(cache_dir: str | os.PathLike, index: int, count: int) -> Iterator[None]:
    """Keep other runs from a cache until the block ends, but for those that do another of `count` equal parts.

    Raises:
        InUseError: If another run is at work in the cache.
    """
    with lock_folder(cache_dir, f"shard-{index}-of-{count}"):
        if holder := who_writes(cache_dir, but_of=count):
            raise InUseError(
                f"another run ({holder}) is at work in `{cache_dir}` and divides the clips differently from "
                f"--shard {index}/{count}: wait until it has ended, or choose another folder."
            )
        yield


def who_writes(cache_dir: str | os.PathLike, but_of: int | None = None) -> str | None:
    """Return which process of preprocessing is at work in a cache, in words; None if none is.

    Args:
        but_of: leaves out those that do one of so many equal parts.
    """
    for path in Path(cache_dir).glob(".shard-*-of-*.lock"):
        if not path.stem.endswith(f"-of-{but_of}") and (holder := lock_holder(cache_dir, path.stem.removeprefix("."))):
            return holder
    return None
