# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""JoVA on a Wan base: two whole Wan transformers, video and audio, that share one self-attention per block.

A branch is Wan's (arXiv:2503.20314): the video branch alone gives what diffusers' `WanTransformer3DModel` gives. That
the tokens of both branches meet in one self-attention, and that seconds place the audio beside the frames, is JoVA's
(arXiv:2512.13677, section 3.2.1).

B batch, C channels, F latent frames, H W latent rows and columns, V video tokens, A audio tokens, T text tokens,
D width, d width of one head. Text is not among the tokens of a branch: each branch reads it by cross-attention.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import FromOriginalModelMixin, PeftAdapterMixin
from diffusers.models.attention import AttentionMixin, FeedForward
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.embeddings import PixArtAlphaTextProjection
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import FP32LayerNorm
from diffusers.models.transformers.transformer_ltx2 import AudioVisualModelOutput
from diffusers.models.transformers.transformer_wan import WanAttention, WanAttnProcessor
from diffusers.utils import apply_lora_scale

from ..presets import WAN_PRESETS  # noqa: F401  # its public place
from .attention import JoVAAttention, pack
from .caching import two_stream_block
from .embeddings import (
    JoVATimestepEmbedding,
    rotary_embedding,
    split_head,
    trim_padding,
    zero_padding,
)
from .modulation import modulate, split_timestep
from .modulation_cache import ModulationLinear, project
from .two_branches import TwoBranchMixin, check_branches
from .value_checks import checks_values


CONDITION_FILLS = ("black", "grey", "noisy")


class JoVAWanContext(NamedTuple):
    """What every block of one branch needs beside its tokens."""

    timestep_proj: torch.Tensor  # (B, N, 6, D), N = 2 where tokens have two timesteps, else 1
    encoder_hidden_states: torch.Tensor  # (B, T, D)
    rotary_emb: tuple[torch.Tensor, torch.Tensor]  # cos, sin: (1, V, 1, d/2)
    is_given: torch.Tensor | None = None  # (B, V, 1) bool, which tokens have the first of two timesteps


def scale_and_shift(
    hidden_states: torch.Tensor, is_given: torch.Tensor | None, shift: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Return tokens (B, V, D), modulated; see `modulate`."""
    return modulate(lambda shift, scale: hidden_states * (1 + scale) + shift, is_given, shift, scale)


class JoVAWanRotaryPosEmbed(nn.Module):
    """Rotary angles of one branch. A module of its own because context parallelism splits a module's outputs."""

    def __init__(self, axes_dim: tuple[int, ...], head_dim: int, theta: float):
        super().__init__()
        self.axes_dim, self.head_dim, self.theta = axes_dim, head_dim, theta

    def forward(self, *positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return cosines and sines (1, V, 1, d/2) in float32, of one (L_i,) tensor per axis; see `rotary_embedding`.

        The angles are computed in float64 where there is one, as Wan does.
        """
        if positions[0].device.type != "mps":
            positions = tuple(position.double() for position in positions)
        cos, sin = rotary_embedding(positions, self.axes_dim, self.head_dim, self.theta)
        return cos.float(), sin.float()


class JoVAWanSelfAttention(nn.Module):
    """What one branch brings to the joint attention of a block: q, k, v, their norms across heads, and the output.

    Not an attention module of diffusers: the block's `attn` is, around the tokens of both branches.
    """

    def __init__(self, dim: int, num_attention_heads: int, eps: float):
        super().__init__()
        self.heads = num_attention_heads
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.norm_q = nn.RMSNorm(dim, eps=eps)
        self.norm_k = nn.RMSNorm(dim, eps=eps)

    def project(self, hidden_states: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(B, V, D) -> query, key, value, each (B, V, heads, d)"""
        value = self.to_v(hidden_states)
        query = self.norm_q(self.to_q(hidden_states)).type_as(value)
        key = self.norm_k(self.to_k(hidden_states)).type_as(value)
        return tuple(x.unflatten(-1, (self.heads, -1)) for x in (query, key, value))


class JoVAWanStream(nn.Module):
    """The weights of one branch in a block: a Wan block, whose self-attention happens outside, over both branches.

    x = x + gate · Attn(...),  x = x + CrossAttn(x, text),  x = x + gate · FFN(...)
    """

    def __init__(
        self, dim: int, ffn_dim: int, num_attention_heads: int, cross_attn_norm: bool, eps: float, cross: bool
    ):
        super().__init__()
        head_dim = dim // num_attention_heads
        self.norm1 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.attn1 = JoVAWanSelfAttention(dim, num_attention_heads, eps)
        self.cross_linear = nn.Linear(dim, dim) if cross else None
        self.norm2 = FP32LayerNorm(dim, eps, elementwise_affine=True) if cross_attn_norm else nn.Identity()
        self.attn2 = WanAttention(
            dim,
            num_attention_heads,
            head_dim,
            eps=eps,
            cross_attention_dim_head=head_dim,
            processor=WanAttnProcessor(),
        )
        self.norm3 = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.ffn = FeedForward(dim, inner_dim=ffn_dim, activation_fn="gelu-approximate")
        self.scale_shift_table = nn.Parameter(torch.randn(1, 6, dim) / dim**0.5)
        if self.cross_linear is not None:
            nn.init.zeros_(self.cross_linear.weight)
            nn.init.zeros_(self.cross_linear.bias)

    def forward(
        self, hidden_states: torch.Tensor, context: JoVAWanContext
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Return (query, key, value), each (B, V, heads, d), and what `post_attention` needs of the modulation.

        The half of the stream before the attention; queries and keys are still to be turned by their positions, see
        `pack`. It is `forward`, since offloading brings a module's own parameter, here the table, when the module is
        called.
        """
        modulation = self.scale_shift_table + context.timestep_proj.float()  # (B, N, 6, D)
        shift, scale, *modulation = modulation.unbind(dim=2)  # (B, N, D) each
        norm_hidden_states = scale_and_shift(self.norm1(hidden_states.float()), context.is_given, shift, scale)
        norm_hidden_states = norm_hidden_states.type_as(hidden_states)
        return self.attn1.project(norm_hidden_states), tuple(modulation)

    def post_attention(
        self,
        hidden_states: torch.Tensor,
        attn_output: torch.Tensor,
        cross_output: torch.Tensor | None,
        modulation: tuple[torch.Tensor, ...],
        context: JoVAWanContext,
    ) -> torch.Tensor:
        """Return the branch's new tokens (B, V, D). `cross_output` is what it saw of the other branch, if apart."""
        gate, shift_ff, scale_ff, gate_ff = modulation
        if cross_output is not None:
            if self.cross_linear is not None:
                cross_output = self.cross_linear(cross_output)
            attn_output = attn_output + cross_output
        is_given, dtype = context.is_given, hidden_states.dtype
        attn_output = self.attn1.to_out[0](attn_output)
        hidden_states = modulate(lambda gate: hidden_states.float() + attn_output * gate, is_given, gate).to(dtype)

        norm_hidden_states = self.norm2(hidden_states.float()).type_as(hidden_states)
        hidden_states = hidden_states + self.attn2(norm_hidden_states, context.encoder_hidden_states)

        norm_hidden_states = scale_and_shift(self.norm3(hidden_states.float()), is_given, shift_ff, scale_ff)
        ff_output = self.ffn(norm_hidden_states.to(dtype)).float()
        return modulate(lambda gate: hidden_states.float() + ff_output * gate, is_given, gate_ff).to(dtype)


@two_stream_block
class JoVAWanTransformerBlock(nn.Module):
    """A block: the streams `video` and `audio` around one attention. A model of one branch has that stream only."""

    def __init__(
        self,
        dim: int,
        ffn_dim: int,
        num_attention_heads: int,
        branches: tuple[str, ...],
        cross_attn_norm: bool = True,
        attention_fusion: str = "joint",
        eps: float = 1e-6,
    ):
        super().__init__()
        cross = attention_fusion == "cross_linear" and len(branches) == 2
        for branch in branches:
            stream = JoVAWanStream(dim, ffn_dim, num_attention_heads, cross_attn_norm, eps, cross)
            self.add_module(branch, stream)
        self.attn = JoVAAttention(attention_fusion)

    def forward(
        self,
        hidden_states: torch.Tensor,
        audio_hidden_states: torch.Tensor,
        context: JoVAWanContext | None,
        audio_context: JoVAWanContext | None,
        cross_modal_attention: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the new tokens of both branches, each as it came: (B, V, D) and (B, A, D).

        A branch that does not run has 0 tokens and no context.
        """
        tokens, contexts = [hidden_states, audio_hidden_states], (context, audio_context)
        running = [i for i in range(2) if contexts[i] is not None]
        streams = {i: getattr(self, ("video", "audio")[i]) for i in running}

        projections, modulations = zip(*(streams[i](tokens[i], contexts[i]) for i in running))
        queries, keys, values = zip(*projections)
        rotary_embs = [contexts[i].rotary_emb for i in running]
        query, key, value = pack(queries, rotary_embs), pack(keys, rotary_embs), pack(values)
        # what was packed is not needed in the attention, and none of it in the feed-forward
        del projections, queries, keys, values
        lengths = tuple(x.shape[1] for x in tokens)
        attn_outputs = self.attn(query, key, value, None, lengths, lengths, cross_modal_attention)
        del query, key, value

        cross_outputs = attn_outputs[2:] or (None, None)
        for i, modulation in zip(running, modulations):
            args = (tokens[i], attn_outputs[i], cross_outputs[i], modulation, contexts[i])
            tokens[i] = streams[i].post_attention(*args)
        return tokens[0], tokens[1]


class JoVAWanConditionEmbedder(nn.Module):
    """Time and text of one branch to width D; its parameters are those of diffusers' `WanTimeTextImageEmbedding`."""

    def __init__(self, dim: int, freq_dim: int, text_embed_dim: int):
        super().__init__()
        self.time_embedder = JoVATimestepEmbedding(dim, freq_dim)
        self.time_proj = ModulationLinear(dim, 6 * dim)
        self.text_embedder = PixArtAlphaTextProjection(text_embed_dim, dim, act_fn="gelu_tanh")

    def forward(
        self, timestep: torch.Tensor, encoder_hidden_states: torch.Tensor, modulation_rows: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return temb (B, N, D), timestep_proj (B, N, 6D) and text (B, T, D), of `timestep` (B, N).

        `modulation_rows` (B, N) are those of precomputed modulation, if there is one.
        """
        temb = self.time_embedder(timestep).type_as(encoder_hidden_states)
        timestep_proj = project(self.time_proj, temb if modulation_rows is None else modulation_rows)
        return temb, timestep_proj, self.text_embedder(encoder_hidden_states)


class JoVAWanBranch(nn.Module):
    """Both ends of one branch: latents, time and text in, velocities out.

    Args:
        patch_embedding: To width D: a convolution over video patches, or a linear layer for audio.
        out_features: Numbers per token out.
    """

    def __init__(
        self, patch_embedding: nn.Module, out_features: int, dim: int, text_embed_dim: int, freq_dim: int, eps: float
    ):
        super().__init__()
        self.patch_embedding = patch_embedding
        self.condition_embedder = JoVAWanConditionEmbedder(dim, freq_dim, text_embed_dim)
        self.norm_out = FP32LayerNorm(dim, eps, elementwise_affine=False)
        self.proj_out = nn.Linear(dim, out_features)
        self.scale_shift_table = nn.Parameter(torch.randn(1, 2, dim) / dim**0.5)

    def forward(self, hidden_states: torch.Tensor, temb: torch.Tensor, is_given: torch.Tensor | None) -> torch.Tensor:
        """Return the velocities (B, V, out_features) of the last block's tokens (B, V, D); `temb` is (B, N, D).

        The way out is `forward`, since offloading brings the table when the module is called; the way in goes through
        `patch_embedding` and `condition_embedder`.
        """
        shift, scale = (self.scale_shift_table + temb[:, :, None]).unbind(dim=2)  # (B, N, D) each
        norm_hidden_states = scale_and_shift(self.norm_out(hidden_states.float()), is_given, shift, scale)
        return self.proj_out(norm_hidden_states.type_as(hidden_states))


class JoVAWanTransformer3DModel(
    TwoBranchMixin, ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin
):
    """A transformer that denoises video latents and audio latents together, each branch of which is a Wan transformer.

    Wan's parameter `blocks.N.X` is `transformer_blocks.N.video.X` here, any other `X` is `video.X`; the audio branch
    has the same names with `audio`. `in_channels=None` builds the audio branch alone, `audio_in_channels=None` the
    video branch alone (a Wan).

    Args:
        patch_size: Latent frames, rows and columns per video token. One audio latent is one token.
        in_channels: Video channels in: 16 noisy, 16 of the reference image, 4 of its mask; the noisy ones alone where
            `condition_fill` is "noisy". None: no video branch.
        out_channels: Video channels out.
        audio_in_channels: Channels of the audio latents: 20 at 16 kHz, 40 at 44.1 kHz. None: no audio branch.
        audio_out_channels: None means `audio_in_channels`.
        num_attention_heads, attention_head_dim: Their product is the width D of both branches.
        num_layers: Blocks.
        ffn_dim: Width of the feed-forward.
        freq_dim: Channels of the sinusoid of time.
        text_embed_dim: Width of the text encoder's states.
        text_len: Text tokens that the blocks read. Wan was trained with 512 of them, zeros behind the prompt's own,
            and without a mask: what is hidden or missing is filled with zeros up to here. None fills nothing up.
        cross_attn_norm: Whether the tokens are normalised before the cross-attention, as Wan's are.
        rope_theta: Base of the rotary frequencies.
        temporal_aligned_rope: Whether the positions of both modalities measure the same seconds (section 3.2.1).
        audio_latent_rate: Audio latents per second.
        vae_temporal_compression: Video frames per latent frame.
        attention_fusion: "joint", or "cross" / "cross_linear", the variants of JoVA's Fig. 4 and Table 5.
        condition_fill: What the frames that are not given hold beside a reference image: "black", the latent of a
            black frame, encoded apart (JoVA's); "grey", encoded together with the image as one video (Wan's own models
            for images); "noisy", themselves: there are no channels beside the noisy ones, and latent frames that are
            given stand among the others, clean, at timestep 0 (Wan2.2-TI2V-5B). The pipeline prepares it.
        eps: Epsilon of all norms.
        condition_mode: How a modality that is given enters: "clean", at timestep 0, or "noised", at the noise level of
            the other. It tells how the weights were trained. None, for weights that never were, means "noised".
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["JoVAWanTransformerBlock"]
    _repeated_blocks = ["JoVAWanTransformerBlock"]
    _skip_layerwise_casting_patterns = ["patch_embedding", "condition_embedder", "norm", "proj_out"]
    _keep_in_fp32_modules = ["time_embedder", "scale_shift_table", "norm1", "norm2", "norm3"]  # Wan's
    _heads = {"video": "video.proj_out", "audio": "audio.proj_out"}
    _audio_to_video = {r"audio\.": "video.", r"(transformer_blocks\.\d+\.)audio\.": r"\1video."}
    # Each branch's tokens are split on their own. The text is whole on every rank, as in Wan.
    _cp_inputs = {
        "rope": {0: 4, 1: 4},
        "given_tokens": {0: 3},
        "transformer_blocks.0": {"hidden_states": 3, "audio_hidden_states": 3},
    }

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        in_channels: int | None = 36,
        out_channels: int = 16,
        audio_in_channels: int | None = 40,
        audio_out_channels: int | None = None,
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        num_layers: int = 40,
        ffn_dim: int = 13824,
        freq_dim: int = 256,
        text_embed_dim: int = 4096,
        text_len: int | None = 512,
        cross_attn_norm: bool = True,
        rope_theta: float = 10000.0,
        temporal_aligned_rope: bool = True,
        audio_latent_rate: float = 44100 / 1024,
        vae_temporal_compression: int = 4,
        attention_fusion: str = "joint",
        condition_fill: str = "black",
        eps: float = 1e-6,
        condition_mode: str | None = None,
    ):
        super().__init__()
        check_branches(in_channels, audio_in_channels, attention_fusion, condition_mode)
        if condition_fill not in CONDITION_FILLS:
            raise ValueError(f"`condition_fill` must be one of {CONDITION_FILLS}, got {condition_fill!r}.")
        if condition_fill == "noisy" and (in_channels not in (None, out_channels) or patch_size[0] != 1):
            raise ValueError(
                "`condition_fill='noisy'` has no channels beside the noisy ones, and tokens of one latent frame each, "
                f"got {in_channels} channels in and {out_channels} out, and patches of {patch_size[0]} latent frames: "
                "make `in_channels` equal `out_channels`, and `patch_size[0]` 1."
            )
        dim = num_attention_heads * attention_head_dim
        ends = (dim, text_embed_dim, freq_dim, eps)

        # 1. Both ends of each branch
        self.video = self.audio = None
        if in_channels is not None:
            patches = nn.Conv3d(in_channels, dim, kernel_size=patch_size, stride=patch_size)
            self.video = JoVAWanBranch(patches, out_channels * math.prod(patch_size), *ends)
        if audio_in_channels is not None:
            latents = nn.Linear(audio_in_channels, dim)
            self.audio = JoVAWanBranch(latents, audio_out_channels or audio_in_channels, *ends)
        self.rope = JoVAWanRotaryPosEmbed(split_head(attention_head_dim), attention_head_dim, rope_theta)
        self.given_tokens = nn.Identity()  # passes `is_given` on, and context parallelism splits it there

        # 2. Blocks
        branches = ("video",) * (self.video is not None) + ("audio",) * (self.audio is not None)
        args = (dim, ffn_dim, num_attention_heads, branches, cross_attn_norm, attention_fusion, eps)
        self.transformer_blocks = nn.ModuleList(JoVAWanTransformerBlock(*args) for _ in range(num_layers))
        self.gradient_checkpointing = False

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor | None = None,
        audio_hidden_states: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_hidden_states_2: None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        encoder_attention_mask_2: None = None,
        timestep: torch.Tensor | None = None,
        audio_timestep: torch.Tensor | None = None,
        frame_rate: float = 24.0,
        cross_modal_attention: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> AudioVisualModelOutput | tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the velocities (noise - data) of both modalities; None for one that was not given.

        Args:
            hidden_states: `(B, in_channels, F, H, W)` video latents: noisy, reference image, mask. None runs the audio
                branch alone.
            audio_hidden_states: `(B, audio_in_channels, A)` noisy audio latents. None runs the video branch alone.
            encoder_hidden_states: `(B, T, text_embed_dim)` states of UMT5.
            encoder_hidden_states_2: None: there is one text encoder. It is here for what calls either transformer.
            encoder_attention_mask: `(B, T)`, nonzero where there is text, the rest becomes zeros. None: everywhere.
            encoder_attention_mask_2: None, likewise.
            timestep: `(B,)`, 0 (data) to 1000 (noise); or `(B, F)` where `condition_fill` is "noisy", with two values
                in a sample: 0 for the latent frames that are given, and the timestep of the others.
            audio_timestep: `(B,)`, or `(B, A)` with two values in a sample: 0 for the audio latents that are given,
                and the timestep of the others. None means `timestep`, which is `(B,)` then.
            frame_rate: Video frames per second, which places the audio beside the frames.
            cross_modal_attention: False lets each branch see itself only, as if it ran alone.
            attention_kwargs: `{"scale": s}` sets the strength of LoRA layers.

        Returns:
            `AudioVisualModelOutput(sample (B, out_channels, F, H, W), audio_sample (B, audio_out_channels, A))`, or
            the same as a tuple.

        Raises:
            ValueError: If a tensor does not fit the config, a branch is asked for that was not built, the text is
                longer than `text_len`, or a token count is not divisible by the degree of context parallelism.
        """
        self.check_inputs(hidden_states, audio_hidden_states, encoder_hidden_states, encoder_hidden_states_2, timestep)
        self.check_timesteps(timestep, audio_timestep, hidden_states, audio_hidden_states)
        text = self._fill_text(encoder_hidden_states, encoder_attention_mask)
        audio_timestep = timestep if audio_timestep is None else audio_timestep

        # 1. Entrances: latents, text, time and place -> tokens (B, V, D) and (B, A, D)
        context = audio_context = grid = None
        if hidden_states is not None:
            grid = [size // patch for size, patch in zip(hidden_states.shape[2:], self.config.patch_size)]
            positions = [torch.arange(n, dtype=torch.float32, device=hidden_states.device) for n in grid]
            hidden_states = self.video.patch_embedding(hidden_states).flatten(2).transpose(1, 2).contiguous()
            temb, context = self._embed("video", hidden_states, text, timestep, positions)
        if audio_hidden_states is not None:
            positions = [self._audio_positions(audio_hidden_states, frame_rate)]
            audio_hidden_states = self.audio.patch_embedding(audio_hidden_states.transpose(1, 2))
            audio_temb, audio_context = self._embed("audio", audio_hidden_states, text, audio_timestep, positions)
        # a branch that does not run has no tokens, so that blocks and caches always see two tensors
        if hidden_states is None:
            hidden_states = audio_hidden_states[:, :0]
        if audio_hidden_states is None:
            audio_hidden_states = hidden_states[:, :0]

        # 2. Blocks
        for block in self.transformer_blocks:
            args = (hidden_states, audio_hidden_states, context, audio_context, cross_modal_attention)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states, audio_hidden_states = self._gradient_checkpointing_func(block, *args)
            else:
                hidden_states, audio_hidden_states = block(*args)

        # 3. Heads
        sample = audio_sample = None
        if context is not None:
            sample = self._unpatchify(self.video(hidden_states, temb, context.is_given), grid)
        if audio_context is not None:
            audio_sample = self.audio(audio_hidden_states, audio_temb, audio_context.is_given).transpose(1, 2)

        if not return_dict:
            return (sample, audio_sample)
        return AudioVisualModelOutput(sample=sample, audio_sample=audio_sample)

    def _fill_text(self, encoder_hidden_states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Return the text as Wan reads it: (B, text_len, text_embed_dim), zeros where there is none."""
        text_len = self.config.text_len
        if text_len is not None and checks_values():
            encoder_hidden_states, mask = trim_padding(encoder_hidden_states, mask)
        text = zero_padding(encoder_hidden_states, mask)
        if text_len is None:
            return text
        if text.shape[1] > text_len:
            raise ValueError(
                f"`encoder_hidden_states` has {text.shape[1]} tokens of text, this model reads at most {text_len} "
                f"(`text_len`): encode the prompt with `max_sequence_length={text_len}`."
            )
        return F.pad(text, (0, 0, 0, text_len - text.shape[1]))

    def modulation_layers(self) -> dict[str, tuple[nn.Module, list[tuple[nn.Module, bool]]]]:
        embedders = {branch: getattr(self, branch).condition_embedder for branch in self.branches}
        return {branch: (e.time_embedder, [(e.time_proj, False)]) for branch, e in embedders.items()}

    def _embed(self, branch, hidden_states, text, timestep, positions) -> tuple[torch.Tensor, JoVAWanContext]:
        """Return a branch's temb (B, N, D), and its context."""
        self._check_context_parallel(media=hidden_states.shape[1])
        timesteps, is_given = split_timestep(timestep, hidden_states.shape[0])
        temb, timestep_proj, text = getattr(self, branch).condition_embedder(
            timesteps, text, self.modulation_rows(branch, timesteps)
        )
        if is_given is not None:
            # of an audio latent, its one token; of a latent frame, all tokens
            is_given = is_given.repeat_interleave(hidden_states.shape[1] // is_given.shape[1], dim=1)
            is_given = self.given_tokens(is_given)
        return temb, JoVAWanContext(timestep_proj.unflatten(-1, (6, -1)), text, self.rope(*positions), is_given)

    def _unpatchify(self, hidden_states: torch.Tensor, grid: list[int]) -> torch.Tensor:
        """(B, V, patch volume · C) -> (B, C, F, H, W); Wan's channels run fastest."""
        hidden_states = hidden_states.unflatten(1, grid).unflatten(-1, (*self.config.patch_size, -1))
        return hidden_states.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6).flatten(4, 5).flatten(2, 3)
