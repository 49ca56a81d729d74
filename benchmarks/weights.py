# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Count what each part of a pipeline weighs, from its real config, without allocating it:

python benchmarks/weights.py
"""

import sys

import torch
from diffusers import AutoencoderKLWan
from transformers import Qwen2Config, Qwen2Model, T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from diffusers_jova import PRESETS, AutoencoderMMAudio, BigVGANVocoder, JoVATransformer3DModel
from diffusers_jova.command import run


XXL = {
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}
QWEN_32B = {
    "vocab_size": 152064,
    "hidden_size": 5120,
    "intermediate_size": 27648,
    "num_hidden_layers": 64,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
}
VOCODER_44K = {
    "sampling_rate": 44100,
    "num_mels": 128,
    "upsample_rates": (8, 4, 2, 2, 2, 2),
    "upsample_kernel_sizes": (16, 8, 4, 4, 4, 4),
    "use_tanh_at_final": False,
    "use_bias_at_final": False,
}
AUDIO_VAE_44K = {
    "sampling_rate": 44100,
    "num_mels": 128,
    "latent_channels": 40,
    "hidden_channels": 512,
    "n_fft": 2048,
    "hop_length": 512,
}

# (part, how to build it, the dtype it is run in)
PARTS = [
    ("transformer, jova-24b", lambda: JoVATransformer3DModel(**PRESETS["jova-24b"]), torch.bfloat16),
    (
        "transformer, one branch of jova-24b",
        lambda: JoVATransformer3DModel(**{**PRESETS["jova-24b"], "audio_in_channels": None}),
        torch.bfloat16,
    ),
    ("transformer, jova-3.2b", lambda: JoVATransformer3DModel(**PRESETS["jova-3.2b"]), torch.bfloat16),
    ("transformer, jova-nano", lambda: JoVATransformer3DModel(**PRESETS["jova-nano"]), torch.float32),
    ("text_encoder, flan-t5-xxl", lambda: T5EncoderModel(T5Config(vocab_size=32128, **XXL)), torch.bfloat16),
    ("text_encoder, umt5-xxl", lambda: UMT5EncoderModel(UMT5Config(vocab_size=256384, **XXL)), torch.bfloat16),
    ("text_encoder_2, Qwen2.5-32B", lambda: Qwen2Model(Qwen2Config(**QWEN_32B)), torch.bfloat16),
    ("vae, Wan 2.1", AutoencoderKLWan, torch.float32),
    ("audio_vae, 44.1 kHz", lambda: AutoencoderMMAudio(**AUDIO_VAE_44K), torch.float32),
    ("audio_vae, 16 kHz", AutoencoderMMAudio, torch.float32),
    ("vocoder, 44.1 kHz (BigVGAN v2)", lambda: BigVGANVocoder(**VOCODER_44K), torch.float32),
    ("vocoder, 16 kHz (BigVGAN v1)", BigVGANVocoder, torch.float32),
]


def main(args: None) -> None:
    print("| part | parameters | run in | GB |\n|---|---:|---|---:|")
    for name, build, dtype in PARTS:
        with torch.device("meta"):
            num_parameters = sum(parameter.numel() for parameter in build().parameters())
        gigabytes = num_parameters * dtype.itemsize / 1e9
        print(f"| {name} | {num_parameters / 1e6:,.1f} M | {str(dtype).removeprefix('torch.')} | {gigabytes:.2f} |")


if __name__ == "__main__":
    sys.exit(run(main))
