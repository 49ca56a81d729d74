# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The rows that the steps of a data set hand on: a folder with a metadata.jsonl, as docs/dataset.md describes it.

A step reads whatever `data.clips.find_sources` reads, and what it writes is read so again.
"""

import json
import os
from collections.abc import Iterable, Mapping
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..data.cache import TEXTS
from ..data.clips import Segment, Source, find_sources
from ..files import whole_file
from ..remote import RemotePath, is_copy


METADATA = "metadata.jsonl"


def read_clips(data: str | Path) -> list[Source]:
    """Return the clips in `data`, sorted by name; a text beside a clip stays in its `caption`.

    Raises:
        FileNotFoundError, ValueError: see `find_sources`; also for a dataset that holds its clips itself, whose rows
            could not name them.
    """
    sources = find_sources(data, probe_captions=False)
    inside = next((source.name for source in sources if source.content is not None), None)
    if inside is not None:
        raise ValueError(
            f"`{data}` holds its clips inside itself (`{inside}`), and rows name files: save them as files first."
        )
    return sources


def row_of(source: Source, folder: str | os.PathLike, **values: Any) -> dict[str, Any]:
    """Return the row of a clip for the metadata.jsonl in `folder`: all that was known of it, and `values`.

    Args:
        source: of `read_clips`; a text in its `caption` is the caller's to place, see `Source.with_caption`.
        values: what a step found out; of a value that is None, nothing is written.
    """
    row = {key: value for key, value in source.row.items() if key not in ("file_name", "start", "end", "crop")}
    row |= source.texts
    if source.segments:
        row["segments"] = segments_as_json(source.segments)
    row |= values
    head: dict[str, Any] = {"file_name": _relative(source.path, folder)}
    if source.start_s is not None:
        head |= {"start": seconds(source.start_s), "end": seconds(source.end_s)}
    if source.crop is not None:
        head["crop"] = list(source.crop)
    order = ("start", "end", "crop", *TEXTS, "segments")
    row = head | row
    row = {key: row[key] for key in ("file_name", *order) if key in row} | row
    return {key: value for key, value in row.items() if value is not None}


def segments_as_json(segments: Iterable[Segment]) -> list[dict[str, Any]]:
    return [{"start": s.start, "end": s.end, "text": s.text} for s in segments]


def seconds(time_s: Fraction | float) -> float:
    """Return a time as it is written: in seconds, to the microsecond."""
    return round(float(time_s), 6)


def write_rows(path: str | os.PathLike, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows to a file, sorted by file and start: the whole of it appears, or nothing.

    Raises:
        OSError: if it cannot be written, for example on a full disk.
    """
    ordered = sorted(rows, key=lambda row: (row["file_name"], row.get("start", 0.0), row.get("end", 0.0)))
    with whole_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for row in ordered:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _relative(path: Path | RemotePath, folder: str | os.PathLike) -> str:
    """Return how a row in `folder` names a file: relative, unless it lies on another drive or machine."""
    if isinstance(path, RemotePath):
        return path.url
    if is_copy(folder):
        return Path(os.path.realpath(path)).as_posix()
    return _from(os.fspath(path), os.fspath(folder), os.getcwd())


@lru_cache(maxsize=4096)  # a film has thousands of rows, and following links takes as long as all else
def _from(path: str, folder: str, working_dir: str) -> str:
    path = os.path.realpath(path)
    try:
        return Path(os.path.relpath(path, os.path.realpath(folder))).as_posix()
    except ValueError:
        return Path(path).as_posix()
