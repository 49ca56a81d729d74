# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The numbers that papers print for joint models, with their sources and what is known of their protocols.

One model has an LSE-C between 2.81 and 7.48 by who measured it: no number here goes without its table's protocol.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


FILE = Path(__file__).with_name("published.yaml")
METRICS = ("LSE-C", "LSE-D", "WER", "FD", "KL", "CS", "IS", "CE", "CU", "PC", "PQ", "MS", "AS", "ID", "AV-A")
KINDS = ("joint", "audio-driven")  # of model: audio-driven ones are given the audio
READ = ("first-hand", "second-hand")
EMPTY = "-"


@dataclass(frozen=True)
class PublishedRow:
    """One model's numbers.

    Attributes:
        model: with its setting, in words.
        kind: "joint", or "audio-driven" for a model that is given its audio.
        printed: metric to number as the source prints it ("1.00"); what it leaves empty is not there.
    """

    model: str
    kind: str
    printed: dict[str, str]

    @property
    def values(self) -> dict[str, float]:
        return {metric: float(text) for metric, text in self.printed.items()}


@dataclass(frozen=True)
class PublishedTable:
    """One table of one source.

    Attributes:
        name: for `--against`.
        title, bench, source: in words.
        url: where the source is.
        read: "first-hand" from the source's own text, or "second-hand" from somebody who quotes it.
        protocol: what is known of how all of it was measured.
        protocols: likewise of single columns.
        labels: the source's name of a metric, where it has another.
        notes: oddities, one sentence each.
        columns: the metrics, in the source's order.
        rows: the models.
    """

    name: str
    title: str
    bench: str
    source: str
    url: str
    read: str
    protocol: str
    columns: tuple[str, ...]
    rows: tuple[PublishedRow, ...]
    protocols: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def published_names() -> list[str]:
    """Return the names of all tables."""
    return list(read_published())


def load_published(name: str) -> PublishedTable:
    """Return a table by its name, such as "jova-table1".

    Raises:
        ValueError: If there is none of that name.
    """
    tables = read_published()
    if name not in tables:
        raise ValueError(f"No published numbers are called {name!r}. Known: {', '.join(tables)}.")
    return tables[name]


def published_rows(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table as plain values, each with all that its table says of it: the form for JSON.

    Raises:
        ValueError: If there is no table of that name.
    """
    table = load_published(name)
    of_table = {key: value for key, value in vars(table).items() if key not in ("name", "rows")}
    of_table |= {"table": name, "columns": list(table.columns), "notes": list(table.notes)}
    return [
        of_table | {"model": row.model, "kind": row.kind, "values": row.values, "printed": row.printed}
        for row in table.rows
    ]


@lru_cache(1)
def read_published() -> Mapping[str, PublishedTable]:
    """Return all tables that come with the package by name, in the file's order."""
    return parse_published(FILE)


def parse_published(path: str | os.PathLike) -> dict[str, PublishedTable]:
    """Return the tables of a YAML file of the form of `published.yaml`.

    Raises:
        ValueError: If a table is not whole: a field is missing or unknown, a row is too long or short, no number.
    """
    content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"`{path}` must hold tables by name.")
    return {name: _table(name, entry) for name, entry in content.items()}


def _table(name: str, entry: dict[str, Any]) -> PublishedTable:
    try:
        columns = tuple(entry["columns"])
        rows = tuple(_row(columns, **row) for row in entry["rows"])
        collections = {"columns": columns, "rows": rows, "notes": tuple(entry.get("notes", ()))}
        table = PublishedTable(name=name, **(entry | collections))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"Published table {name!r}: a field is missing, unknown or of wrong kind: {error}.") from None
    except ValueError as error:
        raise ValueError(f"Published table {name!r}: {error}") from None
    texts = (
        table.title,
        table.bench,
        table.source,
        table.url,
        table.protocol,
        *table.notes,
        *table.protocols.values(),
    )
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"Published table {name!r}: title, bench, source, url, protocol and notes must be texts.")
    if table.read not in READ:
        raise ValueError(f"Published table {name!r}: `read` must be one of {', '.join(READ)}, got {table.read!r}.")
    unknown = {*columns, *table.protocols, *table.labels} - set(METRICS)
    if unknown or len(set(columns)) != len(columns) or not rows:
        raise ValueError(f"Published table {name!r}: unknown metrics {sorted(unknown)}, a column twice, or no rows.")
    # tables of one source share their texts in the file, and not their columns
    return replace(table, protocols={metric: text for metric, text in table.protocols.items() if metric in columns})


def _row(columns: tuple[str, ...], model: str, values: str, kind: str = "joint") -> PublishedRow:
    cells = values.split()
    if len(cells) != len(columns):
        raise ValueError(f"{model!r} has {len(cells)} values for {len(columns)} columns.")
    if kind not in KINDS:
        raise ValueError(f"`kind` of {model!r} must be one of {', '.join(KINDS)}, got {kind!r}.")
    row = PublishedRow(model, kind, {metric: cell for metric, cell in zip(columns, cells) if cell != EMPTY})
    if any(not cell.replace(".", "", 1).isdigit() for cell in row.printed.values()):
        raise ValueError(f"{model!r} has a value that is not a number: {values!r}.")
    return row
