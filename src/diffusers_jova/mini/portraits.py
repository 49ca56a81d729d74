# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Somebody's portrait at a moment: the head, hair, clothes and background, in light, as an image.

What does not change during a clip, such as hair, shadows and the background, is made once, in `Portrait`; a frame
moves the vertices, finds what is in front, and colours it. Light adds up in linear colours.
"""
# V vertices, T triangles, N points of hair, P pixels of the drawing, S its size

from dataclasses import dataclass, field

import numpy as np

from .backgrounds import paint_background
from .glasses import SHAPES, fit_glasses
from .hair import SKULL, STYLES, Comb, Strands, grow_beard, grow_hair, join
from .heads import LASHES, MASKS, PARTS, head_model
from .light import SKIN_SOFTNESS, Lamps, Matter, develop, directions, light_hair, light_surface, seen_from, unit
from .paint import (
    beard_area,
    brow_area,
    eye_colours,
    fabric,
    gaps_between_teeth,
    inside_clothes,
    linear,
    mixed,
    skin_colours,
    smoothstep,
)
from .people import HAIR_COLOURS, Person
from .raster import Surface, nearest, rasterize, vertex_normals


SUPERSAMPLING = 2  # pixels of the drawing to a pixel of the image, a side
CAMERA = 16.0  # decimetres in front of the eyes
SCALE = 0.30  # of the image's size, of a decimetre at the eyes
EYES_AT = 0.43  # of the image's height, from above
NECK = np.array([0.0, -0.95, -0.55], np.float32)  # around which the head turns
STAYS, FOLLOWS = -2.0, -1.0  # heights: what is below the first stays when the head turns, above the second all follows
SHOULDERS = -1.15  # height below which hair may hide all gaps
CLOTH = 0.05  # decimetres, its thickness
BAKED = 96  # pixels of the maps that shadows are found with
KEPT_BEHIND = 0.12  # decimetres of hair behind the front, for poses between those that were tried
NUM_DIRECTIONS = 28  # from which light of the surroundings is followed
LAMP_SIZE = 0.16  # of the brightest lamp, in radians: its shadows have soft edges
GLASSES = len(PARTS + LASHES)  # the number of a part that the model does not have
FRAMES = ((0.02, 0.018, 0.016), (0.16, 0.08, 0.035))  # colours of glasses


@dataclass(frozen=True)
class Pose:
    """How somebody looks at one moment.

    Attributes:
        units: how much of each face unit, such as {"jawOpen": 0.3}; without any, the lips just touch.
        yaw, pitch, roll: of the head, in radians: to the person's left, down, to the person's right shoulder.
        gaze: of the eyes beside that of the head, in radians: to the person's left, up.
        x, y: of everything in the image, over its size.
    """

    units: dict[str, float] = field(default_factory=dict)
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    gaze: tuple[float, float] = (0.0, 0.0)
    x: float = 0.0
    y: float = 0.0

    @property
    def turn(self) -> np.ndarray:
        """The matrix (3, 3) that turns row vectors on its left as the head is turned."""
        angles = (self.yaw, self.pitch, self.roll)
        (sy, cy), (sp, cp), (sr, cr) = ((np.sin(angle), np.cos(angle)) for angle in angles)
        yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return (roll @ pitch @ yaw).astype(np.float32)


TRIED = [Pose(yaw=yaw, pitch=pitch) for yaw in (-0.3, 0.0, 0.3) for pitch in (-0.15, 0.15)]  # to see which hair shows


class Portrait:
    """Draws one person.

    Args:
        person: who.
        size: of the images, in pixels.
    """

    def __init__(self, person: Person, size: int = 128):
        self.person, self.size = person, size
        self.pixels = SUPERSAMPLING * size
        self.model = model = head_model()
        rng = np.random.default_rng([person.seed, 33])
        self.lamps = Lamps.of(person)
        self.hair_colour = linear(HAIR_COLOURS[person.hair])

        eyes = model.vertices_of("helper-l-eye", "helper-r-eye")
        shape = model.moved(model.vertices, person.weights())
        shape[model.vertices_of("helper-upper-teeth")] += (0.0, -0.045, 0.02)  # in the model, the lip hides them
        self.rest = shape - shape[eyes].mean(0)
        self.template = model.vertices - model.vertices[eyes].mean(0)
        self.inside = inside_clothes(self.template, person.clothes)
        thickness = CLOTH * smoothstep(-0.01, 0.06, self.inside)[:, None]
        self.rest = (self.rest + thickness * vertex_normals(self.rest, model.triangles)).astype(np.float32)
        self.jaw_at_rest = self._jaw_at_rest()
        self.colours = self._colours()
        self.strands = self._shown(self._grow(rng))
        self.triangles, self.masks, self.parts = model.triangles, model.masks, model.parts
        if person.glasses:
            self._put_on_glasses(rng)
        self.is_low = self.template[self.triangles, 1].mean(1) < SHOULDERS
        self._follow_light()
        self.background = paint_background(person, rng, self.pixels)

    # --- made once ---

    def _jaw_at_rest(self) -> float:
        """Return how much of "jawOpen" makes the lips of this shape just touch."""
        indices, ways = self.model.targets["jawOpen"]
        falls = np.zeros(len(self.rest), np.float32)
        falls[indices] = -ways[:, 1]
        middle = (self.model.masks[:, MASKS.index("lips")] > 0.5) & (np.abs(self.template[:, 0]) < 0.06)
        lower = middle & (falls > 0.5 * falls[middle].max())
        gap = self.rest[middle & ~lower, 1].min() - self.rest[lower, 1].max()
        return float(-gap / falls[lower].mean())

    def _colours(self) -> np.ndarray:
        """Return the colours of all parts at the vertices, as amounts of light, (V, 3)."""
        colours = skin_colours(self.person, self.template, self.model.masks)
        colours[self.model.vertices_of("helper-upper-teeth", "helper-lower-teeth")] = (0.86, 0.81, 0.72)
        colours[self.model.vertices_of("helper-tongue")] = (0.42, 0.11, 0.12)
        colours[self.model.vertices_of(*LASHES)] = 0.2 * self.hair_colour
        return colours

    def _grow(self, rng: np.random.Generator) -> Strands:
        person, model, template = self.person, self.model, self.template
        spacing = 1 / (SCALE * self.pixels)
        comb = Comb(self.rest, vertex_normals(self.rest, model.triangles), model.triangles)
        ears, lips = (model.masks[model.triangles, MASKS.index(name)].max(1) for name in ("ears", "lips"))
        outside = model.part("body") & (ears < 0.3)
        parts = [grow_hair(comb, template, STYLES[person.hair_style], rng, outside, spacing)]
        if person.beard == "beard":  # stubble is only a colour
            density = outside * (lips < 0.4) * beard_area(template[model.triangles].mean(1))
            parts.append(grow_beard(comb, template, density, rng, spacing))
        return join(parts)

    def _shown(self, strands: Strands) -> Strands:
        """Return the points of hair that are near the front in some pose of a clip; the others are never seen."""
        cells = self.pixels // 2
        points = strands.points(self.rest, self.model.triangles)
        shown = strands.depths < 0
        for pose in TRIED:
            columns, rows, depths = self._project(_turned(points, pose.turn), pose).T
            cell = (rows / 2).astype(np.int32).clip(0, cells - 1) * cells
            cell += (columns / 2).astype(np.int32).clip(0, cells - 1)
            front = np.full(cells * cells, -np.inf, np.float32)
            np.maximum.at(front, cell, depths)
            shown |= depths > front[cell] - KEPT_BEHIND
        return strands.chosen(np.flatnonzero(shown))

    def _put_on_glasses(self, rng: np.random.Generator) -> None:
        without_ears = self.rest[self.masks[:, MASKS.index("ears")] < 0.1]
        vertices, triangles = fit_glasses(without_ears, str(rng.choice(list(SHAPES))))
        more = len(vertices)
        self.triangles = np.concatenate([self.triangles, triangles + len(self.rest)])
        self.parts = np.concatenate([self.parts, np.full(len(triangles), GLASSES, np.uint8)])
        self.rest, self.template = (np.concatenate([points, vertices]) for points in (self.rest, self.template))
        self.colours = np.concatenate([self.colours, np.tile(FRAMES[rng.integers(2)], (more, 1))]).astype(np.float32)
        self.masks = np.pad(self.masks, ((0, more), (0, 0)))
        self.inside = np.pad(self.inside, (0, more), constant_values=-1)

    def _follow_light(self) -> None:
        """Find out which light reaches the head at rest: of the brightest lamp, and of everything around."""
        hair = self.strands.points(self.rest, self.triangles)
        normals = vertex_normals(self.rest, self.triangles)
        receivers = np.concatenate([self.rest + 0.02 * normals, hair])
        casters = hair[self.strands.depths >= 0]

        def seen(way: np.ndarray) -> np.ndarray:
            return seen_from(way, self.rest, self.triangles, casters, receivers, BAKED)

        open_, total = np.zeros(len(receivers), np.float32), np.zeros(len(receivers), np.float32)
        for way in directions(NUM_DIRECTIONS):
            facing = np.concatenate([np.clip(normals @ way, 0, 1), np.ones(len(hair), np.float32)])
            weight = facing * (0.65 + 0.35 * way[1])  # more comes from above
            open_ += weight * seen(way)
            total += weight
        aside = LAMP_SIZE * np.array([(0, 0, 0), (1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0)], np.float32)
        lit = np.mean([seen(way) for way in unit(self.lamps.way + aside)], axis=0)
        self.openness, self.hair_openness = np.split(open_ / np.maximum(total, 1e-3), [len(self.rest)])
        self.lit, self.hair_lit = np.split(lit.astype(np.float32), [len(self.rest)])

    # --- for each frame ---

    def draw(self, pose: Pose = Pose()) -> np.ndarray:
        """Return the image of a moment, (size, size, 3) uint8."""
        units = pose.units | {"jawOpen": pose.units.get("jawOpen", 0.0) + self.jaw_at_rest}
        moved = self.model.moved(self.rest, units)
        vertices = _turned(moved, pose.turn)
        hair = _turned(self.strands.points(moved, self.triangles), pose.turn)
        surface = rasterize(self._project(vertices, pose), self.triangles, self.pixels)
        surface, strands = self._in_front(surface, self._project(hair, pose))
        hairy = np.flatnonzero(strands >= 0)

        image = self.background.reshape(-1, 3).copy()
        image[surface.pixels] = self._surface_light(surface, vertices, pose)
        image[hairy] = self._hair_light(strands[hairy], hair, pose)
        image = image.reshape(self.size, SUPERSAMPLING, self.size, SUPERSAMPLING, 3).mean((1, 3))
        return develop(image)

    def _project(self, points: np.ndarray, pose: Pose) -> np.ndarray:
        """Return columns, rows and depths, (..., 3), of points (..., 3)."""
        scale = SCALE * self.pixels * CAMERA / (CAMERA - points[:, 2])
        columns = (0.5 + pose.x) * self.pixels + points[:, 0] * scale
        rows = (EYES_AT + pose.y) * self.pixels - points[:, 1] * scale
        return np.stack([columns, rows, points[:, 2]], 1).astype(np.float32)

    def _in_front(self, surface: Surface, hair: np.ndarray) -> tuple[Surface, np.ndarray]:
        """Return what is seen of the mesh, and the point of hair at each pixel, (S²,), below 0 where there is none."""
        size, number = self.pixels, len(surface.pixels)
        columns, rows = hair[:, 0].astype(np.int32), hair[:, 1].astype(np.int32)
        points = np.flatnonzero((columns >= 0) & (columns < size - 1) & (rows >= 0) & (rows < size))
        first = rows[points] * size + columns[points]  # a strand is two pixels wide
        pixels = np.concatenate([surface.pixels, first, first + 1])
        front = nearest(pixels, np.concatenate([surface.depths, hair[points, 2], hair[points, 2]]), size)
        is_hair = front >= number
        surface = surface.chosen(front[~is_hair])
        strands = np.full(size * size, -1)
        strands[surface.pixels] = np.where(self.is_low[surface.triangles], -1, -2)
        strands[pixels[front[is_hair]]] = np.tile(points, 2)[front[is_hair] - number]
        return surface, close_gaps(strands.reshape(size, size)).ravel()

    def _surface_light(self, surface: Surface, vertices: np.ndarray, pose: Pose) -> np.ndarray:
        """Return the light that comes from the mesh, (P, 3)."""
        scalars = (self.lit, self.openness, self.inside, self.masks[:, 0], self.masks[:, 1])
        normals = vertex_normals(vertices, self.triangles)
        values = np.concatenate([normals, vertices, self.template, self.colours, np.stack(scalars, 1)], axis=1)
        values = surface.interpolate(self.triangles, values.astype(np.float32))
        normals, places, template, colours = (values[:, k : k + 3] for k in (0, 3, 6, 9))
        lit, openness, inside, lips, mouth = values[:, 12:].T
        covered = inside > 0
        colours = mixed(colours, 0.65 * self.hair_colour, self._stubble(template) * (lips + mouth < 0.4) * ~covered)
        matter = Matter(
            colours=np.where(covered[:, None], fabric(self.person, template, inside), colours),
            normals=unit(normals),
            gloss=np.where(covered, 0.0, 0.16 + 0.25 * lips),
            softness=np.where(covered[:, None], 0.08, SKIN_SOFTNESS),
            lit=lit,
            openness=np.where(mouth > 0.5, 0.12 + 0.4 * openness, openness),
        )
        parts = self.parts[surface.triangles]
        matter.change(parts == GLASSES, gloss=1.2)
        matter.change(np.isin(parts, _numbers(*LASHES)), gloss=0.0)
        teeth = np.isin(parts, _numbers("helper-upper-teeth", "helper-lower-teeth"))
        whiter = matter.colours[teeth] * gaps_between_teeth(template[teeth])
        matter.change(teeth, colours=whiter, gloss=0.3, lit=0.35, openness=0.7)
        for name in ("helper-l-eye", "helper-r-eye"):
            self._look(matter, parts == PARTS.index(name), places, vertices[self.model.vertices_of(name)], pose)
        return light_surface(matter, unit(np.array([0, 0, CAMERA], np.float32) - places), self.lamps)

    def _stubble(self, template: np.ndarray) -> np.ndarray:
        """Return how much of the hair's colour is in the skin, under brows and beards, (P,)."""
        amount = 0.85 * brow_area(template, self.person.brow)
        if self.person.beard == "no beard":
            return amount
        return np.maximum(amount, (0.4 if self.person.beard == "stubble" else 0.8) * beard_area(template))

    def _look(self, matter: Matter, eye: np.ndarray, places: np.ndarray, ball: np.ndarray, pose: Pose) -> None:
        """Colour the pixels of an eyeball."""
        middle = (ball.min(0) + ball.max(0)) / 2
        left, up = pose.gaze
        inwards = -0.04 * np.sign(middle[0])
        look = unit(np.array([np.sin(left + inwards), np.sin(up), 1.0], np.float32)) @ pose.turn
        out = unit(places[eye] - middle)
        colours = eye_colours(out, look, self.person.iris)
        colours *= 1 - 0.65 * smoothstep(0.0, 0.09, places[eye, 1] - middle[1])[:, None]  # under the upper lid
        # a window is mirrored in the eye, at a place that does not move with the gaze
        window = middle[:2] + 0.125 * np.array([0.45 * np.sign(self.lamps.way[0]), 0.42], np.float32)
        glint = 0.9 * smoothstep(0.03, 0.018, np.linalg.norm(places[eye, :2] - window, axis=1))
        cornea = 0.25 * smoothstep(0.55, 0.3, np.arccos(np.clip(out @ look, -1, 1)))[:, None]
        normals = unit(out * (1 - cornea) + look * cornea)
        matter.change(eye, colours=colours + glint[:, None], normals=normals, gloss=0.25, softness=0.15)
        matter.change(eye, lit=0.85, openness=0.75)

    def _hair_light(self, chosen: np.ndarray, points: np.ndarray, pose: Pose) -> np.ndarray:
        """Return the light that comes from points of hair, (P, 3)."""
        out = unit(points[chosen] - (SKULL - NECK) @ pose.turn - NECK)
        tangents = self.strands.tangents[chosen] @ pose.turn
        tints, depths = self.strands.tints[chosen], self.strands.depths[chosen]
        lit, openness = self.hair_lit[chosen], self.hair_openness[chosen]
        return light_hair(self.hair_colour, tangents, out, tints, depths, lit, openness, self.lamps)


def _numbers(*names: str) -> list[int]:
    return [(PARTS + LASHES).index(name) for name in names]


def _turned(points: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return points of head and shoulders, (..., 3), when the head turns; the shoulders stay."""
    follows = smoothstep(STAYS, FOLLOWS, points[:, 1:2])
    return points + follows * ((points - NECK) @ turn + NECK - points)


def close_gaps(strands: np.ndarray) -> np.ndarray:
    """Return the points of hair that are seen, (S, S), also where something shows between strands.

    Args:
        strands: (S, S): the point that is seen, -1 for background and shoulders, -2 for anything else.
    """
    for reach in (1, 2, 3, 2, 1):
        for axis in (0, 1):
            one, other = np.roll(strands, reach, axis), np.roll(strands, -reach, axis)
            strands = np.where((strands == -1) & (one >= 0) & (other >= 0), one, strands)
    return strands
