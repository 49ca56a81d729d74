# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The vocoder without training: its waveform has the log-mel that it was made of."""

import pytest
import torch

from diffusers_jova import AutoencoderMMAudio, GriffinLimVocoder


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    """Half a second of a gliding tone with harmonics between two silences."""
    time = torch.arange(8192) / 16000
    phase = 2 * torch.pi * (180 * time + 200 * time**2)
    loudness = (torch.sin(2 * torch.pi * 2 * time) > 0) * 0.1
    return (loudness * sum(torch.sin(k * phase) / k for k in range(1, 8)))[None]


@pytest.fixture(scope="module")
def log_mel(sound) -> torch.Tensor:
    return AutoencoderMMAudio(hidden_channels=8).mel_spectrogram(sound)


def test_the_waveform_has_the_mel_that_it_was_made_of(sound, log_mel):
    waveform = GriffinLimVocoder()(log_mel)
    assert waveform.shape == (1, 1, sound.shape[1]) and waveform.abs().max() <= 1
    again = AutoencoderMMAudio(hidden_channels=8).mel_spectrogram(waveform[:, 0])
    unfinished = GriffinLimVocoder(num_iterations=0)(log_mel)
    before = AutoencoderMMAudio(hidden_channels=8).mel_spectrogram(unfinished[:, 0])
    assert (again - log_mel).abs().mean() < 0.22 < 0.4 < (before - log_mel).abs().mean()


def test_silence_stays_silent():
    waveform = GriffinLimVocoder()(torch.full((2, 80, 20), -5.0))
    assert waveform.abs().max() < 1e-3


def test_it_is_deterministic_and_each_sample_is_its_own(log_mel):
    vocoder = GriffinLimVocoder(num_iterations=4)
    both = vocoder(torch.cat([log_mel, log_mel.flip(2)]))
    assert torch.allclose(both[:1], vocoder(log_mel), atol=1e-5)


def test_it_is_saved_and_loaded(tmp_path, log_mel):
    vocoder = GriffinLimVocoder(num_iterations=4)
    vocoder.save_pretrained(tmp_path)
    assert torch.equal(GriffinLimVocoder.from_pretrained(tmp_path)(log_mel), vocoder(log_mel))
    half = GriffinLimVocoder.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half(log_mel).dtype == torch.bfloat16


@pytest.mark.parametrize("shape", [(80, 20), (1, 40, 20), (1, 80, 0)])
def test_a_wrong_shape_is_refused(shape):
    with pytest.raises(ValueError, match=r"`log_mel` must be \(batch, 80 mel bands, frames\)"):
        GriffinLimVocoder()(torch.zeros(shape))
