# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a pipeline's folder says, without loading it: which phases it has encoders for, and what it wants of a clip."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..files import reading
from ..pipeline_folder import INDEX, read_pipeline_folder


PHASES = ("video", "audio", "text", "text_2")
COMPONENTS_OF = {  # the parts of the pipeline that are in memory in each phase
    "video": ("vae",),
    "audio": ("audio_vae",),
    "text": ("tokenizer", "text_encoder"),
    "text_2": ("tokenizer_2", "text_encoder_2"),
}
EMBEDS_OF = {"text": "prompt_embeds", "text_2": "prompt_embeds_2"}


@dataclass(frozen=True)
class ModelFacts:
    """What a pipeline's folder says without loading it.

    Attributes:
        folder: of the pipeline.
        phases: those of `PHASES` for which it has the components.
        defaults: height, width, num_frames, frame_rate of a call.
        multiple: of pixels, that a frame's height and width must be.
        spatial, temporal: pixels per latent cell, and frames per latent frame.
        sampling_rate, audio_latent_rate: per second; None without an audio VAE.
        samples_per_latent: of the audio VAE.
        condition_fill: what lies beside a reference image: "black", "grey" or "noisy", see
            `JoVAWanTransformer3DModel`.
    """

    folder: Path
    phases: tuple[str, ...]
    defaults: Mapping[str, float]
    multiple: int
    spatial: int
    temporal: int
    sampling_rate: int | None
    audio_latent_rate: float | None
    samples_per_latent: int | None
    condition_fill: str = "black"

    @property
    def has_video(self) -> bool:
        """Whether it can encode video."""
        return "video" in self.phases

    @property
    def has_audio(self) -> bool:
        """Whether it can encode audio."""
        return "audio" in self.phases


def read_model_facts(model: str | os.PathLike) -> ModelFacts:
    """Return what the folder `model` says about the pipeline in it.

    Raises:
        FileNotFoundError: if it is not the folder of a pipeline.
        ValueError: if it is a Wan's own, or can encode neither video nor audio, or no text.
    """
    folder = read_pipeline_folder(model)
    folder.refuse_wan()
    phases = tuple(phase for phase in PHASES if COMPONENTS_OF[phase][-1] in folder.parts)
    if not {"video", "audio"} & set(phases) or not {"text", "text_2"} & set(phases):
        lacking = "text encoder" if {"video", "audio"} & set(phases) else "vae and no audio_vae"
        raise ValueError(
            f"`{folder.path}` has no {lacking}, so nothing can be encoded with it: choose the folder of a whole "
            "pipeline."
        )
    with reading(folder.path / INDEX):
        defaults = {name: folder.call_defaults[name] for name in ("height", "width", "num_frames", "frame_rate")}
    return ModelFacts(
        folder=folder.path,
        phases=phases,
        defaults=defaults,
        multiple=folder.size_multiple,
        spatial=folder.vae_scale_factor_spatial,
        temporal=folder.vae_scale_factor_temporal,
        sampling_rate=folder.sampling_rate,
        audio_latent_rate=folder.audio_latent_rate,
        samples_per_latent=folder.samples_per_latent,
        condition_fill=folder.config("transformer").get("condition_fill", "black"),
    )
