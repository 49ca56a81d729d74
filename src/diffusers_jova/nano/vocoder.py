# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training of a small BigVGAN on the spectral losses alone, without discriminators: minutes on two cores, not days."""

import numpy as np
import torch

from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.vocoder_bigvgan import BigVGANVocoder
from .autoencoders import optimize


VOCODER = {
    "upsample_rates": (8, 8, 2, 2),
    "upsample_kernel_sizes": (16, 16, 4, 4),
    "upsample_initial_channel": 128,
    "resblock_kernel_sizes": (3, 7),
    "resblock_dilation_sizes": ((1, 3), (1, 3)),
}
RESOLUTIONS = ((256, 64), (512, 128), (1024, 256))  # samples per Fourier window, and per step
SEGMENT = 32  # mel frames per training sample: half a second


def train_vocoder(
    audio_vae: AutoencoderMMAudio, waveforms: np.ndarray, num_steps: int, batch_size: int = 4, seed: int = 0
) -> BigVGANVocoder:
    """Return a vocoder trained on `waveforms` (N, samples) and what `audio_vae` leaves of their mels.

    What a transformer makes passes through the VAE's decoder, so half of the training does too.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vocoder = BigVGANVocoder(**VOCODER)
    hop_length = audio_vae.config.hop_length
    waveforms = torch.from_numpy(waveforms)

    def losses(step: int) -> dict[str, torch.Tensor]:
        sounds = waveforms[torch.from_numpy(rng.integers(len(waveforms), size=batch_size))]
        with torch.no_grad():
            log_mel = audio_vae.mel_spectrogram(sounds)
            if step % 2:
                log_mel = audio_vae.decode(audio_vae.encode_mel(log_mel).latent_dist.sample()).sample
        start = int(rng.integers(log_mel.shape[2] - SEGMENT + 1))
        sounds = sounds[:, start * hop_length : (start + SEGMENT) * hop_length]
        made = vocoder(log_mel[:, :, start : start + SEGMENT])[:, 0]
        mel_error = (audio_vae.mel_spectrogram(made) - audio_vae.mel_spectrogram(sounds)).abs().mean()
        return {"mel": 2 * mel_error, "spectrum": spectral_distance(made, sounds)}

    optimize(vocoder, losses, num_steps, learning_rate=1e-3)
    return vocoder


def spectral_distance(made: torch.Tensor, sounds: torch.Tensor) -> torch.Tensor:
    """Return spectral convergence plus the mean error of log magnitudes of waveforms (B, N)."""
    total = made.new_zeros(())
    for n_fft, hop_length in RESOLUTIONS:
        window = torch.hann_window(n_fft)
        a, b = (
            torch.stft(sound, n_fft, hop_length, window=window, return_complex=True).abs().clamp(min=1e-4)
            for sound in (made, sounds)
        )
        total = total + (a - b).norm() / b.norm().clamp(min=1e-3) + (a.log() - b.log()).abs().mean()
    return total / len(RESOLUTIONS)
