# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Faults for clips of the corpus: benchmarks plant them in films, and show what `filter` makes of them.

Frames are (F, H, W, 3) uint8, waveforms (N,) float; each fault gets those of a clip and of another one.
"""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter


RATE, SAMPLING_RATE = 12.5, 16000  # frames per second, samples per second

Clip = tuple[np.ndarray, np.ndarray]  # frames, waveform


def shift(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """Return a waveform so many frames later; what falls off its end comes first."""
    return np.roll(waveform, round(num_frames / RATE * SAMPLING_RATE))


def on_canvas(frames: np.ndarray, scale: float, places: Sequence[tuple[float, float]]) -> np.ndarray:
    """Return frames with small copies of themselves on a plain ground; places in parts of the side."""
    side, canvas = frames.shape[1], np.full_like(frames, 128)
    size = round(side * scale), round(side * scale)
    small = np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in frames])
    for x, y in places:
        top, left = round(y * side), round(x * side)
        canvas[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return canvas


def with_text(frames: np.ndarray) -> np.ndarray:
    """Return frames of 128 pixels with a line of text at the bottom."""
    shown = []
    for frame in frames:
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 112, 127, 127), fill="black")
        draw.text((4, 113), "SUBSCRIBE NOW, PLEASE", fill="white")
        shown.append(np.asarray(image))
    return np.stack(shown)


def chord(waveform: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return three notes, as long as a waveform."""
    seconds = np.arange(len(waveform)) / SAMPLING_RATE
    notes = rng.choice([220, 262, 330, 392, 440], 3, replace=False)
    return 0.2 * sum(np.sin(2 * np.pi * note * seconds) for note in notes)


# name -> (what is done with frames, waveform, frames and waveform of another clip, rng; reasons that name it)
FAULTS: dict[str, tuple[Callable[[np.ndarray, np.ndarray, Clip, np.random.Generator], Clip], tuple[str, ...]]] = {
    "silent": (lambda f, w, o, r: (f, 0 * w), ("it is mostly silent", "it is too quiet")),
    "music": (
        lambda f, w, o, r: (f, chord(w, r)),
        ("nobody speaks for most of it", "it has music or noise without speech"),
    ),
    "noise": (lambda f, w, o, r: (f, w + r.normal(0, 0.1, len(w))), ("its audio is noisy",)),
    "clipped": (lambda f, w, o, r: (f, (40 * w).clip(-1, 1)), ("its audio is clipped",)),
    "blurred": (lambda f, w, o, r: (gaussian_filter(f, (0, 3, 3, 0)), w), ("it is blurred", "no face")),
    "still": (lambda f, w, o, r: (np.repeat(f[:1], len(f), 0), w), ("nothing moves",)),
    "text": (lambda f, w, o, r: (with_text(f), w), ("it shows text",)),
    "late lips": (
        lambda f, w, o, r: (f, shift(w, -4)),
        ("its lips are early or late", "its lips do not move with its audio"),
    ),
    "other words": (
        lambda f, w, o, r: (f, o[1]),
        ("its lips do not move with its audio", "its lips are early or late"),
    ),
    "two faces": (
        lambda f, w, o, r: (on_canvas(f, 0.5, [(0, 0.2), (0.5, 0.2)]), w),
        ("several faces", "it shows several faces"),
    ),
    "no face": (lambda f, w, o, r: (f[:, ::-1].copy(), w), ("no face", "its face is not seen all the time")),
    "copy": (lambda f, w, o, r: o, ("it is nearly the same as another clip",)),
}
