# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The transformer's video input: noisy latents, and beside them what is given of the video. Latents in, channels out.

The pipeline and the training step both go through here, so that a model is asked as it was taught.

B batch, C latent channels, F latent frames, K latent frames at the clip's beginning, H W latent rows and columns,
M video frames per latent frame, which is the number of mask channels
"""

import torch
import torch.nn.functional as F


def condition_channels(
    clean_latents: torch.Tensor,
    is_given: torch.Tensor,
    filler_latents: torch.Tensor,
    num_latent_frames: int,
    temporal_compression: int = 4,
) -> torch.Tensor:
    """Return the channels that tell the transformer what is given: C of clean latents, then M of a mask.

    A latent frame that is given holds its clean latents and mask 1; one that is not holds the filler and mask 0.
    A reference image is the case K = 1; a longer K gives the beginning of a clip.

    Args:
        clean_latents: `(B, C, K, H, W)`, on the transformer's scale. Where a frame is not given, any values do.
        is_given: `(B, K)` bool: which of these latent frames are given. The F - K frames behind them never are.
        filler_latents: What the other frames hold: `(1, C, 1, H, W)`, the latent of one black frame for JoVA, or
            `(B, C, F, H, W)`, each frame its own.
        num_latent_frames: F.
        temporal_compression: M.

    Returns:
        `(B, C + M, F, H, W)`, for `video_input`.
    """
    # a model that stands on other weights may know another order of channels, or another filler: both change here
    batch_size, num_given = is_given.shape
    condition = filler_latents.expand(batch_size, -1, num_latent_frames, -1, -1).clone()
    is_given = is_given[:, None, :, None, None]  # (B, 1, K, 1, 1)
    condition[:, :, :num_given] = torch.where(is_given, clean_latents, condition[:, :, :num_given])
    # one channel for each video frame of a latent frame; the first video frame, alone in its latent frame, has all
    mask = F.pad(is_given.to(condition.dtype), (0, 0, 0, 0, 0, num_latent_frames - num_given))
    mask = mask.expand(-1, temporal_compression, -1, *condition.shape[-2:])  # (B, M, F, H, W)
    return torch.cat([condition, mask], dim=1)


def grey_where_not_given(
    frames: torch.Tensor | None,
    is_given: torch.Tensor,
    num_latent_frames: int,
    temporal_compression: int,
    size: tuple[int, int],
) -> torch.Tensor:
    """Return a video `(R, 3, num_frames, height, width)` of the frames that are given, grey (0) everywhere else.

    Args:
        frames: `(R, 3, N, height, width)` in [-1, 1], the beginning of the video; None where nothing is given.
        is_given: `(K,)` bool: which latent frames of the beginning are given.
        num_latent_frames: F.
        temporal_compression: M.
        size: Height and width in pixels.
    """
    num_frames = (num_latent_frames - 1) * temporal_compression + 1
    if frames is None:
        return torch.zeros(1, 3, num_frames, *size)
    # latent frame 0 is one video frame, the others are M frames each
    is_given = is_given.repeat_interleave(temporal_compression)[temporal_compression - 1 :][: frames.shape[2]]
    frames = frames * is_given.to(frames.device)[:, None, None]
    return F.pad(frames, (0, 0, 0, 0, 0, num_frames - frames.shape[2]))


def video_input(latents: torch.Tensor, condition: torch.Tensor | None) -> torch.Tensor:
    """Return what the transformer takes as `hidden_states`: noisy latents (B, C, F, H, W), then the condition, if any.

    Args:
        condition: `(B, C + M, F, H, W)` of `condition_channels`; None for a transformer that takes none.
    """
    return latents if condition is None else torch.cat([latents, condition], dim=1)
