# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Rectified flow: noise levels, the straight path from data to noise, and the velocity along it.

B batch. sigma = 0 is data, sigma = 1 is noise, as in diffusers; the paper's time is t = 1 - sigma.
"""

import torch
from diffusers.training_utils import compute_density_for_timestep_sampling


NUM_TRAIN_TIMESTEPS = 1000  # the transformer's timestep is 1000 · sigma


def sample_sigma(
    generator: torch.Generator,
    sampling: str = "uniform",
    logit_mean: float = 0.0,
    logit_std: float = 1.0,
    mode_scale: float = 1.29,
) -> torch.Tensor:
    """Return one noise level in [0, 1], a float32 tensor without axes.

    uniform      sigma ~ U[0, 1]   (the paper, section 3.1)
    logit_normal sigma = sigmoid(n), n ~ N(logit_mean, logit_std)   (arXiv:2403.03206, eq. 19)
    mode         sigma = 1 - u - s (cos²(πu/2) - 1 + u), u ~ U[0, 1], s = mode_scale   (eq. 20; Waver: s = 1.29)
    """
    scheme = "none" if sampling == "uniform" else sampling
    sigma = compute_density_for_timestep_sampling(scheme, 1, logit_mean, logit_std, mode_scale, generator=generator)
    return sigma[0].clamp(0, 1)


def shift_sigmas(sigmas: torch.Tensor, shift: float) -> torch.Tensor:
    """Return shift · sigma / (1 + (shift - 1) · sigma): above 1, more noise (arXiv:2403.03206, eq. 23)."""
    return shift * sigmas / (1 + (shift - 1) * sigmas)


def add_noise(latents: torch.Tensor, noise: torch.Tensor, sigmas: torch.Tensor) -> torch.Tensor:
    """Return the point at noise level `sigmas` on the straight path from `latents` (0) to `noise` (1).

    x_sigma = (1 - sigma) · x + sigma · noise   (arXiv:2403.03206, eq. 13; the paper's v_t, Eq. 2)

    Args:
        latents, noise: (B, C, ...).
        sigmas: (B,), or (B, L) for latents (B, C, L, ...).
    """
    sigmas = along_time(sigmas, latents)
    return (1 - sigmas) * latents + sigmas * noise


def along_time(values: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
    """Return (B, F), (B, A) or (B,) so that it spreads over `latents` (B, C, F, H, W) or (B, C, A)."""
    return values.reshape(len(values), 1, -1, *[1] * (latents.ndim - 3))


def velocity(latents: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return what the model learns to predict: d x_sigma / d sigma = noise - x (the paper's u, with opposite sign)."""
    return noise - latents


def timesteps_of(sigmas: torch.Tensor) -> torch.Tensor:
    """Return the transformer's timesteps, 0 to 1000."""
    return NUM_TRAIN_TIMESTEPS * sigmas
