# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A vocoder without training: the magnitudes that a log-mel stands for, and phases found by Griffin and Lim's method.

Griffin, Lim, "Signal estimation from modified short-time Fourier transform", 1984; with the momentum of Perraudin,
Balazs, Søndergaard, "A fast Griffin-Lim algorithm", 2013.
"""
# B batch, M mel bands, T mel frames, K Fourier bins, N samples

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from .autoencoder_mmaudio import mel_filterbank


class GriffinLimVocoder(ModelMixin, ConfigMixin):
    """`vocoder(log_mel)` is the waveform, for the log-mel of `AutoencoderMMAudio` with the same settings.

    It computes in float32 whatever its dtype. The same log-mel gives the same waveform: the first phases come from a
    fixed seed.

    Args:
        sampling_rate, n_fft, hop_length, num_mels, fmin, fmax, log_base: of the log-mel, see `AutoencoderMMAudio`.
        num_iterations: of Griffin and Lim's method.
        num_mel_iterations: of the multiplicative updates that make the magnitudes explain the mel.
        momentum: 0 is the method of 1984.
    """

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 256,
        num_mels: int = 80,
        fmin: float = 0.0,
        fmax: float | None = None,
        log_base: str = "10",
        num_iterations: int = 60,
        num_mel_iterations: int = 30,
        momentum: float = 0.99,
    ):
        super().__init__()
        fmax = sampling_rate / 2 if fmax is None else fmax
        # kept with the weights, so that the model has a dtype, a device and a file
        self.register_buffer("mel_basis", mel_filterbank(sampling_rate, n_fft, num_mels, fmin, fmax))  # (M, K)

    @torch.no_grad()
    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the waveform (B, 1, T · hop_length) in [-1, 1], in the model's dtype.

        Args:
            log_mel: (B, M, T).

        Raises:
            ValueError: not (B, M, T).
        """
        config = self.config
        if log_mel.ndim != 3 or log_mel.shape[1] != config.num_mels or log_mel.shape[2] == 0:
            raise ValueError(
                f"`log_mel` must be (batch, {config.num_mels} mel bands, frames), got {tuple(log_mel.shape)}."
            )
        with torch.autocast(log_mel.device.type, enabled=False):
            magnitude = self.magnitude(log_mel.float())
            generator = torch.Generator().manual_seed(0)
            angles = 2 * torch.pi * torch.rand(magnitude.shape[1:], generator=generator).to(magnitude)
            spectrum, previous = torch.polar(magnitude, angles.expand_as(magnitude).contiguous()), 0.0
            for _ in range(config.num_iterations):
                consistent = self.stft(self.istft(spectrum))
                leap = consistent + config.momentum * (consistent - previous)
                spectrum, previous = magnitude * leap / leap.abs().clamp(min=1e-9), consistent
            padding = (config.n_fft - config.hop_length) // 2
            waveform = self.istft(spectrum)[:, padding:-padding]
        return waveform[:, None].clamp(-1, 1).to(self.dtype)

    def magnitude(self, log_mel: Tensor) -> Tensor:
        """Return magnitudes (B, K, T), not negative, whose mel spectrum is that of `log_mel` (B, M, T)."""
        mel = 10**log_mel if self.config.log_base == "10" else log_mel.exp()
        basis = self.mel_basis.float()
        magnitude = (torch.linalg.pinv(basis) @ mel).clamp(min=1e-6)
        for _ in range(self.config.num_mel_iterations):  # Lee and Seung's update for squared error
            magnitude = magnitude * (basis.T @ mel) / (basis.T @ (basis @ magnitude)).clamp(min=1e-9)
        return magnitude

    def stft(self, waveform: Tensor) -> Tensor:
        """Return the spectrum (B, K, T) of a padded waveform, without further padding."""
        frames = waveform.unfold(-1, self.config.n_fft, self.config.hop_length) * self._window(waveform)
        return torch.fft.rfft(frames).transpose(1, 2)

    def istft(self, spectrum: Tensor) -> Tensor:
        """Return the waveform, padded, whose spectrum is nearest to `spectrum` (B, K, T)."""
        n_fft, hop_length = self.config.n_fft, self.config.hop_length
        window = self._window(spectrum.real)
        frames = torch.fft.irfft(spectrum.transpose(1, 2), n_fft) * window
        size = (1, (spectrum.shape[2] - 1) * hop_length + n_fft)
        options = {"output_size": size, "kernel_size": (1, n_fft), "stride": (1, hop_length)}
        sums = F.fold(frames.transpose(1, 2), **options)
        weights = F.fold((window**2).expand_as(frames).transpose(1, 2), **options)
        return (sums / weights.clamp(min=1e-4))[:, 0, 0]

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.config.n_fft, dtype=like.dtype, device=like.device)
