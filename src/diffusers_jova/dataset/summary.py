# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What became of the films or clips that a step of a data set was given."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..data.clips import Source
from ..data.summary import grouped, groups
from ..files import whole_file
from ..text import printable


LEFT_OUT = "left_out.jsonl"
REPORT = "report.json"


@dataclass
class StepSummary:
    """What became of films or clips. `str(summary)` is what people read; the files beside the rows have all of it.

    Attributes:
        step: its name.
        things: what it was given, "films" or "clips".
        num_given: how many.
        num_kept, kept_s: clips that go on, and their seconds.
        left_out: (clip, seconds, reasons) of what was read and does not go on.
        skipped: (name, reason) of what could not be read.
        warnings: (name, what to know about it).
    """

    step: str
    things: str
    num_given: int = 0
    num_kept: int = 0
    kept_s: float = 0.0
    left_out: list[tuple[str, float, list[str]]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def usable(self, sources: Iterable[Source]) -> list[Source]:
        """Return the sources that have no problem; the others are skipped."""
        sources = list(sources)
        self.num_given += len(sources)
        for source in sources:
            if source.problem:
                self.skip(source.name, source.problem)
        return [source for source in sources if not source.problem]

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append((printable(name), printable(reason)))

    def warn(self, name: str, message: str) -> None:
        self.warnings.append((printable(name), printable(message)))

    def leave_out(self, name: str, length_s: float, *reasons: str) -> None:
        self.left_out.append((printable(name), length_s, list(map(printable, reasons))))

    def counts(self) -> dict[str, tuple[int, float]]:
        """Return how many clips, and how many seconds, each reason leaves out, the most seconds first.

        A clip with several reasons counts for each.
        """
        found: dict[str, tuple[int, float]] = {}
        for group in groups((reason, reason) for _, _, reasons in self.left_out for reason in reasons):
            same = {reason for _, reason in group}
            lengths = [length for _, length, reasons in self.left_out for reason in reasons if reason in same]
            found[group[0][1] if len(same) == 1 else f"{group[0][1]} and the like"] = (len(lengths), sum(lengths))
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))

    def __str__(self) -> str:
        lines = [f"{self.step}: {self.num_kept} clips, {self.kept_s:.2f} s, of {self.num_given} {self.things}"]
        if self.left_out:
            lines.append(f"left out: {sum(length for _, length, _ in self.left_out):.2f} s")
            lines += [f"  {reason}: {number}, {length:.2f} s" for reason, (number, length) in self.counts().items()]
        for title, entries in (("warnings", self.warnings), ("skipped", self.skipped)):
            if entries:
                lines += [f"{title}: {len(entries)}", *grouped(entries)]
        return "\n".join(lines)

    def write(self, folder: str | os.PathLike, **more: Any) -> None:
        """Write the whole of it beside the rows.

        Raises:
            OSError: if it cannot be written.
        """
        report: Mapping[str, Any] = {
            "step": self.step,
            self.things: self.num_given,
            "clips": self.num_kept,
            "seconds": round(self.kept_s, 6),
            "left_out": {reason: {"clips": n, "seconds": round(s, 6)} for reason, (n, s) in self.counts().items()},
            "skipped": [{"name": name, "reason": reason} for name, reason in sorted(self.skipped)],
            "warnings": [{"name": name, "warning": message} for name, message in sorted(self.warnings)],
            **more,
        }
        with whole_file(Path(folder) / LEFT_OUT) as partial, open(partial, "w", encoding="utf-8") as file:
            for name, length_s, reasons in self.left_out:
                row = {"clip": name, "seconds": round(length_s, 6), "reasons": reasons}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        with whole_file(Path(folder) / REPORT) as partial:
            partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
