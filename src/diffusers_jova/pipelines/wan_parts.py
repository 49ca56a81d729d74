# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The parts of a JoVAPipeline that a Wan pipeline's folder has, loaded without a copy on disk."""

import os
from typing import Any

import torch
from diffusers import DiffusionPipeline, WanImageToVideoPipeline, WanPipeline

from ..models.wan_base import check_timesteps_of_frames, transformer_from_wan
from ..presets import wan_call_defaults


EXPERTS = {"high": "transformer", "low": "transformer_2"}
KEPT = ("vae", "text_encoder", "tokenizer", "scheduler")


def load_wan_parts(
    folder: str | os.PathLike, expert: str | None, audio_mode: str, seed: int, dtype: torch.dtype | None, **kwargs
) -> dict[str, Any]:
    """Return arguments of `JoVAPipeline`: Wan's parts, the transformer that stands on Wan's, and Wan's defaults.

    Args:
        folder: Of a `WanPipeline` or `WanImageToVideoPipeline`, or its name on the Hub.
        expert, audio_mode, seed, dtype, kwargs: As in `JoVAPipeline.from_wan`.

    Raises:
        ValueError: If it is another pipeline, one whose parts are not of one Wan, or one with two experts and none is
            chosen.
    """
    index = DiffusionPipeline.load_config(folder)
    if index.get("_class_name") not in (WanPipeline.__name__, WanImageToVideoPipeline.__name__):
        raise ValueError(
            f"`{folder}` is a {index.get('_class_name')}, not a {WanPipeline.__name__} or a "
            f"{WanImageToVideoPipeline.__name__}."
        )
    there = {name: part for name, part in EXPERTS.items() if index.get(part, (None,))[0] is not None}
    if len(there) == 2 and expert is None:
        raise ValueError(
            f"`{folder}` has two experts, and one becomes the video branch: pass `expert='high'` (noise; layout and "
            "motion) or `expert='low'` (detail). Neither alone does what the two do together."
        )
    if expert is not None and (expert not in there or len(there) < 2):
        raise ValueError(f"`expert={expert!r}` goes with a Wan2.2-A14B of two experts, which `{folder}` is not.")
    part = there[expert or next(iter(there))]
    others = {other: None for other in there.values() if other != part}
    wan = DiffusionPipeline.from_pretrained(folder, dtype=dtype, **others, **kwargs)
    compression = wan.vae.config.scale_factor_temporal
    transformer = transformer_from_wan(getattr(wan, part), audio_mode, seed, compression)
    check_timesteps_of_frames(index, transformer.config.condition_fill)
    if (channels := transformer.config.out_channels) != wan.vae.config.z_dim:
        raise ValueError(
            f"`{folder}` has a transformer of {channels} latent channels beside a VAE of {wan.vae.config.z_dim}: they "
            "are not of one Wan. Take the folder as it was published."
        )
    defaults = wan_call_defaults(expert, transformer.config.condition_fill)
    return {name: wan.components[name] for name in KEPT} | {"transformer": transformer} | defaults
