# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""S3FD, the face detector of the LSE protocols (arXiv:1708.05237), under the names of `sfd_face.pth`.

A dilated VGG16 with six heads on strides of 4 to 128 pixels, each with one square prior per cell, of 16 to 512 pixels.
"""
# B batch, H W rows and columns of the image, h w of a head, P priors; boxes are x1, y1, x2, y2

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .checkpoints import load_weights
from .pixels import resize_bilinear


MEAN_RGB = (123.0, 117.0, 104.0)
STRIDES = (4, 8, 16, 32, 64, 128)
PRIOR_SIZES = (16, 32, 64, 128, 256, 512)  # pixels of the image that the network sees
VARIANCES = (0.1, 0.2)
MIN_CONFIDENCE, MAX_OVERLAP, MAX_FACES = 0.05, 0.3, 750  # of the network's own selection
MAX_CANDIDATES = 5000
MIN_SIDE = 32  # pixels that five poolings turn into one
MAX_OVERLAP_IN_IMAGE = 0.1
VGG16 = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool", 512, 512, 512, "pool", 512, 512, 512, "pool")
TAPS = (15, 22, 29)  # layers of `vgg` after which conv3_3, conv4_3 and conv5_3 are read
HEAD_CHANNELS = (256, 512, 512, 1024, 512, 256)


class L2Norm(nn.Module):
    """Features of length one in each cell, times a learned factor per channel."""

    def __init__(self, num_channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(num_channels))

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        norm = hidden_states.square().sum(dim=1, keepdim=True).sqrt() + 1e-10
        return self.weight[:, None, None] * (hidden_states / norm)


class S3FD(nn.Module):
    """Finds faces in images, from 16 pixels of the size that the network is given."""

    def __init__(self):
        super().__init__()
        self.vgg = nn.ModuleList(_vgg_layers())
        self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3 = L2Norm(256), L2Norm(512), L2Norm(512)
        self.extras = nn.ModuleList(
            [
                nn.Conv2d(1024, 256, 1),
                nn.Conv2d(256, 512, 3, stride=2, padding=1),
                nn.Conv2d(512, 128, 1),
                nn.Conv2d(128, 256, 3, stride=2, padding=1),
            ]
        )
        self.loc = nn.ModuleList(nn.Conv2d(channels, 4, 3, padding=1) for channels in HEAD_CHANNELS)
        num_scores = (4, 2, 2, 2, 2, 2)  # the finest head has three scores for the background
        self.conf = nn.ModuleList(nn.Conv2d(c, n, 3, padding=1) for c, n in zip(HEAD_CHANNELS, num_scores))

    def features(self, hidden_states: torch.Tensor) -> list[torch.Tensor]:
        """Return the six maps (B, C, h, w) that the heads read."""
        maps = []
        for index, layer in enumerate(self.vgg):
            hidden_states = layer(hidden_states)
            if index in TAPS:
                norm = (self.L2Norm3_3, self.L2Norm4_3, self.L2Norm5_3)[TAPS.index(index)]
                maps.append(norm(hidden_states))
        maps.append(hidden_states)
        for index, layer in enumerate(self.extras):
            hidden_states = F.relu(layer(hidden_states))
            if index % 2:
                maps.append(hidden_states)
        return maps

    def raw(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return box offsets (P, 4), scores (P, 2) of background and face, and priors (P, 4), of one image.

        Args:
            pixels: (1, 3, H, W), RGB in 0...255 minus `MEAN_RGB`.
        """
        offsets, scores, priors = [], [], []
        for index, hidden_states in enumerate(self.features(pixels)):
            offset, score = self.loc[index](hidden_states), self.conf[index](hidden_states)
            if index == 0:
                score = torch.cat([score[:, :3].amax(dim=1, keepdim=True), score[:, 3:]], dim=1)
            offsets.append(offset[0].permute(1, 2, 0).reshape(-1, 4))
            scores.append(score[0].permute(1, 2, 0).reshape(-1, 2))
            priors.append(_priors(hidden_states.shape[2:], pixels.shape[2:], STRIDES[index], PRIOR_SIZES[index]))
        return torch.cat(offsets), torch.cat(scores), torch.cat(priors).to(pixels.device)

    @torch.no_grad()
    def detect(self, image: np.ndarray, min_confidence: float = 0.9, scale: float = 0.25) -> np.ndarray:
        """Return the faces in an image, (N, 5) float64: box in pixels and confidence, the surest first.

        Args:
            image: (H, W, 3) uint8, RGB.
            scale: at which the network sees it; at 0.25, faces from 64 pixels are found.
        """
        height, width = image.shape[:2]
        if min(height, width) * scale < MIN_SIDE:
            raise ValueError(
                f"S3FD at {scale} of the size needs images of {MIN_SIDE / scale:g} pixels or more to each side, "
                f"got {width} x {height}: take a larger `scale`."
            )
        device = self.L2Norm3_3.weight.device
        pixels = torch.from_numpy(scaled(image, scale)).to(device, torch.float32)
        pixels = (pixels - torch.tensor(MEAN_RGB, device=device)).permute(2, 0, 1)[None]
        faces = select_faces(*(values.cpu() for values in self.raw(pixels)))  # a loop over few boxes
        faces = faces[faces[:, 0] > min_confidence]
        boxes = (faces[:, 1:] * torch.tensor([width, height, width, height])).numpy().astype(np.float64)
        found = np.concatenate([boxes, faces[:, :1].numpy()], axis=1)
        return found[non_maximum_suppression(torch.from_numpy(found[:, :4]), MAX_OVERLAP_IN_IMAGE)]


def load_s3fd(state_dict: Mapping[str, torch.Tensor]) -> S3FD:
    """Return the detector with the weights of `sfd_face.pth`.

    Raises:
        ValueError: if these are other weights.
    """
    return load_weights(S3FD(), state_dict, "S3FD")


def select_faces(offsets: torch.Tensor, scores: torch.Tensor, priors: torch.Tensor) -> torch.Tensor:
    """Return the faces (N, 5) of the network's outputs: confidence and box, of 1, the surest first."""
    confidences = scores.softmax(dim=-1)[:, 1]
    centres = priors[:, :2] + offsets[:, :2] * VARIANCES[0] * priors[:, 2:]
    sizes = priors[:, 2:] * torch.exp(offsets[:, 2:] * VARIANCES[1])
    corners = centres - sizes / 2
    boxes = torch.cat([corners, sizes + corners], dim=1)
    candidates = (confidences > MIN_CONFIDENCE).nonzero()[:, 0]
    candidates = candidates[confidences[candidates].argsort(descending=True, stable=True)[:MAX_CANDIDATES]]
    kept = candidates[non_maximum_suppression(boxes[candidates], MAX_OVERLAP)[:MAX_FACES]]
    return torch.cat([confidences[kept, None], boxes[kept]], dim=1)


def non_maximum_suppression(boxes: torch.Tensor, max_overlap: float) -> list[int]:
    """Return which boxes (N, 4), the surest first, overlap none of the kept ones before by an IoU above the limit."""
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
    remaining, kept = torch.arange(len(boxes), device=boxes.device), []
    while len(remaining):
        best, remaining = remaining[0], remaining[1:]
        kept.append(int(best))
        corners = (
            torch.maximum(boxes[remaining, :2], boxes[best, :2]),
            torch.minimum(boxes[remaining, 2:], boxes[best, 2:]),
        )
        shared = (corners[1] - corners[0]).clamp(min=0).prod(dim=1)
        overlaps = shared / (areas[remaining] - shared + areas[best])
        remaining = remaining[overlaps <= max_overlap]
    return kept


def scaled(image: np.ndarray, scale: float) -> np.ndarray:
    """Return the image (H, W, C) uint8 times `scale`, with the rounding of OpenCV."""
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    return resize_bilinear(image, height, width, step=(1 / scale, 1 / scale))


def _vgg_layers() -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 3
    for width in VGG16:
        if isinstance(width, str):  # "pool"
            # the third pool rounds up: odd sizes then give the grid that the weights were trained with
            layers.append(nn.MaxPool2d(2, 2, ceil_mode=sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 2))
        else:
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    dilated = [nn.Conv2d(512, 1024, 3, padding=6, dilation=6), nn.ReLU(), nn.Conv2d(1024, 1024, 1), nn.ReLU()]
    return layers + dilated


def _priors(map_size, image_size, stride: int, prior_size: int) -> torch.Tensor:
    """Return (h * w, 4): centre and size of each cell's prior, x before y, in parts of the image."""
    (rows, columns), (height, width) = map_size, image_size
    y, x = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
    centres = torch.stack([x * stride / width, y * stride / height], dim=-1).reshape(-1, 2)
    return torch.cat([centres, torch.tensor([prior_size / width, prior_size / height]).expand(len(centres), 2)], dim=1)
