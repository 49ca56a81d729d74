# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The layer of a vision transformer under timm's names, which PaSST and MANIQA share."""
# B images, N tokens, D features

import torch
from torch import nn
from torch.nn import functional as F


class Attention(nn.Module):
    def __init__(self, size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = nn.Linear(size, 3 * size), nn.Linear(size, size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv(hidden_states).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, size: int, hidden_size: int):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(size, hidden_size), nn.Linear(hidden_size, size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(F.gelu(self.fc1(hidden_states)))


class Block(nn.Module):
    """A pre-norm layer, (B, N, D) to (B, N, D)."""

    def __init__(self, size: int, num_heads: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(size, eps=1e-6), nn.LayerNorm(size, eps=1e-6)
        self.attn, self.mlp = Attention(size, num_heads), Mlp(size, 4 * size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = hidden_states + self.attn(self.norm1(hidden_states))
        return hidden_states + self.mlp(self.norm2(hidden_states))
