# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Tiny Wan pipelines of diffusers' own classes, every parameter drawn."""

import torch
from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanPipeline,
    WanTransformer3DModel,
)
from transformers import UMT5Config, UMT5EncoderModel

from diffusers_jova.pipelines.random_pipeline import character_tokenizer


TEXT_DIM = 16


def make_wan_transformer(**overrides) -> WanTransformer3DModel:
    config = {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 2, "ffn_dim": 48, "freq_dim": 16}
    config |= {"in_channels": 16, "out_channels": 16, "text_dim": TEXT_DIM}
    wan = WanTransformer3DModel(**config | overrides).eval()
    for parameter in wan.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return wan


def make_wan_vae() -> AutoencoderKLWan:
    return AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1).eval()


def make_wan22_vae() -> AutoencoderKLWan:
    """Return a VAE like Wan2.2-TI2V-5B's: pixels folded 2 x 2, 48 channels, 16 x 16 pixels per latent."""
    statistics = {"latents_mean": [0.1] * 48, "latents_std": [0.8] * 48}
    folded = {"patch_size": 2, "in_channels": 12, "out_channels": 12, "scale_factor_spatial": 16}
    return AutoencoderKLWan(
        base_dim=4, decoder_base_dim=4, z_dim=48, num_res_blocks=1, is_residual=True, **folded, **statistics
    ).eval()


def make_wan_pipeline(kind: str = "text", experts: bool = False) -> WanPipeline | WanImageToVideoPipeline:
    """Return a pipeline like Wan2.1-T2V's, or of another kind, or with both experts of a Wan2.2-A14B.

    Args:
        kind: "text"; "image", like Wan2.2-I2V-A14B's without its second expert; "5b", like Wan2.2-TI2V-5B's.
    """
    channels = {"image": {"in_channels": 36}, "5b": {"in_channels": 48, "out_channels": 48}}.get(kind, {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = character_tokenizer()
        config = UMT5Config(
            vocab_size=len(tokenizer), d_model=TEXT_DIM, d_kv=8, d_ff=32, num_heads=2, num_layers=2, dropout_rate=0.0
        )
        parts = {
            "tokenizer": tokenizer,
            "text_encoder": UMT5EncoderModel(config).eval(),
            "vae": make_wan22_vae() if kind == "5b" else make_wan_vae(),
            "transformer": make_wan_transformer(**channels),
            "scheduler": UniPCMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=3.0
            ),
            "expand_timesteps": kind == "5b",
        }
        if experts:
            parts |= {"transformer_2": make_wan_transformer(**channels), "boundary_ratio": 0.875}
        pipe = (WanImageToVideoPipeline if kind == "image" else WanPipeline)(**parts)
    pipe.set_progress_bar_config(disable=True)
    return pipe
