# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""PaSST (arXiv:2110.05069): AudioSet classes of audio, for KL against a reference.

`passt_s_swa_p16_128_ap476` under the names of its file, and its mels.
"""
# B clips, T frames of 10 ms, M = 128 mels, D = 768, C = 527 classes; f t rows and columns of patches

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers.audio_utils import mel_filter_bank
from transformers.initialization import no_init_weights

from .audio_input import av_benchmark_audio, is_silent, peak_normalized
from .checkpoints import load_weights
from .distributions import kl_of_logits
from .measurement import Measurement, Status
from .vit_block import Block


SAMPLING_RATE = 32000
PREEMPHASIS, NUM_FFT, WINDOW, HOP, NUM_MELS, MAX_HZ = 0.97, 1024, 800, 320, 128, 15000
SIZE, DEPTH, NUM_HEADS, NUM_CLASSES = 768, 12, 12, 527
PATCH, STRIDE = 16, 10
GRID = (12, 99)  # rows and columns of patches in 10 s

MAX_SAMPLES = 10 * SAMPLING_RATE
MIN_SAMPLES = PATCH * HOP  # one patch: PATCH frames
VERSE_HOP = 5 * SAMPLING_RATE
VERSE_MIN_PADDED = int(1.5 * SAMPLING_RATE)  # a shorter window is heard as it is: filled up it would be mostly silence
VERSE_EPS = 1e-6
PROTOCOLS = ("passt-verse", "passt-avb", "panns-avb")


class PaSST(nn.Module):
    """A vision transformer over overlapping patches of a mel spectrogram, with two class tokens."""

    window: torch.Tensor
    filters: torch.Tensor

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, SIZE))
        self.dist_token = nn.Parameter(torch.zeros(1, 1, SIZE))
        self.new_pos_embed = nn.Parameter(torch.zeros(1, 2, SIZE))  # of the class tokens
        self.freq_new_pos_embed = nn.Parameter(torch.zeros(1, SIZE, GRID[0], 1))
        self.time_new_pos_embed = nn.Parameter(torch.zeros(1, SIZE, 1, GRID[1]))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, SIZE, PATCH, stride=STRIDE)})
        self.blocks = nn.ModuleList(Block(SIZE, NUM_HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(SIZE, eps=1e-6)
        self.head = nn.Sequential(nn.LayerNorm(SIZE, eps=1e-5), nn.Linear(SIZE, NUM_CLASSES))
        self.head_dist = nn.Linear(
            SIZE, NUM_CLASSES
        )  # in the file, but of no use: one head sees the mean of both tokens
        self.register_buffer("window", torch.hann_window(WINDOW, periodic=False), persistent=False)
        self.register_buffer("filters", _mel_filters(), persistent=False)

    def mel(self, waveform: torch.Tensor) -> torch.Tensor:
        """Return the normalised log-mels (B, M, T) of audio (B, samples) at 32 kHz."""
        waveform = waveform[:, 1:] - PREEMPHASIS * waveform[:, :-1]  # one sample less
        spectrum = torch.stft(waveform, NUM_FFT, HOP, WINDOW, window=self.window, return_complex=True)
        mel = self.filters @ spectrum.abs().square()
        return ((mel + 1e-5).log() + 4.5) / 5

    @torch.no_grad()
    def forward(self, waveform: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (B, C) and features (B, D) of audio (B, samples) at 32 kHz, of 10 s at most."""
        patches = self.patch_embed["proj"](self.mel(waveform)[:, None])  # (B, D, f, t)
        patches = patches + self.time_new_pos_embed[..., : patches.shape[-1]] + self.freq_new_pos_embed
        tokens = torch.cat([self.cls_token, self.dist_token], dim=1) + self.new_pos_embed
        hidden_states = torch.cat([tokens.expand(len(patches), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        for block in self.blocks:
            hidden_states = block(hidden_states)
        features = self.norm(hidden_states[:, :2]).mean(dim=1)
        return self.head(features), features


def load_passt(state_dict: Mapping[str, torch.Tensor]) -> PaSST:
    """Return the network with the weights of `passt-s-f128-p16-s10-ap.476-swa.pt`.

    Raises:
        ValueError: if these are other weights.
    """
    with no_init_weights():
        network = PaSST()
    return load_weights(network, state_dict, "PaSST")


def verse_windows(waveform: np.ndarray) -> list[np.ndarray]:
    """Return the windows that Verse-Bench hears of audio (samples,) at 32 kHz: 10 s, one each 5 s.

    The last one is filled up with zeros, unless it has no more than 1.5 s. A clip too short for a single patch, on
    which Verse-Bench fails, is filled up to one.
    """
    windows = []
    for start in range(0, max(VERSE_HOP, len(waveform) - VERSE_HOP), VERSE_HOP):
        window = waveform[start : start + MAX_SAMPLES]
        if VERSE_MIN_PADDED < len(window) < MAX_SAMPLES:
            window = np.pad(window, (0, MAX_SAMPLES - len(window)))
        window = np.pad(window, (0, max(0, MIN_SAMPLES - len(window))))
        windows.append(window.astype(np.float32))
    return windows


def verse_logits(network: PaSST, waveform: np.ndarray | None) -> torch.Tensor | None:
    """Return Verse-Bench's logits (C,) of a clip: the mean over windows, at a peak of -1 dB; None for silence.

    Args:
        waveform: (samples,) float in [-1, 1], one channel at 32 kHz.
    """
    if is_silent(waveform):
        return None
    device = network.window.device
    windows = verse_windows(peak_normalized(waveform))
    return torch.cat([network(torch.from_numpy(window)[None].to(device))[0] for window in windows]).mean(dim=0).cpu()


def verse_kl(probabilities: torch.Tensor, reference: torch.Tensor) -> float:
    """Return Verse-Bench's KL(reference || generated) of probabilities (C,): sum p_ref (ln p_ref - ln(p + 1e-6))."""
    return float(F.kl_div((probabilities + VERSE_EPS).log(), reference, reduction="sum"))


def av_benchmark_output(
    network: PaSST, waveform: np.ndarray | None, sampling_rate: int | None
) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Return av-benchmark's logits (C,) and features (D,) of a clip: 8 s without their mean, filled up to 10 s.

    Args:
        waveform: (channels, samples) or (samples,); None for none, which returns None, as silence does.
    """
    if is_silent(waveform):
        return None
    heard = av_benchmark_audio(waveform, sampling_rate, SAMPLING_RATE)[:MAX_SAMPLES]
    heard = torch.from_numpy(np.pad(heard, (0, MAX_SAMPLES - len(heard))))[None].to(network.window.device)
    logits, features = network(heard)
    return logits[0].cpu(), features[0].cpu()


def measure_kl(
    logits: torch.Tensor | None, reference: torch.Tensor | None, protocol: str = "passt-verse"
) -> Measurement:
    """Return KL of a clip's classes against its reference's, of the logits (C,) of both.

    Args:
        protocol: "passt-verse", of `verse_logits`; "passt-avb", of `av_benchmark_output`, or "panns-avb", of Cnn14's.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    if reference is None:
        return Measurement(Status.NO_REFERENCE)
    if logits is None:
        return Measurement(Status.SILENT)
    if protocol == "passt-verse":
        return Measurement(Status.OK, {"KL": verse_kl(logits.softmax(dim=0), reference.softmax(dim=0))})
    return Measurement(Status.OK, {"KL": float(kl_of_logits(logits.numpy()[None], reference.numpy()[None])[0])})


def _mel_filters() -> torch.Tensor:
    """Return Kaldi's filters (M, 513): triangles on the mel axis; the last bin, at half the rate, is never heard."""
    filters = mel_filter_bank(
        NUM_FFT // 2 + 1, NUM_MELS, 0, MAX_HZ, SAMPLING_RATE, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    return torch.from_numpy(filters).float().T.contiguous()
