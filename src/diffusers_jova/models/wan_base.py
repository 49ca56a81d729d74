# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A Wan transformer as the video branch of a JoVA: its input channels, and the model that is made of it in memory.

Wan's models for images have the channels noisy 16, mask 4, image 16; JoVA has noisy 16, image 16, mask 4. A Wan
without an image has the first 16. Wan2.2-TI2V-5B has 48, all noisy: its image is a clean latent frame among them.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import WanTransformer3DModel
from torch import Tensor

from ..presets import AUDIO_MODES
from .branches import copy_to_audio, join_branches
from .transformer_jova_wan import JoVAWanTransformer3DModel
from .wan_names import CONFIG_KEYS, jova_name


LATENT_CHANNELS, IMAGE_CHANNELS = 16, 36
CLEAN_FRAME_CHANNELS = 48  # of Wan2.2-TI2V-5B's latents
PATCHES = "video.patch_embedding.weight"  # (D, channels, 1, 2, 2)
FROM_WAN = [*range(16), *range(20, 36), *range(16, 20)]  # Wan's channel for each of ours
PARAMETERS = tuple(inspect.signature(JoVAWanTransformer3DModel.__init__).parameters)[1:]
TO_WAN = [FROM_WAN.index(channel) for channel in range(IMAGE_CHANNELS)]


def image_settings(in_channels: int, out_channels: int, temporal_compression: int = 4) -> dict[str, Any]:
    """Return the arguments of `JoVAWanTransformer3DModel` that a Wan's channels in and out lead to.

    Args:
        in_channels, out_channels: Of the Wan.
        temporal_compression: Video frames per latent frame of its VAE: the image's mask has a channel for each.

    Raises:
        ValueError: For other numbers than 16 or 36 in and 16 out, or 48 and 48.
    """
    compression = {"vae_temporal_compression": temporal_compression}
    if in_channels == out_channels == CLEAN_FRAME_CHANNELS:
        return {"in_channels": in_channels, "condition_fill": "noisy"} | compression
    if out_channels == LATENT_CHANNELS and in_channels in (LATENT_CHANNELS, IMAGE_CHANNELS):
        fill = "grey" if in_channels == IMAGE_CHANNELS else "black"
        all_channels = in_channels if fill == "grey" else 2 * LATENT_CHANNELS + temporal_compression
        return {"in_channels": all_channels, "condition_fill": fill} | compression
    raise ValueError(
        f"This Wan has {in_channels} channels in and {out_channels} out; a video branch is made of one with 16 or 36 "
        "in and 16 out, or 48 in and out. Take Wan2.1-T2V-1.3B, Wan2.1-T2V-14B, Wan2.2-T2V-A14B, Wan2.2-I2V-A14B or "
        "Wan2.2-TI2V-5B."
    )


def check_timesteps_of_frames(index: Mapping[str, Any], condition_fill: str) -> None:
    """Raise a ValueError unless a Wan pipeline's `expand_timesteps` is as a transformer of its channels wants it.

    Args:
        index: The pipeline's model_index.json.
        condition_fill: Of `image_settings`.
    """
    wanted = condition_fill == "noisy"
    if (found := bool(index.get("expand_timesteps"))) != wanted:
        channels = f"{CLEAN_FRAME_CHANNELS} channels" if wanted else "16 or 36 channels"
        raise ValueError(
            f"This Wan has {channels} and `expand_timesteps={found}` in its model_index.json: a timestep for each "
            f"frame is what Wan2.2-TI2V-5B has, with {CLEAN_FRAME_CHANNELS} channels in and out, and no other Wan. "
            "Take the folder as it was published."
        )


def add_image_columns(weight: Tensor, in_channels: int = IMAGE_CHANNELS) -> Tensor:
    """Return a patch embedding of 16 channels with columns of zeros, (D, in_channels, 1, 2, 2): it does the same."""
    zeros = weight.new_zeros(len(weight), in_channels - LATENT_CHANNELS, *weight.shape[2:])
    return torch.cat([weight, zeros], dim=1)


def drop_image_columns(weight: Tensor) -> Tensor:
    """Return a patch embedding without the channels for an image, (D, 16, 1, 2, 2)."""
    return weight[:, :LATENT_CHANNELS]


def columns_from_wan(weight: Tensor) -> Tensor:
    """Return the patch embedding of a Wan for images, (D, 36, 1, 2, 2), in our order."""
    return weight[:, FROM_WAN]


def columns_to_wan(weight: Tensor) -> Tensor:
    """Return our patch embedding, (D, 36, 1, 2, 2), in the order of Wan's models for images."""
    return weight[:, TO_WAN]


def transformer_from_wan(
    wan: WanTransformer3DModel, audio_mode: str = "44k", seed: int = 0, temporal_compression: int = 4
) -> JoVAWanTransformer3DModel:
    """Return the JoVA whose video branch is `wan`, and whose audio branch starts as its copy (see `branches`).

    What `convert-wan` writes, in memory. The tensors of `wan` are taken over, not copied.

    Args:
        wan: A Wan of 16, 36 or 48 channels in.
        audio_mode: A name of `AUDIO_MODES`: the audio VAE.
        seed: Of what is new in the audio branch.
        temporal_compression: Video frames per latent frame of its VAE.

    Raises:
        ValueError: If `wan` has other channels, or reads its image through CLIP.
    """
    if wan.config.image_dim is not None or wan.config.added_kv_proj_dim is not None:
        raise ValueError(
            "This is a Wan2.1 for images, which reads them through CLIP; JoVA does not have that. Take "
            "Wan2.2-I2V-A14B, or leave these layers out with `convert-wan --drop_image_encoder`."
        )
    own = {CONFIG_KEYS.get(name, name): value for name, value in wan.config.items()}
    settings = {name: own[name] for name in PARAMETERS if name in own}
    settings |= image_settings(own["in_channels"], own["out_channels"], temporal_compression)
    settings |= AUDIO_MODES[audio_mode].transformer
    with init_empty_weights():
        video = JoVAWanTransformer3DModel(**settings | {"audio_in_channels": None})
    tensors = {jova_name(name): tensor for name, tensor in wan.state_dict().items()}
    if settings["condition_fill"] == "grey":
        tensors[PATCHES] = columns_from_wan(tensors[PATCHES])
    elif settings["condition_fill"] == "black":
        tensors[PATCHES] = add_image_columns(tensors[PATCHES], settings["in_channels"])
    video.load_state_dict(tensors, assign=True)
    audio, _ = copy_to_audio(video, {**video.config, **settings, "in_channels": None}, seed)
    return join_branches(video, audio, {**video.config, **settings}).eval()
