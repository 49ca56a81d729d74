# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Our classes, known to diffusers as soon as both packages are imported, whichever comes first; none is loaded yet."""

import importlib
import importlib.abc
import importlib.util
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from . import compat


PACKAGE = __name__.rpartition(".")[0]
TRANSFORMERS = ("JoVATransformer3DModel", "JoVAWanTransformer3DModel")
CLASSES = ("JoVAPipeline", *TRANSFORMERS, "AutoencoderMMAudio", "BigVGANVocoder", "GriffinLimVocoder")


def register() -> None:
    """Make the classes known to diffusers, so that `DiffusionPipeline` and `AutoModel` load them too.

    Importing the package has done it already. It only adds: a class of the same name in diffusers wins, and a second
    call changes nothing.
    """
    import diffusers
    import diffusers.pipelines

    if compat.has("LOADABLE_CLASSES"):
        compat.load("LOADABLE_CLASSES").setdefault(PACKAGE, {"ModelMixin": ["save_pretrained", "from_pretrained"]})
    if compat.has("SINGLE_FILE_LOADABLE_CLASSES"):
        # a single file in our own layout: `JoVATransformer3DModel.from_single_file(file, config=folder)`
        for name in TRANSFORMERS:
            compat.load("SINGLE_FILE_LOADABLE_CLASSES").setdefault(
                name,
                {"checkpoint_mapping_fn": lambda checkpoint, **kwargs: checkpoint, "default_subfolder": "transformer"},
            )
    _add_names(diffusers, CLASSES)
    _add_names(diffusers.pipelines, ("JoVAPipeline",))  # upstream's own test of `encode_prompt` looks it up there


def _add_names(module: ModuleType, names: Sequence[str]) -> None:
    """Let `module` find our classes too, when they are asked for (PEP 562)."""

    def find(name: str):
        if name not in names or name in upstream:
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
        return getattr(importlib.import_module(PACKAGE), name)

    upstream = set(getattr(module, "__all__", ()))
    vars(module).setdefault("__getattr__", find)


def register_with_diffusers() -> None:
    """Call `register` now if diffusers is imported, else as soon as it will be: importing it takes seconds."""
    if "diffusers" in sys.modules:
        register()
    else:
        sys.meta_path.insert(0, _AfterDiffusers())


class _AfterDiffusers(importlib.abc.MetaPathFinder):
    """Waits for the import of diffusers, and registers after it."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname != "diffusers":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
