# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The pipeline and what it returns."""

from .pipeline_jova import JoVAPipeline
from .pipeline_output import JoVAPipelineOutput


__all__ = ["JoVAPipeline", "JoVAPipelineOutput"]
