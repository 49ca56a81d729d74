# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Defaults of the scripts in training/nano/, apart from what takes seconds to import."""

# What is trained before the transformer, in this order, and for how many steps
COMPONENTS = {
    "nano": {"text": 2000, "video_vae": 14000, "audio_vae": 1800, "vocoder": 0},
    "mini": {"audio_vae": 6000, "text": 2500, "video_vae": 10000, "vocoder": 0},
}
STEPS = (4, 8, 12, 20, 30, 50)  # numbers of denoising steps that the report compares
