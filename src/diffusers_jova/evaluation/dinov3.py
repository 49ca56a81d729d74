# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""ID: how much each frame looks like the reference image to DINOv3 (arXiv:2508.10104)."""
# N images, D features; tokens: one for the image, registers, then patches row by row

import os
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional as F
from transformers import DINOv3ViTModel

from .measurement import Measurement, Status


SIZE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PROTOCOLS = ("patch", "cls", "patchmean")


class Dino:
    """Looks at images with a DINOv3 vision transformer."""

    def __init__(self, model: DINOv3ViTModel):
        self.model = model.eval().requires_grad_(False)

    @classmethod
    def from_folder(cls, folder: str | os.PathLike, device: str | torch.device = "cpu") -> "Dino":
        """Return the model of a folder such as `dinov3-vitl16-pretrain-lvd1689m`; nothing is downloaded."""
        model = DINOv3ViTModel.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        return cls(model.to(device))

    @torch.no_grad()
    def features(self, images: np.ndarray | Sequence[np.ndarray], batch_size: int = 8) -> dict[str, torch.Tensor]:
        """Return the features (N, D) of images (H, W, 3) uint8, RGB, for each protocol.

        `patch`, Verse-Bench's, is the last token but one: the patch left of the bottom right corner. `cls` is the
        token of the whole image, `patchmean` the mean of all patches.
        """
        found: dict[str, list[torch.Tensor]] = {protocol: [] for protocol in PROTOCOLS}
        first_patch = 1 + self.model.config.num_register_tokens
        for start in range(0, len(images), batch_size):
            batch = torch.stack([dino_pixels(image) for image in images[start : start + batch_size]])
            tokens = self.model(batch.to(self.model.device)).last_hidden_state.cpu()
            found["patch"].append(tokens[:, -2])
            found["cls"].append(tokens[:, 0])
            found["patchmean"].append(tokens[:, first_patch:].mean(dim=1))
        return {protocol: torch.cat(parts) for protocol, parts in found.items()}


def dino_pixels(image: np.ndarray) -> torch.Tensor:
    """Return an image (H, W, 3) uint8 as the network sees it, (3, 224, 224): squeezed to a square, normalised."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() / 255
    pixels = F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)[0]
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def measure_identity(
    network: Dino, frames: np.ndarray, reference: np.ndarray | None, protocol: str = "patch"
) -> Measurement:
    """Return ID of a clip: the mean over frames of the cosine between a frame's features and the reference's.

    A clip that stands still has a high one: read it beside the motion. `details` holds the other protocols' values.

    Args:
        frames: (M, H, W, 3) uint8, RGB.
        reference: (H', W', 3) uint8, RGB, of any size; None gives the status `no_reference`.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    if reference is None:
        return Measurement(Status.NO_REFERENCE)
    seen, wanted = network.features(frames), network.features([reference])
    values = {
        name: float(F.cosine_similarity(seen[name].double(), wanted[name].double()).mean()) for name in PROTOCOLS
    }
    return Measurement(Status.OK, {"ID": values[protocol]}, values)
