# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The report of `score` -> lines of text, Markdown, and an HTML page with plots and images of the worst clips.

What the report holds is written in `scoring`. Only it is read, and the clips for their images: networks and weights
are not needed. The same report and clips give the same bytes.
"""

import logging
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from ..files import check_output, whole_file
from ..headers import read_json
from .document import Block, Heading, Items, Paragraph, Picture, Table, to_html, to_markdown
from .report_pictures import picture_strip, plot_values


logger = logging.getLogger(__name__)

FORMAT = "diffusers-jova score 1"
PARTS = {"header", "metrics", "clips", "summary"}
NUM_WORST = 4  # clips of each column
MAX_PROBLEMS = 200  # clips without a value that are listed; the JSON has all of them
LONGEST_DETAILS = 240  # characters
ARROWS = {"higher": " ↑", "lower": " ↓"}
EMPTY = "–"
LOCAL_NOTE = (
    "These measures are of this project and run without published weights. They are not those of any paper, and no "
    "number here compares with one that a paper prints."
)

Report = Mapping[str, Any]


def load_report(path: str | os.PathLike) -> dict[str, Any]:
    """Return the report that `score` wrote.

    Raises:
        ValueError: if the file is not one, or of another format.
    """
    report = read_json(path)
    if report.get("format") != FORMAT or not PARTS <= set(report):
        raise ValueError(f"`{path}` is not a report of `score` in the format {FORMAT!r}: make it again.")
    return report


def write_markdown(report: Report, path: str | os.PathLike) -> None:
    """Write the report as Markdown: all tables and notes, without images."""
    _write(path, to_markdown(_title(report), list(_blocks(report))))


def write_html(report: Report, path: str | os.PathLike) -> None:
    """Write the report as one HTML page that carries its plots and images in itself."""
    check_output(path, {f"the clip {clip['name']}": clip["file"] for clip in report["clips"]})
    _write(path, to_html(_title(report), list(_blocks(report, pictures=True))))


def summary_text(report: Report) -> str:
    """Return the means over all clips as lines, each with its protocol and the clips that it is of."""
    variants = {metric["name"]: metric["variant"] for metric in report["metrics"]}
    lines = []
    for column, entry in report["summary"]["all"].items():
        mean = "-" if entry["mean"] is None else f"{entry['mean']:.4f}"
        interval = "" if entry["interval"] is None else " [{:.4f}, {:.4f}]".format(*entry["interval"])
        used = f"{entry['n_used']} of {entry['n_expected']} clips"
        others = {name: count for name, count in entry["statuses"].items() if name != "ok"}
        why = f" ({', '.join(f'{count} {name}' for name, count in others.items())})" if others else ""
        lines.append(f"{column:<6} {mean}{interval}  {entry['metric']}={variants[entry['metric']]}, {used}{why}")
        lines += [f"       {note}" for note in entry["notes"]]
    return "\n".join([*dict.fromkeys(lines), *_published_lines(report)])


def _published_lines(report: Report) -> list[str]:
    """Return published values of the columns that were measured, under their source and protocol."""
    lines, table = [], None
    for row in report["published"]:
        values = {name: row["values"][name] for name in report["summary"]["all"] if name in row["values"]}
        if not values:
            continue
        if row["table"] != table:
            table = row["table"]
            lines += ["", f"Published: {row['title']} ({row['source']}), {row['bench']}", f"  {row['protocol']}"]
            lines += [f"  {name}: {text}" for name, text in row["protocols"].items() if name in values]
        lines.append(f"  {row['model']}: " + ", ".join(f"{name} {value:g}" for name, value in values.items()))
    return lines


def _write(path: str | os.PathLike, text: str) -> None:
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _title(report: Report) -> str:
    return f"Scores of {Path(report['header'].get('clips') or '').name or 'clips'}"


def _blocks(report: Report, pictures: bool = False) -> Iterator[Block]:
    yield from _header(report)
    if pictures and not find_spec("matplotlib"):
        yield Paragraph("There are no plots: they need matplotlib, pip install 'diffusers-jova[eval]'.")
    yield Heading("All values")
    if any(metric["local"] for metric in report["metrics"]):
        yield Paragraph(LOCAL_NOTE)
    yield _overview(report)
    yield Paragraph(
        "Each value with its 95 % interval, drawn anew over clips, and of how many clips it is, out of those whose "
        "prompts ask for it. Values of different protocols do not compare, nor do values over different clips."
    )
    for metric in report["metrics"]:
        yield from _metric(report, metric, pictures)
    yield from _problems(report)
    yield from _published(report)
    yield from _weights(report)
    yield from _open_points(report)


# --- what was measured ---


def _header(report: Report) -> Iterator[Block]:
    header = report["header"]
    variants = ", ".join(f"{name} {variant}" for name, variant in header.get("variants", {}).items())
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    facts = {
        "Clips": header.get("clips"),
        "Prompts": header.get("prompts"),
        "Profile": header.get("profile"),
        "Protocols": variants,
        "Options": _plain(header.get("options")),
        "Seed": header.get("seed"),
        "Device": header.get("device"),
        "Versions": versions,
        "Arguments": shlex.join(header.get("command", ())),
        "Made": header.get("created"),
    }
    yield Table(("", ""), [(name, str(text)) for name, text in facts.items() if text not in (None, "")])
    warnings = [f"Not comparable with any source: {text}" for text in header.get("not_comparable", ())]
    warnings += [f"{name} was not measured: {why}" for name, why in header.get("not_measured", {}).items()]
    missing = [clip["name"] for clip in report["clips"] if clip["file"] is None]
    if missing:
        warnings.append(f"Prompts without a clip: {len(missing)} ({_some(missing)})")
    if without := report.get("without_prompt"):
        warnings.append(f"Clips that no prompt names, not measured: {len(without)} ({_some(without)})")
    if warnings:
        yield Items(warnings)


def _overview(report: Report) -> Table:
    columns = [(metric, column) for metric in report["metrics"] for column in metric["columns"]]
    head = ["Column", "Protocol", *report["summary"]]
    rows = [
        [column["name"] + ARROWS.get(column["better"], ""), metric["variant"]]
        + [_value_cell(summary.get(column["name"])) for summary in report["summary"].values()]
        for metric, column in columns
    ]
    return Table(head, rows)


def _value_cell(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return EMPTY
    return f"{_number(entry['mean'])}{_interval(entry, ' [{}]')} · {entry['n_used']}/{entry['n_expected']}"


# --- one metric ---


def _metric(report: Report, metric: Mapping[str, Any], pictures: bool) -> Iterator[Block]:
    yield Heading(f"{metric['name']}: {metric['title']}")
    hashes = {file["name"]: file.get("sha256") for file in report["header"].get("weights", ())}
    weights = [f"{name} (sha256 {hashes.get(name) or 'not known'})" for name in metric["weights"]]
    kind = "Local measure, not of any paper. " if metric["local"] else ""
    yield Paragraph(
        f"{kind}Protocol {metric['variant']}; {metric['average']}. Weights: {', '.join(weights) or 'none'}."
    )
    head = ["Clips"]
    for column in metric["columns"]:
        head += [f"{column['name']}{ARROWS.get(column['better'], '')} ({metric['variant']})", "95 % interval"]
    rows = []
    for name, summary in report["summary"].items():
        cells = [name]
        for column in metric["columns"]:
            entry = summary[column["name"]]
            cells += [_number(entry["mean"]), _interval(entry, "{}") or EMPTY]
        entry = summary[metric["columns"][0]["name"]]  # the same clips for all columns
        statuses = ", ".join(f"{status} {number}" for status, number in entry["statuses"].items())
        rows.append([*cells, f"{entry['n_used']}/{entry['n_expected']}", statuses])
    yield Table([*head, "used/expected", "Statuses"], rows)
    ranges = ", ".join(f"{column['name']} {column['range']}" for column in metric["columns"] if column["range"])
    notes = {f"{name}: {note}": None for name, summary in report["summary"].items()
             for column in metric["columns"] for note in summary[column["name"]]["notes"]}  # fmt: skip
    if lines := [f"Range: {ranges}."] * bool(ranges) + list(notes):
        yield Items(lines)
    for column in metric["columns"]:
        yield from _column(report, metric, column, pictures)


def _column(report: Report, metric: Mapping[str, Any], column: Mapping, pictures: bool) -> Iterator[Block]:
    """Yield where the clips' values lie, and the worst of them."""
    found = []  # value, clip, its result
    for clip in report["clips"]:
        result = clip["results"][metric["name"]]
        if column["name"] in result["values"]:
            found.append((result["values"][column["name"]], clip, result))
    if len(found) < 2:  # of a set, or too few to choose from
        return
    label = f"{column['name']}{ARROWS.get(column['better'], '')} ({metric['variant']})"
    if pictures and find_spec("matplotlib"):
        sets = list(report["summary"])[1:] or ["all"]
        values = {name: [value for value, clip, _ in found if name in ("all", clip["set"] or "(no set)")]
                  for name in sets}  # fmt: skip
        means = {
            name: (entry["mean"], entry["interval"])
            for name in sets
            for entry in [report["summary"][name][column["name"]]]
        }
        yield plot_values(f"{label} of each clip, with mean and interval", label, values, means)
    if column["better"] not in ARROWS:
        return
    found.sort(key=lambda item: item[0], reverse=column["better"] == "lower")
    worst = found[:NUM_WORST]
    yield Heading(f"Worst by {column['name']}", 3)
    rows = [(clip["name"], _number(value), _plain(result["details"])) for value, clip, result in worst]
    if not pictures:
        yield Table(("Clip", label, "Details"), rows)
        return
    for (value, clip, _), (name, _, details) in zip(worst, rows):
        caption = f"{name}: {column['name']} {_number(value)}" + (f"; {details}" if details else "")
        yield _strip(clip, f"Frames of {name}", caption)


def _strip(clip: Mapping[str, Any], alt: str, caption: str) -> Picture | Paragraph:
    try:
        strip = picture_strip(clip["file"], clip["num_frames"], alt, caption)
        return strip or Paragraph(f"{caption} (no video)")
    except (ValueError, OSError) as error:
        logger.warning("No image of `%s`: %s", clip["file"], error)
        return Paragraph(f"{caption} (no image: the clip cannot be read any more)")


def _problems(report: Report) -> Iterator[Block]:
    """Yield the clips that lack a value which their prompts ask for."""
    rows = []
    for clip in report["clips"]:
        lacking: dict[tuple[str, str], list[str]] = {}
        for name, result in clip["results"].items():
            if result["expected"] and result["status"] != "ok":
                reason = str(result["details"].get("reason", ""))[:LONGEST_DETAILS]
                lacking.setdefault((result["status"], reason), []).append(name)
        rows += [(clip["name"], ", ".join(names), status, reason) for (status, reason), names in lacking.items()]
    if not rows:
        return
    yield Heading("Clips without a value that their prompts ask for")
    yield Table(("Clip", "Metrics", "Status", "Reason"), rows[:MAX_PROBLEMS])
    if len(rows) > MAX_PROBLEMS:
        yield Paragraph(f"And {len(rows) - MAX_PROBLEMS} more, which the JSON lists.")


# --- what others print ---


def _published(report: Report) -> Iterator[Block]:
    """Yield the rows of papers, each source in a table of its own."""
    rows = report.get("published") or []
    if not rows:
        return
    yield Heading("What papers print")
    if any(metric["local"] for metric in report["metrics"]):
        yield Paragraph("Not shown: local measures do not stand beside values of papers.")
        return
    yield Paragraph(
        "Measured by others, with their code, on their clips. They stand apart from the values above on purpose: "
        "compare only where protocol and bench are the same."
    )
    for source, group in groupby(rows, key=lambda row: (row.get("table"), row["source"], row["bench"])):
        yield from _published_table(source[0] or source[1], list(group))


def _published_table(name: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Block]:
    first = rows[0]
    labels, protocols = first.get("labels", {}), first.get("protocols", {})
    columns = first.get("columns") or list(dict.fromkeys(column for row in rows for column in row["values"]))
    yield Heading(f"{name}: {first['bench']}", 3)
    head = [f"{column} (called {labels[column]})" if column in labels else column for column in columns]
    cells = [
        [
            row["model"] + (" (given the audio)" if row.get("kind") == "audio-driven" else ""),
            *(str(row.get("printed", row["values"]).get(column, EMPTY)) for column in columns),
        ]
        for row in rows
    ]
    yield Table(["Model", *head], cells)
    read = f", read {first['read']}" if first.get("read") else ""
    notes = [f"Source: {first['source']}{read}.", f"Protocol: {first['protocol']}."]
    notes += [f"{column}: {text}." for column, text in protocols.items()]
    yield Items([*notes, *first.get("notes", ())])


# --- what stands behind it ---


def _weights(report: Report) -> Iterator[Block]:
    files = report["header"].get("weights", ())
    if not files:
        return
    yield Heading("Weights")
    rows = [[str(file.get(key) or EMPTY) for key in ("name", "sha256", "source", "licence")] for file in files]
    yield Table(("File", "sha256", "Source", "Licence"), rows)


def _open_points(report: Report) -> Iterator[Block]:
    if points := report.get("open_points"):
        yield Heading("What nobody outside can know")
        yield Items(points)


# --- texts ---


def _number(value: float | None) -> str:
    return EMPTY if value is None else f"{value:.3f}"


def _interval(entry: Mapping[str, Any], form: str) -> str:
    interval = entry["interval"]
    return "" if interval is None else form.format(" to ".join(map(_number, interval)))


def _plain(values: Mapping[str, Any] | None) -> str:
    """Return what explains a value, on one line."""
    parts = []
    for name, value in (values or {}).items():
        if value in (None, "", [], {}):
            continue
        parts.append(f"{name} {f'{value:.4g}' if isinstance(value, float) else value}")
    text = ", ".join(parts)
    return text if len(text) <= LONGEST_DETAILS else f"{text[:LONGEST_DETAILS]} …"


def _some(names: Sequence[str], number: int = 5) -> str:
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")
