# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""AS: what three networks think of the images, and the first of them, a linear head on SigLIP's.

The head's names are those of `aesthetic_predictor_v2_5.pth`, which the user supplies. All runs in float32, where
Verse-Bench takes bfloat16.
"""
# N images, D = 1152 features

import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F
from transformers import SiglipVisionModel

from .checkpoints import load_weights
from .measurement import Measurement, Status


WIDTHS = (1152, 1024, 128, 64, 16, 1)
PREDICTOR_MAX, MUSIQ_MAX = 10, 100  # the top of their scales; MANIQA's is 1


class AestheticHead(nn.Module):
    """Five linear layers without anything between them, from an image's embedding to a score of 1 to 10."""

    def __init__(self):
        super().__init__()
        layers = []
        for width, next_width in zip(WIDTHS, WIDTHS[1:]):
            layers += [nn.Linear(width, next_width), nn.Identity()]  # where the trained one has dropout
        self.scoring_head = nn.Sequential(*layers[:-1])

    @torch.no_grad()
    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Return the scores (N, 1) of SigLIP's pooled embeddings (N, D), of any length."""
        return self.scoring_head(F.normalize(embeddings, dim=-1))


class AestheticPredictor:
    """Scores images with SigLIP and the head."""

    def __init__(self, siglip: SiglipVisionModel, head: AestheticHead):
        self.siglip, self.head = siglip.eval().requires_grad_(False), head
        self.size = siglip.config.image_size

    @classmethod
    def from_files(
        cls,
        siglip_folder: str | os.PathLike,
        head_weights: Mapping[str, torch.Tensor],
        device: str | torch.device = "cpu",
    ) -> "AestheticPredictor":
        """Return the predictor of a folder such as `siglip-so400m-patch14-384` and the head's weights.

        Nothing is downloaded.
        """
        siglip = SiglipVisionModel.from_pretrained(siglip_folder, local_files_only=True, dtype=torch.float32)
        return cls(siglip.to(device), load_aesthetic_head(head_weights).to(device))

    def pixels(self, frame: np.ndarray) -> torch.Tensor:
        """Return an image (H, W, 3) uint8 as SigLIP sees it, (3, 384, 384): squeezed to a square, in [-1, 1]."""
        resized = Image.fromarray(frame).resize((self.size, self.size), Image.Resampling.BICUBIC)
        return (torch.from_numpy(np.array(resized)).permute(2, 0, 1).float() / 255 - 0.5) / 0.5

    @torch.no_grad()
    def scores(self, frames: Sequence[np.ndarray], batch_size: int = 4) -> np.ndarray:
        """Return the score of each frame, (H, W, 3) uint8, RGB."""
        scores = []
        for start in range(0, len(frames), batch_size):
            batch = torch.stack([self.pixels(frame) for frame in frames[start : start + batch_size]])
            scores.append(self.head(self.siglip(batch.to(self.siglip.device)).pooler_output)[:, 0].cpu())
        return torch.cat(scores).numpy()


def load_aesthetic_head(state_dict: Mapping[str, torch.Tensor]) -> AestheticHead:
    """Return the head with the weights of `aesthetic_predictor_v2_5.pth`.

    Raises:
        ValueError: if these are other weights.
    """
    return load_weights(AestheticHead(), state_dict, "the aesthetic predictor 2.5")


def combine_aesthetics(predictor: np.ndarray, musiq: np.ndarray, maniqa: np.ndarray) -> Measurement:
    """Return AS = (A / 10 + MUSIQ / 100 + MANIQA) / 3 of a clip, each the mean over its frames.

    Args:
        predictor, musiq, maniqa: the scores of frames, (N,): of `AestheticPredictor.scores`, `musiq_scores` and
            `maniqa_scores`. One network at a time is enough.
    """
    parts = {
        "predictor": float(np.mean(predictor)) / PREDICTOR_MAX,
        "musiq": float(np.mean(musiq)) / MUSIQ_MAX,
        "maniqa": float(np.mean(maniqa)),
    }
    return Measurement(Status.OK, {"AS": sum(parts.values()) / len(parts)}, parts)
