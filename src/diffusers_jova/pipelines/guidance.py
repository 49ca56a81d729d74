# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Guidance that is more than a weighted sum.

B batch, C channels, F latent frames, H W latent rows and columns
"""

import torch

from .. import compat


def projected_guidance(
    v_cond: torch.Tensor,
    v_uncond: torch.Tensor,
    latents: torch.Tensor,
    sigma: torch.Tensor,
    guidance_scale: float,
    norm_threshold: float,
) -> torch.Tensor:
    """Return the velocity (B, C, F, H, W) of adaptive projected guidance (arXiv:2410.02416, section 4).

    It works on predicted data x = latents - sigma · v: the part of the update along the conditional prediction is
    dropped, its norm is limited, per latent frame ([C, H, W], as Waver does).
    """
    data = compat.load("normalized_guidance")(
        latents - sigma * v_cond,
        latents - sigma * v_uncond,
        guidance_scale - 1,
        eta=0.0,
        norm_threshold=norm_threshold,
        use_original_formulation=True,
        norm_dim=(1, 3, 4),
    )
    return (latents - data) / sigma
