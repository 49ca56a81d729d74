# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a cache holds against what there is: the samples of clips that are gone leave it.

data.json lists the data that were put into the cache. A sample belongs to a clip by its key, so a second folder adds
to the first. A sample is left over when its clip is in none of them; where one cannot be seen, nobody can tell.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..files import whole_file
from ..text import printable
from . import cache
from .clips import Source, find_sources
from .parts import is_whole, read_row_or_none
from .plan import Plan
from .run import Run
from .windows import Window, sample_key


logger = logging.getLogger(__name__)

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


# --- a run ---


def is_current(run: Run, window: Window) -> bool:
    """Whether the cache holds this very window, whole; says so if an older version of the clip is there."""
    path = cache.sample_path(run.cache_dir, window.key)
    row = read_row_or_none(path)
    if row is None:
        return False
    if row["source_sha256"] != window.source_sha256:
        logger.warning("%s: has changed since it was cached, and is cached again", printable(window.source.name))
    return row["digest"] == window.digest and (run.config.no_verify or is_whole(path))


def remove_missing(run: Run, plan: Plan) -> None:
    """Delete the samples of clips and windows that are not there any more. A clip that only has another name now
    keeps its sample, under that name."""
    config, cache_dir, summary = run.config, run.cache_dir, run.summary
    left = find_leftovers(cache_dir, config.data, plan.all_sources, config.remove_missing)
    stale = _stale_samples(run, plan)
    note_data(cache_dir, config.data, left, config.remove_missing, run.writer)
    rows = {path: read_row_or_none(path) or {} for path in left.gone}
    _rename(run, plan.windows, {row["digest"]: path for path, row in rows.items() if row})
    for path in [*stale, *left.gone]:
        path.unlink(missing_ok=True)
        run.preview_path(path.stem).unlink(missing_ok=True)
    summary.removed = sorted({row.get("source", path.stem) for path, row in rows.items()})
    summary.unclear = sorted({(read_row_or_none(path) or {}).get("source", path.stem) for path in left.unclear})
    summary.unseen = left.unseen
    for name in summary.removed:
        logger.warning("%s: is gone, and leaves the cache", printable(name))


def _stale_samples(run: Run, plan: Plan) -> list[Path]:
    """Return the samples of windows that their clips no longer have."""
    keys, cached = {window.key for window in plan.windows}, by_clip(cache.sample_paths(run.cache_dir))
    return [
        path
        for source in plan.sources
        if source.name not in plan.unread
        for path in cached.get(sample_key(source.name), ())
        if path.stem not in keys
    ]


def _rename(run: Run, windows: list[Window], gone: Mapping[str, Path]) -> None:
    """Write the samples of windows that are cached under the name of a clip that is gone, by their digest."""
    for window in windows:
        path = gone.get(window.digest)
        if path is None or cache.sample_path(run.cache_dir, window.key).is_file() or not is_whole(path):
            continue
        row = cache.read_row(path) | {"key": window.key, "source": window.source.name}
        cache.write_sample(run.cache_dir, row, cache.read_tensors(path))
        if run.preview_path(path.stem).is_file():
            os.replace(run.preview_path(path.stem), run.preview_path(window.key))
