# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Faults made on purpose move what they must of the profile `local`, and nothing that they must not."""

from pathlib import Path

import numpy as np
import pytest

from diffusers_jova.evaluation.measurement import Measurement, Status


pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")

from diffusers_jova.evaluation.faults import (  # noqa: E402
    FAULTS,
    MUST_MOVE,
    MUST_NOT_MOVE,
    SHIFTS,
    THRESHOLDS,
    Ruler,
    compare,
    fault_table,
    measure_faults,
    read_clips,
)


CLIPS = Path(__file__).parent / "clips"  # written by benchmarks/evaluation_faults.py --make


def test_the_local_ruler_measures():
    found = measure_faults(Ruler({"Words": "digits"}), read_clips(CLIPS))
    table = fault_table(found)
    wrong = {
        (fault, column): cell for fault, cells in table.items() for column, cell in cells.items() if not cell.good
    }
    assert not wrong
    for shift in SHIFTS:  # audio late by so many frames: lips early by as many, in each clip, by either measure
        for measured in found[f"audio {shift:+d} frames"]:
            assert measured["Lips-phones"].details["lag"] == measured["Lips-loudness"].details["lag"] == -shift


def test_the_docs_show_what_must_move_and_what_must_not():
    text = (Path(__file__).parents[2] / "docs" / "evaluation_proof.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in text.splitlines() if "|" in line]
    columns = next(row[1:] for row in rows if row[0] == "fault")
    assert set(columns) == set(THRESHOLDS)
    shown = {row[0]: dict(zip(columns, row[1:])) for row in rows if row[0] in FAULTS}
    assert list(shown) == list(FAULTS)
    for fault, cells in shown.items():
        assert {column for column, cell in cells.items() if cell.startswith("**")} == set(MUST_MOVE[fault])
        assert {column for column, cell in cells.items() if cell.startswith("=")} == set(MUST_NOT_MOVE[fault])


def test_every_fault_must_move_something_and_leave_something():
    for fault in FAULTS:
        assert MUST_MOVE[fault] and MUST_NOT_MOVE[fault]
        assert not set(MUST_MOVE[fault]) & set(MUST_NOT_MOVE[fault])
    moved = {column for columns in MUST_MOVE.values() for column in columns}
    assert moved == set(THRESHOLDS), "each column is moved by some fault"
    assert all(0 < stays < moves for moves, stays in THRESHOLDS.values())


@pytest.mark.parametrize(
    "after, moves, stays",
    [(0.5, True, False), (0.0, False, True), (0.1, False, False), (None, True, False)],
)
def test_a_value_moves_stays_or_is_gone(after, moves, stays):
    before = [Measurement(Status.OK, {"words": 0.0, "silence": 0.0})] * 3
    gone = Measurement(Status.SILENT)
    now = [gone if after is None else Measurement(Status.OK, {"words": after, "silence": after})] * 3
    must, must_not = (compare(before, now, *cell) for cell in (("words", "silence"), ("silence", "audio +1 frames")))
    assert must.must_move and must.good == (moves if after != 0.1 else False)
    assert must_not.must_move is False and must_not.good == stays
    assert np.isclose(must.num_gone, 3 if after is None else 0)
