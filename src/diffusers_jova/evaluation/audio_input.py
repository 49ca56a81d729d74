# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A clip's audio as the measuring networks take it: one channel, their rate, their loudness."""

import math

import numpy as np
import torch
from torch.nn import functional as F


RESAMPLING_WIDTH, ROLLOFF = 6, 0.99  # zero crossings to either side; of the lower rate's half
AV_BENCHMARK_S = 8.0


def mono(waveform: np.ndarray) -> np.ndarray:
    """Return the mean of the channels, (samples,) float32, of (channels, samples) or (samples,)."""
    waveform = np.asarray(waveform, np.float32)
    return waveform if waveform.ndim == 1 else waveform.mean(axis=0)


def is_silent(waveform: np.ndarray | None) -> bool:
    """Return whether there is no audio, or nothing but zeros."""
    return waveform is None or not np.any(waveform)


def resample(waveform: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Return a waveform (..., samples) at another rate, by a sinc with a Hann window, as torchaudio does.

    h(t) = sinc(f t) cos^2(pi f t / 12) for |f t| <= 6, with f = 0.99 of the lower rate.
    """
    divisor = math.gcd(rate, target_rate)
    rate, target_rate = rate // divisor, target_rate // divisor
    if rate == target_rate:
        return waveform
    cutoff = min(rate, target_rate) * ROLLOFF
    width = math.ceil(RESAMPLING_WIDTH * rate / cutoff)
    # one filter per output phase, over the input samples around it
    taps = torch.arange(-width, width + rate, dtype=torch.float64) / rate
    phases = torch.arange(target_rate, dtype=torch.float64) / target_rate
    crossings = ((taps - phases[:, None]) * cutoff).clamp(-RESAMPLING_WIDTH, RESAMPLING_WIDTH)
    window = torch.cos(crossings * math.pi / RESAMPLING_WIDTH / 2) ** 2
    kernel = (torch.sinc(crossings) * window * cutoff / rate).float()

    samples = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))
    padded = F.pad(samples.reshape(-1, 1, samples.shape[-1]), (width, width + rate))
    resampled = F.conv1d(padded, kernel[:, None], stride=rate).transpose(1, 2).flatten(1)
    num_samples = -(-target_rate * samples.shape[-1] // rate)
    return resampled[:, :num_samples].reshape(*samples.shape[:-1], num_samples).numpy()


def peak_normalized(waveform: np.ndarray, peak_dbfs: float = -1.0) -> np.ndarray:
    """Return a waveform whose largest sample lies at `peak_dbfs`.

    Raises:
        ValueError: for silence, which no gain makes louder; see `is_silent`.
    """
    if is_silent(waveform):
        raise ValueError("Silence has no peak to normalise; leave the clip out, with the status `silent`.")
    return waveform * (10 ** (peak_dbfs / 20) / np.abs(waveform).max())


def av_benchmark_audio(
    waveform: np.ndarray, rate: int, target_rate: int, seconds: float = AV_BENCHMARK_S
) -> np.ndarray:
    """Return audio (samples,) as av-benchmark feeds its networks: one channel minus its mean, resampled, then cut."""
    waveform = mono(waveform)
    return resample(waveform - waveform.mean(), rate, target_rate)[: int(target_rate * seconds)]


def int16_round_trip(waveform: np.ndarray) -> np.ndarray:
    """Return a waveform after a round trip through 16 bits, cut towards zero, as LAION's CLAP was trained on."""
    return ((waveform.clip(-1, 1) * 32767.0).astype(np.int16) / 32767.0).astype(np.float32)
