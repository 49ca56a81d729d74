# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""RAFT (arXiv:2003.12039): optical flow, and MS, the motion in a clip in pixels per frame.

The large network under the names of `raft-things.pth`. MS depends on the size and on the frame rate of a clip: print
both beside it.
"""
# B pairs, H W rows and columns of the image, h w of the features, an eighth; x comes before y in a flow

from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .checkpoints import load_weights
from .measurement import Measurement, Status
from .pixels import resize_bilinear


NUM_ITERATIONS = 20
HIDDEN_SIZE, CONTEXT_SIZE = 128, 128
NUM_LEVELS, RADIUS = 4, 4  # of the correlations: scales, and cells to each side
NUM_CORRELATIONS = NUM_LEVELS * (2 * RADIUS + 1) ** 2
MAX_SIDE = 640
MIN_SIDE = 128  # below it the coarsest correlations are one cell wide, and the original divides by zero
PROTOCOLS = ("verse", "native")


class ResidualBlock(nn.Module):
    """Two convolutions around which the input passes, at half the size with a stride of 2."""

    def __init__(self, in_channels: int, channels: int, norm: type[nn.Module], stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, stride=stride)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1, self.norm2 = norm(channels), norm(channels)
        self.downsample = None
        if stride != 1:
            self.norm3 = norm(channels)  # one module under two names: checkpoints hold it twice
            self.downsample = nn.Sequential(nn.Conv2d(in_channels, channels, 1, stride=stride), self.norm3)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        residual = hidden_states if self.downsample is None else self.downsample(hidden_states)
        hidden_states = F.relu(self.norm1(self.conv1(hidden_states)))
        hidden_states = F.relu(self.norm2(self.conv2(hidden_states)))
        return F.relu(residual + hidden_states)


class Encoder(nn.Module):
    """Features (B, C, h, w) of an image (B, 3, H, W)."""

    def __init__(self, channels: int, norm: type[nn.Module]):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 64, 7, stride=2, padding=3), norm(64)
        self.layer1 = nn.Sequential(ResidualBlock(64, 64, norm, 1), ResidualBlock(64, 64, norm, 1))
        self.layer2 = nn.Sequential(ResidualBlock(64, 96, norm, 2), ResidualBlock(96, 96, norm, 1))
        self.layer3 = nn.Sequential(ResidualBlock(96, 128, norm, 2), ResidualBlock(128, 128, norm, 1))
        self.conv2 = nn.Conv2d(128, channels, 1)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        hidden_states = F.relu(self.norm1(self.conv1(pixels)))
        return self.conv2(self.layer3(self.layer2(self.layer1(hidden_states))))


class MotionEncoder(nn.Module):
    """Features (B, 128, h, w) of the flow and of the correlations that it leads to."""

    def __init__(self):
        super().__init__()
        self.convc1 = nn.Conv2d(NUM_CORRELATIONS, 256, 1)
        self.convc2 = nn.Conv2d(256, 192, 3, padding=1)
        self.convf1 = nn.Conv2d(2, 128, 7, padding=3)
        self.convf2 = nn.Conv2d(128, 64, 3, padding=1)
        self.conv = nn.Conv2d(192 + 64, 128 - 2, 3, padding=1)

    def forward(self, flow: torch.Tensor, correlations: torch.Tensor) -> torch.Tensor:
        seen = F.relu(self.convc2(F.relu(self.convc1(correlations))))
        moved = F.relu(self.convf2(F.relu(self.convf1(flow))))
        return torch.cat([F.relu(self.conv(torch.cat([seen, moved], dim=1))), flow], dim=1)


class SeparableGRU(nn.Module):
    """A convolutional GRU over rows, then one over columns."""

    def __init__(self):
        super().__init__()
        channels = HIDDEN_SIZE + CONTEXT_SIZE + 128
        for index, (kernel, padding) in enumerate((((1, 5), (0, 2)), ((5, 1), (2, 0))), start=1):
            for gate in "zrq":
                self.add_module(f"conv{gate}{index}", nn.Conv2d(channels, HIDDEN_SIZE, kernel, padding=padding))

    def forward(self, state: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        for index in (1, 2):
            update, reset, candidate = (self.get_submodule(f"conv{gate}{index}") for gate in "zrq")
            both = torch.cat([state, inputs], dim=1)
            kept = torch.sigmoid(update(both))
            new = torch.tanh(candidate(torch.cat([torch.sigmoid(reset(both)) * state, inputs], dim=1)))
            state = (1 - kept) * state + kept * new
        return state


class FlowHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(HIDDEN_SIZE, 256, 3, padding=1), nn.Conv2d(256, 2, 3, padding=1)

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return self.conv2(F.relu(self.conv1(state)))


class UpdateBlock(nn.Module):
    """One step: the new state, and by how much the flow changes."""

    def __init__(self):
        super().__init__()
        self.encoder, self.gru, self.flow_head = MotionEncoder(), SeparableGRU(), FlowHead()
        self.mask = nn.Sequential(nn.Conv2d(HIDDEN_SIZE, 256, 3, padding=1), nn.ReLU(), nn.Conv2d(256, 64 * 9, 1))

    def forward(self, state, context, correlations, flow) -> tuple[torch.Tensor, torch.Tensor]:
        state = self.gru(state, torch.cat([context, self.encoder(flow, correlations)], dim=1))
        return state, self.flow_head(state)


class RAFT(nn.Module):
    """Optical flow between two images, in steps that look up how alike their features are."""

    def __init__(self):
        super().__init__()
        self.fnet = Encoder(256, nn.InstanceNorm2d)
        self.cnet = Encoder(HIDDEN_SIZE + CONTEXT_SIZE, nn.BatchNorm2d)
        self.update_block = UpdateBlock()

    @torch.no_grad()
    def flow(
        self, first: torch.Tensor, second: torch.Tensor, num_iterations: int = NUM_ITERATIONS
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the flow from the first to the second image, (B, 2, h, w) in cells and (B, 2, H, W) in pixels.

        H and W are those of the padded images, see `padded`.

        Args:
            first, second: (B, 3, H, W), RGB in 0...255, padded sides of 128 or more.
        """
        first, second = (2 * padded(pixels) / 255 - 1 for pixels in (first, second))
        if min(first.shape[2:]) < MIN_SIDE:
            height, width = first.shape[2:]
            raise ValueError(f"RAFT needs sides of {MIN_SIDE} pixels or more, got {width} x {height}: enlarge or pad.")
        pyramid = correlation_pyramid(*(self.fnet(pixels) for pixels in (first, second)))
        state, context = self.cnet(first).split([HIDDEN_SIZE, CONTEXT_SIZE], dim=1)
        state, context = state.tanh(), context.relu()

        start = _positions(first)
        positions = start.expand(len(first), -1, -1, -1)
        for _ in range(num_iterations):
            correlations = look_up(pyramid, positions)
            state, change = self.update_block(state, context, correlations, positions - start)
            positions = positions + change
        flow = positions - start
        return flow, upsample(flow, 0.25 * self.update_block.mask(state))


def load_raft(state_dict: Mapping[str, torch.Tensor]) -> RAFT:
    """Return the network with the weights of `raft-things.pth`, their names without `module.`.

    Raises:
        ValueError: if these are other weights.
    """
    return load_weights(RAFT(), state_dict, "RAFT")


def padded(pixels: torch.Tensor) -> torch.Tensor:
    """Return images (B, 3, H, W) with sides divisible by 8: the border repeated, half on each side."""
    down, right = (-size % 8 for size in pixels.shape[2:])
    return F.pad(pixels, (right // 2, right - right // 2, down // 2, down - down // 2), mode="replicate")


def correlation_pyramid(first: torch.Tensor, second: torch.Tensor) -> list[torch.Tensor]:
    """Return how alike each cell of the first is to each of the second, at four scales: (B h w, 1, h', w')."""
    height, width = first.shape[2:]
    correlations = first.flatten(2).transpose(1, 2) @ second.flatten(2) / first.shape[1] ** 0.5
    pyramid = [correlations.reshape(-1, 1, height, width)]
    for _ in range(NUM_LEVELS - 1):
        pyramid.append(F.avg_pool2d(pyramid[-1], 2))
    return pyramid


def look_up(pyramid: list[torch.Tensor], positions: torch.Tensor) -> torch.Tensor:
    """Return the correlations (B, 324, h, w) within four cells around positions (B, 2, h, w), at each scale."""
    batch, _, height, width = positions.shape
    centres = positions.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
    steps = torch.arange(-RADIUS, RADIUS + 1, device=positions.device, dtype=positions.dtype)
    window = torch.stack(torch.meshgrid(steps, steps, indexing="ij"), dim=-1)  # x changes along the first axis
    found = []
    for level, correlations in enumerate(pyramid):
        size = torch.tensor([correlations.shape[3] - 1, correlations.shape[2] - 1], device=positions.device)
        grid = 2 * (centres / 2**level + window) / size - 1
        sampled = F.grid_sample(correlations, grid, align_corners=True)
        found.append(sampled.reshape(batch, height, width, -1))
    return torch.cat(found, dim=-1).permute(0, 3, 1, 2)


def upsample(flow: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return a flow (B, 2, 8 h, 8 w): each pixel a mean of its 3 x 3 cells, weighted by the mask (B, 576, h, w)."""
    batch, _, height, width = flow.shape
    weights = mask.reshape(batch, 1, 9, 8, 8, height, width).softmax(dim=2)
    cells = F.unfold(8 * flow, 3, padding=1).reshape(batch, 2, 9, 1, 1, height, width)
    fine = (weights * cells).sum(dim=2)  # (B, 2, 8, 8, h, w)
    return fine.permute(0, 1, 4, 2, 5, 3).reshape(batch, 2, 8 * height, 8 * width)


def measured_size(height: int, width: int, protocol: str = "verse") -> tuple[int, int]:
    """Return at what size motion is measured: `verse` halves both sides until none exceeds 640; `native` does not."""
    if protocol not in PROTOCOLS:
        raise ValueError(f"`protocol` must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
    while protocol == "verse" and max(height, width) > MAX_SIDE:
        height, width = height // 2, width // 2
    return height, width


def measure_motion(
    network: RAFT, frames: np.ndarray, frame_rate: float | Fraction, protocol: str = "verse"
) -> Measurement:
    """Return MS of a clip: the mean |flow| from frame to frame over both axes and the padded image, in pixels.

    Status `short` for a single frame. Images below 128 pixels are enlarged by their border; `details` says so.

    Args:
        frames: (M, H, W, 3) uint8, RGB, at the clip's own rate.
    """
    if len(frames) < 2:
        return Measurement(Status.SHORT)
    height, width = measured_size(frames.shape[1], frames.shape[2], protocol)
    border = [max(0, MIN_SIDE - size) for size in (width, height)]
    device = next(network.parameters()).device
    distances, previous = [], None
    for frame in frames:
        if (height, width) != frame.shape[:2]:
            frame = resize_bilinear(frame, height, width)
        pixels = torch.from_numpy(np.ascontiguousarray(frame)).to(device, torch.float32).permute(2, 0, 1)[None]
        pixels = F.pad(pixels, (0, border[0], 0, border[1]), mode="replicate")
        if previous is not None:
            distances.append(float(network.flow(previous, pixels)[1].abs().mean()))
        previous = pixels
    motion = float(np.mean(distances))
    details = {"frame_rate": float(frame_rate), "height": height, "width": width, "enlarged": any(border)}
    return Measurement(Status.OK, {"MS": motion}, details | {"px_per_s": motion * float(frame_rate)})


def _positions(pixels: torch.Tensor) -> torch.Tensor:
    """Return the position x, y of each cell, (1, 2, h, w), of images (B, 3, H, W)."""
    height, width = (size // 8 for size in pixels.shape[2:])
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y])[None].to(pixels)
