# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What each encoder makes: frames -> video VAE, waveform -> audio VAE, lines -> texts; one is in memory at a time."""
# N video frames, C latent channels, F latent frames, A audio latents, T tokens, d width

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..files import reading_folder
from ..mouth import to_pixels
from ..pipeline_folder import read_pipeline_folder
from .model_facts import COMPONENTS_OF


if TYPE_CHECKING:  # children that read clips import this, and wait for no diffusers
    from ..pipelines.pipeline_jova import JoVAPipeline


@torch.no_grad()
def encode_video(vae, frames: np.ndarray, num_grey: int = 0) -> torch.Tensor:
    """Return the posterior's moments (2C, F, H, W), mean and logvar, of a video.

    Args:
        frames: (N, height, width, 3) uint8, the beginning of the video.
        num_grey: how many grey frames follow: 0 in the VAE's range from -1 to 1, which 8 bits do not have.
    """
    pixels = torch.nn.functional.pad(to_pixels(frames), (0, 0, 0, 0, 0, num_grey)).to(vae.device, vae.dtype)
    return vae.encode(pixels).latent_dist.parameters[0].cpu()


@torch.no_grad()
def encode_audio(audio_vae, waveform: torch.Tensor, num_latents: int, samples_per_latent: int) -> torch.Tensor:
    """Return the posterior's moments (2C, A) of a mono waveform (num_samples,), silence behind it up to A latents."""
    missing = num_latents * samples_per_latent - len(waveform)
    waveform = torch.nn.functional.pad(waveform, (0, max(missing, 0)))
    moments = audio_vae.encode(waveform[None].to(audio_vae.device)).latent_dist.parameters[0]
    return moments[..., :num_latents].cpu()


@torch.no_grad()
def encode_text(pipe: "JoVAPipeline", name: str, lines: tuple[str, ...], max_sequence_length: int) -> torch.Tensor:
    """Return the states (T, d) of the three lines, unpadded; `name` is "prompt_embeds" or "prompt_embeds_2".

    A pipeline whose `prompt_format` is "plain" reads the first of them alone.
    """
    prompt, audio_prompt, transcript = lines if pipe.config.prompt_format == "labelled" else (lines[0], None, None)
    outputs = pipe.encode_prompt(
        prompt,
        audio_prompt,
        transcript,
        do_classifier_free_guidance=False,
        max_sequence_length=max_sequence_length,
        device=torch.device("cpu"),
    )
    return outputs[0 if name == "prompt_embeds" else 2][0]


@contextmanager
def load_phase(
    model: Path, phase: str, device: torch.device, dtype: torch.dtype, prompt_format: str = "labelled"
) -> Iterator["JoVAPipeline"]:
    """Give a pipeline that holds only the components of `phase`, and free them afterwards.

    Training teaches the three lines, unless `prompt_format` says otherwise, also where the base, from Wan, reads plain
    prompts.
    """
    from ..pipelines.pipeline_jova import JoVAPipeline

    parts = read_pipeline_folder(model).parts.keys() - set(COMPONENTS_OF[phase])
    with reading_folder(model):
        pipe = JoVAPipeline.from_pretrained(model, dtype=dtype, prompt_format=prompt_format, **dict.fromkeys(parts))
    pipe = pipe.to(device)
    try:
        yield pipe
    finally:
        for name in COMPONENTS_OF[phase]:  # whoever still holds the pipeline holds no weights
            setattr(pipe, name, None)
        if device.type != "cpu":
            gc.collect()
            torch.get_device_module(device).empty_cache()
