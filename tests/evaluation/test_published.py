# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The published numbers: cells as the papers print them, and a file in which nothing is out of place."""

from itertools import product

import pytest
import yaml

from diffusers_jova.evaluation.published import (
    FILE,
    METRICS,
    load_published,
    parse_published,
    published_names,
)


CELLS = [  # typed in from the papers, apart from the file
    ("jova-table1", "UniVerse-1", "WER", "0.37"),
    ("jova-table1", "JoVA (24B)", "PC", "1.71"),
    ("jova-table1", "Wan-S2V", "ID", "0.72"),
    ("jova-table2", "Ovi", "LSE-C", "6.61"),
    ("jova-table2", "UniVerse-1", "KL", "2.70"),
    ("jova-table2", "JoVA (24B)", "MS", "0.80"),
    ("jova-table3", "JoVA, mouth-area loss weight 0.0", "LSE-C", "1.39"),
    ("jova-table4", "JoVA, positions not aligned", "FD", "0.58"),
    ("jova-table5", "JoVA, cross-attention with linear layer", "MS", "1.00"),
    ("jova-table6", "JoVA (3.2B, 1.9M samples)", "MS", "1.05"),
    ("universe1", "UniVerse-1", "LSE-C", "1.34"),
    ("klear", "Klear", "WER", "0.028"),
    ("mova", "MOVA-360p, dual guidance", "LSE-C", "7.800"),
    ("nava", "NAVA", "LSE-C", "7.791"),
    ("unison", "Ovi", "LSE-D", "9.12"),
]


@pytest.mark.parametrize(("table", "model", "metric", "printed"), CELLS)
def test_a_cell_is_what_the_paper_prints(table, model, metric, printed):
    (row,) = [row for row in load_published(table).rows if row.model == model]
    assert row.printed[metric] == printed and row.values[metric] == float(printed)


def test_models_that_are_given_audio_have_no_numbers_of_audio():
    for name in published_names():
        for row in load_published(name).rows:
            assert row.kind == "joint" or set(row.printed) <= {"LSE-C", "MS", "AS", "ID"}, f"{name}: {row.model}"


def test_a_row_that_two_tables_share_is_the_same_in_both():
    """JoVA's own row comes back in Tables 1, 3, 4, 5 and 6."""
    rows = [load_published("jova-table1").rows[-1], load_published("jova-table3").rows[2]]
    rows += [load_published(f"jova-table{number}").rows[-1] for number in (4, 5, 6)]
    for row, other in product(rows, rows):
        assert all(row.printed[metric] == other.printed[metric] for metric in row.printed.keys() & other.printed)


def test_every_table_says_where_its_numbers_stand_and_how_they_were_measured():
    assert {f"jova-table{number}" for number in range(1, 7)} < set(published_names())
    for name in published_names():
        table = load_published(name)
        assert table.name == name and table.columns and table.rows
        assert set(table.columns) <= set(METRICS) and set(table.protocols) <= set(table.columns)
        number = table.url.removeprefix("https://arxiv.org/abs/")
        assert f"arXiv:{number.removesuffix('v2')}" in table.source
        for row in table.rows:
            assert row.printed and set(row.printed) <= set(table.columns)
            assert all(value >= 0 for value in row.values.values())


def test_lse_c_of_one_model_spans_what_the_guide_says():
    tables = map(load_published, published_names())
    ovi = [row.values["LSE-C"] for table in tables for row in table.rows if row.model in ("Ovi", "Ovi 1.1")]
    assert (min(ovi), max(ovi)) == (2.81, 7.484)


def test_an_unknown_name_is_told_with_those_that_exist():
    with pytest.raises(ValueError, match="No published numbers are called 'table9'.*jova-table1.*unison"):
        load_published("table9")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"model": "A", "values": "1.0"}]}, "'A' has 1 values for 2 columns"),
        ({"rows": [{"model": "A", "values": "1.0 x"}]}, "not a number"),
        ({"rows": [{"model": "A", "values": 1.0}]}, "of wrong kind"),
        ({"rows": [{"model": "A", "values": "1 2", "kind": "silent"}]}, "`kind` of 'A'"),
        ({"rows": []}, "no rows"),
        ({"columns": ["WER", "WER"]}, "column twice"),
        ({"columns": ["WER", "XYZ"]}, "XYZ"),
        ({"read": "somewhere"}, "`read` must be one of"),
        ({"source": ""}, "must be texts"),
        ({"colour": "red"}, "unknown"),
    ],
)
def test_a_file_with_something_out_of_place_is_refused(change, message, tmp_path):
    entry = yaml.safe_load(FILE.read_text(encoding="utf-8"))["unison"] | {"protocols": {}, "columns": ["WER", "PQ"]}
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({"unison": entry | change}), encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        parse_published(path)
