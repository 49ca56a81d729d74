# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Where frames that are given and frames that are made meet: what stands still goes on as it was. Our choice.

B batch, C channels, F latent frames, H W latent rows and columns
"""

import torch


MOTION_WEIGHT = 3.0  # how soon a difference counts as motion; 1 begins to hold eyes and lips, 3 does not


def offset_from_given(expected: torch.Tensor, given: torch.Tensor, first: int, last: int) -> torch.Tensor:
    """Return what takes the frames that are made on from those that are given beside them: (B, C, F, H, W).

    A model that is given frames may draw the same face with another place, edges and colours, and the clip jumps. The
    difference d of the last frame that is given and the first one that is made tells by how much, at each place of
    the latents, but it also holds what moves from one frame to the next. So each place takes over

        d · d² / (d² + `MOTION_WEIGHT` · (var(given) + var(expected)))

    of it, with variances over the frames on either side of the border: all of it where nothing moves, next to nothing
    where what moves is larger. (The shape is that of a Wiener filter; using it so is our choice.) Behind one border
    the offset stays; between two of them it goes over from one to the other.

    Args:
        expected: `(B, C, F, H, W)`, what the model expects of the video without noise, x - sigma · v.
        given: `(B, C, F, H, W)`; where it is made, any values.
        first, last: The first and the last frame that is made; all between them are made, and not all of the clip is.
    """
    made = expected[:, :, first : last + 1]
    motion = made.var(dim=2, correction=0, keepdim=True)
    offsets = []
    for part, edge, border in (
        (given[:, :, :first], -1, first),
        (given[:, :, last + 1 :], 0, last),
    ):
        if part.shape[2]:
            difference = (part[:, :, edge] - expected[:, :, border])[:, :, None]  # (B, C, 1, H, W)
            energy = difference.square()
            moving = MOTION_WEIGHT * (motion + part.var(dim=2, correction=0, keepdim=True))
            share = energy / (energy + moving).clamp(min=torch.finfo(energy.dtype).tiny)
            offsets.append(share * difference)
    place = torch.linspace(0, 1, made.shape[2], device=made.device)[:, None, None]  # (F', 1, 1)
    offset = torch.zeros_like(expected)
    offset[:, :, first : last + 1] = torch.lerp(offsets[0], offsets[-1], place)
    return offset
