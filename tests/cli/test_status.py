# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Exit statuses mean the same in all programs: 0 done, if only in part, 1 nothing came of it, 2 wrong input."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

from diffusers_jova.cli.dispatch import VERBS, main


REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("training", "conversion", "benchmarks")
PROGRAMS = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
NAMES = {path.relative_to(REPOSITORY).as_posix(): path for path in PROGRAMS}

# of each verb a call whose input is not there
BAD = {
    "demo": ["--image", "missing.png"],
    "generate": ["--model", "missing", "--prompt", "x", "--output", "x.mp4"],
    "encode": ["--model", "missing", "--prompt", "x", "--output", "x.safetensors"],
    "create": ["--output", "missing/x"],
    "app": ["--model", "missing"],
    **dict.fromkeys(("split", "filter", "pack"), ["--data", "missing", "--output_dir", "x"]),
    "annotate": ["--data", "missing", "--output_dir", "x", "--transcriber", "missing"],
    "dataset": ["missing", "--model", "jova-nano", "--output_dir", "x"],
    "preprocess": ["--data", "missing", "--model", "jova-nano", "--output_dir", "x"],
    "validate-mouth-mask": ["--video", "missing.mp4", "--model", "jova-nano"],
    "bench": ["--model", "jova-nano", "--prompts", "missing.jsonl", "--output_dir", "x"],
    "score": ["missing", "--prompts", "missing.jsonl"],
    "assemble": ["--transformer", "missing", "--vae", "missing", "--output", "x"],
    "convert-waver": ["--to", "jova", "--input", "missing", "--output", "x"],
    "convert-wan": ["--to", "jova", "--input", "missing", "--output", "x"],
    "convert-lora": ["--to", "kohya", "--input", "missing", "--output", "x"],
    **dict.fromkeys(("train", "train-lora"), ["--model", "jova-nano", "--cache_dir", "missing", "--output_dir", "x"]),
    **dict.fromkeys(
        ("convert-mmaudio", "convert-bigvgan", "convert-wan-vae"), ["--input", "missing", "--output", "x"]
    ),
}
SCRIPTS = {path.stem: path for path in PROGRAMS if path.parent.name in ("training", "conversion")}
SCRIPT_OF = {verb: SCRIPTS.get(verb.replace("-", "_")) for verb in VERBS} | {"assemble": SCRIPTS["assemble_jova"]}


def error_of(capsys):
    """Return the one line that says what went wrong."""
    lines = capsys.readouterr().err.strip().splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    return lines[-1]


@pytest.mark.parametrize("verb", VERBS)
def test_input_that_is_not_there_is_named_and_the_status_is_2(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([verb, *BAD[verb]]) == 2
    assert "missing" in error_of(capsys)


@pytest.mark.parametrize("verb", [verb for verb, path in SCRIPT_OF.items() if path is not None])
def test_a_script_of_the_repository_does_what_its_verb_does(verb, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([verb, *BAD[verb]])
    told = error_of(capsys)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT_OF[verb]), *BAD[verb]])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT_OF[verb]), run_name="__main__")
    assert stop.value.code == 2 and error_of(capsys) == told


@pytest.mark.parametrize("name", NAMES)
def test_every_program_ends_through_the_one_handler_of_errors(name):
    last = ast.parse(NAMES[name].read_text(encoding="utf-8")).body[-1]
    assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'"
    assert ast.unparse(last.body[-1]).startswith(("sys.exit(run(", "sys.exit(run_verb(", "sys.exit(command.run("))
