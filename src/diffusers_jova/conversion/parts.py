# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The parts of a pipeline, in the order of the flags of `diffusers-jova assemble`."""

TOKENIZERS = ("tokenizer", "tokenizer_2")
PARTS = ("transformer", "vae", "audio_vae", "vocoder", "text_encoder", "text_encoder_2", "scheduler", *TOKENIZERS)
REQUIRED = ("transformer", "vae")
