# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The pipeline and what it returns."""

import importlib
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from .pipeline_jova import JoVAPipeline
    from .pipeline_output import JoVAPipelineOutput


__all__ = ["JoVAPipeline", "JoVAPipelineOutput"]

# Imported when first used: `pipelines.prompts` alone is what processes that read clips need.
MODULES = {"JoVAPipeline": ".pipeline_jova", "JoVAPipelineOutput": ".pipeline_output"}


def __getattr__(name: str):
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(MODULES[name], __name__), name)
