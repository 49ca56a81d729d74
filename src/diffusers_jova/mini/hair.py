# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Hair, brows and beards as strands: curves that grow from the skin, each drawn as a row of points.

A strand is combed: it leaves the skin as its style says, follows a direction, falls, and does not enter the head.
"""
# V vertices, R strands (roots), N points

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree


SEGMENTS = 26  # of a strand, when it is combed
SKULL = np.array([0.0, 0.25, -0.68], np.float32)  # its middle, from the middle of the eyes
# The hairline: its height for each angle around the skull, from the forehead (0) over the ear to the nape (180)
LINE_ANGLES = (0, 18, 32, 44, 52, 60, 72, 95, 108, 125, 180)
LINE_HEIGHTS = (0.62, 0.60, 0.52, 0.42, 0.20, 0.10, 0.12, 0.10, -0.15, -0.42, -0.52)


@dataclass(frozen=True)
class Strands:
    """Points of hair on a head at rest.

    Attributes:
        triangles, corners: (N,) and (N, 3), where the root of each point's strand lies on the mesh.
        offsets: (N, 3) float32, from the root to the point.
        tangents: (N, 3) float32, which way the strand goes, of length 1.
        tints: (N,) float32, its strand's brightness, around 1.
        depths: (N,) float32, from 0, deep inside the hair, to 1, at its surface; below 0 in a beard.
    """

    triangles: np.ndarray
    corners: np.ndarray
    offsets: np.ndarray
    tangents: np.ndarray
    tints: np.ndarray
    depths: np.ndarray

    def points(self, vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
        """Return where the points are on a head whose vertices moved, (N, 3)."""
        return root_points(vertices, triangles, self.triangles, self.corners) + self.offsets

    def chosen(self, which: np.ndarray) -> "Strands":
        return Strands(*(values[which] for values in vars(self).values()))


def root_points(vertices: np.ndarray, triangles: np.ndarray, which: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Return points (R, 3) that lie on triangles of a mesh."""
    return sum(corners[:, k, None] * vertices[triangles[which, k]] for k in range(3))


def join(parts: list[Strands]) -> Strands:
    return Strands(*(np.concatenate(values) for values in zip(*(vars(part).values() for part in parts))))


def scatter_roots(
    template: np.ndarray, triangles: np.ndarray, density: np.ndarray, number: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return roots spread over a mesh: (R,) triangles and (R, 3) corners.

    Args:
        density: (T,) how dense they are on each triangle; roots are spread by area times density.
    """
    a, b, c = (template[triangles[:, corner]] for corner in range(3))
    weights = np.linalg.norm(np.cross(b - a, c - a), axis=1) * density
    which = rng.choice(len(triangles), number, p=weights / weights.sum())
    u, v = rng.uniform(size=(2, number))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return which, np.stack([1 - u - v, u, v], 1).astype(np.float32)


def hairline(points: np.ndarray) -> np.ndarray:
    """Return how far points (..., 3) of the template, from the middle of the eyes, lie above the hairline."""
    angles = np.degrees(np.arctan2(np.abs(points[..., 0]), points[..., 2] - SKULL[2]))
    return points[..., 1] - np.interp(angles, LINE_ANGLES, LINE_HEIGHTS)


class Comb:
    """Lets strands grow on a head at rest.

    Args:
        vertices: (V, 3) of the head, from the middle of the eyes.
        normals: (V, 3).
        triangles: (T, 3).
    """

    def __init__(self, vertices: np.ndarray, normals: np.ndarray, triangles: np.ndarray):
        self.vertices, self.normals, self.triangles = vertices, normals, triangles
        self.tree = cKDTree(vertices)

    def grow(
        self,
        roots: tuple[np.ndarray, np.ndarray],
        lengths: np.ndarray,
        lift: np.ndarray,
        direction: Callable[[np.ndarray, np.ndarray, float], np.ndarray],
        thickness: np.ndarray | float = 0.0,
        stiffness: float = 0.6,
    ) -> np.ndarray:
        """Return curves, (R, SEGMENTS + 1, 3).

        Args:
            roots: see `scatter_roots`.
            lengths: (R,) in decimetres.
            lift: (R,) how much a strand starts straight out of the skin, 0 to 1.
            direction: which way a strand goes: of positions (R, 3), normals (R, 3) and the part of the length that
                is behind, (R, 3).
            thickness: (R,) how far from the skin a strand stays at least.
            stiffness: how much of its direction a strand keeps from one step to the next, 0 to 1.
        """
        position = root_points(self.vertices, self.triangles, *roots)
        normal = root_points(self.normals, self.triangles, *roots)
        heading = normal * lift[:, None] + direction(position, normal, 0.0) * (1 - lift[:, None])
        step = (lengths / SEGMENTS)[:, None]
        curve = [position]
        for number in range(SEGMENTS):
            done = (number + 1) / SEGMENTS
            heading = stiffness * _unit(heading) + (1 - stiffness) * direction(position, normal, done)
            new = position + step * _unit(heading)
            _, near = self.tree.query(new)
            normal = self.normals[near]
            above = ((new - self.vertices[near]) * normal).sum(1)
            distance = np.minimum(thickness, 0.25 * done * SEGMENTS * step[:, 0] + 0.004)  # it rises from the skin
            new = new + normal * np.maximum(distance - above, 0)[:, None]
            heading = new - position
            position = new
            curve.append(position)
        return np.stack(curve, 1).astype(np.float32)


def as_points(
    roots: tuple[np.ndarray, np.ndarray],
    curves: np.ndarray,
    tints: np.ndarray,
    depths: np.ndarray,
    spacing: float,
    starts: np.ndarray | None = None,
) -> Strands:
    """Return curves (R, S + 1, 3) as points.

    Args:
        spacing: decimetres between the points of a strand: a pixel of the drawing, or there would be gaps.
        starts: (R, 3), where the roots are, if not where the curves begin.
    """
    pieces = np.diff(curves, axis=1)
    lengths = np.linalg.norm(pieces, axis=2)
    counts = np.maximum(np.ceil(lengths / spacing), 1).astype(int)  # of each segment
    strand, segment = np.divmod(np.repeat(np.arange(counts.size), counts.ravel()), counts.shape[1])
    first = np.cumsum(counts.ravel()) - counts.ravel()
    inside = (np.arange(counts.sum()) - np.repeat(first, counts.ravel())) / np.repeat(counts.ravel(), counts.ravel())
    offsets = curves[:, :-1] - (curves[:, :1] if starts is None else starts[:, None])
    points = offsets[strand, segment] + inside[:, None].astype(np.float32) * pieces[strand, segment]
    tangents = _unit(pieces)[strand, segment]
    along = (segment + inside) / counts.shape[1]
    return Strands(
        roots[0][strand],
        roots[1][strand],
        points.astype(np.float32),
        tangents.astype(np.float32),
        tints[strand].astype(np.float32),
        (depths[strand] * np.clip(0.45 + 1.4 * along, 0, 1)).astype(np.float32),
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


# --- styles ---


@dataclass(frozen=True)
class Style:
    """How a head of hair is cut and combed; lengths in decimetres.

    Attributes:
        top, sides: lengths.
        thickness: of the whole hair, over the skin.
        lift: how much strands start straight out of the skin.
        way: "down" from the parting, "back", "forward", "out".
        parting: where it is, from the middle, for "down".
        wave: how far strands swing to the side.
        curl: how often, per decimetre.
        stray: how far each strand leaves the direction of the others.
        stiffness: how much a strand keeps its direction, 0 to 1.
        gathered: whether strands end in a knot at the back.
        number: of strands.
    """

    top: float
    sides: float
    thickness: float
    lift: float
    way: str
    parting: float = 0.0
    wave: float = 0.0
    curl: float = 0.0
    stray: float = 0.06
    stiffness: float = 0.75
    gathered: bool = False
    number: int = 5000


STYLES = {  # by the words of the captions
    "cropped": Style(0.16, 0.07, 0.05, 0.55, "forward", stray=0.15, number=9000),
    "short": Style(0.42, 0.16, 0.13, 0.35, "down", parting=0.28, number=7500),
    "swept-back": Style(0.75, 0.3, 0.16, 0.3, "back", number=6500),
    "curly": Style(0.85, 0.7, 0.22, 0.7, "out", wave=0.045, curl=5, stray=0.2, stiffness=0.3, number=7000),
    "chin-length": Style(1.55, 1.3, 0.16, 0.15, "down", parting=0.2, number=5200),
    "long": Style(2.7, 2.5, 0.17, 0.12, "down", parting=0.05, number=4200),
    "wavy": Style(2.6, 2.4, 0.2, 0.15, "down", parting=-0.22, wave=0.05, curl=2.2, number=4200),
    "tied-back": Style(1.5, 1.5, 0.08, 0.05, "back", stiffness=0.5, gathered=True, number=4000),
}


def grow_hair(
    comb: Comb, template: np.ndarray, style: Style, rng: np.random.Generator, is_scalp: np.ndarray, spacing: float
) -> Strands:
    """Return the hair of a head.

    Args:
        spacing: see `as_points`.
        comb: of the head.
        template: (V, 3) of the model, from the middle of the eyes: where the hairline is.
        is_scalp: (T,) on which triangles hair may grow.
    """
    middles = template[comb.triangles].mean(1)
    above = hairline(middles)
    density = is_scalp * np.clip(above / 0.05 + 0.5, 0, 1)
    roots = scatter_roots(template, comb.triangles, density, style.number, rng)
    places = root_points(template, comb.triangles, *roots)
    kept = hairline(places) > rng.uniform(-0.035, 0.03, len(places))
    roots, places = (roots[0][kept], roots[1][kept]), places[kept]
    number = len(places)
    height = np.clip((places[:, 1] - 0.15) / 0.55, 0, 1)
    fade = np.clip((hairline(places) + 0.03) / 0.3, 0.25, 1)  # shorter at the hairline of the neck and the temples
    is_front = places[:, 2] > SKULL[2] + 0.45
    lengths = (style.sides + (style.top - style.sides) * height) * rng.uniform(0.82, 1.04, number)
    if style.sides < 0.6:
        lengths *= np.where(is_front, np.maximum(fade, 0.8), fade)
    layer = rng.uniform(0.05, 1, number) ** 0.7
    thickness = style.thickness * layer * (0.5 + 0.5 * height if style.sides < 0.6 else 1 - 0.7 * height)
    side = np.where(places[:, 0] > style.parting + rng.normal(0, 0.012, number), 1.0, -1.0)[:, None]
    knot = np.array([0.0, 0.35, -1.75], np.float32)
    swing = rng.normal(0, style.stray, (number, 3))
    phase, axis = rng.uniform(0, 2 * np.pi, (number, 1)), _unit(rng.normal(0, 1, (number, 3)))
    lock = np.floor((np.arctan2(places[:, 0], places[:, 2] - SKULL[2]) + places[:, 1] * 0.8) * 9)[:, None]
    swing += 0.07 * np.sin(lock * [12.9, 78.2, 37.7])  # strands of a lock stay together
    down = np.array([0.0, -1.0, 0.0])

    def direction(position: np.ndarray, normal: np.ndarray, done: float) -> np.ndarray:
        if style.gathered:
            wanted = _unit(knot - position)
        elif style.way == "down":
            away = np.concatenate([side, np.full_like(side, -0.05), np.full_like(side, -0.45)], 1)
            x, z = np.abs(position[:, :1]), position[:, 2:]
            fallen = np.maximum(np.clip((x - 0.5) / 0.2, 0, 1), np.clip((SKULL[2] - z) / 0.3, 0, 1))
            away -= 0.95 * np.clip((away * normal).sum(1, keepdims=True), 0, None) * normal  # along the skull
            wanted = (1 - fallen) * away + fallen * (down + [0, 0, -0.1])
            if style.sides < 0.6:
                wanted = wanted + np.array([0, 0.12, 0.25]) * (1 - fallen)
        elif style.way == "back":
            low = np.clip((0.35 - position[:, 1:2]) / 0.4, 0, 1)
            wanted = np.array([0.0, 0.18, -1.0]) * (1 - low) + np.array([0.0, -0.55, -0.8]) * low
            wanted = wanted + 0.12 * side * [1.0, 0, 0]
        elif style.way == "forward":
            low = np.clip((0.4 - position[:, 1:2]) / 0.3, 0, 1)
            wanted = np.array([0.15, 0.1, 0.8]) * (1 - low) + np.array([0.0, -1.0, 0.1]) * low
        else:
            wanted = normal + 0.35 * down
        wanted = _unit(wanted) + swing * (0.5 + done)
        if style.curl:
            turn = 2 * np.pi * style.curl * done * lengths[:, None] + (lock * 1.7 if style.way == "down" else phase)
            width = style.wave * style.curl * 2 * np.pi
            across = _unit(np.cross(wanted, axis)) if style.way == "out" else np.array([0.75, 0, 0.65])
            wanted = wanted + width * np.cos(turn) * across * min(1.0, 2.5 * done)
            if style.way == "out":
                wanted = wanted + width * np.sin(turn) * _unit(np.cross(wanted, across))
        return _unit(wanted)

    lift = np.full(number, style.lift) * (0.5 + 0.5 * height)
    curves = comb.grow(roots, lengths, lift, direction, thickness, style.stiffness)
    tints = np.exp(rng.normal(0, 0.12, number)) * (1 + 0.1 * np.sin(2.3 * lock[:, 0]))
    parts = [as_points(roots, curves, tints, 0.35 + 0.65 * layer, spacing)]
    if style.gathered:
        parts.append(_knot(comb, roots, knot + np.array([0, 0.62, 0.42], np.float32), spacing, rng))
    return join(parts)


def grow_beard(
    comb: Comb, template: np.ndarray, density: np.ndarray, rng: np.random.Generator, spacing: float
) -> Strands:
    """Return a beard; its points have a depth of -1.

    Args:
        density: (T,), see `scatter_roots`.
        spacing: see `as_points`.
    """
    number = 4500
    roots = scatter_roots(template, comb.triangles, density, number, rng)
    places = root_points(template, comb.triangles, *roots)
    sway = rng.normal(0, 0.25, places.shape) + np.sign(places[:, :1]) * [0.25, 0, 0]
    lengths = rng.uniform(0.05, 0.1, number) * np.clip(np.abs(places[:, 1] + 0.62) / 0.25, 0.25, 1)  # lips

    def direction(position: np.ndarray, normal: np.ndarray, done: float) -> np.ndarray:
        return np.array([0, -1.0, 0]) + 0.5 * normal + sway

    curves = comb.grow(roots, lengths, np.full(number, 0.3), direction, 0.03)
    return as_points(roots, curves, np.exp(rng.normal(0, 0.15, number)), np.full(number, -1.0), spacing)


def _knot(
    comb: Comb, roots: tuple[np.ndarray, np.ndarray], middle: np.ndarray, spacing: float, rng: np.random.Generator
) -> Strands:
    """Return a bun: strands wound around a ball on the crown."""
    number, radius = 900, 0.3
    turn = rng.uniform(0, 2 * np.pi, (number, 1)) + np.linspace(0, 2.2, SEGMENTS + 1)
    tilt = rng.uniform(-1.2, 1.2, (number, 1)) + 0.3 * np.sin(turn)
    out = radius * rng.uniform(0.75, 1.0, (number, 1)) ** 0.5
    ways = np.stack([np.cos(turn) * np.cos(tilt), np.sin(tilt), np.sin(turn) * np.cos(tilt)], 2)
    curves = middle + ways * out[..., None]
    chosen = rng.integers(len(roots[0]), size=number)
    anchors = (roots[0][chosen], roots[1][chosen])
    starts = root_points(comb.vertices, comb.triangles, *anchors)
    tints = np.exp(rng.normal(0, 0.12, number))
    return as_points(anchors, curves.astype(np.float32), tints, np.ones(number), spacing, starts)
