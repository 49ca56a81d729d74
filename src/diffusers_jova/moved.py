# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Modules that have moved, under their old names for those who import them: each import says where it is now."""

import importlib
import importlib.abc
import sys
import warnings
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


PACKAGE = __name__.rpartition(".")[0]

MOVED = {  # old name: new name, in the package; docs/architecture.md has the same table
    "shipped": "pipeline_folder",
    "conversion.command": "cli.converting",
    "evaluation.bench_command": "cli.bench",
    "evaluation.score_command": "cli.score",
    "training.cache": "data.cache",
    "training.clips": "data.clips",
    "training.faces": "faces",
    "training.inventory": "data.inventory",
    "training.likeness": "evaluation.likeness",
    "training.mouth": "mouth",
    "training.names": "data.names",
    "training.preparation": "data.preparation",
    "training.preprocessing": "data.preprocessing",
    "training.progress": "progress",
    "training.round_trip": "data.round_trip",
    "training.summary": "data.summary",
    "training.workers": "workers",
}


def find_moved_modules() -> None:
    """Let `import` find modules under their old names, behind everything that is there."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the module of today under its name of before. It is the same object: what is set on one is set on both."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target=None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != PACKAGE or name not in MOVED:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # the usual empty module, which `exec_module` replaces

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, f"{PACKAGE}.{MOVED[module.__name__.removeprefix(f'{PACKAGE}.')]}"
        # level 2 is the line of the import: `warn` passes over the frames of the import system
        warnings.warn(f"`{old}` is now `{new}`: import it from there.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)
