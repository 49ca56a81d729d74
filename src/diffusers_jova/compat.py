# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Names of diffusers and torch that are not public: they may move or go with any release of theirs.

Each is loaded where it is needed and not before. Where one has gone, the feature that needs it ends in an error that
says which versions have it, and everything else works. `tests/test_compat.py` takes away each of them in turn, and
tells which ones a new version lacks.
"""

import importlib
import importlib.metadata
from dataclasses import dataclass
from typing import Any


VERSIONS = {"diffusers": ">=0.42,<0.43", "torch": ">=2.11,<3"}  # as in pyproject.toml


class MissingNameError(ImportError):
    """The installed version of a library lacks a private name that a feature needs."""


@dataclass(frozen=True)
class PrivateName:
    """A name that is not public.

    Attributes:
        feature: what does not work without it.
        places: "module:name" by the version of the library that has it there first, the oldest one first.
    """

    feature: str
    places: dict[str, str]

    @property
    def library(self) -> str:
        return next(iter(self.places.values())).partition(":")[0].partition(".")[0]

    def find(self) -> Any:
        """Return what has this name, from where the newest version has it.

        Raises:
            MissingNameError: If it is in none of its places.
        """
        for place in reversed(self.places.values()):
            module, _, name = place.partition(":")
            try:
                return getattr(importlib.import_module(module), name)
            except (ImportError, AttributeError):
                continue
        versions = f"{self.library}{VERSIONS[self.library]}"
        places = " or ".join(f"`{place.replace(':', '.')}`" for place in self.places.values())
        raise MissingNameError(
            f"{self.feature} cannot be used here: {self.library} {importlib.metadata.version(self.library)} has no "
            f"{places}. Install a version that has it, `pip install '{versions}'`, or go on without."
        )


CONTEXT_PARALLELISM = "Context parallelism"
FIRST_BLOCK_CACHE = "FirstBlockCache"
PYRAMID = "PyramidAttentionBroadcast"
LORA_ON_THE_HUB = "Loading a LoRA from the Hub"
NAMES = {
    "ContextParallelInput": PrivateName(
        CONTEXT_PARALLELISM, {"0.42": "diffusers.models._modeling_parallel:ContextParallelInput"}
    ),
    "ContextParallelOutput": PrivateName(
        CONTEXT_PARALLELISM, {"0.42": "diffusers.models._modeling_parallel:ContextParallelOutput"}
    ),
    "TransformerBlockMetadata": PrivateName(
        FIRST_BLOCK_CACHE, {"0.42": "diffusers.hooks._helpers:TransformerBlockMetadata"}
    ),
    "TransformerBlockRegistry": PrivateName(
        FIRST_BLOCK_CACHE, {"0.42": "diffusers.hooks._helpers:TransformerBlockRegistry"}
    ),
    "StateManager": PrivateName(PYRAMID, {"0.42": "diffusers.hooks.hooks:StateManager"}),
    "PYRAMID_HOOK": PrivateName(
        PYRAMID, {"0.42": "diffusers.hooks.pyramid_attention_broadcast:_PYRAMID_ATTENTION_BROADCAST_HOOK"}
    ),
    "normalized_guidance": PrivateName(
        "Adaptive projected guidance (`apg_norm_threshold`)",
        {"0.42": "diffusers.guiders.adaptive_projected_guidance:normalized_guidance"},
    ),
    "LOADABLE_CLASSES": PrivateName(
        "Loading a pipeline", {"0.42": "diffusers.pipelines.pipeline_loading_utils:LOADABLE_CLASSES"}
    ),
    "SINGLE_FILE_LOADABLE_CLASSES": PrivateName(
        "`from_single_file`", {"0.42": "diffusers.loaders.single_file_model:SINGLE_FILE_LOADABLE_CLASSES"}
    ),
    "best_guess_weight_name": PrivateName(
        LORA_ON_THE_HUB, {"0.42": "diffusers.loaders.lora_base:_best_guess_weight_name"}
    ),
    "get_model_file": PrivateName(LORA_ON_THE_HUB, {"0.42": "diffusers.utils.hub_utils:_get_model_file"}),
    "load_state_dict": PrivateName(
        "Loading a LoRA that is a pickle", {"0.42": "diffusers.models.model_loading_utils:load_state_dict"}
    ),
    "_check_attention_backend_requirements": PrivateName(
        "The list of installed attention backends",
        {"0.42": "diffusers.models.attention_dispatch:_check_attention_backend_requirements"},
    ),
    "convert_wan_vae_to_diffusers": PrivateName(
        "Converting Wan's VAE", {"0.42": "diffusers.loaders.single_file_utils:convert_wan_vae_to_diffusers"}
    ),
    "FakeTensorMode": PrivateName(
        "The estimate of training's memory", {"2.0": "torch._subclasses.fake_tensor:FakeTensorMode"}
    ),
}
# Private attributes of the objects of others that we read or set: "module:class.attribute", and what needs it.
ATTRIBUTES = {
    "diffusers:DiffusionPipeline._execution_device": "every call",
    "diffusers.models.cache_utils:CacheMixin._cache_config": "the check of caches",
    "diffusers.models.modeling_utils:ModelMixin._cp_plan": CONTEXT_PARALLELISM,
    "diffusers.models.modeling_utils:ModelMixin._parallel_config": CONTEXT_PARALLELISM,
    "diffusers.hooks._helpers:TransformerBlockMetadata._get_parameter_from_args_kwargs": FIRST_BLOCK_CACHE,
    "diffusers.loaders:PeftAdapterMixin._hf_peft_config_loaded": "loading a LoRA",
    "peft.tuners.tuners_utils:BaseTunerLayer._active_adapter": "loading a LoRA",
    "peft.tuners.tuners_utils:BaseTunerLayer._disable_adapters": "loading a LoRA",
    "transformers:WavLMModel._get_feature_vector_attention_mask": "AudioBox-Aesthetics",
    "torch:UntypedStorage._cdata": "the estimate of training's memory",
    "torch:Tensor._version": "the modulation cache",
    "torch.utils.tensorboard:SummaryWriter._get_file_writer": "clips in tensorboard",
    "numpy:_core.multiarray._reconstruct": "weights that were saved with NumPy arrays",
}


def load(name: str) -> Any:
    """Return what has a name of the table `NAMES`.

    Raises:
        MissingNameError: If the installed version lacks it; the message says what needs it and which versions have it.
    """
    return NAMES[name].find()


def has(*names: str) -> bool:
    """Whether the installed versions have all of these names of the table."""
    try:
        return all(load(name) is not None for name in names)
    except MissingNameError:
        return False
