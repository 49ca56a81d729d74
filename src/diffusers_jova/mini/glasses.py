# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Glasses: tubes along curves, fitted to a head."""

import numpy as np


RADIUS = 0.017  # decimetres, of the frame's tubes
SIDES = 6  # of a tube
SHAPES = {"round": (0.2, 0.19, 2.0), "square": (0.235, 0.165, 4.0)}  # half width, half height, exponent


def fit_glasses(vertices: np.ndarray, shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices (V, 3) and triangles (T, 3) of glasses for a head.

    Args:
        vertices: of the head at rest without its ears, from the middle of the eyes.
        shape: a key of `SHAPES`.
    """
    half_width, half_height, exponent = SHAPES[shape]
    near_eyes = (np.abs(vertices[:, 0]) < 0.55) & (np.abs(vertices[:, 1] - 0.05) < 0.2)
    front = vertices[near_eyes, 2].max() + 0.02  # before the bridge of the nose and the brows
    head = np.abs(vertices[(np.abs(vertices[:, 1]) < 0.1) & (np.abs(vertices[:, 2] + 0.45) < 0.12), 0]).max()
    angle = np.linspace(0, 2 * np.pi, 41)
    cos, sin = np.cos(angle), np.sin(angle)
    x = half_width * np.sign(cos) * np.abs(cos) ** (2 / exponent)
    y = half_height * np.sign(sin) * np.abs(sin) ** (2 / exponent) - 0.03
    curves = []
    for side in (-1, 1):
        across = 0.295 * side + x
        curves.append(np.stack([across, y, front - 0.1 * across**2], 1))
        hinge = np.array([side * (0.295 + half_width), 0.06, front - 0.1 * (0.295 + half_width) ** 2])
        ear = side * (head + 0.015)
        curves.append(np.array([hinge, [0.6 * hinge[0] + 0.4 * ear, 0.06, hinge[2] - 0.1], [ear, 0.02, -0.7]]))
    inner = 0.295 - half_width
    curves.append(np.array([[-inner, 0.02, front], [0, 0.05, front + 0.015], [inner, 0.02, front]]))
    return _tubes(curves)


def _tubes(curves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    vertices: list[np.ndarray] = []
    triangles: list[tuple[int, int, int]] = []
    for curve in curves:
        along = np.gradient(curve, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        aside = np.cross(along, [0.05, 0.1, 1.0])
        aside /= np.linalg.norm(aside, axis=1, keepdims=True)
        out = np.cross(along, aside)
        first = len(vertices) * SIDES
        for point, one, other in zip(curve, aside, out):
            angle = np.linspace(0, 2 * np.pi, SIDES, endpoint=False)[:, None]
            vertices.append(point + RADIUS * (np.cos(angle) * one + np.sin(angle) * other))
        for ring in range(len(curve) - 1):
            for k in range(SIDES):
                a, b = first + ring * SIDES + k, first + ring * SIDES + (k + 1) % SIDES
                triangles += [(a, b, b + SIDES), (a, b + SIDES, a + SIDES)]
    return np.concatenate(vertices).astype(np.float32), np.array(triangles, np.int32)
