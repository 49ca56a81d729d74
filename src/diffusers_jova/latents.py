# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Shape arithmetic between seconds, pixels and latents, and the latents' own scale.

B batch, C channels, F latent frames, H W latent rows and columns, A audio latents
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch


NTSC_RATES = tuple(Fraction(nominal * 1000, 1001) for nominal in (12, 15, 24, 30, 48, 60, 120, 240))  # frames/s


def num_latent_frames(num_frames: int, compression: int = 4) -> int:
    """Return the latent frames of `num_frames` = compression · k + 1 video frames: k + 1 (Wan's causal VAE)."""
    return (num_frames - 1) // compression + 1


def nearest_num_frames(num_frames: int, compression: int = 4) -> tuple[int, int]:
    """Return the nearest frame counts compression · k + 1 below (or equal) and above."""
    below = max(num_frames - 1, 0) // compression * compression + 1
    return below, below + compression


@lru_cache(maxsize=256)
def exact_frame_rate(frame_rate: float | Fraction) -> Fraction:
    """Return the frame rate that a number stands for: 23.976 -> 24000/1001, 12.5 -> 25/2, a Fraction as it is.

    Raises:
        ValueError: if it is not a positive number.
    """
    if not isinstance(frame_rate, Fraction):
        if not math.isfinite(frame_rate):
            raise ValueError(f"`frame_rate` must be a positive number, got {frame_rate}.")
        frame_rate = Fraction(float(frame_rate))
    if frame_rate <= 0:
        raise ValueError(f"`frame_rate` must be a positive number, got {float(frame_rate):g}.")
    for ntsc in NTSC_RATES:  # they are never written out: 23.976, 23.98, 29.97, 59.94
        if any(float(frame_rate) == round(float(ntsc), digits) for digits in range(2, 12)):
            return ntsc
    return frame_rate.limit_denominator(1001) or frame_rate


def num_audio_latents(num_frames: int, frame_rate: float | Fraction, audio_latent_rate: float) -> int:
    """Return how many audio latents cover `num_frames` frames: ceil(seconds · rate), exactly.

    Args:
        frame_rate: frames per second, as in `exact_frame_rate`.
        audio_latent_rate: latents per second, a ratio of whole numbers like 44100 / 1024.
    """
    # 0.2 is a fifth, and not the float beside it, of which ten would need a third latent
    latents_per_second = Fraction(float(audio_latent_rate)).limit_denominator(10**6)
    return math.ceil(num_frames / exact_frame_rate(frame_rate) * latents_per_second)


def num_audio_samples(num_frames: int, frame_rate: float | Fraction, sampling_rate: int) -> int:
    """Return the samples of audio that lasts exactly `num_frames` frames; `frame_rate` as in `exact_frame_rate`."""
    return round(num_frames / exact_frame_rate(frame_rate) * sampling_rate)


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
    mean, std = (torch.tensor(x, dtype=latents.dtype, device=latents.device).view(shape) for x in (mean, std))
    return mean, std


def normalize_latents(latents: torch.Tensor, config) -> torch.Tensor:
    """Return VAE latents (B, C, ...) on the scale that the transformer sees: (x - latents_mean) / latents_std."""
    statistics = _statistics(latents, config)
    return latents if statistics is None else (latents - statistics[0]) / statistics[1]


def denormalize_latents(latents: torch.Tensor, config) -> torch.Tensor:
    """Undo `normalize_latents`: x · latents_std + latents_mean."""
    statistics = _statistics(latents, config)
    return latents if statistics is None else latents * statistics[1] + statistics[0]
