# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The first and the last lines of a run, in sessions of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


SESSION = """
import pytest


@pytest.mark.needs_program("flite")
@pytest.mark.needs_program("ffprobe", "ffmpeg")
@pytest.mark.parametrize("number", range(3))
def test_with_programs(number):
    pass


@pytest.mark.needs_program("flite")
def test_with_one_program():
    pass


@pytest.mark.skip(reason="needs a moon")
def test_that_no_package_helps():
    pass


@pytest.mark.parametrize("number", range(20))
def test_alone(number):
    pass
"""


def run_session(folder, *flags, programs=()):
    """Return the lines of a quiet run where only `programs` are installed."""
    (folder / "bin").mkdir(exist_ok=True)
    for program in programs:
        (folder / "bin" / program).touch(mode=0o755)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -ra\n")
    (folder / "test_session.py").write_text(SESSION)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "run_report",
        "-p",
        "no:cacheprovider",
        "--randomly-seed=7",
        *flags,
    ]
    environment = os.environ | {"PATH": str(folder / "bin"), "PYTHONPATH": str(Path(__file__).parent)}
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.splitlines()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_one_line_at_the_end_says_what_to_install_and_one_at_the_top_how_to_repeat_the_order(workers, tmp_path):
    lines = run_session(tmp_path, "-q", "-n", workers)
    assert lines[0] == "Tests in random order. To repeat it: make test SEED=7"
    assert lines[-2] == "4 tests skipped: sudo apt-get install ffmpeg flite"
    assert lines[-1].startswith("20 passed, 5 skipped")


def test_only_what_is_missing_is_named_and_nothing_where_all_is_there(tmp_path):
    assert run_session(tmp_path, "-q", programs=["ffprobe", "ffmpeg"])[-2].endswith("apt-get install flite")
    lines = run_session(tmp_path, "-q", programs=["flite"])
    assert lines[-1].startswith("24 passed, 1 skipped") and "install" not in "".join(lines)


def test_a_seed_repeats_the_order_and_another_gives_another(tmp_path):
    orders = [
        [
            line.split()[0]
            for line in run_session(tmp_path, "-v", *flags)
            if "::test_" in line and "SKIPPED [" not in line
        ]
        for flags in ((), (), ("--randomly-seed=8",))
    ]
    assert len(orders[0]) == 25 and orders[0] == orders[1]
    assert orders[0] != orders[2] and set(orders[0]) == set(orders[2])
