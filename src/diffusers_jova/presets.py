# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Sizes by name: of the transformer (`PRESETS`), of the audio VAE and its vocoder (`AUDIO_MODES`)."""

from dataclasses import dataclass
from typing import Any


MEL_FRAMES_PER_LATENT = 2  # the audio VAE halves the time axis of the log-mel once


@dataclass(frozen=True)
class AudioMode:
    """What MMAudio's audio VAE is at one sampling rate, and which BigVGAN goes with it (arXiv:2412.15322).

    Attributes:
        autoencoder: arguments of `AutoencoderMMAudio` that say what its latents and its log-mel are.
        vocoder: arguments of `BigVGANVocoder`.
    """

    autoencoder: dict[str, Any]
    vocoder: dict[str, Any]

    @property
    def samples_per_latent(self) -> int:
        """Audio samples per audio latent."""
        return MEL_FRAMES_PER_LATENT * self.autoencoder["hop_length"]

    @property
    def audio_latent_rate(self) -> float:
        """Audio latents per second."""
        return self.autoencoder["sampling_rate"] / self.samples_per_latent

    @property
    def transformer(self) -> dict[str, Any]:
        """Arguments of `JoVATransformer3DModel` for these latents."""
        return {
            "audio_in_channels": self.autoencoder["latent_channels"],
            "audio_latent_rate": self.audio_latent_rate,
        }


# The vocoders are BigVGAN v1 (MMAudio's best_netG.pt) and v2 (nvidia/bigvgan_v2_44khz_128band_512x).
_RESBLOCKS = {"resblock_kernel_sizes": [3, 7, 11], "resblock_dilation_sizes": [[1, 3, 5]] * 3}
AUDIO_MODES: dict[str, AudioMode] = {
    "16k": AudioMode(
        autoencoder={
            "sampling_rate": 16000,
            "n_fft": 1024,
            "hop_length": 256,
            "log_base": "10",
            "num_mels": 80,
            "latent_channels": 20,
            "fmin": 0.0,
            "fmax": 8000.0,
        },
        vocoder={
            **_RESBLOCKS,
            "sampling_rate": 16000,
            "num_mels": 80,
            "upsample_rates": [4, 4, 2, 2, 2, 2],
            "upsample_kernel_sizes": [8, 8, 4, 4, 4, 4],
            "activation": "snakebeta",
            "snake_logscale": True,
        },
    ),
    "44k": AudioMode(
        autoencoder={
            "sampling_rate": 44100,
            "n_fft": 2048,
            "hop_length": 512,
            "log_base": "e",
            "num_mels": 128,
            "latent_channels": 40,
            "fmin": 0.0,
            "fmax": 22050.0,
        },
        vocoder={
            **_RESBLOCKS,
            "sampling_rate": 44100,
            "num_mels": 128,
            "upsample_rates": [8, 4, 2, 2, 2, 2],
            "upsample_kernel_sizes": [16, 8, 4, 4, 4, 4],
            "activation": "snakebeta",
            "snake_logscale": True,
            "use_tanh_at_final": False,
            "use_bias_at_final": False,
        },
    ),
}

# `jova-24b`: 16 + 40 blocks of width 3072 are Waver's 12 B, twice. `jova-3.2b`: the paper gives the size only (1.6 B,
# twice), the shape is our choice. Both take the latents of the 44.1 kHz audio VAE, our choice. `jova-nano` is what two
# CPU cores can train: 16 kHz audio, small text encoders.
PRESETS: dict[str, dict[str, Any]] = {
    "jova-24b": {
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 16,
        "num_single_layers": 40,
        **AUDIO_MODES["44k"].transformer,
    },
    "jova-3.2b": {
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "num_layers": 8,
        "num_single_layers": 22,
        **AUDIO_MODES["44k"].transformer,
    },
    "jova-nano": {
        "num_attention_heads": 3,
        "attention_head_dim": 64,
        "num_layers": 4,
        "num_single_layers": 4,
        **AUDIO_MODES["16k"].transformer,
        "text_embed_dim": 128,
        "text_embed_dim_2": 128,
    },
}

# Sizes of `JoVAWanTransformer3DModel(**WAN_PRESETS["jova-wan-1.3b"])`, per branch those of Wan2.1-T2V-1.3B, of
# Wan2.2-TI2V-5B and of the 14 B models (Wan2.1 and both experts of Wan2.2-A14B). `jova-wan-nano` is jova-nano's width
# on Wan's blocks.
WAN_PRESETS: dict[str, dict[str, Any]] = {
    "jova-wan-14b": {
        "num_attention_heads": 40,
        "attention_head_dim": 128,
        "num_layers": 40,
        "ffn_dim": 13824,
        "audio_in_channels": 40,
        "audio_latent_rate": 44100 / 1024,
    },
    "jova-wan-5b": {
        "in_channels": 48,
        "out_channels": 48,
        "condition_fill": "noisy",
        "num_attention_heads": 24,
        "attention_head_dim": 128,
        "num_layers": 30,
        "ffn_dim": 14336,
        "audio_in_channels": 40,
        "audio_latent_rate": 44100 / 1024,
    },
    "jova-wan-1.3b": {
        "num_attention_heads": 12,
        "attention_head_dim": 128,
        "num_layers": 30,
        "ffn_dim": 8960,
        "audio_in_channels": 40,
        "audio_latent_rate": 44100 / 1024,
    },
    "jova-wan-nano": {
        "num_attention_heads": 3,
        "attention_head_dim": 64,
        "num_layers": 8,
        "ffn_dim": 768,
        "audio_in_channels": 20,
        "audio_latent_rate": 31.25,
        "text_embed_dim": 128,
        "text_len": 32,
    },
}


# What a call makes by default on a Wan base: Wan's size, length, rate and guidance (Wan-Video/Wan2.1, wan/configs),
# one scale for both modalities, and prompts as Wan reads them
_WAN_CALL: dict[str, Any] = {
    "height": 480,
    "width": 832,
    "num_frames": 81,
    "frame_rate": 16.0,
    "num_inference_steps": 50,
    "guidance_scale": 5.0,
    "audio_guidance_scale": None,
    "prompt_format": "plain",
}
_WAN_5B_CALL = {"height": 704, "width": 1280, "num_frames": 121, "frame_rate": 24.0}  # with the guidance of Wan2.1
_EXPERT_GUIDANCE = {"high": 4.0, "low": 3.0}  # of Wan2.2-T2V-A14B; its models for images have 3.5 for both


def wan_call_defaults(expert: str | None = None, condition_fill: str = "black") -> dict[str, Any]:
    """Return what a call of the pipeline makes by default on a Wan base.

    Args:
        expert: "high" or "low", which expert of a Wan2.2-A14B the base is, if any.
        condition_fill: Of the transformer: "grey" for a base for images, "noisy" for Wan2.2-TI2V-5B.
    """
    if expert is None:
        return _WAN_CALL | (_WAN_5B_CALL if condition_fill == "noisy" else {})
    scale = 3.5 if condition_fill == "grey" else _EXPERT_GUIDANCE[expert]
    return _WAN_CALL | {"guidance_scale": scale, "num_inference_steps": 40}
