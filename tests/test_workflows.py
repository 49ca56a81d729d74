# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a forge and pre-commit run is what the Makefile and the program have."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

from diffusers_jova.cli.dispatch import VERBS


REPOSITORY = Path(__file__).parents[1]
WORKFLOWS = sorted((REPOSITORY / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")


def read_yaml(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def commands_of(workflow):
    """Return the commands of a workflow, each as its words."""
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    scripts = [step["run"].replace("\\\n", " ") for step in steps if "run" in step]
    return [shlex.split(line, comments=True) for script in scripts for line in script.split("\n")]


def lint_commands():
    """Return the modules that `make lint` runs, with the word behind them."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)[1]
    return [line.split("$(RUN) ")[1].split()[:2] for line in recipe.splitlines()]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_targets_and_verbs_of_a_workflow_exist(path):
    workflow = read_yaml(path)
    assert workflow["name"] == path.stem and workflow["permissions"] == {"contents": "read"}
    targets = set(re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[1].split())
    commands = commands_of(workflow)
    assert {words[1] for words in commands if words[:1] == ["make"]} <= targets
    assert {words[1] for words in commands if words and words[0].endswith("diffusers-jova")} <= VERBS.keys()


def test_the_two_commands_run_on_three_systems():
    workflow = read_yaml(REPOSITORY / ".github/workflows/tests.yml")
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]
    systems = {*matrix["os"], *(entry["os"] for entry in matrix["include"])}
    assert systems == {"ubuntu-latest", "macos-latest", "windows-latest"}
    assert {"test", "demo"} <= {words[1] for words in commands_of(workflow) if words[:1] == ["make"]}


def test_pre_commit_checks_what_make_lint_checks():
    (repository,) = read_yaml(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    entries = [hook["entry"].split() for hook in repository["hooks"]]
    assert [entry[:3] for entry in entries] == [[".venv/bin/python", "-m", words[0]] for words in lint_commands()]
    assert [entry[3:4] for entry in entries] == [words[1:2] for words in lint_commands()]


def test_issue_forms_and_the_template_of_pull_requests_are_there():
    forms = [read_yaml(path) for path in (REPOSITORY / ".github/ISSUE_TEMPLATE").glob("[bf]*.yml")]
    assert len(forms) == 2 and all(form["name"] and form["body"] for form in forms)
    assert (REPOSITORY / ".github/pull_request_template.md").is_file()
