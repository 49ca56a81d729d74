# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What diffusers' caches must know of a model whose blocks carry two streams, and which of them would get it wrong."""

from typing import Any

from diffusers.hooks import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    HookRegistry,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    SeaCacheConfig,
    TaylorSeerCacheConfig,
    TextKVCacheConfig,
)
from diffusers.models.attention import AttentionModuleMixin
from torch import nn

from .. import compat


def two_stream_block(block_class: type[nn.Module]) -> type[nn.Module]:
    """Make a class of blocks that return (hidden_states, audio_hidden_states) known to diffusers' caches.

    A diffusers that lacks the names for it leaves the class as it is; `check_cache` then says so.
    """
    if not compat.has("TransformerBlockMetadata", "TransformerBlockRegistry"):
        return block_class

    metadata_class: Any = compat.load("TransformerBlockMetadata")

    class TwoStreamBlockMetadata(metadata_class):
        """Tells FirstBlockCache that a block's second stream is `audio_hidden_states`.

        The hooks ask for the literal name "encoder_hidden_states" whatever the metadata's `*_argument_name` says.
        """

        def _get_parameter_from_args_kwargs(self, identifier, args=(), kwargs=None):
            if identifier == "encoder_hidden_states":
                identifier = "audio_hidden_states"
            return super()._get_parameter_from_args_kwargs(identifier, args, kwargs)

    metadata = TwoStreamBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=1)
    compat.load("TransformerBlockRegistry").register(block_class, metadata)
    return block_class


def check_cache(config, heads: dict[str, str]) -> None:
    """Raise a ValueError, with the reason, for a cache that would leave one of the streams wrong.

    Args:
        heads: The name of the last linear layer of each branch that the model has.

    Raises:
        MissingNameError: If the installed diffusers lacks what the cache needs.
    """
    needed: tuple[str, ...] = ()
    if isinstance(config, FirstBlockCacheConfig | MagCacheConfig):
        needed = ("TransformerBlockMetadata", "TransformerBlockRegistry")
    elif isinstance(config, PyramidAttentionBroadcastConfig):
        needed = ("StateManager", "PYRAMID_HOOK")
    for name in needed:
        compat.load(name)
    has_audio = "audio" in heads
    zeros = [head for head in heads.values() if head != "proj_out"]
    reason = None
    if isinstance(config, MagCacheConfig) and has_audio:
        reason = "it passes the audio stream on unchanged whenever it skips"
    elif isinstance(config, SeaCacheConfig | TextKVCacheConfig):
        reason = "it is made for the token layout of another model"
    elif isinstance(config, FasterCacheConfig) and not config.is_guidance_distilled:
        reason = "it rebuilds the skipped unconditional half of the video only"
    elif isinstance(config, TaylorSeerCacheConfig) and config.use_lite_mode and zeros:
        reason = f"its lite mode predicts `proj_out` only and feeds zeros to `{zeros[-1]}`"
    if reason is not None:
        raise ValueError(
            f"{type(config).__name__} cannot be used with this model: {reason}. Use FirstBlockCacheConfig, "
            "PyramidAttentionBroadcastConfig or TaylorSeerCacheConfig(use_lite_mode=False)."
        )


class StatePerPass:
    """The state of a PyramidAttentionBroadcast hook, one for each `cache_context`.

    Upstream's hook has one state for all passes: with separate guidance passes the unconditional one would be given
    the attention of the conditional one.

    Args:
        manager: upstream's `StateManager`, which keeps the states of the passes.
        state: what upstream's hook has.
    """

    def __init__(self, manager: Any, state: Any):
        object.__setattr__(self, "manager", manager)
        object.__setattr__(self, "last", state)

    @property
    def current(self) -> Any:
        try:
            object.__setattr__(self, "last", self.manager.get_state())
        except ValueError:  # outside a context, what the last pass left can still be looked at
            pass
        return self.last

    def __getattr__(self, name: str):
        return getattr(self.current, name)

    def __setattr__(self, name: str, value) -> None:
        setattr(self.current, name, value)

    def reset(self) -> None:
        self.last.reset()
        self.manager.reset()


def separate_passes(model: nn.Module) -> None:
    """Give every PyramidAttentionBroadcast hook of `model` a state per guidance pass."""
    state_manager, name = compat.load("StateManager"), compat.load("PYRAMID_HOOK")
    for module in model.modules():
        if isinstance(module, AttentionModuleMixin):  # whose hooks upstream has just made
            hook = HookRegistry.check_if_exists_or_initialize(module).get_hook(name)
            if hook is not None:
                # an attribute of the hook, which is where `cache_context` looks for managers
                hook.state_manager = state_manager(type(hook.state))
                hook.state = StatePerPass(hook.state_manager, hook.state)
