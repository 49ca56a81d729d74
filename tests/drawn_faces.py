# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips for tests: drawn faces, nobody's likeness, whose mouths open with their sound; and a detector."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from diffusers_jova.faces import Face
from diffusers_jova.media import write_video


@dataclass(frozen=True)
class Look:
    """Colours and proportions of a face."""

    skin: tuple[int, int, int]
    hair: tuple[int, int, int]
    lips: tuple[int, int, int]
    background: tuple[int, int, int]
    width: float  # of the head, over its height


def make_look(seed: int) -> Look:
    rng = np.random.default_rng(seed)
    skin = np.array([225, 180, 150]) - rng.integers(0, 70) * np.array([0.8, 0.9, 1.0])
    return Look(
        skin=tuple(int(c) for c in skin),
        hair=tuple(int(c) for c in rng.integers(20, 90, 3)),
        lips=tuple(int(c) for c in skin * [0.85, 0.5, 0.5]),
        background=tuple(int(c) for c in rng.integers(90, 220, 3)),
        width=rng.uniform(0.72, 0.78),
    )


def draw_face(
    canvas: Image.Image, look: Look, centre: tuple[float, float], height: float, opening: float
) -> tuple[float, float, float, float]:
    """Draw a face on `canvas` and return its mouth's box, x1, y1, x2, y2 in pixels.

    Args:
        centre: of the head, in pixels.
        height: of the head, in pixels.
        opening: of the mouth, 0 (closed) to 1.
    """
    draw, (cx, cy), h, w = ImageDraw.Draw(canvas), centre, height, height * look.width
    dark = tuple(int(c * 0.75) for c in look.skin)
    light = tuple(min(int(c * 1.08), 255) for c in look.skin)

    def ellipse(x, y, rx, ry, fill):  # in units of the head, from its centre
        draw.ellipse((cx + (x - rx) * w, cy + (y - ry) * h, cx + (x + rx) * w, cy + (y + ry) * h), fill=fill)

    ellipse(0, -0.08, 0.56, 0.52, look.hair)
    draw.rectangle((cx - 0.16 * w, cy + 0.4 * h, cx + 0.16 * w, cy + 0.62 * h), fill=dark)  # the neck
    ellipse(0, 0.85, 0.75, 0.3, look.hair)
    ellipse(0, 0, 0.5, 0.5, look.skin)
    ellipse(0, 0.05, 0.36, 0.4, light)
    ellipse(0, -0.42, 0.44, 0.16, look.hair)
    for side in (-1, 1):
        ellipse(0.21 * side, -0.08, 0.13, 0.06, dark)
        ellipse(0.21 * side, -0.075, 0.1, 0.038, (245, 245, 245))
        ellipse(0.21 * side, -0.075, 0.042, 0.036, (50, 35, 25))
        ellipse(0.21 * side, -0.175, 0.13, 0.016, look.hair)
        ellipse(0.05 * side, 0.115, 0.025, 0.012, tuple(int(c * 0.45) for c in look.skin))
    draw.line((cx + 0.03 * w, cy - 0.05 * h, cx + 0.06 * w, cy + 0.1 * h), fill=dark, width=max(round(0.015 * h), 1))
    ellipse(0, 0.105, 0.08, 0.03, dark)
    ellipse(0, 0.095, 0.07, 0.03, light)

    gap = 0.075 * opening
    ellipse(0, 0.26, 0.18, 0.03 + gap, look.lips)
    ellipse(0, 0.26, 0.14, 0.006 + gap, (50, 15, 15))
    if gap > 0.02:
        ellipse(0, 0.26 - gap * 0.6, 0.1, gap * 0.3, (240, 235, 225))
    return cx - 0.18 * w, cy + (0.23 - gap) * h, cx + 0.18 * w, cy + (0.29 + gap) * h


def make_opening(num_frames: int, seed: int) -> np.ndarray:
    """Return how far the mouth is open in each frame, (num_frames,) in [0, 1]: a few syllables."""
    rng = np.random.default_rng(seed)
    time = np.arange(num_frames) + rng.uniform(0, 6)
    return np.clip(np.sin(time * rng.uniform(0.7, 1.0)), 0, 1)


def draw_talking_face(
    opening: np.ndarray, size: tuple[int, int] = (256, 256), seed: int = 0, faces: tuple = ((0.5, 0.48, 0.62),)
) -> tuple[np.ndarray, np.ndarray]:
    """Return frames (N, height, width, 3) uint8 and the first face's mouth boxes (N, 4).

    Args:
        opening: (N,), see `draw_face`.
        size: height and width in pixels.
        faces: x and y of the centre and the height of each head, over width, height and height of the picture.
    """
    look, (height, width), frames, boxes = make_look(seed), size, [], []
    for i, gap in enumerate(opening):
        canvas = Image.new("RGB", (2 * width, 2 * height), look.background)
        sway = 0.01 * np.sin(i / 5)
        drawn = [
            draw_face(canvas, look, ((x + sway) * 2 * width, y * 2 * height), tall * 2 * height, gap)
            for x, y, tall in faces
        ]
        boxes.append([value / 2 for value in drawn[0]] if drawn else [np.nan] * 4)
        canvas = canvas.filter(ImageFilter.GaussianBlur(2))
        frames.append(np.asarray(canvas.resize((width, height), Image.Resampling.BOX)))
    return np.stack(frames), np.array(boxes)


def make_sound(opening: np.ndarray, frame_rate: float, sampling_rate: int = 16000) -> np.ndarray:
    """Return a sound (N,) as loud as the mouth is open: a hum with harmonics."""
    num_samples = round(len(opening) / Fraction(frame_rate) * sampling_rate)
    time = np.arange(num_samples) / sampling_rate
    loudness = np.interp(time * frame_rate - 0.5, np.arange(len(opening)), opening)
    return 0.2 * loudness * sum(np.sin(2 * np.pi * 140 * k * time) / k for k in range(1, 6))


def write_talking_clip(
    path: Path, num_frames: int = 17, frame_rate: float = 12.5, seed: int = 0, sound: bool = True, **kwargs
) -> tuple[np.ndarray, np.ndarray]:
    """Write a clip, and return its frames and mouth boxes; `kwargs` go to `draw_talking_face`."""
    opening = make_opening(num_frames, seed)
    frames, boxes = draw_talking_face(opening, seed=seed, **kwargs)
    audio = make_sound(opening, frame_rate) if sound else None
    write_video(path, frames, frame_rate, audio, 16000 if sound else None)
    return frames, boxes


class FaceInTheMiddle:
    """A detector that needs no dlib and can be sent to another process: one face fills the image."""

    def detect(self, image):
        return [Face(np.array([0, 0, image.shape[1], image.shape[0]], float), 1.0)]

    def landmarks(self, image, box):
        return np.linspace((0, 0), box[2:], 68)
