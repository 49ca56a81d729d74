# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Shape arithmetic between seconds, pixels and latents, and the latents' own scale.

B batch, C channels, F latent frames, H W latent rows and columns, A audio latents
"""

import math

import torch


def num_latent_frames(num_frames: int, compression: int = 4) -> int:
    """Return the latent frames of `num_frames` = compression · k + 1 video frames: k + 1 (Wan's causal VAE)."""
    return (num_frames - 1) // compression + 1


def nearest_num_frames(num_frames: int, compression: int = 4) -> tuple[int, int]:
    """Return the nearest frame counts compression · k + 1 below (or equal) and above."""
    below = max(num_frames - 1, 0) // compression * compression + 1
    return below, below + compression


def num_audio_latents(num_frames: int, frame_rate: float, audio_latent_rate: float) -> int:
    """Return how many audio latents cover `num_frames` frames at `frame_rate` frames/s: ceil(seconds · rate)."""
    # rounded first: 2.0000000001 latents are 2
    return math.ceil(round(num_frames / frame_rate * audio_latent_rate, 6))


def num_audio_samples(num_frames: int, frame_rate: float, sampling_rate: int) -> int:
    """Return the samples of a sound that lasts exactly `num_frames` frames at `frame_rate` frames/s."""
    return round(num_frames / frame_rate * sampling_rate)


def fit_audio(audio: torch.Tensor, num_samples: int) -> torch.Tensor:
    """Return `audio` (..., N) cut, or padded with silence, to (..., num_samples)."""
    return torch.nn.functional.pad(audio, (0, max(num_samples - audio.shape[-1], 0)))[..., :num_samples]


def fold_frame_mask(frame_mask: torch.Tensor, compression: int = 4) -> torch.Tensor:
    """Fold a mask per video frame (B, num_frames) into latent time: (B, compression, F).

    The first frame, which has a latent frame of its own, is repeated, as Wan does.
    """
    first = frame_mask[:, :1].expand(-1, compression - 1)
    return torch.cat([first, frame_mask], dim=1).unflatten(1, (-1, compression)).transpose(1, 2)


def _statistics(latents: torch.Tensor, config) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return `latents_mean` and `latents_std` of a VAE's config, shaped for `latents` (B, C, ...); None: identity."""
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None:
        # diffusers' MMAudioVAE has one factor for all channels instead
        scaling_factor = getattr(config, "scaling_factor", None)
        if scaling_factor is None:
            return None
        mean, std = [0.0], [1 / scaling_factor]
    shape = (1, -1) + (1,) * (latents.ndim - 2)
    return tuple(torch.tensor(x, dtype=latents.dtype, device=latents.device).view(shape) for x in (mean, std))


def normalize_latents(latents: torch.Tensor, config) -> torch.Tensor:
    """Return VAE latents (B, C, ...) on the scale that the transformer sees: (x - latents_mean) / latents_std."""
    statistics = _statistics(latents, config)
    return latents if statistics is None else (latents - statistics[0]) / statistics[1]


def denormalize_latents(latents: torch.Tensor, config) -> torch.Tensor:
    """Undo `normalize_latents`: x · latents_std + latents_mean."""
    statistics = _statistics(latents, config)
    return latents if statistics is None else latents * statistics[1] + statistics[0]
