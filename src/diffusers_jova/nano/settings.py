# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Defaults of the scripts in training/nano/, apart from what takes seconds to import."""

COMPONENTS = {"text": 2000, "video_vae": 14000, "audio_vae": 1800, "vocoder": 0}  # trained before the rest: steps
STEPS = (4, 8, 12, 20, 30, 50)  # numbers of denoising steps that the report compares
