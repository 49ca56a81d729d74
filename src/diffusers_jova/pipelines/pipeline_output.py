# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import PIL.Image
import torch
from diffusers.utils import BaseOutput


@dataclass
class JoVAPipelineOutput(BaseOutput):
    """What `JoVAPipeline` returns. A modality that was not asked for is None.

    Args:
        frames: One video per sample: a list of lists of PIL images, an array `(B, num_frames, H, W, 3)` in [0, 1]
            ("np"), a tensor `(B, num_frames, 3, H, W)` in [0, 1] ("pt"), or latents `(B, C, F, H, W)` ("latent").
        audio: Waveforms `(B, N)` in [-1, 1], N = round(num_frames / frame_rate · audio_sampling_rate): a tensor with
            "pt", an array with "pil" and "np"; latents `(B, C, A)` with "latent".
        audio_sampling_rate: Samples per second of `audio`.
        frame_rate: Frames per second of `frames`, as they were asked for; see `latents.exact_frame_rate`.
    """

    frames: torch.Tensor | np.ndarray | list[list[PIL.Image.Image]] | None = None
    audio: torch.Tensor | np.ndarray | None = None
    audio_sampling_rate: int | None = None
    frame_rate: float | Fraction | None = None
