# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The joint transformer, the audio autoencoder and the vocoders."""

from .autoencoder_mmaudio import AutoencoderMMAudio
from .transformer_jova import JoVATransformer3DModel
from .vocoder_bigvgan import BigVGANVocoder
from .vocoder_griffin_lim import GriffinLimVocoder


VOCODERS = (BigVGANVocoder, GriffinLimVocoder)
MODELS = (JoVATransformer3DModel, AutoencoderMMAudio, *VOCODERS)

__all__ = [*(cls.__name__ for cls in MODELS), "MODELS", "VOCODERS"]
