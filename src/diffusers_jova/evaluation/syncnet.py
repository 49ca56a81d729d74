# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""SyncNet ("Out of time", Chung and Zisserman 2016): how well lips follow the audio, LSE-C and LSE-D.

The network under the names of `syncnet_v2.model`, the MFCCs that it was trained on, and the score over 31 offsets.
"""
# N frames at 25 fps, W = N - 5 windows of 5 frames, D = 1024 features, K = 31 offsets

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.fft import dct
from torch import nn
from torch.nn import functional as F

from .checkpoints import load_weights


FRAME_RATE, SAMPLING_RATE = 25, 16000
SAMPLES_PER_FRAME = SAMPLING_RATE // FRAME_RATE
WINDOW = 5  # frames
MFCCS_PER_FRAME = 4
MAX_OFFSET = 15  # frames, to either side
MIN_FRAMES = WINDOW + 1
DISTANCE_EPS = 1e-6  # added to each difference, as PyTorch's pairwise distance does

FRAME_S, STEP_S, NUM_FFT, NUM_FILTERS, NUM_CEPSTRA, PREEMPHASIS, LIFTER = 0.025, 0.01, 512, 26, 13, 0.97, 22


@dataclass(frozen=True)
class SyncScore:
    """How lips and audio agree over a clip.

    Attributes:
        lse_d: the smallest mean distance ("Min dist"); less is better.
        lse_c: the median over offsets minus the smallest ("Confidence"); more is better.
        offset: frames at 25 fps by which the audio has to be shifted; 0 in sync.
        mean_distances: (K,), for offsets of 15, 14, ... -15 frames.
    """

    lse_c: float
    lse_d: float
    offset: int
    mean_distances: np.ndarray


class SyncNet(nn.Module):
    """Two stacks that map 0.2 s of lips and of audio to features that lie close when they belong together."""

    def __init__(self, num_features: int = 1024):
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_convolution(nn.Conv2d(1, 64, 3, padding=1)),
            nn.MaxPool2d(1, 1),
            *_convolution(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, stride=(1, 2)),
            *_convolution(nn.Conv2d(192, 384, 3, padding=1)),
            *_convolution(nn.Conv2d(384, 256, 3, padding=1)),
            *_convolution(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, stride=2),
            *_convolution(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netfcaud = _head(num_features)
        self.netcnnlip = nn.Sequential(
            *_convolution(nn.Conv3d(3, 96, (5, 7, 7), stride=(1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_convolution(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),
            *_convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),
            *_convolution(nn.Conv3d(256, 512, (1, 6, 6))),
        )
        self.netfclip = _head(num_features)

    def audio_features(self, mfccs: torch.Tensor) -> torch.Tensor:
        """Return the features (W, D) of audio, (W, 1, 13, 20): 13 coefficients at 20 times."""
        return self.netfcaud(self.netcnnaud(mfccs).flatten(1))

    def lip_features(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the features (W, D) of lips, (W, 3, 5, 224, 224): five frames, BGR in 0...255."""
        return self.netfclip(self.netcnnlip(frames).flatten(1))


def load_syncnet(state_dict: Mapping[str, torch.Tensor]) -> SyncNet:
    """Return the network with the weights of `syncnet_v2.model`.

    Raises:
        ValueError: if these are other weights.
    """
    return load_weights(SyncNet(), state_dict, "SyncNet")


@torch.no_grad()
def score_faces(network: SyncNet, faces: np.ndarray, waveform: np.ndarray, batch_size: int = 20) -> SyncScore | None:
    """Return how the lips in images of one face follow the audio; None for fewer than six frames of both.

    Args:
        faces: (N, 224, 224, 3) uint8, RGB, at 25 fps, cut as `face_tracks` does.
        waveform: int16 (samples,) at 16 kHz, beginning with the first face.
    """
    num_windows = min(len(faces), len(waveform) // SAMPLES_PER_FRAME) - WINDOW
    if num_windows < 1:
        return None
    device = next(network.parameters()).device
    # (N, 224, 224, 3) RGB -> (W, 3, 5, 224, 224) BGR, (samples,) -> (W, 1, 13, 20): views, copied batch by batch
    lips = torch.from_numpy(faces).flip(-1).unfold(0, WINDOW, 1).permute(0, 3, 4, 1, 2)
    audio = torch.from_numpy(mfcc(waveform)).float().T[None, None]
    audio = audio.unfold(3, WINDOW * MFCCS_PER_FRAME, MFCCS_PER_FRAME)[0].transpose(0, 2).transpose(1, 2)
    lip_features, audio_features = [], []
    for start in range(0, num_windows, batch_size):
        batch = slice(start, min(start + batch_size, num_windows))
        lip_features.append(network.lip_features(lips[batch].to(device, torch.float32)))
        audio_features.append(network.audio_features(audio[batch].to(device)))
    return sync_score(torch.cat(lip_features).cpu(), torch.cat(audio_features).cpu())


def sync_score(lip_features: torch.Tensor, audio_features: torch.Tensor, max_offset: int = MAX_OFFSET) -> SyncScore:
    """Return the score of features (W, D) of windows that begin together.

    d(i, k) = |lip_i - audio_(i + k - max_offset) + 1e-6|, with zeros beyond the ends of the audio; the mean over i of
    each of the 2 max_offset + 1 offsets k is compared.
    """
    distances = window_distances(lip_features, audio_features, max_offset).mean(dim=0)
    smallest, index = distances.min(dim=0)
    return SyncScore(
        lse_c=float(distances.median() - smallest),
        lse_d=float(smallest),
        offset=max_offset - int(index),
        mean_distances=distances.numpy(),
    )


def window_distances(lip_features: torch.Tensor, audio_features: torch.Tensor, max_offset: int) -> torch.Tensor:
    """Return d(i, k), (W, 2 max_offset + 1), of `sync_score`."""
    padded = F.pad(audio_features, (0, 0, max_offset, max_offset))
    shifted = padded.unfold(0, len(lip_features), 1)  # (K, D, W)
    return torch.stack([(lip_features.T - audio + DISTANCE_EPS).norm(dim=0) for audio in shifted], dim=1)


def mfcc(waveform: np.ndarray, sampling_rate: int = SAMPLING_RATE) -> np.ndarray:
    """Return 13 mel-frequency cepstral coefficients each 10 ms, (T, 13) float64; the first is the log energy.

    Windows of 25 ms without a taper over a signal with pre-emphasis, 26 triangles between 0 Hz and half the rate: the
    defaults of python_speech_features, on which SyncNet was trained.

    Args:
        waveform: (samples,) int16, or values of that scale.
    """
    signal = waveform.astype(np.float64)
    signal = np.concatenate([signal[:1], signal[1:] - PREEMPHASIS * signal[:-1]])
    length, step = round(FRAME_S * sampling_rate), round(STEP_S * sampling_rate)
    num_frames = 1 + max(0, -(-(len(signal) - length) // step))  # the last one is filled up with zeros
    signal = np.pad(signal, (0, max(0, (num_frames - 1) * step + length - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, length)[::step][:num_frames]

    power = np.abs(np.fft.rfft(frames, NUM_FFT)) ** 2 / NUM_FFT
    mel_energies = power @ _mel_triangles(sampling_rate).T
    cepstra = dct(np.log(_positive(mel_energies)), type=2, norm="ortho")[:, :NUM_CEPSTRA]
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(NUM_CEPSTRA) / LIFTER)
    cepstra[:, 0] = np.log(_positive(power.sum(axis=1)))
    return cepstra


def _positive(values: np.ndarray) -> np.ndarray:
    return np.where(values == 0, np.finfo(np.float64).eps, values)


def _mel_triangles(sampling_rate: int) -> np.ndarray:
    """Return (26, 257): triangles whose corners lie on bins of the spectrum, equally far apart in mel."""
    mel = np.linspace(0, 2595 * np.log10(1 + sampling_rate / 2 / 700), NUM_FILTERS + 2)
    corners = np.floor((NUM_FFT + 1) * 700 * (10 ** (mel / 2595) - 1) / sampling_rate)
    bins = np.arange(NUM_FFT // 2 + 1)
    triangles = np.zeros((NUM_FILTERS, len(bins)))
    for triangle, (low, middle, high) in zip(triangles, zip(corners, corners[1:], corners[2:])):
        rising, falling = (bins >= low) & (bins < middle), (bins >= middle) & (bins < high)
        triangle[rising] = (bins[rising] - low) / (middle - low)
        triangle[falling] = (high - bins[falling]) / (high - middle)
    return triangles


def _convolution(layer: nn.Conv2d | nn.Conv3d) -> list[nn.Module]:
    norm = nn.BatchNorm3d if isinstance(layer, nn.Conv3d) else nn.BatchNorm2d
    return [layer, norm(layer.out_channels), nn.ReLU()]


def _head(num_features: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, num_features))
