# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Sizes of the transformer by name: `JoVATransformer3DModel(**PRESETS["jova-24b"])`."""

from typing import Any


# `jova-24b`: 16 + 40 blocks of width 3072 are Waver's 12 B, twice. `jova-3.2b`: the paper gives the size only (1.6 B,
# twice), the shape is our choice. Both take the latents of the 44.1 kHz audio VAE, our choice. `jova-nano` is what two
# CPU cores can train: 16 kHz sound, small text encoders.
PRESETS: dict[str, dict[str, Any]] = {
    "jova-24b": {
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 16,
        "num_single_layers": 40,
        "audio_in_channels": 40,
        "audio_latent_rate": 44100 / 1024,
    },
    "jova-3.2b": {
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "num_layers": 8,
        "num_single_layers": 22,
        "audio_in_channels": 40,
        "audio_latent_rate": 44100 / 1024,
    },
    "jova-nano": {
        "num_attention_heads": 3,
        "attention_head_dim": 64,
        "num_layers": 4,
        "num_single_layers": 4,
        "audio_in_channels": 20,
        "audio_latent_rate": 31.25,
        "text_embed_dim": 128,
        "text_embed_dim_2": 128,
    },
}
