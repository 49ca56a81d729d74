# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Modulation by one timestep per sample, or by two among the tokens of one sample: what is given, and what is made.

What is given of a recording, or of a video, stands clean, at timestep 0, beside the rest, at the timestep of the
step. Both modulations are computed once per sample, and each token takes one of them: a modulation of every token's
own, (B, S, 6D) in each block, is never there.

B batch, S tokens, D width, N timesteps among the tokens of a sample: 1 or 2
"""

from collections.abc import Callable

import torch


def split_timestep(timestep: torch.Tensor, batch_size: int) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the timesteps (B, N), and which tokens have the first of two: (B, S, 1) bool, None where N is 1.

    Args:
        timestep: (B,) or a single number, for all tokens of a sample; or (B, S), at most two values in a sample: the
            lower one of the tokens that are given, the higher one of the others. S may count what has several tokens,
            as a latent frame has.
    """
    if timestep.ndim < 2:
        return timestep.expand(batch_size)[:, None], None
    timesteps = torch.stack([timestep.amin(1), timestep.amax(1)], dim=1)
    return timesteps, (timestep == timesteps[:, :1])[..., None]


def modulate(
    function: Callable[..., torch.Tensor], is_given: torch.Tensor | None, *modulation: torch.Tensor
) -> torch.Tensor:
    """Return `function(*modulation)`, (B, S, D), or for each token what it gives with the token's own modulation.

    Args:
        function: Takes a modulation of (B, 1, D) each.
        is_given: (B, S, 1) bool, which tokens take the first modulation; None where there is one only.
        modulation: (B, N, D) each.
    """
    if is_given is None:
        return function(*modulation)
    first, second = zip(*(tensor.split(1, dim=1) for tensor in modulation))
    # `where` keeps nothing but the mask for the gradient; to choose between the modulations first would keep (B, S, D)
    # of each
    return torch.where(is_given, function(*first), function(*second))
