# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Imports run downhill: leaves, models, loaders, pipelines, faces, mouth, evaluation, data, training, nano, mini."""

import ast
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).parents[1]
PACKAGE = "diffusers_jova"

LEAVES = {
    *("command", "compat", "engines", "files", "headers", "images", "latents", "live_memory"),
    *("machine", "media", "moved"),
    *("pipeline_folder", "presets", "progress", "ray_engine", "registration", "remote"),
    *("shards", "text", "vocabulary", "workers"),
}
MODELS = LEAVES | {"models", "loaders"}
FACES = {"faces", "mouth"}
SEES = {  # each part and, beside itself, what it may import
    **dict.fromkeys(LEAVES, LEAVES),
    "models": LEAVES,
    "loaders": LEAVES | {"models"},
    "pipelines": MODELS,
    **dict.fromkeys(FACES, LEAVES | FACES),
    "evaluation": MODELS | FACES | {"pipelines"},
    "data": MODELS | FACES | {"pipelines", "evaluation"},
    "dataset": MODELS | FACES | {"pipelines", "evaluation", "data"},
    "training": MODELS | FACES | {"pipelines", "evaluation", "data"},
    "nano": MODELS | FACES | {"pipelines", "evaluation", "data", "training"},
    "mini": MODELS | FACES | {"pipelines", "evaluation", "data", "training", "nano"},
    "conversion": MODELS,  # a LoRA file means the same to the pipeline and to the converter
}
SEE_EVERYTHING = {"__init__", "__main__", "cli", "app", "comfyui"}  # and no part sees them
SCRIPT_FOLDERS = ("training", "conversion", "benchmarks")  # at the top of the repository

MODULES = sorted((REPOSITORY / "src" / PACKAGE).rglob("*.py"))
SCRIPTS = [path for folder in SCRIPT_FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.py"))]
TESTS = sorted((REPOSITORY / "tests").rglob("*.py"))


def imported_modules(source: str, module: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return the dotted names that a source imports, `("diffusers_jova", "models", "transformer_jova")`.

    Args:
        source: of the module.
        module: where it lies, as in `("diffusers_jova", "models", "__init__")`; relative imports start from there.
    """
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module[: -node.level] if node.level else ()
            base += tuple(node.module.split(".")) if node.module else ()
            names |= {(*base, alias.name) for alias in node.names}
    return names


def uphill_imports(source: str, module: tuple[str, ...]) -> set[str]:
    """Return the imports of a module of the package that its part may not have."""
    part = module[1]
    if part in SEE_EVERYTHING:
        return set()
    own = [name for name in imported_modules(source, module) if name[0] == PACKAGE]
    # `from diffusers_jova import JoVAPipeline` goes through `__init__`, which stands above all
    targets = {name[1] if len(name) > 1 and name[1] in SEES else "__init__" for name in own}
    return targets - SEES[part] - {part}


def module_of(path: Path) -> tuple[str, ...]:
    return path.relative_to(REPOSITORY / "src").with_suffix("").parts


@pytest.mark.parametrize("path", MODULES, ids=lambda path: "/".join(module_of(path)[1:]))
def test_module_imports_only_downhill(path):
    module = module_of(path)
    assert module[1] in SEES.keys() | SEE_EVERYTHING, f"give `{module[1]}` a place in the order of imports"
    assert uphill_imports(path.read_text(encoding="utf-8"), module) == set()


@pytest.mark.parametrize("path", MODULES + SCRIPTS + TESTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_nothing_imports_a_script(path):
    module = module_of(path) if path in MODULES else ("somewhere", "else")
    imports = imported_modules(path.read_text(encoding="utf-8"), module)
    assert {name[0] for name in imports} & {*SCRIPT_FOLDERS, *(script.stem for script in SCRIPTS)} == set()


@pytest.mark.parametrize(
    "source, uphill",
    [
        ("from ..latents import num_tokens", set()),
        ("from .vocoder_bigvgan import BigVGANVocoder", set()),
        ("import torch", set()),
        ("from ..pipelines.pipeline_jova import JoVAPipeline", {"pipelines"}),
        ("from .. import pipelines", {"pipelines"}),
        ("import diffusers_jova.training.step", {"training"}),
        ("def f():\n    from diffusers_jova import JoVAPipeline", {"__init__"}),
        ("import diffusers_jova", {"__init__"}),
    ],
)
def test_uphill_import_is_seen_from_models(source, uphill):
    assert uphill_imports(source, (PACKAGE, "models", "transformer_jova")) == uphill


def test_conversion_sees_models_but_not_pipelines():
    source = "from ..models.transformer_jova import PRESETS\nfrom ..pipelines import JoVAPipeline"
    assert uphill_imports(source, (PACKAGE, "conversion", "waver")) == {"pipelines"}
