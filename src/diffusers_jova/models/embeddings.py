# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What stands before the blocks: positions, time, texts and patches, and how one branch's tokens are packed.

B batch, V media tokens of one branch, T text tokens, D width, d width of one head, S any number of tokens
"""

from typing import Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.models.embeddings import TimestepEmbedding, get_timestep_embedding


def rotary_embedding(
    positions: tuple[torch.Tensor, ...], axes_dim: tuple[int, ...], head_dim: int, theta: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cosines and sines of a grid's rotary angles, each `(1, V, 1, head_dim / 2)`.

    Axis i turns the pairs of its `axes_dim[i]` channels by position · theta^(-2k / axes_dim[i]). Pairs beyond the
    given axes stand still: audio has one axis, and uses the temporal part of the head only.

    Args:
        positions: One `(L_i,)` tensor per axis; V is the product of the lengths, the last axis running fastest. Their
            dtype is the result's.
    """
    grid = [len(position) for position in positions]
    angles = []
    for axis, (position, dim) in enumerate(zip(positions, axes_dim)):
        frequencies = theta ** -(torch.arange(0, dim, 2, dtype=position.dtype, device=position.device) / dim)
        angle = torch.outer(position, frequencies)  # (L_i, axis_dim / 2)
        shape = [1] * len(grid) + [-1]
        shape[axis] = grid[axis]
        angles.append(angle.reshape(shape).expand(*grid, -1))
    angles = torch.cat(angles, dim=-1).flatten(0, -2)  # (V, sum(axes_dim) / 2)
    angles = F.pad(angles, (0, head_dim // 2 - angles.shape[-1]))
    return angles.cos()[None, :, None], angles.sin()[None, :, None]


def split_head(head_dim: int) -> tuple[int, int, int]:
    """Return how many channels of a head turn with time, row and column, as Wan splits them: 128 -> (44, 42, 42)."""
    spatial = 2 * (head_dim // 6)
    return head_dim - 2 * spatial, spatial, spatial


def apply_rotary_emb(
    hidden_states: torch.Tensor, rotary_emb: tuple[torch.Tensor, torch.Tensor], out: torch.Tensor | None = None
) -> torch.Tensor:
    """Turn the channel pairs (2k, 2k + 1) of `hidden_states` (B, S, heads, d); in float32, returned in its dtype.

    Args:
        rotary_emb: Cosines and sines, (1, S, 1, d/2) in float32.
        out: Where to write it, of the same shape and dtype; only without gradients and without the compiler.
    """
    cos, sin = rotary_emb
    pairs = hidden_states.float().unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic only
        x, y = pairs.unbind(-1)
        rotated = torch.stack([x * cos - y * sin, x * sin + y * cos], dim=-1)
    else:  # without it, this is ten times as fast
        pairs, turn = torch.view_as_complex(pairs), torch.complex(cos, sin)
        if out is not None and out.dtype == torch.float32:
            torch.mul(pairs, turn, out=torch.view_as_complex(out.unflatten(-1, (-1, 2))))
            return out
        rotated = torch.view_as_real(pairs * turn)
    return rotated.flatten(-2).type_as(hidden_states) if out is None else out.copy_(rotated.flatten(-2))


def audio_positions(
    num_tokens: int,
    frame_rate: float,
    audio_latent_rate: float,
    temporal_compression: int,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Return where each audio token's centre lies on the video's temporal axis, in latent frames: (num_tokens,).

    p(j) = (j + 1/2) / audio_latent_rate · frame_rate / t_s + 1/2 - 1/t_s, since latent frame k >= 1 stands for
    the t_s pixel frames t_s (k - 1) + 1 ... t_s k (our choice: MMAudio's ratio of lengths is 2-3 % off).

    Args:
        frame_rate: Video frames per second.
        audio_latent_rate: Audio latents per second; one latent is one token.
        temporal_compression: t_s, video frames per latent frame.
    """
    step = frame_rate / temporal_compression / audio_latent_rate
    positions = torch.arange(num_tokens, dtype=torch.float32, device=device)
    return (positions + 0.5) * step + 0.5 - 1 / temporal_compression


class JoVATimestepEmbedding(TimestepEmbedding):
    """Sinusoid of `num_frequencies` channels and a two-layer MLP: `timestep` (B, N), 0 to 1000 -> (B, N, D)."""

    def __init__(self, dim: int, num_frequencies: int = 256):
        super().__init__(in_channels=num_frequencies, time_embed_dim=dim)
        self.num_frequencies = num_frequencies

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        sinusoid = get_timestep_embedding(
            timestep.flatten(), self.num_frequencies, flip_sin_to_cos=True, downscale_freq_shift=0
        )
        return super().forward(sinusoid.to(self.linear_1.weight.dtype)).unflatten(0, timestep.shape)


class JoVATextProjection(nn.Module):
    """States of one text encoder, normalised and projected: (B, T, text_dim) -> (B, T, D)."""

    def __init__(self, text_dim: int, dim: int, eps: float):
        super().__init__()
        self.norm = nn.RMSNorm(text_dim, eps=eps)
        self.linear = nn.Linear(text_dim, dim)

    def forward(self, encoder_hidden_states: torch.Tensor) -> torch.Tensor:
        return self.linear(self.norm(encoder_hidden_states))


class JoVAPositionEmbedding(nn.Module):
    """Learned positions, one zero-initialised table per axis, sampled linearly and summed: positions -> (1, V, D)."""

    axes = ("temporal", "height", "width")

    def __init__(self, sizes: tuple[int, ...], dim: int):
        super().__init__()
        for name, size in zip(self.axes, sizes):
            self.register_parameter(name, nn.Parameter(torch.zeros(size, dim)))

    def forward(self, positions: tuple[torch.Tensor, ...]) -> torch.Tensor:
        total: Any = 0  # becomes the sum of the axes
        for axis, (name, position) in enumerate(zip(self.axes, positions)):
            table = self.get_parameter(name)
            last = table.shape[0] - 1
            # Longer than the table: stretch the table so that its last row is the last video frame. The audio's last
            # token lies behind that frame, by less than one latent frame: the floor is the video's last position.
            position = position * (last / position.max().floor().clamp(min=last))
            position = position.clamp(0, last)
            lower, upper = position.floor().long(), position.ceil().long()
            rows = torch.lerp(table[lower], table[upper], (position - lower).to(table.dtype)[:, None])
            shape = [1] * len(positions) + [-1]
            shape[axis] = len(position)
            total = total + rows.reshape(shape)
        return total.flatten(0, -2)[None]


class JoVAEmbedder(nn.Module):
    """The entrance of one branch: patches, both texts, time and place, all to width D."""

    def __init__(
        self,
        in_features: int,
        dim: int,
        text_embed_dim: int | None,
        text_embed_dim_2: int | None,
        pos_embed_size: tuple[int, ...],
        eps: float,
    ):
        super().__init__()
        self.proj_in = nn.Linear(in_features, dim)
        self.text_embedder = JoVATextProjection(text_embed_dim, dim, eps) if text_embed_dim else None
        self.text_embedder_2 = JoVATextProjection(text_embed_dim_2, dim, eps) if text_embed_dim_2 else None
        self.time_embedder = JoVATimestepEmbedding(dim)
        self.pos_embed = JoVAPositionEmbedding(pos_embed_size, dim)

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor | None,
        encoder_hidden_states_2: torch.Tensor | None,
        timestep: torch.Tensor,
        positions: tuple[torch.Tensor, ...],
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return tokens (B, V, D), text (B, T, D), temb (B, N, D) and pos_embed (1, V, D), of `timestep` (B, N)."""
        hidden_states = self.proj_in(hidden_states)
        texts = []
        if encoder_hidden_states is not None:
            texts.append(self.text_embedder(encoder_hidden_states))
        if encoder_hidden_states_2 is not None:
            texts.append(self.text_embedder_2(encoder_hidden_states_2))
        # time and place are kept in float32
        temb = self.time_embedder(timestep).type_as(hidden_states)
        pos_embed = self.pos_embed(positions).type_as(hidden_states)
        return hidden_states, torch.cat(texts, dim=1), temb, pos_embed


class JoVAPacking(nn.Module):
    """Puts the media and the text tokens of one branch behind each other, with all that has a token axis.

    A module of its own because context parallelism splits a module's inputs: every group is split over the ranks
    before it is packed, so that each rank holds its share of each group.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        pos_embed: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        encoder_attention_mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, ...]:
        """Return packed tokens (B, V + T, D), pos_embed (1, V + T, D), cos, sin; and a key mask (B, V + T), if any."""
        num_tokens, num_text_tokens = hidden_states.shape[1], encoder_hidden_states.shape[1]
        packed = torch.cat([hidden_states, encoder_hidden_states], dim=1)
        pos_embed = F.pad(pos_embed, (0, 0, 0, num_text_tokens))
        cos = F.pad(cos, (0, 0, 0, 0, 0, num_text_tokens), value=1.0)
        sin = F.pad(sin, (0, 0, 0, 0, 0, num_text_tokens))
        if encoder_attention_mask is None:  # left out, since the hook of context parallelism takes tensors only
            return packed, pos_embed, cos, sin
        mask = F.pad(encoder_attention_mask, (num_tokens, 0), value=True)
        return packed, pos_embed, cos, sin, mask


def trim_padding(
    encoder_hidden_states: torch.Tensor | None, mask: torch.Tensor | None
) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Drop the positions that no sample of the batch uses; the mask becomes None where it then hides nothing."""
    if encoder_hidden_states is None or mask is None:
        return encoder_hidden_states, None
    mask = mask.bool()
    used = mask.any(dim=0)
    if not used.all():
        encoder_hidden_states, mask = encoder_hidden_states[:, used], mask[:, used]
    return encoder_hidden_states, None if mask.all() else mask


def zero_padding(encoder_hidden_states: torch.Tensor | None, mask: torch.Tensor | None) -> torch.Tensor | None:
    """Return the states with zeros where the mask hides them: attention's weight 0 times NaN would be NaN."""
    if encoder_hidden_states is None or mask is None:
        return encoder_hidden_states
    return encoder_hidden_states.masked_fill(~mask.bool()[..., None], 0)


def prepare_texts(
    texts: tuple[torch.Tensor | None, ...], masks: tuple[torch.Tensor | None, ...], trim: bool = True
) -> tuple[tuple[torch.Tensor | None, ...], torch.Tensor | None]:
    """Return the states of both text encoders without what stands under mask 0, and one key mask for both.

    Args:
        texts: `(B, T1, text_embed_dim)` and `(B, T2, text_embed_dim_2)`, or None for an encoder that is not there.
        masks: `(B, T1)` and `(B, T2)`, nonzero where there is text, or None: everywhere.
        trim: Whether positions that no sample uses are dropped, which makes T1 and T2 depend on the masks' values.

    Returns:
        The states, and the mask `(B, T1 + T2)` bool of the joined texts, or None where it would hide nothing.
    """
    if trim:
        texts, masks = zip(*(trim_padding(text, mask) for text, mask in zip(texts, masks)))
    texts = tuple(zero_padding(text, mask) for text, mask in zip(texts, masks))
    if all(mask is None for mask in masks):
        return texts, None
    parts = [
        torch.ones(text.shape[:2], dtype=torch.bool, device=text.device) if mask is None else mask.bool()
        for text, mask in zip(texts, masks)
        if text is not None
    ]
    return texts, torch.cat(parts, dim=1)
