# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What every transformer with a video branch and an audio branch has, whatever its blocks are."""

import re
from typing import Any

import torch
from diffusers.hooks import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig

from .. import compat
from ..machine import check_storage
from .attention import ATTENTION_FUSIONS, installed_backends
from .caching import check_cache, separate_passes
from .embeddings import audio_positions
from .modulation_cache import ModulationCacheMixin
from .value_checks import checks_values


CONDITION_MODES = ("clean", "noised")


def check_branches(
    in_channels: int | None, audio_in_channels: int | None, attention_fusion: str, condition_mode: str | None
) -> None:
    """Raise a ValueError unless these settings, which every two-branch transformer has, can be used."""
    if condition_mode is not None and condition_mode not in CONDITION_MODES:
        raise ValueError(f"`condition_mode` must be one of {CONDITION_MODES} or None, got {condition_mode!r}.")
    if in_channels is None and audio_in_channels is None:
        raise ValueError("`in_channels` and `audio_in_channels` are both None: a model needs at least one branch.")
    if attention_fusion not in ATTENTION_FUSIONS:
        raise ValueError(f"`attention_fusion` must be one of {ATTENTION_FUSIONS}, got {attention_fusion!r}.")


class TwoBranchMixin(ModulationCacheMixin):
    """Checks of inputs, positions of audio, caches and context parallelism of a two-branch transformer.

    Its config has `in_channels` and `audio_in_channels`, None for a branch that is not there.

    Attributes:
        _heads: The name of each branch's last linear layer.
        _cp_inputs: What context parallelism splits along the tokens, axis 1: for each module its arguments by name,
            or its outputs by number, and how many axes they have.
        _audio_to_video: How names of the audio branch's parameters become the video branch's: regular expressions of
            their beginnings, and what takes their place.
    """

    _heads: dict[str, str]
    _cp_inputs: dict[str, dict[str | int, int]]
    _audio_to_video: dict[str, str]

    @classmethod
    def from_single_file(cls, *args, **kwargs):
        """Return the model of one file in our own layout; see diffusers' `FromOriginalModelMixin`."""
        compat.load("SINGLE_FILE_LOADABLE_CLASSES")  # without it diffusers refuses our classes, and does not say why
        return super().from_single_file(*args, **kwargs)

    @classmethod
    def video_name(cls, name: str) -> str | None:
        """Return the video branch's counterpart of a parameter of the audio branch; None for any other parameter."""
        for beginning, replacement in cls._audio_to_video.items():
            if found := re.match(beginning, name):
                return found.expand(replacement) + name[found.end() :]
        return None

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that this model has, of "video" and "audio"."""
        channels = {"video": self.config.in_channels, "audio": self.config.audio_in_channels}
        return tuple(branch for branch, number in channels.items() if number is not None)

    def check_inputs(
        self, hidden_states, audio_hidden_states, encoder_hidden_states, encoder_hidden_states_2, timestep
    ) -> None:
        """Raise a ValueError, in words, unless the arguments of `forward` fit the config and each other."""
        self.check_modulation_cache()
        config = self.config
        if hidden_states is None and audio_hidden_states is None:
            raise ValueError("Neither `hidden_states` nor `audio_hidden_states` was given: pass one or both.")
        if encoder_hidden_states is None and encoder_hidden_states_2 is None:
            raise ValueError("Neither `encoder_hidden_states` nor `encoder_hidden_states_2` was given.")
        if timestep is None:
            raise ValueError("`timestep` is missing: a tensor (B,), 0 for data to 1000 for noise.")
        for name, tensor, setting, ndim, channel_axis in (
            ("hidden_states", hidden_states, "in_channels", 5, 1),
            ("audio_hidden_states", audio_hidden_states, "audio_in_channels", 3, 1),
            ("encoder_hidden_states", encoder_hidden_states, "text_embed_dim", 3, 2),
            ("encoder_hidden_states_2", encoder_hidden_states_2, "text_embed_dim_2", 3, 2),
        ):
            if tensor is None:
                continue
            dim = config.get(setting)
            if dim is None:
                raise ValueError(f"`{name}` was given, but this model was built with `{setting}=None`.")
            if tensor.ndim != ndim or tensor.shape[channel_axis] != dim:
                raise ValueError(
                    f"`{name}` must have {ndim} dimensions with {dim} ({setting}) at axis {channel_axis}, "
                    f"got shape {tuple(tensor.shape)}."
                )
        if hidden_states is not None and any(n % p for n, p in zip(hidden_states.shape[2:], config.patch_size)):
            raise ValueError(
                f"The latent frames, rows and columns must be divisible by `patch_size` {tuple(config.patch_size)}, "
                f"got {tuple(hidden_states.shape[2:])}."
            )
        if hidden_states is None and isinstance(getattr(self, "_cache_config", None), FirstBlockCacheConfig):
            raise ValueError(
                "FirstBlockCache decides by the video stream and cannot serve audio alone: call `disable_cache()`."
            )

    def check_timesteps(
        self,
        timestep: torch.Tensor,
        audio_timestep: torch.Tensor | None,
        hidden_states: torch.Tensor | None,
        audio_hidden_states: torch.Tensor | None,
    ) -> None:
        """Raise a ValueError unless `timestep` is (B,), and `audio_timestep` None, (B,), or (B, A) with at most two
        values in a sample; where `condition_fill` is "noisy", `timestep` may likewise be (B, F)."""
        if timestep.ndim > 1 and self.config.get("condition_fill") != "noisy":
            raise ValueError(
                f"`timestep` must be (B,), one for each sample, got shape {tuple(timestep.shape)}: mask channels tell "
                "what of the video is given, and only `audio_timestep` may be (B, A)."
            )
        if timestep.ndim > 1 and audio_timestep is None and audio_hidden_states is not None:
            raise ValueError(
                f"`timestep` has one value for each latent frame, {tuple(timestep.shape)}, which the audio latents do "
                "not have: pass `audio_timestep`."
            )
        for name, values, latents, what in (
            ("timestep", timestep, hidden_states, "latent frame"),
            ("audio_timestep", audio_timestep, audio_hidden_states, "audio latent"),
        ):
            if values is None or latents is None or values.ndim < 2:
                continue
            allowed = (latents.shape[0], latents.shape[2])
            if tuple(values.shape) != allowed:
                raise ValueError(
                    f"`{name}` must be ({allowed[0]},), one for each sample, or {allowed}, one for each {what}, got "
                    f"shape {tuple(values.shape)}."
                )
            if not checks_values():
                continue
            lowest, highest = values.aminmax(dim=1, keepdim=True)
            if not ((values == lowest) | (values == highest)).all():
                raise ValueError(
                    f"`{name}` {tuple(values.shape)} has more than two values in a sample: allowed are that of each "
                    f"{what} that is given, and that of the others."
                )

    def _audio_positions(self, audio_hidden_states: torch.Tensor, frame_rate: float) -> torch.Tensor:
        """Return the positions (A,) of `audio_hidden_states` (B, C, A), aligned with the video's or simply counted."""
        num_tokens, device, config = audio_hidden_states.shape[-1], audio_hidden_states.device, self.config
        if not config.temporal_aligned_rope:
            return torch.arange(num_tokens, dtype=torch.float32, device=device)
        return audio_positions(
            num_tokens, frame_rate, config.audio_latent_rate, config.vae_temporal_compression, device
        )

    def set_attention_backend(self, backend: str) -> None:
        """Set the attention backend of all blocks; see diffusers' `ModelMixin`.

        Raises:
            RuntimeError: If its package is not installed, with the backends that are there.
        """
        try:
            super().set_attention_backend(backend)
        except RuntimeError as error:
            if not compat.has("_check_attention_backend_requirements"):
                raise
            raise RuntimeError(f"{error} Installed are: {', '.join(installed_backends())}.") from error

    def enable_layerwise_casting(self, storage_dtype: torch.dtype = torch.float8_e4m3fn, *args, **kwargs) -> None:
        """Keep weights in `storage_dtype`, and compute in another dtype; see diffusers' `ModelMixin`.

        Raises:
            ValueError: If the device that the model is on has no such dtype.
        """
        check_storage(storage_dtype, self.device)
        super().enable_layerwise_casting(storage_dtype, *args, **kwargs)

    def enable_cache(self, config) -> None:
        """Enable one of diffusers' caches, where it treats both streams right: PyramidAttentionBroadcast,
        FirstBlockCache, TaylorSeer (but its lite mode), and FasterCache of guidance-distilled models.

        Raises:
            ValueError: For a cache that would leave one stream wrong, with the reason.
        """
        check_cache(config, {branch: self._heads[branch] for branch in self.branches})
        super().enable_cache(config)
        if isinstance(config, PyramidAttentionBroadcastConfig):
            separate_passes(self)

    @property
    def _cp_plan(self) -> dict[str, Any]:
        """How diffusers' context parallelism splits the tokens, and gathers the outputs of the heads again."""
        split, gather = compat.load("ContextParallelInput"), compat.load("ContextParallelOutput")
        plan = {
            module: {
                name: split(split_dim=1, expected_dims=ndim, split_output=isinstance(name, int))
                for name, ndim in inputs.items()
            }
            for module, inputs in self._cp_inputs.items()
        }
        return plan | {self._heads[branch]: gather(gather_dim=1, expected_dims=3) for branch in self.branches}

    @property
    def context_parallel_degree(self) -> int:
        """Over how many ranks each group of tokens is split; 1 without context parallelism."""
        blocks = (*self.transformer_blocks, *getattr(self, "single_transformer_blocks", ()))
        parallel_config = getattr(self, "_parallel_config", None)
        if parallel_config is None and blocks:
            parallel_config = blocks[0].attn.processor._parallel_config
        config = getattr(parallel_config, "context_parallel_config", None)
        return config.ring_degree * config.ulysses_degree if config is not None else 1

    def _check_context_parallel(self, **counts: int) -> None:
        """Raise a ValueError unless the degree divides the number of tokens of each kind, such as `media=12`."""
        degree = self.context_parallel_degree
        for what, count in counts.items():
            if count % degree:
                below = count // degree * degree
                raise ValueError(
                    f"Context parallelism of degree {degree} must divide the number of {what} tokens, got {count}. "
                    f"Nearest: {f'{below} or ' if below else ''}{below + degree}."
                )
