# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""JoVA for diffusers: joint video and audio generation. Importing it makes its classes known to diffusers.

import diffusers_jova
pipe = diffusers_jova.JoVAPipeline.from_pretrained(folder_or_repository)
"""

import importlib

import diffusers
import diffusers.pipelines
from diffusers import ModelMixin  # diffusers looks for it here when it loads a component of ours
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES
from diffusers.pipelines.pipeline_loading_utils import LOADABLE_CLASSES

from .models import MODELS
from .models.autoencoder_mmaudio import AutoencoderMMAudio
from .models.transformer_jova import PRESETS, JoVATransformer3DModel
from .models.vocoder_bigvgan import BigVGANVocoder
from .models.vocoder_griffin_lim import GriffinLimVocoder
from .pipelines.pipeline_jova import JoVAPipeline
from .pipelines.pipeline_output import JoVAPipelineOutput
from .pipelines.prompts import load_prompt_embeds, save_prompt_embeds


__version__ = "0.1.0.dev0"

# Imported when first used: they need PyAV, or more of transformers, which would slow down every import.
LAZY = {
    "create_pipeline": "pipelines.random_pipeline",
    "read_video": "media",
    "write_video": "media",
    "write_wav": "media",
}

__all__ = [
    "PRESETS",
    "AutoencoderMMAudio",
    "BigVGANVocoder",
    "GriffinLimVocoder",
    "JoVAPipeline",
    "JoVAPipelineOutput",
    "JoVATransformer3DModel",
    "ModelMixin",
    "load_prompt_embeds",
    "register",
    "save_prompt_embeds",
    *LAZY,
]


def __getattr__(name: str):
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{LAZY[name]}", __name__), name)


def register() -> None:
    """Make the classes known to diffusers, so that `DiffusionPipeline` and `AutoModel` load them too.

    Importing the package has done it already. It only adds: a class of the same name in diffusers wins, and a second
    call changes nothing.
    """
    LOADABLE_CLASSES.setdefault("diffusers_jova", {"ModelMixin": ["save_pretrained", "from_pretrained"]})
    for cls in (JoVAPipeline, *MODELS):
        if not hasattr(diffusers, cls.__name__):
            setattr(diffusers, cls.__name__, cls)
    # a single file in our own layout: `JoVATransformer3DModel.from_single_file(file, config=folder)`
    SINGLE_FILE_LOADABLE_CLASSES.setdefault(
        JoVATransformer3DModel.__name__,
        {"checkpoint_mapping_fn": lambda checkpoint, **kwargs: checkpoint, "default_subfolder": "transformer"},
    )
    # upstream's own test of `encode_prompt` looks the class up there
    if not hasattr(diffusers.pipelines, JoVAPipeline.__name__):
        setattr(diffusers.pipelines, JoVAPipeline.__name__, JoVAPipeline)


register()
