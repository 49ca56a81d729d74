# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A head model of a few balls, which stands in for the data that tests do not fetch."""

import numpy as np

from diffusers_jova.mini.heads import AGES, GENDERS, LASHES, MASKS, PARTS, PEOPLES, WEIGHTS, HeadModel


EYES = np.array([0.0, 7.28, 1.25])  # of the real template
MOUTH = -0.67  # height under the eyes
UNITS = ("mouthPucker", "mouthFunnel", "mouthRollLower", "mouthRollUpper", "tongueOut", "browInnerUp")
SIDED = ("mouthSmile", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthPress", "eyeBlink", "eyeSquint")


def ball(middle, radii, columns=40, rows=31) -> tuple[np.ndarray, np.ndarray]:
    """Return the vertices and triangles of an ellipsoid that faces outwards."""
    around, up = np.meshgrid(np.linspace(0, 2 * np.pi, columns + 1), np.linspace(-np.pi / 2, np.pi / 2, rows))
    points = np.stack([np.sin(around) * np.cos(up), np.sin(up), np.cos(around) * np.cos(up)], -1)
    k = np.arange((rows - 1) * (columns + 1)).reshape(rows - 1, columns + 1)[:, :-1].ravel()
    quads = np.stack([k, k + 1, k + columns + 2, k + columns + 1], 1)
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return points.reshape(-1, 3) * radii + middle, triangles


def make_ball_head() -> HeadModel:
    """Return a head, shoulders, eyes, teeth, a tongue and lashes; "jawOpen" moves what is under the lips' line."""
    balls = {
        "body": [((0, 0, -0.68), (0.7, 1.1, 0.95)), ((0, -2.3, -0.7), (2.2, 0.9, 0.7))],
        "helper-l-eye": [((0.3, 0, 0.1), (0.147,) * 3)],
        "helper-r-eye": [((-0.3, 0, 0.1), (0.147,) * 3)],
        "helper-upper-teeth": [((0, -0.6, -0.2), (0.2, 0.05, 0.1))],
        "helper-lower-teeth": [((0, -0.75, -0.2), (0.2, 0.05, 0.1))],
        "helper-tongue": [((0, -0.7, -0.3), (0.15, 0.05, 0.1))],
        LASHES[0]: [((0.3, 0.12, 0.2), (0.15, 0.01, 0.02))],
        LASHES[1]: [((-0.3, 0.12, 0.2), (0.15, 0.01, 0.02))],
    }
    vertices, triangles, parts = [], [], []
    for number, name in enumerate(PARTS + LASHES):
        for middle, radii in balls[name]:
            size = (24, 41) if name == "body" else (10, 9)
            points, corners = ball(middle, radii, *size)
            triangles.append(corners + sum(map(len, vertices)))
            vertices.append(points)
            parts.append(np.full(len(corners), number, np.uint8))
    places, triangles = np.concatenate(vertices), np.concatenate(triangles)
    is_body = np.zeros(len(places), bool)
    is_body[triangles[np.concatenate(parts) == 0]] = True
    x, y, z = places.T
    masks = np.zeros((len(places), len(MASKS)), np.float32)
    masks[:, MASKS.index("lips")] = is_body & (np.abs(x) < 0.26) & (np.abs(y - MOUTH) < 0.12) & (z > -0.2)
    return HeadModel(
        (places + EYES).astype(np.float32), triangles.astype(np.int32), np.concatenate(parts), masks, _targets(places)
    )


def _targets(places: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    nothing = (np.zeros(0, np.int32), np.zeros((0, 3), np.float32))
    names = [f"macro/{people}-{gender}-{age}" for people in PEOPLES for gender in GENDERS for age in AGES]
    names += [f"macro/universal-{g}-{age}-averagemuscle-{w}" for g in GENDERS for age in AGES for w in WEIGHTS]
    names += [*UNITS, *(f"{unit}{side}" for unit in SIDED for side in ("Left", "Right"))]
    names += ["browOuterUpLeft", "browOuterUpRight"]
    targets = dict.fromkeys(names, nothing)
    front = places[:, 2] > -0.6
    lower = np.flatnonzero(front & (places[:, 1] < MOUTH) & (places[:, 1] > -1.2)).astype(np.int32)
    targets["jawOpen"] = (lower, np.tile(np.float32([0, -0.34, 0]), (len(lower), 1)))
    nose = np.flatnonzero(front & (np.abs(places[:, 0]) < 0.2) & (np.abs(places[:, 1] + 0.25) < 0.2)).astype(np.int32)
    for number in range(30):
        way = np.float32([0, 0, 0.01 * number])
        targets[f"nose/feature-{number:02d}"] = (nose, np.tile(way, (len(nose), 1)))
    return targets
