# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Pages that a terminal shows without folding, and old addresses that still lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from diffusers_jova.moved import DIVIDED, MOVED
from diffusers_jova.nano.report import folded


REPOSITORY = Path(__file__).parents[1]
PAGES = sorted(
    [*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *(REPOSITORY / ".github").rglob("*.md")]
)
PAGES = [path for path in PAGES if path.parent.name != "reference"]  # made of the source
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


# `make docs` makes them of the source
MADE = [REPOSITORY / "docs/reference" / name for name in ("command_line.md", "errors.md", "settings.md")]


def test_links_between_pages_lead_somewhere():
    broken = [
        f"{path.name}: {target}"
        for path in PAGES
        for target in re.findall(r"\]\(([^)#\s]+\.(?:md|svg|png|mp4))[^)]*\)", path.read_text(encoding="utf-8"))
        if "://" not in target and not ((file := (path.parent / target).resolve()).is_file() or file in MADE)
    ]
    assert broken == []


def test_the_old_page_of_choices_leads_to_the_new_one():
    assert "(choices.md)" in (REPOSITORY / "docs/what_is_ours.md").read_text(encoding="utf-8")


ARCHITECTURE = (REPOSITORY / "docs/architecture.md").read_text(encoding="utf-8")
DRAWINGS = sorted((REPOSITORY / "docs/images").glob("*.svg"))


def test_the_page_of_the_architecture_has_the_table_of_moved_modules():
    rows = re.findall(r"^\| `diffusers_jova\.([\w.]+)` \| `diffusers_jova\.([\w.]+)` \|$", ARCHITECTURE, re.MULTILINE)
    assert dict(rows) == MOVED and len(rows) == len(MOVED)
    for old, (first, *_) in DIVIDED.items():
        assert re.search(
            rf"^\| `diffusers_jova\.{old}` \| `diffusers_jova\.{first}`.+ \|$", ARCHITECTURE, re.MULTILINE
        ), old


def test_files_that_the_page_of_the_architecture_names_exist():
    table = ARCHITECTURE.split("## Where is what")[1].split("## ")[0]
    names = re.findall(r"`([a-z_/]+(?:\.py|/))`", table)
    assert len(names) > 15
    assert [name for name in names if not (REPOSITORY / "src/diffusers_jova" / name).exists()] == []


@pytest.mark.parametrize("path", DRAWINGS, ids=lambda path: path.stem)
def test_a_drawing_is_small_reads_in_the_dark_and_is_on_a_page(path):
    assert path.stat().st_size < 30_000 and "prefers-color-scheme: dark" in path.read_text(encoding="utf-8")
    assert any(f"images/{path.name})" in page.read_text(encoding="utf-8") for page in PAGES)


@pytest.mark.parametrize("path", [path for path in DRAWINGS if path.name in ARCHITECTURE], ids=lambda path: path.stem)
def test_a_drawing_of_the_architecture_names_files_that_exist(path):
    drawing = path.read_text(encoding="utf-8")
    names = re.findall(r"([a-z_]+(?:/[a-z_]+)*(?:\.py|/))(?=[ <])", drawing.replace("</", " </"))
    places = [REPOSITORY / "src/diffusers_jova", REPOSITORY]
    assert [name for name in names if not any((place / name).exists() for place in places)] == []
    assert len(names) > 3


def test_the_heat_maps_of_guidance_show_what_was_measured():
    cells = json.loads((REPOSITORY / "benchmarks/figures/guidance.json").read_text(encoding="utf-8"))["cells"]
    drawing = (REPOSITORY / "docs/images/guidance.svg").read_text(encoding="utf-8")
    shown = re.findall(r">(\d\.\d\d)</text>", drawing)
    assert shown == [f"{cell[name]:.2f}" for name in ("words", "lips", "faces") for cell in cells]
