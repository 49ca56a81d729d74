# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MANIQA (arXiv:2204.08958): the quality of an image without a reference, from about 0 to 1, a third of AS.

The network under the names of `ckpt_koniq10k.pt`.
"""
# B crops, C channels, S = 28 rows and columns of patches, N = S * S = 784 patches, W windows of 4 x 4 patches

import re
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.initialization import no_init_weights

from .checkpoints import load_weights
from .pixels import resize_bilinear
from .vit_block import Block, Mlp


CROP, PATCH = 224, 8
GRID = CROP // PATCH
NUM_PATCHES = GRID * GRID
VIT_SIZE, VIT_HEADS = 768, 12
LAYERS_READ = (6, 7, 8, 9)  # of the transformer's twelve; the last two are not needed
WINDOW, NUM_HEADS, MLP_SIZE, SCALE = 4, 4, 768, 0.8
NUM_CROPS = 20
GRID_CROPS = (4, 5)  # rows and columns of crops
PROTOCOLS = ("verse", "grid")

_UNUSED = re.compile(  # what nothing reads, and what the network computes itself
    r"^vit\.(norm|head|blocks\.1[01])\.|^swintransformer\d\.downsample\.|\.(attn_mask|relative_position_index)$"
)


class TransposedAttention(nn.Module):
    """Attention between channels (B, C, N) instead of between patches."""

    def __init__(self):
        super().__init__()
        self.c_q, self.c_k, self.c_v = (nn.Linear(NUM_PATCHES, NUM_PATCHES) for _ in range(3))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        query, key, value = self.c_q(hidden_states), self.c_k(hidden_states), self.c_v(hidden_states)
        attended = (query @ key.transpose(1, 2) * NUM_PATCHES**-0.5).softmax(dim=-1) @ value
        # turned and read as if it were not: so were the weights trained
        return hidden_states + attended.transpose(1, 2).reshape(hidden_states.shape)


class WindowAttention(nn.Module):
    """Attention within windows (B W, 16, C), with a learned bias per distance."""

    relative_position_index: torch.Tensor

    def __init__(self, size: int):
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, NUM_HEADS))
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)
        rows, columns = (torch.arange(WINDOW * WINDOW) // WINDOW, torch.arange(WINDOW * WINDOW) % WINDOW)
        down, right = (place[:, None] - place + WINDOW - 1 for place in (rows, columns))
        self.register_buffer("relative_position_index", down * (2 * WINDOW - 1) + right, persistent=False)

    def forward(self, hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, NUM_HEADS, -1)).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)  # (heads, 16, 16)
        if mask is not None:
            bias = (bias + mask[:, None]).repeat(len(hidden_states) // len(mask), 1, 1, 1)
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=bias.expand(len(query), -1, -1, -1))
        return self.proj(attended.transpose(1, 2).flatten(2))


class SwinBlock(nn.Module):
    """Attention within windows, which every second block moves by half a window."""

    def __init__(self, size: int, shift: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size), nn.LayerNorm(size)
        self.attn, self.mlp, self.shift = WindowAttention(size), Mlp(size, MLP_SIZE), shift
        self.register_buffer("attn_mask", _shift_mask(shift) if shift else None, persistent=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # (B, N, C)
        grid = self.norm1(hidden_states).unflatten(1, (GRID, GRID)).roll((-self.shift, -self.shift), dims=(1, 2))
        attended = _from_windows(self.attn(_to_windows(grid), self.attn_mask))
        hidden_states = hidden_states + attended.roll((self.shift, self.shift), dims=(1, 2)).flatten(1, 2)
        return hidden_states + self.mlp(self.norm2(hidden_states))


class SwinLayer(nn.Module):
    """Two blocks and a convolution."""

    def __init__(self, size: int):
        super().__init__()
        self.blocks = nn.ModuleList([SwinBlock(size, 0), SwinBlock(size, WINDOW // 2)])
        self.conv = nn.Conv2d(size, size, 3, padding=1)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:  # (B, N, C)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        pixels = hidden_states.transpose(1, 2).unflatten(2, (GRID, GRID))
        return F.relu(self.conv(pixels)).flatten(2).transpose(1, 2)


class SwinTransformer(nn.Module):
    """Two layers, each added to its input at 0.8 of its strength; (B, C, S, S) to the same."""

    def __init__(self, size: int):
        super().__init__()
        self.layers = nn.ModuleList(SwinLayer(size) for _ in range(2))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden_states = pixels.flatten(2).transpose(1, 2)
        for layer in self.layers:
            hidden_states = SCALE * layer(hidden_states) + hidden_states
        return hidden_states.transpose(1, 2).reshape(pixels.shape)


class VisionTransformer(nn.Module):
    """The layers of a vision transformer up to the last that is read."""

    def __init__(self, size: int):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, size))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + NUM_PATCHES, size))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, size, PATCH, stride=PATCH)})
        self.blocks = nn.ModuleList(Block(size, VIT_HEADS) for _ in range(LAYERS_READ[-1] + 1))

    def forward(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Return the layers that are read, each (B, 1 + N, 768)."""
        patches = self.patch_embed["proj"](pixels).flatten(2).transpose(1, 2)
        hidden_states = torch.cat([self.cls_token.expand(len(pixels), -1, -1), patches], dim=1) + self.pos_embed
        layers = []
        for index, block in enumerate(self.blocks):
            hidden_states = block(hidden_states)
            if index in LAYERS_READ:
                layers.append(hidden_states)
        return layers


class MANIQA(nn.Module):
    """Scores crops of images: features of a vision transformer, attention over channels and over windows."""

    def __init__(self):
        super().__init__()
        size = VIT_SIZE
        self.vit = VisionTransformer(size)
        self.tablock1 = nn.ModuleList(TransposedAttention() for _ in range(2))
        self.conv1 = nn.Conv2d(len(LAYERS_READ) * size, size, 1)
        self.swintransformer1 = SwinTransformer(size)
        self.tablock2 = nn.ModuleList(TransposedAttention() for _ in range(2))
        self.conv2 = nn.Conv2d(size, size // 2, 1)
        self.swintransformer2 = SwinTransformer(size // 2)
        self.fc_score, self.fc_weight = (_patch_head(size // 2, end) for end in (nn.ReLU(), nn.Sigmoid()))

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the score and the weight of each patch, (B, N), of crops (B, 3, 224, 224) in [-1, 1], RGB."""
        hidden_states = torch.cat([layer[:, 1:] for layer in self.vit(pixels)], dim=2).transpose(1, 2)
        for block in self.tablock1:
            hidden_states = block(hidden_states)
        hidden_states = self.swintransformer1(self.conv1(hidden_states.unflatten(2, (GRID, GRID)))).flatten(2)
        for block in self.tablock2:
            hidden_states = block(hidden_states)
        hidden_states = self.swintransformer2(self.conv2(hidden_states.unflatten(2, (GRID, GRID))))
        patches = hidden_states.flatten(2).transpose(1, 2)
        return self.fc_score(patches)[..., 0], self.fc_weight(patches)[..., 0]

    @torch.no_grad()
    def score(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the score (B,) of crops (B, 3, 224, 224) in [-1, 1], RGB: the weighted mean over patches."""
        scores, weights = self(pixels)
        return (scores * weights).sum(dim=1) / weights.sum(dim=1)


def load_maniqa(state_dict: Mapping[str, torch.Tensor]) -> MANIQA:
    """Return the network with the weights of `ckpt_koniq10k.pt`.

    Raises:
        ValueError: if these are other weights.
    """
    with no_init_weights():
        network = MANIQA()
    return load_weights(network, {k: v for k, v in state_dict.items() if not _UNUSED.search(k)}, "MANIQA")


def crop_places(height: int, width: int, protocol: str, random: np.random.RandomState) -> list[tuple[int, int]]:
    """Return top and left of 20 crops: `verse` draws them, `grid` spreads them evenly."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    if protocol == "verse":
        return [(random.randint(0, height - CROP), random.randint(0, width - CROP)) for _ in range(NUM_CROPS)]
    tops, lefts = (np.linspace(0, s - CROP, n).round().astype(int) for s, n in zip((height, width), GRID_CROPS))
    return [(int(top), int(left)) for top in tops for left in lefts]


def maniqa_scores(
    network: MANIQA, frames: Iterable[np.ndarray], protocol: str = "verse", seed: int = 0, batch_size: int = 4
) -> np.ndarray:
    """Return the quality of each frame, the mean over 20 crops of its full size.

    A frame whose shorter side has 224 pixels or less, on which Verse-Bench fails, is enlarged: see `is_enlarged`.

    Args:
        frames: each (H, W, 3) uint8, RGB.
        seed: of the drawn crops; Verse-Bench sets none.
    """
    random, device = np.random.RandomState(seed), network.conv1.weight.device
    scores = []
    for frame in frames:
        if is_enlarged(frame):
            factor = (CROP + 1) / min(frame.shape[:2])
            frame = resize_bilinear(frame, *(max(CROP + 1, round(side * factor)) for side in frame.shape[:2]))
        pixels = (torch.from_numpy(np.ascontiguousarray(frame)).float() / 255 - 0.5) / 0.5
        places = crop_places(frame.shape[0], frame.shape[1], protocol, random)
        crops = [pixels[top : top + CROP, left : left + CROP].permute(2, 0, 1) for top, left in places]
        batches = (torch.stack(crops[start : start + batch_size]) for start in range(0, len(crops), batch_size))
        scores.append(torch.cat([network.score(batch.to(device)) for batch in batches]).mean().item())
    return np.array(scores)


def is_enlarged(frame: np.ndarray) -> bool:
    """Return whether a frame is too small for crops and therefore enlarged."""
    return min(frame.shape[:2]) <= CROP


def _patch_head(size: int, end: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(size, size), nn.ReLU(), nn.Identity(), nn.Linear(size, 1), end)


def _to_windows(grid: torch.Tensor) -> torch.Tensor:
    """Return windows (B W, 16, C) of a grid (B, S, S, C)."""
    tiles = grid.unflatten(1, (-1, WINDOW)).unflatten(3, (-1, WINDOW))  # (B, S / 4, 4, S / 4, 4, C)
    return tiles.transpose(2, 3).flatten(0, 2).flatten(1, 2)


def _from_windows(windows: torch.Tensor) -> torch.Tensor:
    """Return the grid (B, S, S, C) of windows (B W, 16, C)."""
    tiles = windows.unflatten(1, (WINDOW, WINDOW)).unflatten(0, (-1, GRID // WINDOW, GRID // WINDOW))
    return tiles.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _shift_mask(shift: int) -> torch.Tensor:
    """Return (W, 16, 16): -100 between patches of a window that were not neighbours before the grid was moved."""
    region = torch.zeros(GRID)
    region[-WINDOW:-shift], region[-shift:] = 1, 2
    regions = _to_windows((3 * region[:, None] + region)[None, ..., None])[..., 0]
    return torch.where(regions[:, :, None] == regions[:, None], 0.0, -100.0)
