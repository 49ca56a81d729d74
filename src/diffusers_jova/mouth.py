# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Mouth boxes in pixels -> mask on the latent grid, drawings of it, and the paper's test of it (Appendix A)."""
# N video frames, F latent frames, H W latent rows and columns; boxes are x1, y1, x2, y2, half-open, NaN: no mouth

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw

from .images import normalize_frames
from .latents import num_latent_frames


BOX_COLOUR = (60, 255, 60)
MASK_COLOUR = (255, 40, 40)


def mouth_mask(
    boxes: np.ndarray | torch.Tensor, latent_shape: Sequence[int], spatial: int = 8, temporal: int = 4
) -> torch.Tensor:
    """Return the latent cells that the mouth touches, (F, H, W) float32 of ones and zeros.

    A box covers the cells from floor(x1 / s) to ceil(x2 / s), likewise in y (paper, Eq. 4). The cells of a latent
    frame are the smallest box around all boxes of its window (paper, Eq. 5). Windows are ours, after Wan's causal VAE:
    frame 0 alone, then frames 4k - 3 ... 4k for latent frame k.

    Args:
        boxes: (N, 4), pixels of the encoded video, half-open; a row with NaN, or without area, is not a mouth.
        latent_shape: (F, H, W).
        spatial, temporal: pixels per cell s, and frames per latent frame, of the VAE.

    Raises:
        ValueError: if N frames do not make F latent frames.
    """
    boxes = torch.as_tensor(boxes, dtype=torch.float32)
    num_frames, (depth, height, width) = len(boxes), latent_shape
    if (
        boxes.shape != (num_frames, 4)
        or num_latent_frames(num_frames, temporal) != depth
        or (num_frames - 1) % temporal
    ):
        raise ValueError(
            f"`boxes` must be (N, 4) for N frames that make {depth} latent frames, N = {temporal * (depth - 1) + 1}, "
            f"got {tuple(boxes.shape)}."
        )
    no_mouth = ~((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1]))  # true for NaN
    # the union of nothing is the box from +inf to -inf, which covers no cell
    lower = boxes[:, :2].masked_fill(no_mouth[:, None], torch.inf)
    upper = boxes[:, 2:].masked_fill(no_mouth[:, None], -torch.inf)
    # the window of latent frame 0 is frame 0, repeated
    lower, upper = (torch.cat([x[:1].expand(temporal - 1, 2), x]).unflatten(0, (-1, temporal)) for x in (lower, upper))
    left, top = (lower.amin(dim=1) / spatial).floor().T[..., None]  # (F, 1) each
    right, bottom = (upper.amax(dim=1) / spatial).ceil().T[..., None]
    columns, rows = torch.arange(width), torch.arange(height)
    in_columns = (columns >= left) & (columns < right)  # (F, W)
    in_rows = (rows >= top) & (rows < bottom)  # (F, H)
    return (in_rows[:, :, None] & in_columns[:, None, :]).float()


# --- drawings ---


def draw_overlay(frames: np.ndarray, boxes: np.ndarray, mask: torch.Tensor, temporal: int = 4) -> np.ndarray:
    """Return `frames` (N, height, width, 3) uint8 with the cells of the mask reddened and the boxes in green."""
    cells = mask.numpy().astype(bool)[_latent_frame_of(len(frames), temporal)]  # (N, H, W)
    scale = [frames.shape[axis] // cells.shape[axis] for axis in (1, 2)]
    red = cells.repeat(scale[0], axis=1).repeat(scale[1], axis=2)[..., None]
    drawn = np.where(red, (frames * 0.6 + np.array(MASK_COLOUR) * 0.4).astype(np.uint8), frames)
    return np.stack([_draw_box(frame, box) for frame, box in zip(drawn, boxes, strict=True)])


def contact_sheet(rows: Iterable[np.ndarray], num_columns: int = 8) -> Image.Image:
    """Return one image: a row for each clip (N, height, width, 3), of frames evenly spaced over it."""
    sheet = []
    for frames in rows:
        chosen = np.linspace(0, len(frames) - 1, min(num_columns, len(frames))).round().astype(int)
        sheet.append(np.concatenate([np.pad(frames[i], ((1, 1), (1, 1), (0, 0))) for i in chosen], axis=1))
    return Image.fromarray(np.concatenate(sheet, axis=0))


def _latent_frame_of(num_frames: int, temporal: int) -> np.ndarray:
    """Return the latent frame whose window holds each frame: 0, 1 1 1 1, 2 2 2 2, ..."""
    return (np.arange(num_frames) + temporal - 1) // temporal


def _draw_box(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    if not np.isfinite(box).all():
        return frame
    image = Image.fromarray(frame)
    x1, y1, x2, y2 = np.rint(box)
    ImageDraw.Draw(image).rectangle((x1, y1, max(x2 - 1, x1), max(y2 - 1, y1)), outline=BOX_COLOUR)
    return np.asarray(image)


# --- Appendix A ---


@dataclass(frozen=True)
class MaskTest:
    """What `mask_test` found.

    Attributes:
        reconstruction, masked: (N, height, width, 3) uint8, decoded from the latents, and from the latents with the
            mouth zeroed.
        inside: mean absolute difference of the two in the mouth's boxes, in steps of 255.
        outside: the same over all pixels outside the zeroed cells.
    """

    reconstruction: np.ndarray
    masked: np.ndarray
    inside: float
    outside: float


@torch.no_grad()
def mask_test(vae, frames: np.ndarray, boxes: np.ndarray) -> MaskTest:
    """Zero the masked cells of a clip's latents, decode, and compare (paper, Appendix A).

    The latents are the VAE's own, before `latents_mean` and `latents_std`.

    Args:
        vae: `AutoencoderKLWan`.
        frames: (N, height, width, 3) uint8, N = 4k + 1.
        boxes: (N, 4) in pixels of `frames`.

    Raises:
        ValueError: if there is no mouth in any frame.
    """
    if not np.isfinite(boxes).all(axis=1).any():
        raise ValueError("There is no mouth in any frame: nothing to mask.")
    pixels = to_pixels(frames).to(vae.device, vae.dtype)
    latents = vae.encode(pixels).latent_dist.mode()  # (1, C, F, H, W)
    spatial, temporal = frames.shape[1] // latents.shape[3], vae.config.scale_factor_temporal
    mask = mouth_mask(boxes, latents.shape[2:], spatial, temporal)
    decoded = [to_frames(vae.decode(x).sample) for x in (latents, latents * (1 - mask.to(latents)))]
    change = np.abs(decoded[0].astype(np.float32) - decoded[1]).mean(axis=-1)  # (N, height, width)
    height, width = frames.shape[1:3]
    cells = mask.numpy().astype(bool)[_latent_frame_of(len(frames), temporal)]
    cells = cells.repeat(spatial, axis=1).repeat(spatial, axis=2)
    x1, y1, x2, y2 = (boxes[:, i, None, None] for i in range(4))
    x, y = np.arange(width) + 0.5, np.arange(height)[:, None] + 0.5
    in_box = (x >= x1) & (x < x2) & (y >= y1) & (y < y2)  # false for NaN
    return MaskTest(decoded[0], decoded[1], float(change[in_box].mean()), float(change[~cells].mean()))


def draw_mask_test(test: MaskTest, frames: np.ndarray, boxes: np.ndarray) -> Image.Image:
    """Return the figure of Appendix A: above the frames with their boxes, below the clip with the mouth zeroed.

    Args:
        test: what `mask_test` found.
        frames, boxes: what it was given.
    """
    drawn = np.stack([_draw_box(frame, box) for frame, box in zip(frames, boxes, strict=True)])
    return contact_sheet([drawn, test.masked])


# --- pixels ---


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """Return frames (N, height, width, 3) uint8 as a batch of one (1, 3, N, height, width), float32 in [-1, 1]."""
    return normalize_frames(frames[None])


def to_frames(pixels: torch.Tensor) -> np.ndarray:
    """Undo `to_pixels`."""
    pixels = ((pixels[0].float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return pixels.permute(1, 2, 3, 0).cpu().numpy()
