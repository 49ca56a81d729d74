# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the files of others say about themselves: JSON and the headers of safetensors files, checked before use."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .text import split_lines


MAX_HEADER = 100_000_000  # bytes, the limit of the safetensors library


def parse_json(text: str | bytes, name: str) -> dict[str, Any]:
    """Return the JSON object in `text`.

    Args:
        name: where it comes from, for the error.

    Raises:
        ValueError: If it is not JSON, not an object, nested too deep, or names an entry twice.
    """
    try:
        value = json.loads(text, object_pairs_hook=_no_duplicates)
    except RecursionError:
        raise ValueError(f"{name} is nested too deep to be meant: it is damaged.") from None
    except _Duplicate as error:
        raise _Duplicate(f"{name} has {error.entry} twice. Which one is meant? Remove one.", error.entry) from None
    except ValueError as error:
        raise ValueError(f"{name} is not JSON: {error}.") from None
    if not isinstance(value, dict):
        raise ValueError(f"{name} must be a JSON object, {{...}}.")
    return value


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """Return the JSON object in a file; see `parse_json`."""
    return parse_json(Path(path).read_bytes(), str(path))


def read_json_lines(path: str | os.PathLike) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("`FILE`, line 3,", the JSON object there) for each line of a file that is not empty.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If it is not UTF-8, or a line is not a JSON object; the message names the file and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` is not UTF-8 (at byte {error.start}): save it as UTF-8.") from None
    for number, line in enumerate(split_lines(text), start=1):
        if not line.strip():
            continue
        where = f"`{path}`, line {number},"
        try:
            value = json.loads(line)
        except RecursionError:
            raise ValueError(f"{where} is nested too deep to be meant: it is damaged.") from None
        except ValueError as error:
            raise ValueError(f"{where} is not JSON: {error}.") from None
        if not isinstance(value, dict):
            raise ValueError(f"{where} must be an object, {{...}}, got {line.strip()[:40]}.")
        yield where, value


def read_header(path: str | os.PathLike) -> tuple[dict[str, dict[str, Any]], dict[str, str], int]:
    """Return what the header of a safetensors file says, without reading tensors.

    Returns:
        The tensors' entries (`dtype`, `shape`, `data_offsets`) by name; the metadata, {} where there is none; and at
        which byte of the file the data begins.

    Raises:
        ValueError: If the file is truncated, not of this format, or names a tensor twice, which the safetensors
            library lets pass.
    """
    path = Path(path)
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER):
            raise ValueError(f"{path.name} is truncated or not a safetensors file ({size} bytes).")
        try:
            header = parse_json(file.read(length), "its header")
        except _Duplicate as error:
            raise ValueError(
                f"{path.name}: The tensor {error.entry} is there twice. Which one is meant? Remove one."
            ) from None
        except ValueError as error:
            raise ValueError(f"{path.name} is not a safetensors file, or damaged: {error}") from None
    metadata = header.pop("__metadata__", None) or {}
    try:
        end = 8 + length + max((entry["data_offsets"][1] for entry in header.values()), default=0)
        truncated = end > size
    except (TypeError, KeyError, IndexError):
        truncated = False  # the library says below what is wrong
    if truncated:
        raise ValueError(f"{path.name} is truncated: it has {size} bytes, its header describes {end}.")
    try:
        # The library has the last word: kinds of values, gaps, overlaps. With "pt" it would map the file for writing,
        # which the system refuses where the file is larger than the memory.
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a safetensors file, or damaged: {error}.") from None
    return header, metadata, 8 + length


class _Duplicate(ValueError):
    def __init__(self, message: str, entry: str):
        super().__init__(message)
        self.entry = entry


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        entry = next(name for index, name in enumerate(names) if name in names[:index])
        raise _Duplicate(f"{entry} is there twice", entry)
    return entries
