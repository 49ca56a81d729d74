# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a run says first and last: how to repeat its order, and what to install for the tests that it skipped.

`@pytest.mark.needs_program("flite")` skips a test where a program is missing.
"""

import shutil

import pytest


DEBIAN_PACKAGES = {"ffprobe": "ffmpeg"}  # of other programs: as the program
NEEDS = "needs the Debian packages "


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    seed = session.config.getoption("randomly_seed", None)
    if reporter and seed is not None:  # pytest-randomly's own line is left out by -q
        reporter.write_line(f"Tests in random order. To repeat it: make test SEED={seed}")


def pytest_collection_modifyitems(items):
    for item in items:
        programs = {program for marker in item.iter_markers("needs_program") for program in marker.args}
        missing = {DEBIAN_PACKAGES.get(program, program) for program in programs if shutil.which(program) is None}
        if missing:
            item.add_marker(pytest.mark.skip(reason=NEEDS + " ".join(sorted(missing))))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter):
    result = yield  # all other summaries
    reasons = [report.longrepr[2] for report in terminalreporter.stats.get("skipped", []) if report.longrepr]
    lacking = [reason.partition(NEEDS)[2].split() for reason in reasons if NEEDS in reason]
    if lacking:
        tests = "1 test" if len(lacking) == 1 else f"{len(lacking)} tests"
        packages = " ".join(sorted(set().union(*lacking)))
        terminalreporter.write_line(f"{tests} skipped: sudo apt-get install {packages}", yellow=True)
    return result
