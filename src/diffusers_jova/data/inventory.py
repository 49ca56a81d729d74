# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a cache holds against what there is: the samples of clips that are gone leave it.

data.json lists the data that were put into the cache. A sample belongs to a clip by its key, so a second folder adds
to the first. A sample is left over when its clip is in none of them; where one cannot be seen, nobody can tell.
"""

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import whole_file
from . import cache
from .clips import Source, find_sources, sample_key


NOT_NOTED = "data that an earlier version cached without noting which"


@dataclass
class Leftovers:
    """Samples whose clips are not in the data of this run.

    Attributes:
        gone: of clips that are in no data of this cache.
        unclear: of clips that may be in `unseen` data.
        unseen: data of this cache that cannot be read now.
    """

    gone: list[Path] = field(default_factory=list)
    unclear: list[Path] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def data_name(data: str | os.PathLike) -> str:
    """Return how data.json names `data`: a path in full, a dataset of the Hub as it is."""
    return os.path.realpath(data) if os.path.exists(data) else str(data)


def note_data(cache_dir: str | os.PathLike, data: str, left: Leftovers, remove_missing: bool, writer: str) -> None:
    """Add `data` to the cache's list; with `remove_missing` it is the only one from now on."""
    before = _listed_data(cache_dir)
    kept = [] if remove_missing else [name for name in before if name != NOT_NOTED or left.unclear]
    kept += [] if data_name(data) in kept else [data_name(data)]
    if kept != before or not (Path(cache_dir) / "data.json").is_file():
        with whole_file(Path(cache_dir) / "data.json", writer) as partial:
            partial.write_text(json.dumps({"data": kept}, indent=2) + "\n", encoding="utf-8")


def _listed_data(cache_dir: str | os.PathLike) -> list[str]:
    path = Path(cache_dir) / "data.json"
    if not path.is_file():
        return [NOT_NOTED] if cache.sample_paths(cache_dir) else []
    try:
        return [str(name) for name in json.loads(path.read_text(encoding="utf-8"))["data"]]
    except (ValueError, KeyError, TypeError):
        return [NOT_NOTED]


def find_leftovers(
    cache_dir: str | os.PathLike, data: str, sources: Sequence[Source], remove_missing: bool = False
) -> Leftovers:
    """Return the samples of clips that are not in `data`.

    Args:
        data: of this run.
        sources: all that `find_sources(data)` returned, also those of other shards.
        remove_missing: do not look into the other data of the cache: what is not in `data` is gone.
    """
    paths = by_clip(cache.sample_paths(cache_dir))
    _keep_only_missing(paths, sources)
    left = Leftovers()
    if not paths:
        return left
    others = [] if remove_missing else [name for name in _listed_data(cache_dir) if name != data_name(data)]
    for other in others:
        try:
            _keep_only_missing(paths, find_sources(other, probe_captions=False))
        except (OSError, ValueError, ImportError):
            left.unseen.append(other)
    candidates = [path for group in paths.values() for path in group]
    (left.unclear if left.unseen else left.gone).extend(sorted(candidates))
    return left


def by_clip(paths: Iterable[Path]) -> dict[str, list[Path]]:
    """Return the paths of samples by the key of their clip, without the number of the window."""
    groups: dict[str, list[Path]] = {}
    for path in paths:
        groups.setdefault(re.sub(r"(-[0-9a-f]{8})-\d{3,}$", r"\1", path.stem), []).append(path)
    return groups


def _keep_only_missing(paths: dict[str, list[Path]], sources: Sequence[Source]) -> None:
    """Take those out of `paths` whose clips are among `sources`, or may be in a folder that cannot be listed."""
    for source in sources:
        if source.is_there:
            paths.pop(sample_key(source.name), None)
    unlisted = tuple(source.name for source in sources if source.name.endswith("/"))
    if unlisted:
        for key in [key for key, group in paths.items() if _name_of(group[0]).startswith(unlisted)]:
            del paths[key]


def _name_of(path: Path) -> str:
    try:
        return cache.read_row(path)["source"]
    except (ValueError, KeyError, FileNotFoundError):
        return path.stem
