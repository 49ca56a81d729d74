# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`--help` answers at once: no program imports torch before it knows its arguments."""

import ast
import os
from pathlib import Path

import pytest
from warm_python import WarmPython

from diffusers_jova.cli.dispatch import VERBS


REPOSITORY = Path(__file__).parents[2]
HEAVY = ("torch", "diffusers", "transformers", "numpy", "av", "tqdm")
# Runs a program and then says on the standard error output what it has imported
SAY = f"""
import runpy, sys
start, sys.argv = sys.argv[1], sys.argv[1:]
try:
    if start == "diffusers_jova":
        runpy.run_module(start, run_name="__main__")
    else:
        runpy.run_path(start, run_name="__main__")
finally:
    print("imported:", [name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


def has_a_parser(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    called = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return "ArgumentParser" in names or "run_verb" in called


SCRIPTS = [
    path
    for folder in ("training", "conversion")
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
    if has_a_parser(path)
]
PROGRAMS = [
    ["diffusers_jova"],
    *(["diffusers_jova", verb] for verb in VERBS),
    *([str(path.relative_to(REPOSITORY))] for path in SCRIPTS),
]


@pytest.fixture(scope="module")
def python():
    """A Python that has imported what every program begins with, so that each only takes a fork."""
    with WarmPython(["argparse", "diffusers_jova.cli.dispatch"]) as python:
        yield python


@pytest.mark.parametrize("program", PROGRAMS, ids=" ".join)
def test_help_imports_nothing_heavy(program, python):
    done = python.run("-c", SAY, *program, "--help", cwd=REPOSITORY, env={**os.environ, "COLUMNS": "120"})
    assert done.returncode == 0 and "usage:" in done.stdout, done.stderr
    assert done.stderr.splitlines()[-1] == "imported: []"


def test_every_script_is_among_them():
    names = {path.name for path in SCRIPTS}
    assert {"preprocess.py", "train.py", "train_lora.py", "assemble_jova.py", "convert_lora.py", "pack.py"} <= names
