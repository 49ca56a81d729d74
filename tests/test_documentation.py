# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Pages that a terminal shows without folding, and old addresses that still lead somewhere."""

import re
from pathlib import Path

import pytest

from diffusers_jova.nano.report import folded


REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").glob("*.md"), *(REPOSITORY / ".github").rglob("*.md")]
)
MAX_LINE = 119
# the row of a table and a line of JSON Lines end where they end: neither can be folded
CANNOT_FOLD = re.compile(r"\s*[|{]")


def long_lines(text: str) -> list[int]:
    """Return the numbers of lines that are too long and could be folded."""
    lines = enumerate(text.split("\n"), start=1)
    return [number for number, line in lines if len(line) > MAX_LINE and not CANNOT_FOLD.match(line)]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_lines_of_a_page_are_below_120_characters(path):
    numbers = long_lines(path.read_text(encoding="utf-8"))
    assert not numbers, f"fold {path.name}, lines {numbers}"


def test_long_lines_are_seen():
    assert long_lines("short\n" + "word " * 30 + "\n| " + "cell " * 30) == [2]


def test_the_report_of_jova_nano_is_folded():
    table = "| " + "cell " * 40 + "|"
    text = f"# Title\n\n{'word ' * 60}\n\n{table}\n\nshort\nlines\n"
    pieces = folded(text).split("\n\n")
    assert max(map(len, pieces[1].split("\n"))) <= MAX_LINE
    assert pieces[2:] == [table, "short\nlines\n"]
    assert folded(text).split() == text.split()


def test_links_between_pages_lead_somewhere():
    broken = [
        f"{path.name}: {target}"
        for path in PAGES
        for target in re.findall(r"\]\(([^)#\s]+\.(?:md|svg|png|mp4))[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not (path.parent / target).is_file()
    ]
    assert broken == []


def test_the_old_page_of_choices_leads_to_the_new_one():
    assert "(choices.md)" in (REPOSITORY / "docs/what_is_ours.md").read_text(encoding="utf-8")
