# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The JoVA transformer: a video DiT and an audio DiT that share one self-attention per block (arXiv:2512.13677).

B batch, C channels, F latent frames, H W latent rows and columns, V video tokens, A audio tokens, T text tokens,
D width, d width of one head. A packed tensor holds the media tokens of one branch, then its text tokens.
"""

from typing import Any, NamedTuple

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders import FromOriginalModelMixin, PeftAdapterMixin
from diffusers.models.attention import AttentionMixin, FeedForward
from diffusers.models.cache_utils import CacheMixin
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.normalization import AdaLayerNormContinuous
from diffusers.models.transformers.transformer_ltx2 import AudioVisualModelOutput
from diffusers.utils import apply_lora_scale

from ..presets import PRESETS  # noqa: F401  # its public place
from .attention import (
    ATTENTION_FUSIONS,  # noqa: F401  # older code imports it from here
    JoVAAttention,
    JoVAAttnProcessor,  # noqa: F401  # likewise
    pack,
)
from .caching import two_stream_block
from .embeddings import (
    JoVAEmbedder,
    JoVAPacking,
    JoVAPositionEmbedding,  # noqa: F401  # likewise
    JoVATextProjection,  # noqa: F401  # likewise
    JoVATimestepEmbedding,  # noqa: F401  # likewise
    prepare_texts,
    rotary_embedding,
    split_head,
)
from .modulation import modulate, split_timestep
from .modulation_cache import ModulationLinear, project
from .two_branches import TwoBranchMixin, check_branches
from .value_checks import checks_values


class JoVAContext(NamedTuple):
    """What every block of one branch needs beside its tokens."""

    temb: torch.Tensor  # (B, N, D), N = 2 where tokens have two timesteps, else 1
    pos_embed: torch.Tensor  # (1, V + T, D), learned positions, zero on text
    rotary_emb: tuple[torch.Tensor, torch.Tensor]  # cos, sin: (1, V + T, 1, d/2), no rotation on text
    num_tokens: int  # V, the media tokens in front
    is_given: torch.Tensor | None = None  # (B, V + T, 1) bool, which tokens have the first of two timesteps
    modulation_rows: torch.Tensor | None = None  # (B, N), where modulation was precomputed; see `modulation_cache`


class JoVAStream(nn.Module):
    """One set of weights of a block: norms and modulation, q k v, output, feed-forward. adaLN-Zero, Eq. 1.

    x = x + gate · Attn(...),  x = x + gate · FFN(...)
    """

    def __init__(
        self, dim: int, num_attention_heads: int, attention_head_dim: int, ffn_ratio: float, eps: float, cross: bool
    ):
        super().__init__()
        self.heads = num_attention_heads
        self.modulation = ModulationLinear(dim, 6 * dim)
        self.norm1 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.to_q = nn.Linear(dim, dim)
        self.to_k = nn.Linear(dim, dim)
        self.to_v = nn.Linear(dim, dim)
        self.norm_q = nn.RMSNorm(attention_head_dim, eps=eps)
        self.norm_k = nn.RMSNorm(attention_head_dim, eps=eps)
        self.to_out = nn.ModuleList([nn.Linear(dim, dim)])
        self.cross_linear = nn.Linear(dim, dim) if cross else None
        self.norm2 = nn.LayerNorm(dim, eps=eps, elementwise_affine=False)
        self.ff = FeedForward(dim, inner_dim=int(dim * ffn_ratio), activation_fn="gelu-approximate")

        for layer in filter(None, (self.modulation, self.cross_linear)):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def pre_attention(
        self,
        hidden_states: torch.Tensor,
        time: torch.Tensor,
        is_given: torch.Tensor | None,
    ) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
        """Return (query, key, value), each (B, S, heads, d), and what `post_attention` needs of the modulation.

        Queries and keys are still to be turned by their positions; see `pack`. `time` is temb, or rows of precomputed
        modulation; see `project`.
        """
        shift, scale, *modulation = project(self.modulation, time).chunk(6, dim=-1)  # (B, N, D) each
        norm_hidden_states = self.norm1(hidden_states)
        hidden_states = modulate(
            lambda shift, scale: torch.addcmul(shift, norm_hidden_states, 1 + scale), is_given, shift, scale
        )
        value = self.to_v(hidden_states).unflatten(-1, (self.heads, -1))
        query = self.norm_q(self.to_q(hidden_states).unflatten(-1, (self.heads, -1))).type_as(value)
        key = self.norm_k(self.to_k(hidden_states).unflatten(-1, (self.heads, -1))).type_as(value)
        return (query, key, value), tuple(modulation)

    def post_attention(
        self,
        hidden_states: torch.Tensor,
        attn_output: torch.Tensor,
        cross_output: torch.Tensor | None,
        modulation: tuple[torch.Tensor, ...],
        is_given: torch.Tensor | None,
    ) -> torch.Tensor:
        """Return the stream's new tokens (B, S, D). `cross_output` belongs to the first tokens, the media."""
        gate, shift_ff, scale_ff, gate_ff = modulation
        if cross_output is not None:
            if self.cross_linear is not None:
                cross_output = self.cross_linear(cross_output)
            num_text_tokens = attn_output.shape[1] - cross_output.shape[1]
            attn_output = attn_output + F.pad(cross_output, (0, 0, 0, num_text_tokens))
        attn_output = self.to_out[0](attn_output)
        hidden_states = modulate(lambda gate: torch.addcmul(hidden_states, gate, attn_output), is_given, gate)
        norm_hidden_states = self.norm2(hidden_states)
        ff_output = self.ff(
            modulate(
                lambda shift, scale: torch.addcmul(shift, norm_hidden_states, 1 + scale), is_given, shift_ff, scale_ff
            )
        )
        return modulate(lambda gate: torch.addcmul(hidden_states, gate, ff_output), is_given, gate_ff)


@two_stream_block
class JoVATransformerBlock(nn.Module):
    """A multi-stream block: the streams `video`, `video_text`, `audio` and `audio_text` around one attention.

    A model of one branch has that branch's streams only.
    """

    separate_text = True

    def __init__(
        self,
        dim: int,
        num_attention_heads: int,
        attention_head_dim: int,
        branches: tuple[str, ...],
        ffn_ratio: float = 4.0,
        attention_fusion: str = "joint",
        eps: float = 1e-6,
    ):
        super().__init__()
        for branch in branches:
            cross = attention_fusion == "cross_linear" and len(branches) == 2
            args = (dim, num_attention_heads, attention_head_dim, ffn_ratio, eps)
            self.add_module(branch, JoVAStream(*args, cross=cross))
            if self.separate_text:
                self.add_module(f"{branch}_text", JoVAStream(*args, cross=False))
        self.attn = JoVAAttention(attention_fusion)

    def groups(
        self, branch: str, hidden_states: torch.Tensor, context: JoVAContext | None
    ) -> list[tuple[JoVAStream, torch.Tensor, torch.Tensor, tuple | None, torch.Tensor | None]]:
        """Return what each stream of a branch works on: (stream, tokens, time, rotary_emb, is_given)."""
        if context is None:
            return []
        stream, rotary_emb, is_given = getattr(self, branch), context.rotary_emb, context.is_given
        time = context.temb if context.modulation_rows is None else context.modulation_rows
        if not self.separate_text:
            return [(stream, hidden_states, time, rotary_emb, is_given)]
        num_tokens = context.num_tokens
        rotary_emb = tuple(x[:, :num_tokens] for x in rotary_emb)
        text_time = time
        if is_given is not None:
            is_given, text_time = is_given[:, :num_tokens], time[:, 1:]  # the text speaks of what is made
        return [
            (stream, hidden_states[:, :num_tokens], time, rotary_emb, is_given),
            (getattr(self, f"{branch}_text"), hidden_states[:, num_tokens:], text_time, None, None),
        ]

    def forward(
        self,
        hidden_states: torch.Tensor,
        audio_hidden_states: torch.Tensor,
        context: JoVAContext | None,
        audio_context: JoVAContext | None,
        attention_mask: torch.Tensor | None = None,
        cross_modal_attention: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the new packed tokens of both branches, each as it came: (B, V + T, D) and (B, A + T, D).

        A branch that does not run has 0 tokens and no context.
        """
        lengths = (hidden_states.shape[1], audio_hidden_states.shape[1])
        num_tokens = tuple(c.num_tokens if c is not None else 0 for c in (context, audio_context))
        if context is not None:
            hidden_states = hidden_states + context.pos_embed
        if audio_context is not None:
            audio_hidden_states = audio_hidden_states + audio_context.pos_embed

        video = self.groups("video", hidden_states, context)
        audio = self.groups("audio", audio_hidden_states, audio_context)
        streams, tokens, times, rotary_embs, is_given = zip(*video, *audio)
        projections, modulations = zip(
            *(stream.pre_attention(*args) for stream, *args in zip(streams, tokens, times, is_given))
        )
        queries, keys, values = zip(*projections)
        query, key, value = pack(queries, rotary_embs), pack(keys, rotary_embs), pack(values)
        # what was packed is not needed in the attention, and none of it in the feed-forward
        del projections, queries, keys, values
        attn_output, audio_attn_output, *cross_outputs = self.attn(
            query, key, value, attention_mask, lengths, num_tokens, cross_modal_attention
        )
        del query, key, value
        cross_output, audio_cross_output = cross_outputs or (None, None)

        hidden_states = self.merge(video, hidden_states, attn_output, cross_output, modulations[: len(video)])
        audio_hidden_states = self.merge(
            audio, audio_hidden_states, audio_attn_output, audio_cross_output, modulations[len(video) :]
        )
        return hidden_states, audio_hidden_states

    def merge(self, groups, hidden_states, attn_output, cross_output, modulations) -> torch.Tensor:
        """Finish the streams of one branch and pack their tokens again; without streams, return what came."""
        if not groups:
            return hidden_states
        attn_outputs = attn_output.split([tokens.shape[1] for _, tokens, *_ in groups], dim=1)
        cross_outputs = [cross_output] + [None] * (len(groups) - 1)
        outputs = [
            stream.post_attention(tokens, *args, is_given)
            for (stream, tokens, *_, is_given), *args in zip(groups, attn_outputs, cross_outputs, modulations)
        ]
        return pack(outputs)


@two_stream_block
class JoVASingleTransformerBlock(JoVATransformerBlock):
    """A single-stream block: `video` and `audio`, each applied to its media tokens and their text alike.

    It spells out `forward` because the compiler keeps its graphs by function: this way each stage compiles once.
    """

    separate_text = False

    def forward(
        self,
        hidden_states: torch.Tensor,
        audio_hidden_states: torch.Tensor,
        context: JoVAContext | None,
        audio_context: JoVAContext | None,
        attention_mask: torch.Tensor | None = None,
        cross_modal_attention: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return super().forward(
            hidden_states, audio_hidden_states, context, audio_context, attention_mask, cross_modal_attention
        )


class JoVATransformer3DModel(
    TwoBranchMixin, ModelMixin, AttentionMixin, ConfigMixin, PeftAdapterMixin, FromOriginalModelMixin, CacheMixin
):
    """A transformer that denoises video latents and audio latents together (JoVA, section 3.2).

    Two branches, each a whole DiT after Waver with its own copy of the text, meet in one self-attention per block.
    `in_channels=None` builds the audio branch alone, `audio_in_channels=None` the video branch alone (a Waver).

    Args:
        patch_size: Latent frames, rows and columns per video token. One audio latent is one token.
        in_channels: Video channels in: 16 noisy, 16 of the reference image, 4 of its mask. None: no video branch.
        out_channels: Video channels out.
        audio_in_channels: Channels of the audio latents: 20 at 16 kHz, 40 at 44.1 kHz. None: no audio branch.
        audio_out_channels: None means `audio_in_channels`.
        num_attention_heads, attention_head_dim: Their product is the width D of both branches.
        num_layers: Multi-stream blocks (four streams).
        num_single_layers: Single-stream blocks (two streams).
        text_embed_dim: Width of the T5 states, or None without that encoder.
        text_embed_dim_2: Width of the Qwen2 states, or None without that encoder.
        ffn_ratio: Width of the feed-forward over D.
        rope_theta: Base of the rotary frequencies.
        rope_axes_dim: Channels of a head that turn with time, row and column; None splits as Wan does.
        pos_embed_size: Lengths of the learned position tables for time, row and column.
        temporal_aligned_rope: Whether the positions of both modalities measure the same seconds (section 3.2.1).
        audio_latent_rate: Audio latents per second.
        vae_temporal_compression: Video frames per latent frame.
        attention_fusion: "joint", or "cross" / "cross_linear", the variants of Fig. 4 and Table 5.
        eps: Epsilon of all norms.
        condition_mode: How a modality that is given enters: "clean", at timestep 0, or "noised", at the noise level of
            the other. It tells how the weights were trained. None, for weights that never were, means "noised".
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["JoVATransformerBlock", "JoVASingleTransformerBlock"]
    _repeated_blocks = ["JoVATransformerBlock", "JoVASingleTransformerBlock"]
    _skip_layerwise_casting_patterns = ["embedder", "norm", "modulation", "proj_out"]
    _keep_in_fp32_modules = ["time_embedder", "pos_embed"]
    _heads = {"video": "proj_out", "audio": "audio_proj_out"}
    _audio_to_video = {
        r"audio_embedder\.": "video_embedder.",
        r"audio_(norm_out|proj_out)\.": r"\1.",
        r"((?:single_)?transformer_blocks\.\d+\.)audio(_text)?\.": r"\1video\2.",
    }
    # Each group of tokens is split before it is packed. The key mask is split alike; Ulysses gathers it again.
    _cp_inputs = {
        "packing": {
            "hidden_states": 3,
            "encoder_hidden_states": 3,
            "pos_embed": 3,
            "cos": 4,
            "sin": 4,
            "encoder_attention_mask": 2,
        },
        "given_tokens": {0: 3},
    }

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, int, int] = (1, 2, 2),
        in_channels: int | None = 36,
        out_channels: int = 16,
        audio_in_channels: int | None = 40,
        audio_out_channels: int | None = None,
        num_attention_heads: int = 24,
        attention_head_dim: int = 128,
        num_layers: int = 16,
        num_single_layers: int = 40,
        text_embed_dim: int | None = 4096,
        text_embed_dim_2: int | None = 5120,
        ffn_ratio: float = 4.0,
        rope_theta: float = 10000.0,
        rope_axes_dim: tuple[int, int, int] | None = None,
        pos_embed_size: tuple[int, int, int] = (64, 96, 96),
        temporal_aligned_rope: bool = True,
        audio_latent_rate: float = 44100 / 1024,
        vae_temporal_compression: int = 4,
        attention_fusion: str = "joint",
        eps: float = 1e-6,
        condition_mode: str | None = None,
    ):
        super().__init__()
        check_branches(in_channels, audio_in_channels, attention_fusion, condition_mode)
        if not text_embed_dim and not text_embed_dim_2:
            raise ValueError("`text_embed_dim` and `text_embed_dim_2` are both None: a model needs at least one text.")
        if rope_axes_dim is None:
            rope_axes_dim = split_head(attention_head_dim)
        if sum(rope_axes_dim) != attention_head_dim or any(dim % 2 for dim in rope_axes_dim):
            raise ValueError(
                f"`rope_axes_dim` must be even numbers that sum to `attention_head_dim` ({attention_head_dim}), "
                f"got {tuple(rope_axes_dim)}."
            )

        dim = num_attention_heads * attention_head_dim
        branches = ("video",) * (in_channels is not None) + ("audio",) * (audio_in_channels is not None)
        self.rope_axes_dim = tuple(rope_axes_dim)
        patch_volume = patch_size[0] * patch_size[1] * patch_size[2]
        text_dims = (text_embed_dim, text_embed_dim_2)
        audio_out_channels = audio_out_channels or audio_in_channels

        # 1. Entrances
        self.video_embedder = self.audio_embedder = None
        if in_channels is not None:
            self.video_embedder = JoVAEmbedder(in_channels * patch_volume, dim, *text_dims, tuple(pos_embed_size), eps)
        if audio_in_channels is not None:
            self.audio_embedder = JoVAEmbedder(audio_in_channels, dim, *text_dims, tuple(pos_embed_size[:1]), eps)
        self.packing = JoVAPacking()
        self.given_tokens = nn.Identity()  # passes `is_given` on, and context parallelism splits it there

        # 2. Blocks
        args = (dim, num_attention_heads, attention_head_dim, branches)
        options: dict[str, Any] = {"ffn_ratio": ffn_ratio, "attention_fusion": attention_fusion, "eps": eps}
        self.transformer_blocks = nn.ModuleList(JoVATransformerBlock(*args, **options) for _ in range(num_layers))
        self.single_transformer_blocks = nn.ModuleList(
            JoVASingleTransformerBlock(*args, **options) for _ in range(num_single_layers)
        )

        # 3. Heads
        self.norm_out = self.proj_out = self.audio_norm_out = self.audio_proj_out = None
        if in_channels is not None:
            self.norm_out = AdaLayerNormContinuous(dim, dim, elementwise_affine=False, eps=eps)
            self.proj_out = nn.Linear(dim, out_channels * patch_volume)
        if audio_in_channels is not None:
            self.audio_norm_out = AdaLayerNormContinuous(dim, dim, elementwise_affine=False, eps=eps)
            self.audio_proj_out = nn.Linear(dim, audio_out_channels)
        for norm in filter(None, (self.norm_out, self.audio_norm_out)):
            nn.init.zeros_(norm.linear.weight)
            nn.init.zeros_(norm.linear.bias)
        self.gradient_checkpointing = False

    @apply_lora_scale("attention_kwargs")
    def forward(
        self,
        hidden_states: torch.Tensor | None = None,
        audio_hidden_states: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,
        encoder_hidden_states_2: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        encoder_attention_mask_2: torch.Tensor | None = None,
        timestep: torch.Tensor | None = None,
        audio_timestep: torch.Tensor | None = None,
        frame_rate: float = 24.0,
        cross_modal_attention: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = True,
    ) -> AudioVisualModelOutput | tuple[torch.Tensor | None, torch.Tensor | None]:
        """Return the velocities (noise - data) of both modalities; None for one that was not given.

        Args:
            hidden_states: `(B, in_channels, F, H, W)` video latents: noisy, reference image, mask. None runs the
                audio branch alone.
            audio_hidden_states: `(B, audio_in_channels, A)` noisy audio latents. None runs the video branch alone.
            encoder_hidden_states: `(B, T1, text_embed_dim)` states of T5, or None.
            encoder_hidden_states_2: `(B, T2, text_embed_dim_2)` states of Qwen2, or None.
            encoder_attention_mask: `(B, T1)`, nonzero where there is text. None: everywhere.
            encoder_attention_mask_2: `(B, T2)`, likewise.
            timestep: `(B,)`, 0 (data) to 1000 (noise).
            audio_timestep: `(B,)`, or `(B, A)` with two values in a sample: 0 for the audio latents that are given,
                and the timestep of the others, which the text has, too. None means `timestep`.
            frame_rate: Video frames per second, which places the audio beside the frames.
            cross_modal_attention: False lets each branch see itself only, as if it ran alone.
            attention_kwargs: `{"scale": s}` sets the strength of LoRA layers.

        Returns:
            `AudioVisualModelOutput(sample (B, out_channels, F, H, W), audio_sample (B, audio_out_channels, A))`, or
            the same as a tuple.

        Raises:
            ValueError: If a tensor does not fit the config, a branch is asked for that was not built, or a token
                count is not divisible by the degree of context parallelism.
        """
        self.check_inputs(hidden_states, audio_hidden_states, encoder_hidden_states, encoder_hidden_states_2, timestep)
        self.check_timesteps(timestep, audio_timestep, hidden_states, audio_hidden_states)
        texts, text_mask = prepare_texts(
            (encoder_hidden_states, encoder_hidden_states_2),
            (encoder_attention_mask, encoder_attention_mask_2),
            # neither a compiled graph nor another rank may see another number of tokens
            trim=checks_values() and self.context_parallel_degree == 1,
        )
        audio_timestep = timestep if audio_timestep is None else audio_timestep

        # 1. Entrances: latents, texts, time and place -> packed tokens (B, V + T, D) and (B, A + T, D)
        context = audio_context = grid = mask = audio_mask = None
        if hidden_states is not None:
            grid = [size // patch for size, patch in zip(hidden_states.shape[2:], self.config.patch_size)]
            positions = tuple(torch.arange(n, dtype=torch.float32, device=hidden_states.device) for n in grid)
            hidden_states, context, mask = self._embed(
                "video", self._patchify(hidden_states, grid), texts, text_mask, timestep, positions
            )
        if audio_hidden_states is not None:
            positions = (self._audio_positions(audio_hidden_states, frame_rate),)
            audio_hidden_states, audio_context, audio_mask = self._embed(
                "audio", audio_hidden_states.transpose(1, 2), texts, text_mask, audio_timestep, positions
            )
        # a branch that does not run has no tokens, so that blocks and caches always see two tensors
        if hidden_states is None:
            hidden_states = audio_hidden_states[:, :0]
        if audio_hidden_states is None:
            audio_hidden_states = hidden_states[:, :0]
        masks = [m for m in (mask, audio_mask) if m is not None]
        attention_mask = torch.cat(masks, dim=1) if masks else None

        # 2. Blocks
        for block in (*self.transformer_blocks, *self.single_transformer_blocks):
            args = (hidden_states, audio_hidden_states, context, audio_context, attention_mask, cross_modal_attention)
            if torch.is_grad_enabled() and self.gradient_checkpointing:
                hidden_states, audio_hidden_states = self._gradient_checkpointing_func(block, *args)
            else:
                hidden_states, audio_hidden_states = block(*args)

        # 3. Heads
        sample = audio_sample = None
        if context is not None:
            hidden_states = self._norm_out(self.norm_out, hidden_states, context)
            sample = self._unpatchify(self.proj_out(hidden_states), grid)
        if audio_context is not None:
            audio_hidden_states = self._norm_out(self.audio_norm_out, audio_hidden_states, audio_context)
            audio_sample = self.audio_proj_out(audio_hidden_states).transpose(1, 2)

        if not return_dict:
            return (sample, audio_sample)
        return AudioVisualModelOutput(sample=sample, audio_sample=audio_sample)

    def modulation_layers(self) -> dict[str, tuple[nn.Module, list[tuple[nn.Module, bool]]]]:
        layers: dict[str, tuple[nn.Module, list[tuple[nn.Module, bool]]]] = {
            branch: (getattr(self, f"{branch}_embedder").time_embedder, []) for branch in self.branches
        }
        for block in (*self.transformer_blocks, *self.single_transformer_blocks):
            for name, stream in block.named_children():
                branch, _, text = name.partition("_")
                if branch in layers:
                    layers[branch][1].append((stream.modulation, bool(text)))
        return layers

    def _embed(self, branch, hidden_states, texts, text_mask, timestep, positions):
        """Return a branch's packed tokens (B, V + T, D), its context, and its key mask (B, V + T) or None."""
        embedder = getattr(self, f"{branch}_embedder")
        timesteps, is_given = split_timestep(timestep, hidden_states.shape[0])
        rows = self.modulation_rows(branch, timesteps)
        hidden_states, text, temb, pos_embed = embedder(hidden_states, *texts, timesteps, positions)
        self._check_context_parallel(media=hidden_states.shape[1], text=text.shape[1])
        cos, sin = rotary_embedding(
            positions, self.rope_axes_dim, self.config.attention_head_dim, self.config.rope_theta
        )
        packed, pos_embed, cos, sin, *mask = self.packing(
            hidden_states=hidden_states,
            encoder_hidden_states=text,
            pos_embed=pos_embed,
            cos=cos,
            sin=sin,
            encoder_attention_mask=text_mask,
        )
        num_tokens = packed.shape[1] - text.shape[1] // self.context_parallel_degree
        if is_given is not None:
            is_given = F.pad(self.given_tokens(is_given), (0, 0, 0, packed.shape[1] - num_tokens))
        context = JoVAContext(temb, pos_embed, (cos, sin), num_tokens, is_given, rows)
        return packed, context, mask[0] if mask else None

    def _norm_out(self, norm_out: nn.Module, hidden_states: torch.Tensor, context: JoVAContext) -> torch.Tensor:
        """Return the media tokens of a branch, normalised and modulated: (B, V + T, D) -> (B, V, D)."""
        hidden_states = hidden_states[:, : context.num_tokens]
        is_given = context.is_given
        if is_given is not None:
            is_given = is_given[:, : context.num_tokens]
        return modulate(lambda temb: norm_out(hidden_states, temb[:, 0]), is_given, context.temb)

    def _patchify(self, hidden_states: torch.Tensor, grid: list[int]) -> torch.Tensor:
        """(B, C, F, H, W) -> (B, V, C · patch volume)"""
        (f, h, w), (pf, ph, pw) = grid, self.config.patch_size
        hidden_states = hidden_states.reshape(*hidden_states.shape[:2], f, pf, h, ph, w, pw)
        return hidden_states.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)

    def _unpatchify(self, hidden_states: torch.Tensor, grid: list[int]) -> torch.Tensor:
        """(B, V, C · patch volume) -> (B, C, F, H, W)"""
        hidden_states = hidden_states.unflatten(1, grid).unflatten(-1, (-1, *self.config.patch_size))
        return hidden_states.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6).flatten(4, 5).flatten(2, 3)
