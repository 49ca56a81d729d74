# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""JoVA for diffusers: joint video and audio generation. Importing it makes its classes known to diffusers.

import diffusers_jova
pipe = diffusers_jova.JoVAPipeline.from_pretrained(folder_or_repository)
"""

import importlib
from typing import TYPE_CHECKING

from .moved import find_moved_modules
from .registration import register, register_with_diffusers


if TYPE_CHECKING:
    from diffusers import ModelMixin

    from .media import read_video, write_video, write_wav
    from .models.autoencoder_mmaudio import AutoencoderMMAudio
    from .models.transformer_jova import PRESETS, JoVATransformer3DModel
    from .models.transformer_jova_wan import WAN_PRESETS, JoVAWanTransformer3DModel
    from .models.vocoder_bigvgan import BigVGANVocoder
    from .models.vocoder_griffin_lim import GriffinLimVocoder
    from .pipelines.modular import JoVABlocks
    from .pipelines.pipeline_jova import JoVAPipeline
    from .pipelines.pipeline_output import JoVAPipelineOutput
    from .pipelines.prompts import load_prompt_embeds, save_prompt_embeds
    from .pipelines.random_pipeline import create_pipeline


__version__ = "0.1.0.dev0"

# Imported when first used, as in diffusers: torch alone takes seconds, which `--help` should not.
MODULES = {
    "AutoencoderMMAudio": ".models.autoencoder_mmaudio",
    "BigVGANVocoder": ".models.vocoder_bigvgan",
    "GriffinLimVocoder": ".models.vocoder_griffin_lim",
    "JoVABlocks": ".pipelines.modular",
    "JoVAPipeline": ".pipelines.pipeline_jova",
    "JoVAPipelineOutput": ".pipelines.pipeline_output",
    "JoVATransformer3DModel": ".models.transformer_jova",
    "JoVAWanTransformer3DModel": ".models.transformer_jova_wan",
    "ModelMixin": "diffusers",  # diffusers looks for it here when it loads a component of ours
    "PRESETS": ".models.transformer_jova",
    "WAN_PRESETS": ".models.transformer_jova_wan",
    "create_pipeline": ".pipelines.random_pipeline",
    "load_prompt_embeds": ".pipelines.prompts",
    "read_video": ".media",
    "save_prompt_embeds": ".pipelines.prompts",
    "write_video": ".media",
    "write_wav": ".media",
}

__all__ = [
    "PRESETS",
    "WAN_PRESETS",
    "AutoencoderMMAudio",
    "BigVGANVocoder",
    "GriffinLimVocoder",
    "JoVABlocks",
    "JoVAPipeline",
    "JoVAPipelineOutput",
    "JoVATransformer3DModel",
    "JoVAWanTransformer3DModel",
    "ModelMixin",
    "create_pipeline",
    "load_prompt_embeds",
    "read_video",
    "register",
    "save_prompt_embeds",
    "write_video",
    "write_wav",
]


def __getattr__(name: str):
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(MODULES[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_with_diffusers()
find_moved_modules()
