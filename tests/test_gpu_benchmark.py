# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu.sh in small on the CPU, and how it ends parts; the page that is made of its figures."""

import argparse
import ast
import json
import os
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from warm_python import WarmPython


REPOSITORY = Path(__file__).parents[1]
BENCHMARKS = REPOSITORY / "benchmarks"
# the others run the same code: blocks, forward_24b and compiled_whole that of forward, tests calls pytest
TRIED = ("card", "forward", "training", "sampling", "offload", "storage", "attention", "peers")
MODULES = ["torch._dynamo", "peft", "bitsandbytes", "diffusers_jova.training.train"]
MODULES += [f"diffusers.models.transformers.transformer_{name}" for name in ("ltx2", "kandinsky6", "flux2")]


@pytest.fixture(scope="module")
def gpu():
    return argparse.Namespace(**runpy.run_path(str(BENCHMARKS / "gpu.py")))


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def program(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.long
def test_parts_run_in_small_on_a_cpu_and_leave_figures(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    output = tmp_path / "figures" / "gpu.jsonl"
    with WarmPython(MODULES, environment=environment) as python:
        warm = program(tmp_path / "python", f'exec {shlex.join(python.command)} "$@"')
        command = [sys.executable, BENCHMARKS / "gpu.py", "--smoke", "--budget_s", "3000", "--output", output]
        command += ["--only", *TRIED]
        done = subprocess.run(command, env=environment | {"PYTHON": str(warm)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = read(output)
    ends = {row["part"]: row for row in rows if row["what"] == "end"}
    assert {part: end["status"] for part, end in ends.items()} == dict.fromkeys(TRIED, "ok")
    figures = [row for row in rows if row["what"] != "end"]
    assert all(row["card"] == "CPU" and row["command"].endswith(f"--only {row['part']}") for row in figures)
    modes = {(row["part"], row.get("mode")) for row in figures}
    assert {("forward", "eager"), ("forward", "blocks compiled"), ("storage", "blocks stored in float8")} <= modes
    assert all(row["seconds"] > 0 and row["tokens_per_s"] > 0 for row in figures if "seconds" in row)
    learned = {row["what"]: row for row in figures if row["part"] == "training"}
    assert learned.keys() == {"LoRA step", "step of whole weights"}
    assert 0 < learned["LoRA step"]["foreseen_gib"] < learned["step of whole weights"]["foreseen_gib"]
    backends = {row["backend"]: row for row in figures if row["part"] == "attention"}
    assert backends["native"]["difference"] == 0 and backends["_native_math"]["difference"] < 0.05
    assert "flash-attn" in backends["flash"]["unavailable"]
    assert {"steps, plain", "steps, TaylorSeer, every fifth computed"} <= {row["what"] for row in figures}
    assert any("LTX2" in row["what"] for row in figures)


def test_the_plan_has_every_part_and_fits_the_budget(gpu):
    tree = ast.parse((BENCHMARKS / "gpu_parts.py").read_text(encoding="utf-8"))
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    (table,) = [node for node in tree.body if isinstance(node, ast.AnnAssign) and node.target.id == "PARTS"]
    names = [node.id for node in ast.walk(table.value) if isinstance(node, ast.Name) and node.id in functions]
    assert sorted(names) == sorted(gpu.PARTS) and all(ast.get_docstring(functions[name]) for name in names)
    assert sum(part.expected_s for part in gpu.PARTS.values()) <= 470
    assert gpu.describe_plan(list(gpu.PARTS)).splitlines()[-1].strip() == "470 s in all"
    assert next(iter(gpu.PARTS)) == "card"  # what all rates are read against


ROW = '{"part": "card", "what": "card"}'


class Limit:
    """A time limit that is over when the test says so."""

    made: list["Limit"] = []

    def __init__(self, seconds, function, arguments):
        self.end, self.is_over = lambda: function(*arguments), False
        self.made.append(self)

    def start(self):
        pass

    def cancel(self):
        pass

    def is_alive(self):
        return not self.is_over


def test_a_part_that_hangs_is_ended_with_what_it_started_and_its_figures_stay(gpu, tmp_path, monkeypatch):
    # a process that the part leaves would keep its output open
    monkeypatch.setenv("PYTHON", str(program(tmp_path / "python", f"sleep 600 & echo '{ROW}'; wait")))
    monkeypatch.setattr(gpu.threading, "Timer", Limit)
    rows = gpu.run_part("card", limit_s=30, smoke=True)
    assert next(rows) == json.loads(ROW) | {"command": "benchmarks/gpu.sh --only card"}
    limit = Limit.made.pop()
    limit.is_over = True
    limit.end()
    (end,) = rows
    assert (end["status"], end["error"]) == ("out of time", "it was ended after 30 s")


@pytest.mark.parametrize(
    "text, status, error",
    [
        (
            f"echo '{ROW}'; echo warning >&2; echo 'RuntimeError: no kernel' >&2; exit 1",
            "failed",
            "RuntimeError: no kernel",
        ),
        (f"echo '{ROW}'", "ok", None),
    ],
)
def test_a_part_that_fails_leaves_its_figures_and_its_error(gpu, tmp_path, monkeypatch, text, status, error):
    monkeypatch.setenv("PYTHON", str(program(tmp_path / "python", text)))
    figure, end = gpu.run_part("card", limit_s=600, smoke=True)
    assert figure["what"] == "card" and (end["status"], end.get("error")) == (status, error)


def test_without_a_gpu_the_run_stops_and_says_so(gpu, tmp_path, monkeypatch, capsys):
    text = "echo 'error: There is no GPU here, try --smoke.' >&2; exit 2"
    monkeypatch.setenv("PYTHON", str(program(tmp_path / "python", text)))
    args = argparse.Namespace(output=tmp_path / "out.jsonl", only=None, budget_s=470, smoke=False, dry_run=False)
    with pytest.raises(ValueError, match="There is no GPU here"):
        gpu.main(args)
    assert not args.output.exists()


def test_parts_without_time_are_told_and_figures_of_others_stay(gpu, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHON", str(program(tmp_path / "python", f"echo '{ROW}'")))
    output = tmp_path / "out.jsonl"
    gpu.write_rows(output, [{"part": "peers", "what": "old"}, {"part": "card", "what": "old"}])
    args = argparse.Namespace(output=output, budget_s=12, smoke=False)
    assert gpu.measure(["card", "forward_24b"], args) == 1
    rows = read(output)
    assert [(row["part"], row["what"]) for row in rows] == [
        ("peers", "old"),
        ("card", "card"),
        ("card", "end"),
        ("forward_24b", "end"),
    ]
    assert rows[-1]["status"] == "not run" and "--only forward_24b" in rows[-1]["error"]


def test_a_missing_package_is_named_with_where_to_get_it(gpu, monkeypatch):
    def version(name):
        if name in ("diffusers", "av"):
            raise gpu.importlib.metadata.PackageNotFoundError(name)
        return "99"

    monkeypatch.setattr(gpu.importlib.metadata, "version", version)
    with pytest.raises(ImportError, match="^diffusers cannot be imported.*benchmarks/wheels.sh diffusers"):
        gpu.check_packages()


def test_scripts_of_the_shell_are_right():
    for name in ("gpu.sh", "wheels.sh", "with_wheels.sh", "../training/mini/gpu.sh"):
        subprocess.run(["sh", "-n", str(BENCHMARKS / name)], check=True)
        assert os.access(BENCHMARKS / name, os.X_OK)


# --- the page ---


@pytest.fixture(scope="module")
def page():
    return argparse.Namespace(**runpy.run_path(str(BENCHMARKS / "speed_and_memory.py")))


def test_the_page_is_what_the_figures_give(page, capsys):
    assert page.main(argparse.Namespace(check=True, count=False)) == 0, capsys.readouterr().out


def test_the_page_shows_what_was_measured_and_what_was_not(page):
    memory = page.read_rows("memory.jsonl")
    assert "**Not run.**" in page.make_page(memory, []) and "| not run |" in page.make_page(memory, [])
    facts = {"card": "Card", "torch": "2.11", "date": "2026-12-01"}
    forward = {"part": "forward_24b", "what": "forward", "model": "jova-24b", "clip": "480 x 832, 121 frames"}
    rows = [
        facts | forward | {"mode": "eager", "seconds": 3.25},
        facts | forward | {"mode": "nf4", "unavailable": "no"},
    ]
    rows += [{"part": "peers", "what": "end", "status": "failed", "error": "RuntimeError: no kernel"}]
    text = page.make_page(memory, rows)
    assert "| 3.25 s (Card, eager) |" in text and "Not measured: RuntimeError: no kernel" in text
    assert "Card, 2.11, 2026-12-01. `benchmarks/gpu.sh --only forward_24b`" in text and "**Not run.**" not in text


def test_the_plainest_way_that_fits_is_shown(page):
    calls = {("m", "c", way): need for way, need in zip("ABCDE", (50.0, 40.0, 30.0, 5.0, 20.0))}
    assert page.first_way(calls, "m", "c", 51.0) == "A, 50.0" and page.first_way(calls, "m", "c", 50.9) == "B, 40.0"
    assert page.first_way(calls, "m", "c", 22.0) == "D, 5.0" and page.first_way(calls, "m", "c", 5.0) == "–"
