# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How `diffusers-jova` finds its verbs, and what it says to those who look for them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffusers_jova
from diffusers_jova import cli
from diffusers_jova.cli.dispatch import GROUPS, VERBS, main


@pytest.mark.parametrize("verb", VERBS)
def test_help_explains_every_argument_and_shows_a_command(verb, capsys):
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert re.search(rf"^ *diffusers-jova {verb}\b", text, flags=re.MULTILINE)
    options = re.findall(r"^  (--[\w-]+)(?:[ ,].*?)?(?:  +(\S.*)|\n {8,}(\S.*))$", text, flags=re.MULTILINE)
    assert len(options) == len(re.findall(r"^  --\w+", text, flags=re.MULTILINE))
    assert all(short or long for _, short, long in options)


def test_help_without_a_verb_names_all_verbs_in_groups(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for title, verbs in GROUPS.items():
        block = text[text.index(f"\n{title}:\n") :].split("\n\n")[0]
        assert [line.split()[0] for line in block.splitlines()[2:]] == list(verbs)
    assert "exit status:" in text
    assert main([]) == 2 and capsys.readouterr() == ("", text)


def test_every_file_of_a_verb_is_listed():
    shared = {"__init__", "dispatch", "engine", "pipeline", "prompts", "converting", "training", "memory"}
    files = {path.stem for path in Path(cli.__file__).parent.glob("*.py")}
    assert files - shared == {verb.replace("-", "_") for verb in VERBS}


def test_unknown_arguments_end_with_code_2(capsys):
    for args in (
        ["generate", "--modalities", "smell"],
        ["assemble", "--vea", "x", "--vae", "x", "--transformer", "x"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(args)
        assert stop.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: unknown argument `--vea`. Did you mean `--vae`? `diffusers-jova assemble --help` explains all."
    )


def test_a_missing_argument_is_one_line(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["create"])
    assert stop.value.code == 2 and capsys.readouterr().err == (
        "error: the following arguments are required: --output. `diffusers-jova create --help` explains all.\n"
    )


def test_an_unknown_verb_is_named_with_the_nearest(capsys):
    assert main(["generat"]) == 2
    assert "no verb `generat`. Did you mean `generate`?" in capsys.readouterr().err
    assert main(["sing"]) == 2
    assert capsys.readouterr().err == "error: There is no verb `sing`. `diffusers-jova --help` lists them all.\n"


def test_a_verb_may_be_spelled_as_its_file_is(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert_wan_vae", "--help"])
    assert stop.value.code == 0 and "usage: diffusers-jova convert-wan-vae" in capsys.readouterr().out


def test_the_version_is_that_of_the_package(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"diffusers-jova {diffusers_jova.__version__}\n"


def test_the_module_runs_as_a_program():
    run = subprocess.run([sys.executable, "-m", "diffusers_jova", "create"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stderr.startswith("error: ") and run.stderr.count("\n") == 1 and "--output" in run.stderr
