# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The pages that follow from the source leave nothing out, and the code beside the equations is the source's."""

import ast
import importlib.util
import re
import sys
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

import diffusers_jova
from diffusers_jova.cli.dispatch import VERBS, make_parser
from diffusers_jova.pipeline_folder import read_pipeline_folder
from diffusers_jova.text import markdown
from diffusers_jova.training.config import LoraTrainingConfig
from diffusers_jova.training.flags import read_yaml


REPOSITORY = Path(__file__).parents[1]
SOURCE = REPOSITORY / "src" / "diffusers_jova"


@pytest.fixture(scope="module")
def reference():
    """The script that writes the pages."""
    spec = importlib.util.spec_from_file_location("reference_pages", REPOSITORY / "tools" / "reference_pages.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(reference):
    return reference.pages()


@pytest.fixture(scope="module")
def messages(reference):
    """What the index of errors is made of; it takes a look at the whole source."""
    return reference.messages()


def test_all_verbs_and_flags_are_on_the_page_of_the_command_line(pages):
    sections = re.split(r"^### ", pages["command_line.md"], flags=re.MULTILINE)[1:]
    by_verb = {section.split("\n", 1)[0]: section for section in sections}
    assert by_verb.keys() == VERBS.keys()
    for verb in VERBS:
        flags = re.findall(r"(?<![\w-])--[a-z][\w-]*", make_parser(verb, None).format_usage())
        flags = [flag for flag in flags if not flag.startswith("--no-")]
        assert [flag for flag in flags if f"`{flag}`" not in by_verb[verb]] == []


def test_all_settings_are_on_the_page_of_settings(pages):
    rows = re.findall(r"^\| `(\w+)` \|", pages["settings.md"], re.MULTILINE)
    assert sorted(rows) == sorted(item.name for item in fields(LoraTrainingConfig))


def test_all_modules_are_on_the_pages_of_their_rooms(pages):
    named = [name for text in pages.values() for name in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    files = (path.relative_to(SOURCE) for path in SOURCE.rglob("*.py") if not path.name.startswith("__"))
    modules = {".".join(("diffusers_jova", *path.with_suffix("").parts)) for path in files if path.parts[0] != "cli"}
    assert set(named) == modules and len(named) == len(modules)


def test_all_public_names_of_the_package_are_on_the_first_page():
    page = (REPOSITORY / "docs/reference.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: diffusers_jova\.(\w+)$", page, re.MULTILINE)
    elsewhere = {"ModelMixin", "read_video", "write_video", "write_wav"}  # diffusers' own; with the module `media`
    assert set(diffusers_jova.__all__) - elsewhere == set(shown) - {"images", "latents", "media"}


def test_all_errors_that_are_raised_with_a_text_are_in_the_index(messages):
    """Counted by what `raise` says, where the index goes by what is called."""
    indexed = {(message.path, message.line) for message in messages}
    missing = []
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                first = node.exc.args[0]
                has_text = any(
                    isinstance(part, ast.Constant) and any(map(str.isalpha, str(part.value)))
                    for part in ast.walk(first)
                )
                is_passed_on = isinstance(first, ast.Call) or not hasattr(node.exc.func, "id")
                if has_text and not is_passed_on and node.exc.func.id.endswith("Error"):
                    place = (path.relative_to(REPOSITORY).as_posix(), node.exc.lineno)
                    missing += [place] if place not in indexed else []
    assert missing == [] and len(indexed) > 400


@pytest.mark.parametrize(
    "provoke",
    [
        lambda: read_pipeline_folder("no-such-model"),
        lambda: read_yaml("no-such-file.yaml", LoraTrainingConfig),
        lambda: diffusers_jova.JoVATransformer3DModel(attention_fusion="none"),
        lambda: diffusers_jova.NoSuchName,
    ],
)
def test_an_error_that_is_met_is_found_by_its_words(messages, pages, provoke):
    with pytest.raises(Exception) as met:
        provoke()
    said = " ".join(str(met.value).split())
    fitting = [
        message
        for message in messages
        if re.fullmatch(".*".join(map(re.escape, message.text.split("…"))), said, re.DOTALL)
    ]
    assert fitting, said
    assert all(markdown(message.text) in pages["errors.md"] for message in fitting)


def test_code_beside_the_equations_is_the_code_of_the_source():
    page = (REPOSITORY / "docs/equations.md").read_text(encoding="utf-8")
    excerpts = re.findall(r'^```python title="(\S+)"\n(.*?)^```', page, re.MULTILINE | re.DOTALL)
    assert len(excerpts) >= 10
    for name, code in excerpts:
        source = (SOURCE / name).read_text(encoding="utf-8")
        lines = [line.strip() for line in textwrap.dedent(code).strip().split("\n")]
        found = [line.strip() for line in source.split("\n")]
        assert any(found[k : k + len(lines)] == lines for k in range(len(found))), f"{name}: {lines[0]}"


def test_every_page_is_in_the_navigation_of_the_site(pages):
    docs = REPOSITORY / "docs"
    written = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} | {
        f"reference/{name}" for name in pages
    }
    named = re.findall(r'"([\w/]+\.md)"', (REPOSITORY / "zensical.toml").read_text(encoding="utf-8"))
    assert written - {"what_is_ours.md"} == set(named)  # the page of an old address
    assert len(named) == len(set(named))
