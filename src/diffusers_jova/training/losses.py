# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The losses, each one number per sample (B,), in float32. Who calls them averages and logs.

B batch, C channels, F latent frames, H W latent rows and columns
"""

import torch


def flow_matching_loss(
    prediction: torch.Tensor, target: torch.Tensor, is_given: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the mean squared error of each sample's velocity (B, C, L, ...): (B,). Eq. 2 for video, Eq. 3 for audio.

    Args:
        prediction, target: (B, C, F, H, W) or (B, C, A) velocities.
        is_given: (B, F) or (B, A) bool, what is given and has no loss: the mean is that of the rest, zero where there
            is none. None: nothing is given.
    """
    error = (prediction.float() - target.float()).square()
    if is_given is None:
        return error.flatten(1).mean(1)
    error = error.transpose(1, 2).flatten(2).mean(2)  # (B, F) or (B, A)
    return torch.where(is_given, 0.0, error).sum(1) / (~is_given).sum(1).clamp(min=1)


def mouth_loss(
    prediction: torch.Tensor, target: torch.Tensor, mouth_mask: torch.Tensor, reduction: str = "mask"
) -> torch.Tensor:
    """Return the squared error of the video's velocity in the mouth's cells only (Eq. 7): (B,).

    Args:
        prediction, target: (B, C, F, H, W) velocities.
        mouth_mask: (B, F, H, W), 1 or True in the mouth's cells.
        reduction: "mask" averages over the mouth's cells, "all" divides their sum by the number of all cells. The
            paper gives no normalisation: "mask" is our choice, it weighs a small mouth like a large one.

    Returns:
        Zero, with zero gradient, for a sample without a mouth.
    """
    mask = mouth_mask.to(prediction.device).bool()[:, None]  # (B, 1, F, H, W)
    error = (prediction.float() - target.float()).square()
    error = torch.where(mask, error, 0.0).flatten(1).sum(1)
    num_cells = mask.flatten(1).sum(1) if reduction == "mask" else torch.full_like(error, mask[0].numel())
    return error / (prediction.shape[1] * num_cells.clamp(min=1))
