# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MUSIQ (arXiv:2108.05997): the quality of an image without a reference, from about 0 to 100, a third of AS.

Written from the paper; the names are those of the published `musiq_koniq_ckpt-e95806b9.pth`.
"""
# B images, N patches of all scales, D = 384 features, p = 32 pixels of a patch's side

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.initialization import no_init_weights

from .checkpoints import load_weights
from .vit_block import Mlp


PATCH = 32
LONGER_SIDES = (224, 384)  # of the smaller scales; the third is the image itself
GRID = 10  # rows and columns of the table of positions, the same for every scale
SIZE, DEPTH, NUM_HEADS, MLP_SIZE = 384, 14, 6, 1152
STEM_SIZE, BLOCK_SIZE = 64, 256
NUM_GROUPS = 32
MASKED = -1e3


@dataclass(frozen=True)
class Patches:
    """An image at three scales, cut into patches.

    Attributes:
        pixels: (N, 3, p, p) in [-1, 1]; zeros where a scale has fewer patches than slots.
        positions: (N,) int, in the table of positions.
        scales: (N,) int.
        mask: (N,) bool, False in empty slots.
    """

    pixels: torch.Tensor
    positions: torch.Tensor
    scales: torch.Tensor
    mask: torch.Tensor


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose kernels have mean 0 and deviation 1, padded as TensorFlow's "same"."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int = 1):
        super().__init__(in_channels, channels, kernel, stride=stride, bias=False)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        deviation = self.weight.flatten(1).std(dim=1)[:, None, None, None]
        weight = (self.weight - mean) / (deviation + 1e-5)
        padded = _pad_same(hidden_states, self.kernel_size[0], self.stride[0])
        return F.conv2d(padded, weight, stride=self.stride)


class Bottleneck(nn.Module):
    """A residual block, (B, 64, h, w) to (B, 256, h, w)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.gn1 = StandardizedConv2d(STEM_SIZE, STEM_SIZE, 1), _group_norm(STEM_SIZE, 1e-4)
        self.conv2, self.gn2 = StandardizedConv2d(STEM_SIZE, STEM_SIZE, 3), _group_norm(STEM_SIZE, 1e-4)
        self.conv3, self.gn3 = StandardizedConv2d(STEM_SIZE, BLOCK_SIZE, 1), _group_norm(BLOCK_SIZE, 1e-4)
        self.conv_proj, self.gn_proj = StandardizedConv2d(STEM_SIZE, BLOCK_SIZE, 1), _group_norm(BLOCK_SIZE, 1e-4)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = self.gn_proj(self.conv_proj(hidden_states))
        hidden_states = F.relu(self.gn1(self.conv1(hidden_states)))
        hidden_states = F.relu(self.gn2(self.conv2(hidden_states)))
        return F.relu(residual + self.gn3(self.conv3(hidden_states)))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(SIZE, SIZE) for _ in range(4))

    def forward(self, hidden_states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        query, key, value = (
            layer(hidden_states).unflatten(2, (NUM_HEADS, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return self.out(F.scaled_dot_product_attention(query, key, value, attn_mask=bias).transpose(1, 2).flatten(2))


class EncoderBlock(nn.Module):
    """A pre-norm layer, (B, 1 + N, D) to the same."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(SIZE, eps=1e-6), nn.LayerNorm(SIZE, eps=1e-6)
        self.attention, self.mlp = Attention(), Mlp(SIZE, MLP_SIZE)

    def forward(self, hidden_states: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.attention(self.norm1(hidden_states), bias)
        return hidden_states + self.mlp(self.norm2(hidden_states))


class Encoder(nn.Module):
    """A transformer over patches of all scales and one token for the image."""

    def __init__(self):
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, SIZE))
        self.posembed_input = nn.ParameterDict({"position_emb": torch.zeros(1, GRID * GRID, SIZE)})
        self.scaleembed_input = nn.ParameterDict({"scale_emb": torch.zeros(len(LONGER_SIDES) + 1, SIZE)})
        self.transformer = nn.ModuleDict({f"encoderblock_{index}": EncoderBlock() for index in range(DEPTH)})
        self.encoder_norm = nn.LayerNorm(SIZE, eps=1e-6)

    def forward(self, tokens: torch.Tensor, patches: Patches) -> torch.Tensor:
        """Return the image's token (1, D), of the tokens (N, D) of its patches."""
        tokens = tokens + self.posembed_input["position_emb"][0, patches.positions]
        tokens = tokens + self.scaleembed_input["scale_emb"][patches.scales]
        hidden_states = torch.cat([self.cls, tokens[None]], dim=1)
        bias = F.pad(torch.where(patches.mask, 0.0, MASKED), (1, 0))[None]  # the first token is never masked
        for block in self.transformer.values():
            hidden_states = block(hidden_states, bias)
        return self.encoder_norm(hidden_states)[:, 0]


class MUSIQ(nn.Module):
    """Scores an image by its patches at its own size and at two smaller ones."""

    def __init__(self):
        super().__init__()
        self.conv_root, self.gn_root = StandardizedConv2d(3, STEM_SIZE, 7, stride=2), _group_norm(STEM_SIZE, 1e-6)
        self.block1 = Bottleneck()
        self.embedding = nn.Linear(BLOCK_SIZE * (PATCH // 4) ** 2, SIZE)
        self.transformer_encoder = Encoder()
        self.head = nn.Linear(SIZE, 1)

    def embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the tokens (N, D) of patches (N, 3, p, p)."""
        hidden_states = F.relu(self.gn_root(self.conv_root(pixels)))  # (N, 64, 16, 16)
        hidden_states = F.max_pool2d(_pad_same(hidden_states, 3, 2), 3, stride=2)
        return self.embedding(self.block1(hidden_states).permute(0, 2, 3, 1).flatten(1))  # channels last

    @torch.no_grad()
    def score(self, image: torch.Tensor) -> torch.Tensor:
        """Return the score (1, 1) of an image (3, H, W) in [0, 1], RGB."""
        patches = multiscale_patches(image)
        return self.head(self.transformer_encoder(self.embed(patches.pixels), patches))


def load_musiq(state_dict: Mapping[str, torch.Tensor]) -> MUSIQ:
    """Return the network with the weights of `musiq_koniq_ckpt-e95806b9.pth`.

    Raises:
        ValueError: if these are other weights.
    """
    with no_init_weights():
        network = MUSIQ()
    return load_weights(network, state_dict, "MUSIQ")


def musiq_scores(network: MUSIQ, frames: Iterable[np.ndarray]) -> np.ndarray:
    """Return the quality of each frame, (H, W, 3) uint8, RGB, at its full size."""
    scores = []
    for frame in frames:
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(network.head.weight.device)
        scores.append(network.score(pixels.permute(2, 0, 1).float() / 255).item())
    return np.array(scores)


def multiscale_patches(image: torch.Tensor) -> Patches:
    """Return the patches of an image (3, H, W) in [0, 1]: at longer sides of 224 and 384 pixels, and as it is."""
    image = 2 * image - 1
    parts = []
    for scale, longer_side in enumerate(LONGER_SIDES):
        factor = longer_side / max(image.shape[1:])
        size = [max(1, round(side * factor)) for side in image.shape[1:]]
        resized = F.interpolate(image[None], size, mode="bicubic")[0]
        parts.append(_patches_of_scale(resized, scale, num_slots=math.ceil(longer_side / PATCH) ** 2))
    parts.append(_patches_of_scale(image, len(LONGER_SIDES)))
    return Patches(*(torch.cat(values) for values in zip(*parts)))


def _patches_of_scale(image: torch.Tensor, scale: int, num_slots: int | None = None) -> tuple[torch.Tensor, ...]:
    """Return pixels, positions, scales and mask of one scale, with zeros up to `num_slots`."""
    padded = _pad_same(image[None], PATCH, PATCH)[0]
    rows, columns = (side // PATCH for side in padded.shape[1:])
    pixels = padded.unflatten(2, (columns, PATCH)).unflatten(1, (rows, PATCH))  # (3, rows, p, columns, p)
    pixels = pixels.permute(1, 3, 0, 2, 4).flatten(0, 1)
    # each row and column of patches takes the nearest of the table's ten
    table = torch.arange(GRID, dtype=torch.float32)[None, None]
    down, right = (F.interpolate(table, count, mode="nearest")[0, 0].long() for count in (rows, columns))
    positions = (down[:, None] * GRID + right).flatten().to(image.device)
    scales = torch.full_like(positions, scale)
    mask = torch.ones_like(positions, dtype=torch.bool)
    empty = 0 if num_slots is None else num_slots - len(pixels)
    return F.pad(pixels, (0, 0, 0, 0, 0, 0, 0, empty)), *(
        F.pad(each, (0, empty)) for each in (positions, scales, mask)
    )


def _pad_same(pixels: torch.Tensor, kernel: int, stride: int) -> torch.Tensor:
    """Return (..., H, W) with zeros around, the odd one behind, so that a stride covers it all."""
    padding = []
    for side in reversed(pixels.shape[-2:]):
        total = max((math.ceil(side / stride) - 1) * stride + kernel - side, 0)
        padding += [total // 2, total - total // 2]
    return F.pad(pixels, padding)


def _group_norm(channels: int, eps: float) -> nn.GroupNorm:
    return nn.GroupNorm(NUM_GROUPS, channels, eps=eps)
