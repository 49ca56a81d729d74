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
from ..pipeline_folder import PipelineFolder


BLOCK = re.compile(r"(single_)?transformer_blocks\.\d+")
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
MAX_TEXT_TOKENS = 512  # of each encoder, as the call cuts them
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

    def without(self, *names: str) -> "CallMemory":
        """Return the same without some components."""
        return replace(self, weights={name: size for name, size in self.weights.items() if name not in names})


class TransformerOutline:
    """A transformer's weights and activations by its config alone.

    Args:
        config: Arguments of the transformer's class.
        dtype: Of the weights and of the computation.
    """

    def __init__(self, config: Mapping[str, Any], dtype: torch.dtype):
        self.config = {key: value for key, value in config.items() if not key.startswith("_")}
        self.cls: type[ModelMixin] = JoVAWanTransformer3DModel if "ffn_dim" in config else JoVATransformer3DModel
        self.dtype = dtype

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
        with compat.load("FakeTensorMode")(), default_dtype(self.dtype), torch.no_grad():
            transformer = self.cls(**config).eval()
            inputs = self.inputs(transformer.config, clip, batch_size)
            with LiveMemory([*transformer.parameters(), *filter(torch.is_tensor, inputs.values())]) as memory:
                transformer(**inputs)
        return memory.peak

    def inputs(self, config: Mapping[str, Any], clip: Clip, batch_size: int) -> dict[str, Any]:
        video = audio = None
        if config["in_channels"] is not None:
            frames = num_latent_frames(clip.num_frames, config["vae_temporal_compression"])
            video = torch.zeros(batch_size, config["in_channels"], frames, clip.height // 8, clip.width // 8)
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
            "timestep": torch.zeros(batch_size),
            "frame_rate": clip.frame_rate,
            "return_dict": False,
        }


def decoder_activations(config: Mapping[str, Any], clip: Clip, dtype: torch.dtype, cls: type[ModelMixin]) -> int:
    """Return the bytes that a video VAE takes to decode a clip.

    Args:
        config: Arguments of the VAE's class, `cls`.
    """
    space, time = config.get("scale_factor_spatial", 8), config.get("scale_factor_temporal", 4)
    total = num_latent_frames(clip.num_frames, time)
    with compat.load("FakeTensorMode")(), default_dtype(dtype), torch.no_grad():
        vae = cls.from_config(config).eval()
        latents = torch.zeros(1, vae.config.z_dim, min(total, DECODED), clip.height // space, clip.width // space)
        with LiveMemory([*vae.parameters(), latents]) as memory:
            vae.decode(latents)
    # the frames so far wait while the next ones are made
    later = 3 * clip.height * clip.width * time * max(total - DECODED, 0) * dtype.itemsize
    return memory.peak + later


def estimate_call(folder: PipelineFolder, clip: Clip, dtype: torch.dtype, batch_size: int = 1) -> CallMemory:
    """Return the memory of a call of the pipeline in a folder. Of its files, headers are read and no weights.

    Args:
        dtype: That the pipeline is loaded in.
        batch_size: Samples in a pass of the transformer.
    """
    sizes = {name: folder.num_parameters(name) * dtype.itemsize for name in folder.parts}
    outline = TransformerOutline(folder.config("transformer"), dtype)
    activations = {"transformer": outline.activations(clip, batch_size)}
    vae = getattr(diffusers, folder.parts.get("vae", ""), None)
    if vae is not None:
        activations["vae"] = decoder_activations(folder.config("vae"), clip, dtype, vae)
    return CallMemory({name: size for name, size in sizes.items() if size}, activations)
