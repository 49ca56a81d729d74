# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import inspect
import json
import math
import subprocess
import sys

import pytest

from diffusers_jova import AutoencoderMMAudio, BigVGANVocoder, GriffinLimVocoder, JoVATransformer3DModel
from diffusers_jova.presets import AUDIO_MODES, PRESETS


def defaults(cls):
    parameters = inspect.signature(cls.__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items()}


def as_json(values):
    """Return lists for tuples."""
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("mode", AUDIO_MODES)
def test_the_vocoder_of_an_audio_mode_speaks_the_log_mel_of_its_autoencoder(mode):
    autoencoder, vocoder = AUDIO_MODES[mode].autoencoder, AUDIO_MODES[mode].vocoder
    assert math.prod(vocoder["upsample_rates"]) == autoencoder["hop_length"]
    assert all(vocoder[name] == autoencoder[name] for name in ("sampling_rate", "num_mels"))


@pytest.mark.parametrize("mode, latent_rate", [("16k", 31.25), ("44k", 43.06640625)])
def test_the_models_make_the_latents_that_an_audio_mode_promises(mode, latent_rate):
    mode = AUDIO_MODES[mode]
    audio_vae = AutoencoderMMAudio(**mode.autoencoder, hidden_channels=8)
    assert audio_vae.samples_per_latent == mode.samples_per_latent
    assert mode.audio_latent_rate == latent_rate == audio_vae.config.sampling_rate / audio_vae.samples_per_latent
    assert mode.transformer["audio_in_channels"] == audio_vae.config.latent_channels


def test_defaults_of_the_classes_are_rows_of_the_table():
    for cls, arguments in (
        (AutoencoderMMAudio, AUDIO_MODES["16k"].autoencoder),
        (BigVGANVocoder, AUDIO_MODES["16k"].vocoder),
        (GriffinLimVocoder, AUDIO_MODES["16k"].autoencoder),
        (JoVATransformer3DModel, AUDIO_MODES["44k"].transformer),
    ):
        known = {name: value for name, value in defaults(cls).items() if name in arguments and value is not None}
        assert as_json(known) == as_json({name: arguments[name] for name in known}) != {}, cls.__name__


def test_the_tables_need_no_torch():
    code = "import sys, diffusers_jova.presets, diffusers_jova.pipeline_folder; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_presets_are_arguments_of_the_transformer():
    for name, preset in PRESETS.items():
        assert preset.keys() <= defaults(JoVATransformer3DModel).keys(), name
