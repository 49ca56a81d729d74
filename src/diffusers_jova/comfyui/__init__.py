# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Nodes for ComfyUI, which loads this folder, or a folder of its own whose `__init__.py` is

from diffusers_jova.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

docs/howto/comfyui.md says how.
"""

# by its full name: where ComfyUI loads the folder itself, it is not part of a package
from diffusers_jova.comfyui.nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS


__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
