# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A whole pipeline with random weights, every component of the real class, only small: to try the code, to train."""

import string
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from transformers import Qwen2Config, Qwen2Model, Qwen2Tokenizer, T5Config, T5EncoderModel, T5Tokenizer

from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.transformer_jova import PRESETS, JoVATransformer3DModel
from ..models.vocoder_bigvgan import BigVGANVocoder
from .pipeline_jova import JoVAPipeline


# What a call of the nano pipeline makes by default: 1.68 seconds, enough for three spoken digits.
NANO_DEFAULTS: dict[str, Any] = {
    "height": 64,
    "width": 64,
    "num_frames": 21,
    "frame_rate": 12.5,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
}


def create_pipeline(preset: str = "jova-nano", seed: int = 0, **transformer_config: Any) -> JoVAPipeline:
    """Return a `JoVAPipeline` of nano size with random weights. What it makes is noise.

    Layers that a new model starts at zero (adaLN-Zero and the learned positions) are drawn from N(0, 0.02), so that
    every stream matters and gradients flow.

    Args:
        preset: "jova-nano". The larger presets go with text encoders of 5 B and 32 B parameters: build their
            transformer alone, with `JoVATransformer3DModel(**PRESETS[preset])`.
        seed: Of all weights.
        transformer_config: Overrides single values of the preset.

    Raises:
        ValueError: For a preset that is not there, or too large.
    """
    if preset not in PRESETS:
        raise ValueError(f"{preset!r} is not a preset. Choose one of {sorted(PRESETS)}.")
    if preset != "jova-nano":
        raise ValueError(
            f"A whole {preset!r} pipeline takes text encoders of 5 B and 32 B parameters, which are not made up here. "
            f"Choose 'jova-nano', or build the transformer alone: JoVATransformer3DModel(**PRESETS[{preset!r}])."
        )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer = JoVATransformer3DModel(**{**PRESETS[preset], **transformer_config})
        draw_zero_parameters(transformer)
        config = transformer.config
        tokenizer, tokenizer_2 = character_tokenizer(), byte_tokenizer()
        pipe = JoVAPipeline(
            tokenizer=tokenizer,
            text_encoder=T5EncoderModel(
                T5Config(
                    vocab_size=len(tokenizer),
                    d_model=config.text_embed_dim,
                    d_kv=32,
                    d_ff=256,
                    num_heads=4,
                    num_layers=2,
                )
            ),
            tokenizer_2=tokenizer_2,
            text_encoder_2=Qwen2Model(
                Qwen2Config(
                    vocab_size=len(tokenizer_2),
                    hidden_size=config.text_embed_dim_2,
                    intermediate_size=256,
                    num_hidden_layers=2,
                    num_attention_heads=4,
                    num_key_value_heads=2,
                )
            ),
            vae=AutoencoderKLWan(base_dim=16, z_dim=16, num_res_blocks=1),
            audio_vae=AutoencoderMMAudio(hidden_channels=32),
            vocoder=BigVGANVocoder(upsample_initial_channel=128),
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(shift=5.0),
            **NANO_DEFAULTS,
        )
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()
    return pipe


@torch.no_grad()
def draw_zero_parameters(module: torch.nn.Module, std: float = 0.02) -> None:
    """Draw the parameters of `module` that are zero throughout from N(0, std), in place."""
    for parameter in module.parameters():
        if not parameter.any():
            parameter.normal_(0, std)


def character_tokenizer() -> T5Tokenizer:
    """T5's tokenizer over the printable ASCII characters."""
    special = ["<pad>", "</s>", "<unk>", "▁"]
    characters = [character for character in string.printable if not character.isspace()]
    return T5Tokenizer(vocab=[(token, 0.0) for token in special + characters], extra_ids=0)


def byte_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's tokenizer over single bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    alphabet = sorted(ByteLevel.alphabet())
    return Qwen2Tokenizer(vocab={token: i for i, token in enumerate(["<|endoftext|>", *alphabet])})
