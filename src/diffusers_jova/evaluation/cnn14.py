# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Cnn14 of PANNs (arXiv:1912.10211): features and AudioSet classes of audio, for FD and IS.

Its checkpoints carry the Fourier and mel matrices of their front end.
"""
# B clips, T frames of 10 ms, M = 64 mels, C = 527 classes

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank
from transformers.initialization import no_init_weights

from .audio_input import av_benchmark_audio, is_silent
from .checkpoints import load_weights


FRONT_ENDS = {  # sampling rate: size of the Fourier transform, hop, lowest and highest frequency in Hz
    16000: (512, 160, 50, 8000),  # Cnn14_16k_mAP=0.438.pth
    32000: (1024, 320, 50, 14000),  # Cnn14_mAP=0.431.pth
}
NUM_MELS, NUM_CLASSES, NUM_FEATURES = 64, 527, 2048
MIN_POWER = 1e-10
MOVA_S = 10
WIDTHS = (64, 128, 256, 512, 1024, 2048)


class Spectrogram(nn.Module):
    """The power spectrum as a convolution, whose kernels are windowed waves."""

    def __init__(self, num_fft: int, hop: int):
        super().__init__()
        self.hop, self.padding = hop, num_fft // 2
        real, imaginary = (nn.Conv1d(1, num_fft // 2 + 1, num_fft, bias=False) for _ in range(2))
        angles = 2 * math.pi * torch.outer(torch.arange(num_fft // 2 + 1), torch.arange(num_fft)) / num_fft
        window = torch.hann_window(num_fft, dtype=torch.float64)
        with torch.no_grad():
            real.weight.copy_((window * angles.double().cos())[:, None])
            imaginary.weight.copy_((-window * angles.double().sin())[:, None])
        self.stft = nn.ModuleDict({"conv_real": real, "conv_imag": imaginary})

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        padded = F.pad(waveform[:, None], (self.padding, self.padding), mode="reflect")
        real, imaginary = (F.conv1d(padded, wave, stride=self.hop) for wave in self.stft.parameters())
        return (real.square() + imaginary.square()).transpose(1, 2)  # (B, T, bins)


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions, each with its norm, and a mean over `pool` x `pool` cells."""

    def __init__(self, in_channels: int, channels: int, pool: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.pool = pool

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = F.relu(self.bn1(self.conv1(hidden_states)))
        hidden_states = F.relu(self.bn2(self.conv2(hidden_states)))
        return F.avg_pool2d(hidden_states, self.pool)


class Cnn14(nn.Module):
    """Classes and features of audio.

    Args:
        sampling_rate: 16000 or 32000 Hz.
    """

    def __init__(self, sampling_rate: int):
        super().__init__()
        if sampling_rate not in FRONT_ENDS:
            raise ValueError(f"Cnn14 has weights for 16000 and 32000 Hz, not for {sampling_rate} Hz.")
        num_fft, hop, min_hz, max_hz = FRONT_ENDS[sampling_rate]
        self.sampling_rate = sampling_rate
        self.min_samples = hop * 2 ** (len(WIDTHS) - 1)  # five means over pairs of frames leave one
        self.spectrogram_extractor = Spectrogram(num_fft, hop)
        filters = mel_filter_bank(
            num_fft // 2 + 1, NUM_MELS, min_hz, max_hz, sampling_rate, norm="slaney", mel_scale="slaney"
        )
        self.logmel_extractor = nn.Module()
        self.logmel_extractor.melW = nn.Parameter(torch.from_numpy(filters).float())
        self.bn0 = nn.BatchNorm2d(NUM_MELS)
        for index, (in_channels, channels) in enumerate(zip((1, *WIDTHS), WIDTHS), start=1):
            self.add_module(f"conv_block{index}", ConvBlock(in_channels, channels, 1 if index == len(WIDTHS) else 2))
        self.fc1 = nn.Linear(NUM_FEATURES, NUM_FEATURES)
        self.fc_audioset = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def logmel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the mels (B, T, M) in dB of audio (B, samples)."""
        mel = self.spectrogram_extractor(waveform) @ self.logmel_extractor.melW
        return 10 * mel.clamp(min=MIN_POWER).log10()

    @torch.no_grad()
    def forward(self, waveform: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return `logits` (B, C) and the features `2048` (B, 2048) of audio (B, samples), `min_samples` or more."""
        hidden_states = self.logmel(waveform)[:, None]  # (B, 1, T, M)
        hidden_states = self.bn0(hidden_states.transpose(1, 3)).transpose(1, 3)
        for index in range(1, len(WIDTHS) + 1):
            hidden_states = self.get_submodule(f"conv_block{index}")(hidden_states)
        hidden_states = hidden_states.mean(dim=3)  # (B, 2048, T / 32)
        features = F.relu(self.fc1(hidden_states.amax(dim=2) + hidden_states.mean(dim=2)))
        return {"logits": self.fc_audioset(features), "2048": features}


def av_benchmark_output(
    network: Cnn14, waveform: np.ndarray | None, sampling_rate: int | None
) -> dict[str, torch.Tensor] | None:
    """Return av-benchmark's `logits` (C,) and features `2048` (2048,) of a clip: 8 s without their mean, not padded.

    Args:
        waveform: (channels, samples) or (samples,); None, silence and less than a third of a second return None.
    """
    if is_silent(waveform):
        return None
    return _output(network, av_benchmark_audio(waveform, sampling_rate, network.sampling_rate))


def mova_probabilities_of(network: Cnn14, waveform: np.ndarray | None) -> torch.Tensor | None:
    """Return the independent probabilities (C,) of a clip's classes as MOVA takes them: of 10 s, cut or filled up.

    Args:
        waveform: (samples,), one channel at the network's rate; None for none, which returns None, as silence does.
    """
    if is_silent(waveform):
        return None
    num_samples = MOVA_S * network.sampling_rate
    heard = waveform[:num_samples]
    return _output(network, np.pad(heard, (0, num_samples - len(heard))))["logits"].sigmoid()


def _output(network: Cnn14, heard: np.ndarray) -> dict[str, torch.Tensor] | None:
    if len(heard) < network.min_samples:
        return None
    samples = torch.from_numpy(heard.astype(np.float32))[None].to(network.bn0.weight.device)
    return {name: values[0].cpu() for name, values in network(samples).items()}


def load_cnn14(state_dict: Mapping[str, torch.Tensor], sampling_rate: int) -> Cnn14:
    """Return the network with the weights of `Cnn14_16k_mAP=0.438.pth` or `Cnn14_mAP=0.431.pth`.

    Raises:
        ValueError: if these are other weights, or those of the other sampling rate.
    """
    with no_init_weights():
        network = Cnn14(sampling_rate)
    return load_weights(network, state_dict, f"Cnn14 for {sampling_rate} Hz", r"\.stft\.|\.melW$")
