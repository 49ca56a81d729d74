# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What is left of clips after a model's VAEs: the best that the video and audio of its LoRA can be.

The figures of the clips that a VAE was trained for are in metrics.json beside its weights: {"psnr_db": 34.2} for the
video, {"log_mel_error_db": 2.4} for the audio.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..latents import nearest_num_frames
from ..mouth import to_frames, to_pixels
from .windows import Window


NUM_CLIPS = 4
MAX_FRAMES = 17  # the beginning of a clip is enough, and decoding is the slowest step
PART_OF = {"psnr_db": "vae", "log_mel_error_db": "audio_vae"}

AUDIBLE_DB = 60

FAR_PSNR_DB = 6  # below the model's own: an error twice as large
POOR_PSNR_DB = 20  # where the model has no figure of its own: faces are not recognised any more
FAR_ERROR = 2  # times the model's own


@dataclass
class RoundTrip:
    """Figures of a few clips, and of the model's own.

    Attributes:
        clips: by name, {"psnr_db", "log_mel_error_db"} by the digest of the window, as far as they were measured.
        own: the means of the model's own clips, where it says them.
    """

    clips: dict[str, dict[str, float]] = field(default_factory=lambda: {name: {} for name in PART_OF})
    own: dict[str, float] = field(default_factory=dict)

    def mean(self, name: str) -> float | None:
        values = list(self.clips[name].values())
        return float(np.mean(values)) if values else None

    def lines(self) -> list[str]:
        """Return what was measured, as a text."""
        return [
            f"  {what} after the model's {PART_OF[name]}: {self.mean(name):.1f} dB {unit} of {len(self.clips[name])} "
            f"clips{self._own(name)}"
            for name, what, unit in (
                ("psnr_db", "video", "PSNR"),
                ("log_mel_error_db", "audio", "mean error of the log-mel"),
            )
            if self.clips[name]
        ]

    def alarm(self) -> list[str]:
        """Return what is wrong: clips that the model's VAEs cannot show."""
        lines, psnr_db, error_db = [], self.mean("psnr_db"), self.mean("log_mel_error_db")
        least_db = self.own.get("psnr_db", POOR_PSNR_DB + FAR_PSNR_DB) - FAR_PSNR_DB
        if psnr_db is not None and psnr_db < least_db:
            lines.append(
                f"this model's VAE cannot show these clips: they come back at {psnr_db:.1f} dB"
                f"{self._own('psnr_db')}. A LoRA will not look like them: use a model whose VAE knows such images"
            )
        if error_db is not None and error_db > FAR_ERROR * self.own.get("log_mel_error_db", np.inf):
            lines.append(
                f"this model's audio VAE cannot play these clips: their log-mel comes back {error_db:.1f} dB off"
                f"{self._own('log_mel_error_db')}. A LoRA will not sound like them"
            )
        return lines

    def _own(self, name: str) -> str:
        return f" (the model's own clips: {self.own[name]:.1f} dB)" if name in self.own else ""


def read_own_figures(model: Path) -> dict[str, float]:
    """Return what the VAEs in a pipeline's folder say about their own clips."""
    own = {}
    for name, part in PART_OF.items():
        try:
            own[name] = float(json.loads((model / part / "metrics.json").read_text(encoding="utf-8"))[name])
        except (OSError, ValueError, KeyError, TypeError):  # models of others have none
            continue
    return own


def choose_clips(windows: Iterable[Window]) -> list[Window]:
    """Return a few windows, the same ones each time: those whose digests come first."""
    return sorted(windows, key=lambda window: window.digest)[:NUM_CLIPS]


@torch.no_grad()
def decode_again(vae: Any, frames: np.ndarray) -> np.ndarray:
    """Return frames (N, height, width, 3) uint8 after encoding and decoding them."""
    latents = vae.encode(to_pixels(frames).to(vae.device, vae.dtype)).latent_dist.mode()
    return to_frames(vae.decode(latents).sample)


def video_psnr(vae: Any, frames: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio, in dB, of the beginning of a clip after encoding and decoding it."""
    frames = frames[: nearest_num_frames(min(len(frames), MAX_FRAMES))[0]]
    error = np.square(decode_again(vae, frames).astype(np.float64) - frames).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-3)))


@torch.no_grad()
def log_mel_error(audio_vae: Any, waveform: np.ndarray) -> float:
    """Return the mean absolute error of the log-mel, in dB, of a waveform (num_samples,) after encoding and decoding.

    What is 60 dB below the loudest counts as silence, which nobody hears the error of. Frames of nothing else are left
    out: else a clip that is all speech would be worse than one with pauses.
    """
    missing = -len(waveform) % audio_vae.samples_per_latent
    samples = torch.from_numpy(np.pad(waveform, (0, missing)).astype(np.float32))[None].to(audio_vae.device)
    log_mel = audio_vae.mel_spectrogram(samples)
    decoded = audio_vae.decode(audio_vae.encode(samples).latent_dist.mode()).sample.float()
    db = 20 if audio_vae.config.log_base == "10" else 20 / np.log(10)  # of a unit of the log-mel
    num_frames, floor = min(log_mel.shape[-1], decoded.shape[-1]), log_mel.max() - AUDIBLE_DB / db
    before, after = (mel[..., :num_frames].clamp(min=floor) for mel in (log_mel, decoded))
    is_audible = (before > floor).any(dim=-2)
    return float((after - before).abs().mean(dim=-2)[is_audible].mean()) * db
