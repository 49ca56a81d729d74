# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What is behind somebody, out of focus."""

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from .paint import linear, smoothstep
from .people import COLOURS, Person


SMALL = 96  # pixels at which a background is painted; it is blurred anyway
X, Y = np.meshgrid(np.linspace(-1, 1, SMALL), np.linspace(-1, 1, SMALL))


def paint_background(person: Person, rng: np.random.Generator, size: int) -> np.ndarray:
    """Return what is behind somebody, (size, size, 3) float32, as amounts of light."""
    paint, blur = {
        "wall": (_wall, 1.0),
        "window": (_window, 3.0),
        "bookshelf": (_bookshelf, 2.2),
        "garden": (_garden, 2.4),
        "evening lights": (_evening_lights, 1.4),
    }[person.background]
    image = gaussian_filter(paint(linear(COLOURS[person.wall]), rng), (blur, blur, 0))
    image = image * (1.0 - 0.28 * (0.5 * Y - 0.5 * X * np.sign(person.light)))[..., None]  # the light falls off
    return zoom(image, (size / SMALL, size / SMALL, 1), order=1).astype(np.float32)


def _plain(colour: np.ndarray | tuple[float, ...]) -> np.ndarray:
    return np.ones((SMALL, SMALL, 3)) * colour


def _wall(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _plain(0.85 * colour + 0.02)


def _window(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = _plain(0.35 * colour)
    left, top = rng.uniform(-0.9, -0.4), rng.uniform(-0.95, -0.7)
    for column in range(2):
        for row in range(2):
            x, y = X - left - column * 0.75, Y - top - row * 0.75
            pane = (x > 0) & (x < 0.68) & (y > 0) & (y < 0.68)
            image[pane] = np.array([0.75, 0.85, 0.95]) * (1.0 - 0.35 * row)
    return image


def _bookshelf(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = _plain((0.05, 0.03, 0.02))
    colours = linear(list(COLOURS.values()))
    for floor in (-0.5, 0.0, 0.5, 1.0):
        edge = -1.0
        while edge < 1:
            width, height = rng.uniform(0.05, 0.13), rng.uniform(0.28, 0.44)
            book = (X >= edge) & (X < edge + width) & (Y < floor - 0.05) & (Y > floor - 0.05 - height)
            image[book] = colours[rng.integers(len(colours))] * rng.uniform(0.25, 0.7)
            edge += width + 0.008
        image[(Y > floor - 0.05) & (Y < floor)] = (0.16, 0.09, 0.05)
    return image


def _garden(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = np.where(Y[..., None] < 0.1, (0.30, 0.48, 0.30), (0.12, 0.24, 0.07))
    for _ in range(70):
        leaf = np.array([rng.uniform(0.08, 0.5), rng.uniform(0.25, 0.75), rng.uniform(0.05, 0.25)])
        _add_disc(image, rng, leaf, 0.25, 0.5)
    return image


def _evening_lights(colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = _plain((0.012, 0.016, 0.04))
    for _ in range(34):
        warm = rng.uniform()
        lamp = np.array([1.0, 0.45 + 0.35 * warm, 0.15 + 0.5 * warm]) * rng.uniform(0.4, 1.4)
        _add_disc(image, rng, lamp, 0.12, 0.75)
    return image


def _add_disc(image: np.ndarray, rng: np.random.Generator, colour: np.ndarray, largest: float, opacity: float) -> None:
    radius = rng.uniform(0.3, 1) * largest
    away = np.hypot(X - rng.uniform(-1, 1), Y - rng.uniform(-1, 1)) / radius
    amount = opacity * smoothstep(1.0, 0.9, away)[..., None]
    image[:] = image * (1 - amount) + colour * amount
