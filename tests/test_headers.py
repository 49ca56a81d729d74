# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest

from diffusers_jova.headers import read_json_lines


def test_each_line_of_a_file_comes_with_its_place(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes('\ufeff{"a": "x\u2028y"}\r\n\n  \n{"b": 2}'.encode())
    assert list(read_json_lines(path)) == [
        (f"`{path}`, line 1,", {"a": "x\u2028y"}),
        (f"`{path}`, line 4,", {"b": 2}),
    ]
    path.write_text("")
    assert list(read_json_lines(path)) == []


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"a": 1}\n{"a"', "rows.jsonl`, line 2, is not JSON: Expecting"),
        (b'{"a": 1}\n\n[1, 2]', r"rows.jsonl`, line 3, must be an object, \{\.\.\.\}, got \[1, 2\]"),
        (b"3", "rows.jsonl`, line 1, must be an object"),
        (b"[" * 100_000, "rows.jsonl`, line 1, is nested too deep"),
        ('{"a": "ä"}'.encode("latin-1"), r"rows.jsonl` is not UTF-8 \(at byte 7\): save it as UTF-8"),
    ],
    ids=["cut short", "a list", "a number", "nested", "latin-1"],
)
def test_a_line_that_is_not_an_object_is_named(tmp_path, content, message):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        list(read_json_lines(path))
