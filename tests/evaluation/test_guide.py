# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""docs/evaluation.md says what the code does: every protocol, profile, layout, status, weight file and table."""

import json
import re
from pathlib import Path

import pytest

from diffusers_jova.evaluation.clip_files import LAYOUTS
from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.metrics import METRICS, PROFILES
from diffusers_jova.evaluation.prompt_file import Prompt, read_prompts
from diffusers_jova.evaluation.published import load_published, published_names
from diffusers_jova.evaluation.weight_files import WEIGHT_FILES


GUIDE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")


def rows_under(head):
    """Return the cells of the table whose first line begins with `head`."""
    lines = GUIDE[GUIDE.index(f"\n| {head}") + 1 :].split("\n\n")[0].split("\n")
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in [lines[0], *lines[2:]]]


def names_in(cell):
    return re.findall(r"`([^`]+)`", cell)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if not metric.local], ids=lambda metric: metric.name)
def test_every_protocol_stands_in_its_profile(metric):
    head, *rows = rows_under("metric |")
    (row,) = [row for row in rows if metric.columns[0].name in re.findall(r"[A-Z-]+", row[0])]
    cells = dict(zip(head, row, strict=True))
    of_profiles = [variant for name in ("paper", "verse", "fixed") for variant in names_in(cells[f"`{name}`"])]
    assert of_profiles == [PROFILES[name][metric.name] for name in ("paper", "verse", "fixed")
                           if metric.name in PROFILES[name]]  # fmt: skip
    assert {*of_profiles, *names_in(cells["others"])} == set(metric.variants)


def test_every_weight_file_is_listed_with_source_and_licence():
    rows = rows_under("file or folder")[1:]
    assert rows == [[f"`{f.name}`", f.source, f.licence, ", ".join(f.metrics)] for f in WEIGHT_FILES]


def test_every_published_table_is_listed():
    tables = map(load_published, published_names())
    assert rows_under("name | bench")[1:] == [[f"`{t.name}`", t.bench, t.source, t.read] for t in tables]


def test_layouts_statuses_and_fields_are_told():
    assert [names_in(row[0])[0] for row in rows_under("`--layout`")[1:]] == list(LAYOUTS)
    assert all(f"`{status.value}`" in GUIDE for status in Status if status not in (Status.OK, Status.EXCLUDED))
    fields = {name for row in rows_under("field |")[1:] for name in names_in(row[0])}
    assert fields == set(Prompt.__dataclass_fields__)


def test_its_example_of_a_prompt_can_be_read(tmp_path):
    (example,) = re.findall(r"```json\n(.*?)\n```", GUIDE, re.DOTALL)
    (tmp_path / "prompts.jsonl").write_text(example, encoding="utf-8")
    (prompt,) = read_prompts(tmp_path / "prompts.jsonl")
    assert prompt.speech_text == json.loads(example)["speech_text"]
