# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Commands in the docs are commands that there are, with flags that there are."""

import re
import shlex
from pathlib import Path

import pytest

from diffusers_jova.cli.dispatch import VERBS, make_parser, parse


REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *(REPOSITORY / "docs").rglob("*.md"), *REPOSITORY.glob("*/README.md")])
PAGES = [page for page in PAGES if page.parent.name != "reference"]  # made of the verbs themselves


def commands(text):
    """Yield the arguments of each `diffusers-jova` in the code blocks of a page, or of a docstring."""
    for line in text.replace("\\\n", " ").splitlines():
        if re.match(r"\s*(\$ )?diffusers-jova ", line):
            yield shlex.split(line, comments=True)[1:]


def check(arguments):
    """Let the verb's own parser read the arguments; "..." stands for those that the page leaves out."""
    verb, *flags = arguments
    if "..." in flags:
        known = make_parser(verb, None).format_help()
        assert all(flag in known for flag in flags if flag.startswith("--")), arguments
    else:
        parse(verb, flags)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_commands_of_the_docs_have_verbs_and_flags_that_exist(page):
    for arguments in commands(page.read_text(encoding="utf-8")):
        check(arguments)


@pytest.mark.parametrize("verb", VERBS)
def test_commands_in_the_help_of_a_verb_are_right(verb):
    found = list(commands(make_parser(verb, None).description))
    assert verb in {arguments[0] for arguments in found}
    for arguments in found:
        check(arguments)


def test_a_wrong_flag_in_the_docs_is_seen():
    (arguments,) = commands("```sh\ndiffusers-jova create --preset jova-nano \\\n    --outptu x\n```")
    with pytest.raises(SystemExit):
        check(arguments)
