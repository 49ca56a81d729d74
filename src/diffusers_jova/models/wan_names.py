# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the parts of a Wan transformer are called: by its authors, by diffusers, and in a branch of ours.

| Wan-Video/Wan2.1 | diffusers' `WanTransformer3DModel` | `JoVAWanTransformer3DModel` |
|---|---|---|
| `blocks.7.self_attn.q` | `blocks.7.attn1.to_q` | `transformer_blocks.7.video.attn1.to_q` |
| `head.head` | `proj_out` | `video.proj_out` |
"""

_LAYERS = {"q": "to_q", "k": "to_k", "v": "to_v", "o": "to_out.0", "norm_q": "norm_q", "norm_k": "norm_k"}
_ATTENTIONS = {"self_attn": "attn1", "cross_attn": "attn2"}

# the original's name -> diffusers' name: inside a block, behind `blocks.N.`
BLOCK_PARTS = {
    **{f"{a}.{x}": f"{b}.{y}" for a, b in _ATTENTIONS.items() for x, y in _LAYERS.items()},
    "norm3": "norm2",
    "ffn.0": "ffn.net.0.proj",
    "ffn.2": "ffn.net.2",
    "modulation": "scale_shift_table",
}
# ... and outside of the blocks
OTHER_PARTS = {
    "patch_embedding": "patch_embedding",
    "text_embedding.0": "condition_embedder.text_embedder.linear_1",
    "text_embedding.2": "condition_embedder.text_embedder.linear_2",
    "time_embedding.0": "condition_embedder.time_embedder.linear_1",
    "time_embedding.2": "condition_embedder.time_embedder.linear_2",
    "time_projection.1": "condition_embedder.time_proj",
    "head.head": "proj_out",
    "head.modulation": "scale_shift_table",
}
# config.json: diffusers' name or the original one -> ours, where it is another
CONFIG_KEYS = {
    "text_dim": "text_embed_dim",
    "num_heads": "num_attention_heads",
    "in_dim": "in_channels",
    "out_dim": "out_channels",
}
TABLES = ("modulation", "head.modulation")  # parameters; all others are modules


def jova_name(name: str, branch: str = "video") -> str:
    """Return our name of what diffusers' Wan calls `name`: a parameter or a module."""
    if not name.startswith("blocks."):
        return f"{branch}.{name}"
    _, number, rest = name.split(".", 2)
    return f"transformer_blocks.{number}.{branch}.{rest}"
