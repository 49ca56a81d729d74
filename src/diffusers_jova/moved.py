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
    "training.faces": "faces",
    "training.inventory": "data.inventory",
    "training.likeness": "evaluation.likeness",
    "training.mouth": "mouth",
    "training.names": "data.names",
    "training.progress": "progress",
    "training.round_trip": "data.round_trip",
    "training.summary": "data.summary",
    "training.workers": "workers",
}
DIVIDED = {  # old name: the modules that share what was in it
    "training.clips": ("data.clips", "data.probe", "data.windows"),
    "training.preparation": ("data.prepare", "images"),
    "training.preprocessing": (
        *("data.preprocessing", "data.settings", "data.model_facts", "data.encode"),
        *("data.phases", "data.validate_mouth_mask"),
    ),
    "training.setup": (
        *("training.accelerator", "training.adapters", "training.dataset", "training.initialization"),
        *("training.memory", "training.output_dir", "training.train", "training.train_lora"),
        *("training.validation", "training.validation_prompts", "training.weights"),
    ),
}


def find_moved_modules() -> None:
    """Let `import` find modules under their old names, after all other finders."""
    if not any(isinstance(finder, _MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(_MovedModules())


class _MovedModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a module under its old name as the same object: what is set on one is set on both. For one that was
    divided it makes a module with all that is public in its pieces."""

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target=None) -> ModuleSpec | None:
        package, _, name = fullname.partition(".")
        if package != PACKAGE or name not in MOVED.keys() | DIVIDED.keys():
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # the usual empty module

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix(f"{PACKAGE}.")
        new = [f"{PACKAGE}.{name}" for name in ((MOVED[old],) if old in MOVED else DIVIDED[old])]
        # level 2 is the line of the import: `warn` passes over the frames of the import system
        now = ", ".join(f"`{name}`" for name in new)
        warnings.warn(f"`{PACKAGE}.{old}` is now {now}: import from there.", DeprecationWarning, stacklevel=2)
        pieces = [importlib.import_module(name) for name in new]
        if old in MOVED:
            sys.modules[module.__name__] = pieces[0]
        for piece in reversed(pieces) if old in DIVIDED else ():
            vars(module).update({name: value for name, value in vars(piece).items() if not name.startswith("_")})
