# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much of a card's memory a call takes, worked out from configs and shapes before anything is loaded.

Counted are weights, and the tensors that are there at a time in one forward pass of the transformer and in the video
VAE's decoder. Not counted are what kernels take for themselves, the allocator's gaps, CUDA's own 0.5 GiB or so, and
the audio's decoders at work, which take less than the video's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import diffusers
import torch
import torch.nn as nn
from diffusers import ModelMixin

from .. import compat
from ..latents import num_audio_latents, num_latent_frames
from ..live_memory import LiveMemory, default_dtype
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from ..models.value_checks import without_value_checks
from ..pipeline_folder import PipelineFolder


BLOCK = re.compile(r"(single_)?transformer_blocks\.\d+")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
MAX_TEXT_TOKENS = 512  # of each encoder, as the call cuts them
DECODERS = ("vae", "audio_vae", "vocoder")
DECODED = 3  # latent frames: the decoder's memory grows no more after them, but for the video itself


@dataclass(frozen=True)
class Clip:
    """What a call makes: pixels, frames, frames per second."""

    height: int
    width: int
    num_frames: int
    frame_rate: float = 24.0


@dataclass(frozen=True)
class CallMemory:
    """Bytes on the card, by component.

    Attributes:
        weights: Of each component.
        activations: Of the components that work on the clip.
    """

    weights: dict[str, int]
    activations: dict[str, int]

    @property
    def peak(self) -> int:
        """With all components on the card."""
        return sum(self.weights.values()) + max(self.activations.values(), default=0)

    @property
    def offloaded_peak(self) -> int:
        """With the component at work alone on the card, as by `enable_model_cpu_offload`."""
        return max(size + self.activations.get(name, 0) for name, size in self.weights.items())

    @property
    def group_offloaded_peak(self) -> int:
        """With the decoders on the card, and everything else there while it works, as by `enable_group_offload`.

        The transformer's weights are to be counted with `one_block`.
        """
        staying = sum(size for name, size in self.weights.items() if name in DECODERS)
        coming = {name: size for name, size in self.weights.items() if name not in DECODERS}
        at_work = [coming.get(name, 0) + self.activations.get(name, 0) for name in {*coming, *self.activations}]
        return staying + max(at_work, default=0)

    def without(self, *names: str) -> "CallMemory":
        """Return the same without some components."""
        return replace(self, weights={name: size for name, size in self.weights.items() if name not in names})


class TransformerOutline:
    """A transformer's weights and activations by its config alone.

    Args:
        config: Arguments of the transformer's class.
        dtype: Of the weights and of the computation.
        spatial_compression: Pixels per latent row and column.
    """

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype, spatial_compression: int = 8):
        self.config = {key: value for key, value in config.items() if not key.startswith("_")}
        self.cls: type[ModelMixin] = JoVAWanTransformer3DModel if "ffn_dim" in config else JoVATransformer3DModel
        self.dtype, self.spatial_compression = dtype, spatial_compression

    @cached_property
    def parameters(self) -> list[tuple[str, int, bool]]:
        """Each parameter's name, how many numbers it has, and whether layerwise casting stores it in float8."""
        with torch.device("meta"):
            transformer = self.cls(**self.config)
        found = []
        for path, module in transformer.named_modules():
            is_kept = any(part in path for part in self.cls._skip_layerwise_casting_patterns)
            is_cast = isinstance(module, nn.Linear | nn.Conv3d) and not is_kept
            for name, parameter in module.named_parameters(recurse=False):
                found.append((f"{path}.{name}", parameter.numel(), is_cast))
        return found

    def weights(self, float8: bool = False, modulation_cache: bool = False, one_block: bool = False) -> int:
        """Return the bytes of the weights on the card.

        Args:
            float8: Whether layerwise casting stores the weights that it may in float8.
            modulation_cache: Whether the blocks' modulation stays in main memory, for tables of 1 % of its size.
            one_block: Whether blocks come one at a time, the next one while one is at work, as by group offload.
        """
        rest, blocks = 0, dict[str, int]()
        for name, number, is_cast in self.parameters:
            block = BLOCK.search(name)
            if block is not None and modulation_cache and "modulation" in name:
                continue
            size = number * (1 if float8 and is_cast else self.dtype.itemsize)
            if block is not None:
                blocks[block[0]] = blocks.get(block[0], 0) + size
            else:
                rest += size
        return rest + (2 * max(blocks.values(), default=0) if one_block else sum(blocks.values()))

    def activations(self, clip: Clip, batch_size: int = 1) -> int:
        """Return the bytes of one forward pass; that of any block is the largest, so one of each kind is run.

        Args:
            batch_size: Samples in a pass; passes of guidance run one after another.
        """
        one_of_each = {name: min(self.config.get(name, 1), 1) for name in ("num_layers", "num_single_layers")}
        config = self.config | {name: number for name, number in one_of_each.items() if name in self.config}
        # there are no values
        with compat.load("FakeTensorMode")(), default_dtype(self.dtype), torch.no_grad(), without_value_checks():
            transformer = self.cls(**config).eval()
            inputs = self.inputs(transformer.config, clip, batch_size)
            with LiveMemory([*transformer.parameters(), *filter(torch.is_tensor, inputs.values())]) as memory:
                transformer(**inputs)
        return memory.peak

    def inputs(self, config: Mapping[str, Any], clip: Clip, batch_size: int) -> dict[str, Any]:
        video = audio = None
        timestep = torch.zeros(batch_size)
        if config["in_channels"] is not None:
            frames = num_latent_frames(clip.num_frames, config["vae_temporal_compression"])
            size = (side // self.spatial_compression for side in (clip.height, clip.width))
            video = torch.zeros(batch_size, config["in_channels"], frames, *size)
            if config.get("condition_fill") == "noisy":  # with an image, which takes more
                timestep = torch.zeros(batch_size, frames)
        if config["audio_in_channels"] is not None:
            number = num_audio_latents(clip.num_frames, clip.frame_rate, config["audio_latent_rate"])
            audio = torch.zeros(batch_size, config["audio_in_channels"], number)
        widths = (config.get("text_embed_dim"), config.get("text_embed_dim_2"))
        texts = [torch.zeros(batch_size, MAX_TEXT_TOKENS, width) if width else None for width in widths]
        return {
            "hidden_states": video,
            "audio_hidden_states": audio,
            "encoder_hidden_states": texts[0],
            "encoder_hidden_states_2": texts[1],
            "timestep": timestep,
            "audio_timestep": torch.zeros(batch_size),
            "frame_rate": clip.frame_rate,
            "return_dict": False,
        }


def decoder_activations(
    config: Mapping[str, Any], clip: Clip, dtype: torch.dtype, cls: type[ModelMixin], tiling: bool = False
) -> int:
    """Return the bytes that a video VAE takes to decode a clip.

    Args:
        config: Arguments of the VAE's class, `cls`.
        tiling: Whether it decodes in tiles, as by `enable_tiling`.
    """
    space, time = config.get("scale_factor_spatial", 8), config.get("scale_factor_temporal", 4)
    total = num_latent_frames(clip.num_frames, time)
    video = 3 * clip.height * clip.width * (1 + time * (total - 1)) * dtype.itemsize  # all frames
    with compat.load("FakeTensorMode")(), default_dtype(dtype), torch.no_grad():
        vae = cls.from_config(config).eval()
        height, width = clip.height, clip.width
        if tiling:
            rows = tile_lengths(height, vae.tile_sample_min_height, vae.tile_sample_stride_height)
            columns = tile_lengths(width, vae.tile_sample_min_width, vae.tile_sample_stride_width)
            tiles = video * sum(rows) * sum(columns) // (height * width)  # they overlap
            height, width = max(rows), max(columns)
        latents = torch.zeros(1, vae.config.z_dim, min(total, DECODED), height // space, width // space)
        with LiveMemory([*vae.parameters(), latents]) as memory:
            vae.decode(latents)
    if tiling and (height, width) != (clip.height, clip.width):
        # all tiles wait for the last one; then they are joined in rows, to a video, whose values are clamped
        return tiles + max(memory.peak, 3 * video)
    # the frames so far wait while the next ones are made
    return memory.peak + video * time * max(total - DECODED, 0) // (1 + time * (total - 1))


def tile_lengths(length: int, tile: int, stride: int) -> list[int]:
    """Return how long the tiles along an axis of `length` pixels are."""
    return [min(tile, length - start) for start in range(0, length, stride)]


@dataclass(frozen=True)
class Holding:
    """How a pipeline is held, of what changes the memory that it takes; see `generate`'s flags of these names.

    Attributes:
        modulation_cache: Whether the modulation's weights stay in main memory.
        group_offload: Whether the transformer's blocks come one at a time; see `TransformerOutline.weights`.
        layerwise_casting: Whether the transformer's weights are kept in float8.
        vae_tiling: Whether the video is decoded in tiles.
    """

    modulation_cache: bool = False
    group_offload: bool = False
    layerwise_casting: bool = False
    vae_tiling: bool = False


PLAIN = Holding()


class CallOutline:
    """A call of the pipeline in a folder, by headers and configs; no weights are read.

    Args:
        dtype: That the pipeline is loaded in.
        batch_size: Samples in a pass of the transformer.
    """

    def __init__(self, folder: PipelineFolder, clip: Clip, dtype: torch.dtype, batch_size: int = 1):
        self.folder, self.clip, self.dtype, self.batch_size = folder, clip, dtype, batch_size
        self.transformer = TransformerOutline(folder.config("transformer"), dtype, folder.vae_scale_factor_spatial)
        self._decoding: dict[bool, dict[str, int]] = {}

    @cached_property
    def weights(self) -> dict[str, int]:
        """Bytes of each component's weights in its files, which are in `dtype` then."""
        sizes = {name: self.folder.num_parameters(name) * self.dtype.itemsize for name in self.folder.parts}
        return {name: size for name, size in sizes.items() if size}

    @cached_property
    def activations(self) -> int:
        """Bytes of the transformer's activations."""
        return self.transformer.activations(self.clip, self.batch_size)

    def decoding(self, tiling: bool) -> dict[str, int]:
        """Return the bytes of the video VAE's activations, by its name; nothing without one."""
        vae = getattr(diffusers, self.folder.parts.get("vae", ""), None)
        if vae is not None and tiling not in self._decoding:
            size = decoder_activations(self.folder.config("vae"), self.clip, self.dtype, vae, tiling)
            self._decoding[tiling] = {"vae": size}
        return self._decoding.get(tiling, {})

    def weights_on_card(self, holding: Holding = PLAIN) -> dict[str, int]:
        """Return the bytes of each component's weights that are on the card together."""
        if replace(holding, vae_tiling=False) == PLAIN:
            return self.weights
        transformer = self.transformer.weights(
            float8=holding.layerwise_casting,
            modulation_cache=holding.modulation_cache,
            one_block=holding.group_offload,
        )
        return self.weights | {"transformer": transformer}

    def memory(self, holding: Holding = PLAIN) -> CallMemory:
        """Return what the call takes of a card."""
        activations = {"transformer": self.activations} | self.decoding(holding.vae_tiling)
        return CallMemory(self.weights_on_card(holding), activations)


def estimate_call(
    folder: PipelineFolder, clip: Clip, dtype: torch.dtype, batch_size: int = 1, holding: Holding = PLAIN
) -> CallMemory:
    """Return the memory of a call of the pipeline in a folder; see `CallOutline`, of which this is one case."""
    return CallOutline(folder, clip, dtype, batch_size).memory(holding)
