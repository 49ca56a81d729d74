# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Light: what of it reaches the points of a head at rest, and what skin, cloth and hair send to the camera."""
# V vertices, T triangles, N points, P pixels

from dataclasses import dataclass

import numpy as np

from .people import Person
from .raster import rasterize


REACH = 2.6  # decimetres around the head that a map of shadows shows
BIAS = 0.035  # decimetres that something must be nearer to the light to throw a shadow
SOFTNESS = 1.2  # pixels of the map
SKIN_SOFTNESS = (0.42, 0.24, 0.17)  # how far light spreads under the skin, by colour


def directions(number: int) -> np.ndarray:
    """Return directions (number, 3) spread evenly over the half sphere in front and above: a Fibonacci lattice."""
    k = np.arange(number) + 0.5
    z = 1 - 1.15 * k / number  # a little beyond the half
    angle = np.pi * (1 + 5**0.5) * k
    flat = np.sqrt(1 - z**2)
    return np.stack([flat * np.cos(angle), flat * np.sin(angle), z], 1).astype(np.float32)


def seen_from(
    way: np.ndarray, vertices: np.ndarray, triangles: np.ndarray, hair: np.ndarray, receivers: np.ndarray, size: int
) -> np.ndarray:
    """Return how much of the light from a direction reaches points, (N,) from 0 to 1.

    Args:
        way: (3,), towards the light.
        vertices, triangles: of the mesh, which throws shadows.
        hair: points that do so too.
        receivers: (N, 3).
        size: of the map of depths, in pixels.
    """
    side = np.cross([0.0, 1.0, 0.0], way)
    side /= np.linalg.norm(side)
    axes = np.stack([side, np.cross(way, side), way], 1).astype(np.float32)
    scale = size / (2 * REACH)

    def place(points: np.ndarray) -> np.ndarray:
        turned = points @ axes
        return np.stack([size / 2 + turned[:, 0] * scale, size / 2 - turned[:, 1] * scale, turned[:, 2]], 1)

    depths = np.full(size * size, -np.inf, np.float32)
    surface = rasterize(place(vertices).astype(np.float32), triangles, size)
    depths[surface.pixels] = surface.depths
    strands = place(hair)
    column, row = strands[:, 0].astype(int), strands[:, 1].astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    np.maximum.at(depths, row[inside] * size + column[inside], strands[inside, 2].astype(np.float32))
    found = place(receivers)
    # four looks around each point: the share that is not in shadow
    free = np.zeros(len(receivers), np.float32)
    for dx, dy in ((-0.6, -0.2), (0.6, 0.2), (-0.2, 0.6), (0.2, -0.6)):
        column = np.clip(found[:, 0] + dx * SOFTNESS, 0, size - 1).astype(int)
        row = np.clip(found[:, 1] + dy * SOFTNESS, 0, size - 1).astype(int)
        behind = depths[row * size + column] - found[:, 2]
        free += 1 - np.clip((behind - BIAS) / 0.06, 0, 1)
    return free / 4


def unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (..., 3) of length 1."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class Lamps:
    """The light around somebody; colours are amounts of light.

    Attributes:
        way: (3,), towards the brightest lamp.
        key: that lamp's colour.
        fill: of the weaker one on the other side.
        sky, ground: of what comes from above and below.
        rim: of the one behind.
    """

    way: np.ndarray
    key: np.ndarray
    fill: np.ndarray
    sky: np.ndarray
    ground: np.ndarray
    rim: np.ndarray

    @classmethod
    def of(cls, person: Person) -> "Lamps":
        warm = person.warmth
        return cls(
            unit(np.array([person.light, 0.55, 0.9], np.float32)),
            key=np.array([1.0 + 0.10 * warm, 0.98, 0.94 - 0.14 * warm], np.float32) * 1.12,
            fill=np.array([0.95, 1.0, 1.08], np.float32) * 0.22,
            sky=np.array([0.92 - 0.05 * warm, 0.98, 1.06 + 0.06 * warm], np.float32) * 0.52,
            ground=np.array([0.30, 0.26, 0.23], np.float32),
            rim=np.array([1.0, 0.97, 0.92], np.float32) * 0.9,
        )

    @property
    def behind(self) -> np.ndarray:
        """Towards the lamp behind, on the side that the brightest one leaves dark; (3,)."""
        return np.array([-np.sign(self.way[0]) * 0.9, 0.25, -0.33], np.float32)


@dataclass
class Matter:
    """What is at pixels, and how light reaches it.

    Attributes:
        colours: (P, 3), the part of light that is sent back.
        normals: (P, 3), where the surface faces.
        gloss: (P,), how much light is mirrored.
        softness: (P, 3), how far light spreads inside, by colour.
        lit: (P,), how much of the brightest lamp is seen from there.
        openness: (P,), how much of everything around.
    """

    colours: np.ndarray
    normals: np.ndarray
    gloss: np.ndarray
    softness: np.ndarray
    lit: np.ndarray
    openness: np.ndarray

    def change(self, where: np.ndarray, **values) -> None:
        """Set values of some pixels."""
        for name, value in values.items():
            getattr(self, name)[where] = value


def light_surface(matter: Matter, view: np.ndarray, lamps: Lamps) -> np.ndarray:
    """Return the light that surfaces send to the camera, (P, 3): diffuse with a soft edge of the shadow, and glossy.

    Args:
        view: (P, 3), towards the camera, of length 1.
    """
    normals, openness, gloss = matter.normals, matter.openness, matter.gloss
    facing = (normals @ lamps.way)[:, None]
    diffuse = np.clip((facing + matter.softness) / (1 + matter.softness), 0, None) * matter.lit[:, None]
    beside = np.clip(normals @ np.array([-lamps.way[0], 0.15, 0.8], np.float32) / 1.1, 0, None) * openness
    up = 0.5 + 0.5 * normals[:, 1:2]
    around = (lamps.sky * up + lamps.ground * (1 - up)) * (openness**1.2)[:, None]
    shine = np.clip((normals * unit(view + lamps.way)).sum(1), 0, 1)
    grazing = 1 - np.clip((normals * view).sum(1), 0, 1)
    mirrored = gloss * (0.55 * shine**22 + 0.35 * shine**70) * matter.lit
    back = 1.6 * np.clip(normals @ lamps.behind, 0, 1) * grazing**2 * openness
    light = lamps.key * diffuse + lamps.fill * beside[:, None] + around + lamps.rim * back[:, None]
    edge = 0.1 * gloss * grazing**3 * openness
    return matter.colours * light + lamps.key * mirrored[:, None] + lamps.sky * edge[:, None]


def light_hair(
    colour: np.ndarray,
    tangents: np.ndarray,
    out: np.ndarray,
    tints: np.ndarray,
    depths: np.ndarray,
    lit: np.ndarray,
    openness: np.ndarray,
    lamps: Lamps,
) -> np.ndarray:
    """Return the light that points of hair send to the camera, (P, 3): two highlights across the strands.

    The model is that of Kajiya and Kay, "Rendering fur with three dimensional textures", 1989, with a second highlight
    of the hair's own colour, as Marschner and others measured in 2003; the numbers are ours.

    Args:
        colour: (3,), of the hair.
        tangents: (P, 3), which way the strands go.
        out: (P, 3), away from the middle of the skull.
        tints, depths: (P,), see `hair.Strands`; below 0 is a beard.
        lit, openness: (P,), see `Matter`.
    """
    deep = np.where(depths < 0, 1.0, 0.35 + 0.65 * depths)
    colours = colour * (tints * deep)[:, None]
    half = unit(lamps.way + np.array([0, 0, 1], np.float32))
    facing = np.clip((out @ lamps.way + 0.35) / 1.35, 0, 1)
    light = lamps.key * (0.85 * _across(tangents, lamps.way) * facing * (0.3 + 0.7 * lit))[:, None]
    light = light + (lamps.sky * (0.5 + 0.5 * out[:, 1:2]) + lamps.ground * 0.6) * (0.25 + 0.75 * openness)[:, None]
    first = _across(unit(tangents + 0.12 * out), half)[:, None] ** 90
    second = _across(tangents, half)[:, None] ** 22
    amount = facing * (0.25 + 0.75 * lit) * deep * (depths >= 0)
    gloss = lamps.key * (0.055 * first + 0.65 * second * (colour * 1.2 + 0.012))
    edge = 0.35 * np.clip(out @ lamps.behind, 0, 1) ** 2 * openness
    return colours * light + gloss * amount[:, None] + lamps.rim * edge[:, None] * (colours + 0.02)


def _across(tangents: np.ndarray, way: np.ndarray) -> np.ndarray:
    """Return the sine of the angle between strands (P, 3) and a direction (3,), (P,)."""
    return np.sqrt(np.clip(1 - (tangents @ way) ** 2, 0, 1))


def develop(image: np.ndarray) -> np.ndarray:
    """Return light (S, S, 3) as an image, uint8: corners darker, bright places compressed as in film (our choice)."""
    across = np.linspace(-1, 1, len(image), dtype=np.float32)
    image = image * (1 - 0.16 * (across**2 + (0.9 * across[:, None]) ** 2))[..., None]
    image = image * (1 + image * 0.12) / (1 + image * 0.62) * 1.28
    return (np.clip(image, 0, 1) ** (1 / 2.2) * 255 + 0.5).astype(np.uint8)
