# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""One attention over the tokens of both branches (arXiv:2512.13677, Eq. 4), and its variants (Fig. 4).

B batch, S packed tokens, D width, d width of one head. A packed tensor holds the media tokens of one branch, then its
text tokens, if these take part.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn as nn
from diffusers.models.attention import AttentionModuleMixin
from diffusers.models.attention_dispatch import AttentionBackendName, dispatch_attention_fn
from diffusers.utils import is_torch_npu_available, is_torch_xla_available

from .. import compat
from .embeddings import apply_rotary_emb


ATTENTION_FUSIONS = ("joint", "cross", "cross_linear")


def pack(
    groups: Sequence[torch.Tensor], rotary_embs: Sequence[tuple[torch.Tensor, torch.Tensor] | None] = ()
) -> torch.Tensor:
    """Put groups of tokens (B, S_i, ...) behind each other: (B, S, ...). One group alone is not copied.

    Args:
        rotary_embs: Of queries and keys, what each group is turned by, or None where it is not turned.
    """
    turns = rotary_embs or [None] * len(groups)
    if not rotary_embs or len(groups) == 1 or torch.is_grad_enabled() or torch.compiler.is_compiling():
        groups = [x if turn is None else apply_rotary_emb(x, turn) for x, turn in zip(groups, turns, strict=True)]
        return groups[0] if len(groups) == 1 else torch.cat(groups, dim=1)
    # Turned into their place, without a copy in between: autograd refuses outputs that are given, and the compiler
    # fuses by itself.
    lengths = [x.shape[1] for x in groups]
    packed = groups[0].new_empty(len(groups[0]), sum(lengths), *groups[0].shape[2:])
    for place, x, turn in zip(packed.split(lengths, dim=1), groups, turns, strict=True):
        if turn is None:
            place.copy_(x)
        else:
            apply_rotary_emb(x, turn, out=place)
    return packed


def installed_backends() -> list[str]:
    """Return the attention backends whose packages are there; each also asks for its own kind of device."""
    check = compat.load("_check_attention_backend_requirements")
    # torch's own, for whose packages diffusers' check does not ask
    is_there = {"_native_npu": is_torch_npu_available(), "_native_xla": is_torch_xla_available()}
    names = []
    for backend in AttentionBackendName:
        try:
            check(backend)
        except RuntimeError:
            continue
        names.append(backend.value)
    return sorted(name for name in names if is_there.get(name, True))


class JoVAAttnProcessor:
    """Calls the attention backend on the tokens of both branches: once (joint), or once for each direction."""

    _attention_backend = None
    _parallel_config = None

    def __call__(
        self,
        attn: "JoVAAttention",
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        lengths: tuple[int, int],
        num_tokens: tuple[int, int],
        cross_modal_attention: bool,
    ) -> tuple[torch.Tensor, ...]:
        if attn.fusion == "joint" and cross_modal_attention:
            return self.attend(query, key, value, attention_mask).split(lengths, dim=1)

        masks = (None, None) if attention_mask is None else attention_mask.split(lengths, dim=-1)
        queries, keys, values = (x.split(lengths, dim=1) for x in (query, key, value))
        outputs = tuple(self.attend(*args) for args in zip(queries, keys, values, masks))
        if not cross_modal_attention or attn.fusion == "joint" or 0 in lengths:
            return outputs

        # Fig. 4 b, c: a modality's tokens look at the other modality's tokens, not at its text
        queries, keys, values = (
            [x[:, :length] for x, length in zip(xs, num_tokens)] for xs in (queries, keys, values)
        )
        cross = tuple(self.attend(*args, None) for args in zip(queries, keys[::-1], values[::-1]))
        return outputs + cross

    def attend(self, query, key, value, attention_mask):
        """Attention of (B, S, heads, d) tensors, (B, S, D) out; a branch that is not there has S = 0.

        Raises:
            ValueError: If there is a mask, and the attention backend takes none.
        """
        if query.shape[1] == 0:
            return query.flatten(2)
        if attention_mask is not None:
            attention_mask = attention_mask[:, None, None].contiguous()  # (B, 1, 1, S): True where a key may be seen
        try:
            hidden_states = dispatch_attention_fn(
                query,
                key,
                value,
                attn_mask=attention_mask,
                backend=self._attention_backend,
                parallel_config=self._parallel_config,
            )
        except ValueError as error:
            if attention_mask is None or "attn_mask" not in str(error):
                raise
            raise ValueError(
                f"This attention backend takes no mask ({error}), and one is needed: the texts of the batch differ in "
                "length, or were filled up so that context parallelism can share them. Make them of one length, which "
                'the degree divides, one prompt per call, or take another backend: `set_attention_backend("native")`.'
            ) from error
        return hidden_states.flatten(2).type_as(query)


class JoVAAttention(nn.Module, AttentionModuleMixin):
    """The joint self-attention of a block (Eq. 4). It owns no parameters: each stream brings its own q, k, v, out."""

    _default_processor_cls = JoVAAttnProcessor
    _available_processors = [JoVAAttnProcessor]
    _supports_qkv_fusion = False
    is_cross_attention = False
    processor: JoVAAttnProcessor
    set_processor: Callable[[JoVAAttnProcessor], None]

    def __init__(self, fusion: str = "joint", processor: JoVAAttnProcessor | None = None):
        super().__init__()
        self.fusion = fusion
        self.processor = processor if processor is not None else self._default_processor_cls()

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attention_mask: torch.Tensor | None,
        lengths: tuple[int, int],
        num_tokens: tuple[int, int],
        cross_modal_attention: bool = True,
    ) -> tuple[torch.Tensor, ...]:
        """Return the attention output of each branch.

        Args:
            query, key, value: `(B, S, heads, d)`, the packed tokens of the video branch, then of the audio branch.
            attention_mask: `(B, S)` bool, True where a key may be seen, or None.
            lengths: Packed tokens of the video branch and of the audio branch; they sum to S.
            num_tokens: Media tokens among them, without text.

        Returns:
            `(B, lengths[i], D)` for each branch; for the two cross variants also each modality's look at the other,
            `(B, num_tokens[i], D)`.
        """
        return self.processor(self, query, key, value, attention_mask, lengths, num_tokens, cross_modal_attention)
