# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Private names of diffusers: without any of them a clip is made, and what needs it says which versions have it.

It needs no other test file, so that it tells what a new diffusers lacks that the rest cannot even import:
`python -m pytest --noconftest tests/test_compat.py`.
"""

import ast
import functools
import importlib
import importlib.metadata
import multiprocessing
import sys
import tomllib
from pathlib import Path

import pytest

from diffusers_jova.compat import ATTRIBUTES, NAMES, VERSIONS, MissingNameError, PrivateName


REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
LIBRARIES = ("accelerate", "diffusers", "peft", "torch", "transformers")
# of one object, not of its class; they are set when it is made, or when gradient checkpointing is turned on
OF_OBJECTS = {"_gradient_checkpointing_func", "_padding", "_processes"}
OUR_OWN = {"_running_call", "_exit"}  # set in another way; Python's os._exit

# What the pipeline looks at when it makes a clip, though only caches and context parallelism set it
LOOKED_AT = [place for place in ATTRIBUTES if place.endswith(("._cache_config", "._parallel_config", "._cp_plan"))]


def test_a_clip_is_made_without_a_private_name_and_what_needs_the_name_says_which_versions_have_it(tmp_path):
    """One child for all names, hence one test. It is a copy of this process, which has imported the libraries."""
    import without_a_name  # a child that cannot import fails this test alone

    names = {name: list(private.places.values()) for name, private in NAMES.items()}
    # on macOS libraries do not go on in a fork
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=without_a_name.report, args=(sender, tmp_path, names, LOOKED_AT))
    child.start()
    sender.close()
    reports = receiver.recv()
    child.join()
    assert reports.keys() == {*NAMES, *LOOKED_AT, "all"}
    assert {name: clip for name, (clip, _) in reports.items() if clip} == {}
    for name, private in NAMES.items():
        error = reports[name][1]
        start = f"MissingNameError: {private.feature} cannot be used here: {private.library} "
        assert error.startswith(start), (name, error)
        assert f"`pip install '{private.library}{VERSIONS[private.library]}'`" in error, (name, error)


def test_a_name_is_found_where_the_newest_version_has_it():
    places = {"1.0": "torch:gone", "2.0": "torch:zeros", "3.0": "torch.nowhere:zeros"}
    assert PrivateName("This", places).find() is importlib.import_module("torch").zeros
    gone = PrivateName("This", {"1.0": "torch:a", "2.0": "torch.b:c"})
    with pytest.raises(
        MissingNameError, match=r"This cannot be used here: torch .* has no `torch\.a` or `torch\.b\.c`"
    ):
        gone.find()


@functools.cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports_of_libraries() -> set[tuple[str, str]]:
    """Return what the package imports at the top or anywhere else, as (module, name)."""
    nodes = [node for path in SOURCES for node in nodes_of(path)]
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return {(x.module, alias.name) for x in imports for alias in x.names if x.module.split(".")[0] in LIBRARIES}


def find(module: str, path: str) -> object:
    found = importlib.import_module(module)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            found = importlib.import_module(f"{found.__name__}.{name}")  # a module within
    return found


def test_the_installed_versions_have_every_name_that_we_use():
    needed = {place: private.feature for private in NAMES.values() for place in list(private.places.values())[-1:]}
    needed |= ATTRIBUTES | {f"{module}:{name}": "importing us" for module, name in imports_of_libraries()}
    lacking = []
    for place, feature in sorted(needed.items()):
        try:
            find(*place.split(":"))
        except (ImportError, AttributeError):
            lacking.append(f"{place.replace(':', '.')} ({feature})")
    versions = ", ".join(f"{library} {importlib.metadata.version(library)}" for library in LIBRARIES)
    assert not lacking, f"{versions} lack:\n" + "\n".join(lacking)


def test_private_names_are_imported_through_the_table_alone():
    dotted = [f"{module}.{name}" for module, name in imports_of_libraries() if name != "__version__"]
    assert [name for name in dotted if "._" in name] == []


def test_private_attributes_of_others_are_in_the_table():
    used, own = {}, set()
    for path in SOURCES:
        for node in nodes_of(path):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                own.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                own.add(node.id)
            elif isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                used.setdefault(node.attr, f"{path.name}:{node.lineno}")
                if isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name) and node.value.id == "self":
                    own.add(node.attr)
    known = {name for place in ATTRIBUTES for name in place.split(":")[1].split(".")} | OF_OBJECTS | OUR_OWN
    assert {name: where for name, where in used.items() if name not in own | known} == {}


def test_the_versions_are_those_of_the_package():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {f"{library}{versions}" for library, versions in VERSIONS.items()} <= set(project["dependencies"])
