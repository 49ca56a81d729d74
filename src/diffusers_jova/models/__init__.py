# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The joint transformers, the audio autoencoder and the vocoders."""

from .autoencoder_mmaudio import AutoencoderMMAudio
from .transformer_jova import JoVATransformer3DModel
from .transformer_jova_wan import JoVAWanTransformer3DModel
from .vocoder_bigvgan import BigVGANVocoder
from .vocoder_griffin_lim import GriffinLimVocoder


VOCODERS = (BigVGANVocoder, GriffinLimVocoder)
TRANSFORMERS = (JoVATransformer3DModel, JoVAWanTransformer3DModel)
MODELS = (*TRANSFORMERS, AutoencoderMMAudio, *VOCODERS)

__all__ = [*(cls.__name__ for cls in MODELS), "MODELS", "TRANSFORMERS", "VOCODERS"]
