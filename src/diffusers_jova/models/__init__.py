# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The joint transformer, the audio autoencoder and the vocoder."""

from .autoencoder_mmaudio import AutoencoderMMAudio
from .transformer_jova import JoVATransformer3DModel
from .vocoder_bigvgan import BigVGANVocoder


__all__ = ["AutoencoderMMAudio", "BigVGANVocoder", "JoVATransformer3DModel"]
