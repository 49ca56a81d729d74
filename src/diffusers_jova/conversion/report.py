# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a conversion did with every tensor, and whether all is accounted for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import islice

from .checkpoint import Checkpoint
from .errors import ConversionError


Shape = tuple[int, ...]


@dataclass
class Report:
    """What became of the tensors of one conversion, by name: shapes where they matter."""

    matched: list[str] = field(default_factory=list)
    initialised: dict[str, Shape] = field(default_factory=dict)
    missing: dict[str, Shape] = field(default_factory=dict)
    unexpected: dict[str, Shape] = field(default_factory=dict)
    mismatched: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    dtypes: dict[str, list[str]] = field(default_factory=dict)
    expected: dict[str, Shape] = field(default_factory=dict, repr=False)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def compare(
        cls,
        produced: Mapping[str, Shape],
        expected: Mapping[str, Shape],
        unmatched: Mapping[str, Shape],
        fresh: Iterable[str] = (),
        left_out: Iterable[str] = (),
    ) -> Report:
        """Return the report of `produced` against `expected` shapes.

        Args:
            unmatched: tensors that no rule took.
            fresh: names that need not be there: they are initialised.
            left_out: names that were not asked for.
        """
        absent = {name: shape for name, shape in expected.items() if name not in produced}
        fresh = set(fresh)
        return cls(
            matched=[name for name, shape in produced.items() if expected.get(name) == shape],
            initialised={name: shape for name, shape in absent.items() if name in fresh},
            missing={name: shape for name, shape in absent.items() if name not in fresh},
            unexpected={name: shape for name, shape in produced.items() if name not in expected} | dict(unmatched),
            mismatched={
                name: (shape, expected[name])
                for name, shape in produced.items()
                if name in expected and expected[name] != shape
            },
            left_out=list(left_out),
            expected=dict(expected),
        )

    def note_inputs(self, checkpoints: Iterable[Checkpoint]) -> None:
        """Add what the tensors of the checkpoints are: their dtypes, and what was not taken for weights."""
        for checkpoint in checkpoints:
            for name, info in checkpoint.infos.items():
                self.dtypes.setdefault(str(info.dtype).removeprefix("torch."), []).append(name)
            if checkpoint.ignored:
                examples = ", ".join(checkpoint.ignored[:3])
                self.notes.append(
                    f"{len(checkpoint.ignored)} tensors of {checkpoint.path.name} ignored: {examples}, ..."
                )

    def check(self, allow_missing: Iterable[str] = ()) -> None:
        """Raise unless all is accounted for.

        Args:
            allow_missing: patterns with `*`, as in a shell, of names that may be missing, unexpected or misshapen.

        Raises:
            ConversionError: With the numbers, and what to do.
        """
        patterns = tuple(allow_missing)
        open_names = [
            [name for name in names if not any(fnmatchcase(name, pattern) for pattern in patterns)]
            for names in (self.missing, self.unexpected, self.mismatched)
        ]
        if any(open_names):
            counts = "{} missing, {} unexpected, {} of another shape".format(*map(len, open_names))
            examples = ", ".join(name for names in open_names for name in names[:2])
            raise ConversionError(
                f"The checkpoint does not fit: {counts} ({examples}, ...). See the report above. Map them with "
                "--key_map, or name those that do not matter with --allow_missing 'PATTERN'."
            )

    def __str__(self) -> str:
        """The report as a text of a few lines, long lists cut."""
        counts = {"matched": self.matched, "initialised": self.initialised, "missing": self.missing}
        counts |= {"unexpected": self.unexpected, "shape mismatches": self.mismatched, "left out": self.left_out}
        lines = [", ".join(f"{len(names)} {what}" for what, names in counts.items())]
        lines += cut(f"  initialised: {name} {shape}" for name, shape in self.initialised.items())
        lines += cut(
            f"  missing: {name} {shape}{nearest(name, self.unexpected)}" for name, shape in self.missing.items()
        )
        lines += cut(
            f"  unexpected: {name} {shape}{nearest(name, self.missing)}" for name, shape in self.unexpected.items()
        )
        lines += cut(
            f"  shape mismatch: {name} is {given}, expected {expected}{nearest(name, self._of_shape(given))}"
            for name, (given, expected) in self.mismatched.items()
        )
        if len(self.dtypes) > 1:
            by_count = sorted(self.dtypes.items(), key=lambda item: -len(item[1]))
            lines.append("  mixed dtypes, each tensor keeps its own:")
            lines += [f"    {len(names)} {dtype}: {', '.join(names[:3])}, ..." for dtype, names in by_count]
        return "\n".join(lines + [f"  note: {note}" for note in self.notes])

    def _of_shape(self, shape: Shape) -> list[str]:
        return [name for name, expected in self.expected.items() if expected == shape]


def cut(lines: Iterable[str], limit: int = 20) -> list[str]:
    """Return the first `limit` lines and how many more there are."""
    lines = iter(lines)
    shown = list(islice(lines, limit))
    rest = sum(1 for _ in lines)
    return shown + [f"  ... and {rest} more"] * bool(rest)


def nearest(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, names, n=1, cutoff=0.7)
    return f" (nearest: {close[0]})" if close else ""
