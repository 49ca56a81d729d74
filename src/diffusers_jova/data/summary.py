# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What became of the clips: for people, who read the end of it, and as a file, which has all of it."""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import whole_file
from ..text import printable
from .round_trip import RoundTrip


logger = logging.getLogger(__name__)

NUM_NAMED = 5  # clips that are named for one reason; the file names all
NUM_LOGGED = 3  # lines in the log for one reason
MANY, MANY_OF = 3, 0.01  # clips skipped for one reason, or this part of all: it is said loudly


@dataclass
class Summary:
    """What became of the clips. `str(summary)` is what people read; it is the same however often a run was stopped.

    Attributes:
        rows: of the samples of this run's clips, whether made now or before.
        num_sources: clips found.
        skipped: (clip, reason) of those that gave no sample.
        warnings: (clip, what to know about it).
        wordless: clips whose transcript was dropped, since it says more than is heard.
        from_cache: settings, in words, that were not given and are the cache's, not the defaults.
        removed: clips that are gone, and whose samples were deleted.
        unclear: clips that are not in this run's data, but may be in `unseen` data of the same cache.
        round_trip: what is left of a few clips after the model's VAEs.
        command: what to start to do it again.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    num_sources: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)
    wordless: list[str] = field(default_factory=list)
    from_cache: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    unclear: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    round_trip: RoundTrip = field(default_factory=RoundTrip)
    command: str = ""
    _logged: Counter = field(default_factory=Counter, repr=False)

    def warn(self, name: str, message: str) -> None:
        self.warnings.append((printable(name), printable(message)))
        self._log(name, message)

    def skip(self, name: str, reason: str) -> None:
        self.skipped.append((printable(name), printable(reason)))
        self._log(name, f"skipped: {reason}")

    def _log(self, name: str, message: str) -> None:
        reason = kind_of(message)
        self._logged[reason] += 1
        if self._logged[reason] <= NUM_LOGGED:
            more = " (more like this are counted at the end)" * (self._logged[reason] == NUM_LOGGED)
            logger.warning("%s: %s%s", printable(name), printable(message), more)

    def facts(self) -> dict[str, list[str]]:
        """Return what is worth knowing about the samples, and the clips that it is true of."""
        videos = [row for row in self.rows if row["kind"] != "audio"]
        facts = {
            "several faces, the largest is taken": [f"{r['source']} ({r['faces']})" for r in videos if r["faces"] > 1],
            "the crop leaves the mouth out of some frames; another of --buckets may fit": [
                f"{r['source']} ({r['mouth_outside']} of {r['num_frames']})" for r in videos if r.get("mouth_outside")
            ],
            "no mouth found, no mouth loss": [r["source"] for r in videos if not r["has_mouth"]],
            "transcript dropped, it says more than is heard": self.wordless,
            "audio but no transcript": [
                r["source"] for r in self.rows if r["kind"] != "video" and not r["transcript"]
            ],
            "a transcript but no audio": [r["source"] for r in self.rows if r["kind"] == "video" and r["transcript"]],
            "no video caption": [r["source"] for r in videos if not r["video_caption"]],
            "gone, removed from the cache": self.removed,
        }
        return {title: list(dict.fromkeys(map(printable, clips))) for title, clips in facts.items() if clips}

    def __str__(self) -> str:
        lines = self._counts() + [f"{title}: {_some(clips)}" for title, clips in self.facts().items()]
        if self.unclear:
            lines.append(
                f"not in this data, but still in the cache: {_some(map(printable, self.unclear))} (they may be in "
                f"{_some(map(printable, self.unseen))}, which cannot be read: --remove_missing deletes them)"
            )
        for title, entries in (("warnings", self.warnings), ("skipped", self.skipped)):
            if entries:
                lines += [f"{title}: {len(entries)}", *grouped(entries)]
        return "\n".join(lines + self._alarm())

    def _counts(self) -> list[str]:
        names = {"both": "with video and audio", "video": "silent", "audio": "audio alone"}
        duration_s = sum(row["duration_s"] for row in self.rows)
        clips = len({row["source"] for row in self.rows})
        lines = [f"cached: {len(self.rows)} samples of {clips} of {self.num_sources} clips, {duration_s:.2f} s"]
        for kind, name in names.items():
            seconds = [row["duration_s"] for row in self.rows if row["kind"] == kind]
            lines += [f"  {name}: {len(seconds)}, {sum(seconds):.2f} s"] if seconds else []
        mouths = [row["has_mouth"] for row in self.rows if row["kind"] != "audio"]
        lines += [f"  with a mouth: {sum(mouths)} of {len(mouths)}"] if mouths else []
        lines += [f"settings taken from the cache: {', '.join(self.from_cache)}"] if self.from_cache else []
        return lines + self.round_trip.lines()

    def _alarm(self) -> list[str]:
        """Return the last lines, if the model cannot show the clips, or many of them lack something for one reason."""
        lines = [f"!!! {line}." for line in self.round_trip.alarm()]
        missing = [
            f"{len(entries)} of {self.num_sources} clips are missing in the cache: {entries[0][1]}"
            for entries in groups(self.skipped)
            if self._is_much(len(entries))
        ]
        if self._is_much(len(self.wordless)):
            missing.append(
                f"{len(self.wordless)} of {self.num_sources} clips train without their words, since they are cut and "
                "a transcript of the whole would say more than is heard: give `segments`, or cut the files"
            )
        if missing:
            lines += [f"!!! {line}" for line in missing]
            lines.append("!!! Repair or remove them, then run again; what is cached already is not made again:")
            lines.append(f"!!! {printable(self.command)}")
        return lines

    def _is_much(self, number: int) -> bool:
        return number >= MANY or 0 < number >= MANY_OF * self.num_sources

    def write(self, path: str | os.PathLike, writer: str = "") -> None:
        """Write the whole report as JSON: nothing is grouped or left out."""
        report = {
            "command": self.command,
            "clips": self.num_sources,
            "samples": len(self.rows),
            "seconds": round(sum(row["duration_s"] for row in self.rows), 6),
            "skipped": [{"clip": name, "reason": reason} for name, reason in sorted(self.skipped)],
            "warnings": [{"clip": name, "warning": message} for name, message in sorted(self.warnings)],
            "facts": self.facts(),
            "round_trip": {"clips": self.round_trip.clips, "own": self.round_trip.own},
            "not_in_this_data": list(map(printable, self.unclear)),
        }
        with whole_file(path, writer) as partial:
            partial.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def kind_of(message: str) -> str:
    """Return `message` without its names and numbers: the same for all clips to which the same happened."""
    return re.sub(r"`[^`]*`|'[^']*'|\d+(?:[.,:]\d+)*", "*", message)


def groups(entries: Iterable[tuple[str, str]]) -> list[list[tuple[str, str]]]:
    """Return (clip, message) in groups of one kind, the largest first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, message in sorted(entries):
        found.setdefault(kind_of(message), []).append((name, message))
    return sorted(found.values(), key=lambda group: (-len(group), group))


def grouped(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Return a line for each clip; where a reason has more clips than are named, one line for all of them."""
    lines = []
    for group in groups(entries):
        if len(group) <= NUM_NAMED:
            lines += [f"  {name}: {message}" for name, message in group]
        else:
            lines.append(f"  {len(group)} clips, like {group[0][0]}: {group[0][1]}")
            lines.append(f"    {_some(dict.fromkeys(name for name, _ in group))}")
    return lines


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - NUM_NAMED} more (see report.json)" if len(names) > NUM_NAMED else ""
    return ", ".join(names[:NUM_NAMED]) + more


def report_path(cache_dir: str | os.PathLike, shard: tuple[int, int] = (0, 1)) -> Path:
    """Return where the report of a run lies; parts of a data set have one each."""
    return Path(cache_dir) / ("report.json" if shard[1] == 1 else f"report-{shard[0]}-of-{shard[1]}.json")


def read_round_trip(path: str | os.PathLike) -> dict[str, dict[str, float]]:
    """Return the figures of single clips in a report; nothing where there is none, or one by an older version."""
    try:
        clips = json.loads(Path(path).read_text(encoding="utf-8"))["round_trip"]["clips"]
        return {name: dict(values) for name, values in clips.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
