# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Drawn faces, nobody's likeness: who somebody is (`Identity`), how they look at a moment (`Pose`) -> an image."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


Colour = tuple[int, int, int]

# The words of the captions and their colours. Apart enough that a program can tell them from an image.
HAIR_COLOURS: dict[str, Colour] = {
    "black": (34, 30, 34),
    "brown": (104, 62, 34),
    "blond": (226, 190, 104),
    "red": (176, 62, 28),
    "white": (226, 226, 230),
}
COLOURS: dict[str, Colour] = {  # of walls and shirts
    "red": (190, 60, 60),
    "yellow": (226, 200, 84),
    "green": (84, 160, 92),
    "blue": (72, 112, 196),
    "purple": (136, 84, 168),
    "grey": (150, 152, 156),
}
PEOPLE = ("woman", "man")
HAIR_LENGTHS = ("short", "long")
EYES: tuple[Colour, ...] = ((70, 46, 30), (60, 96, 130), (74, 104, 70), (60, 60, 66))
LIGHTEST_SKIN, DARKEST_SKIN = np.array([238, 200, 172]), np.array([150, 100, 72])

SUPERSAMPLING = 4  # drawn at four times the size of the model's 64 pixels, whatever the size of the image
DRAWN_SIZE = 64 * SUPERSAMPLING


@dataclass(frozen=True)
class Identity:
    """Who somebody is. The five words are what a caption says; the numbers are what only an image can tell.

    Attributes:
        person, hair, hair_length, shirt, wall: words, see the tables above.
        skin, eyes: colours.
        width: of the head over its height.
        eye_distance, eye_size, brow, nose, mouth: scales around 1.
        fringe: how far the hair reaches down the forehead, 0 to 1.
    """

    person: str
    hair: str
    hair_length: str
    shirt: str
    wall: str
    skin: Colour
    eyes: Colour
    width: float
    eye_distance: float
    eye_size: float
    brow: float
    nose: float
    mouth: float
    fringe: float

    @classmethod
    def from_seed(cls, seed: int, **words: str) -> "Identity":
        """Return the identity of a seed. `words` fix what must be so, such as `person="man"`.

        Raises:
            ValueError: For a word that is not in the tables.
        """
        rng = np.random.default_rng([seed, 7])
        drawn: dict[str, Any] = {
            "person": PEOPLE[rng.integers(2)],
            "hair": list(HAIR_COLOURS)[rng.integers(len(HAIR_COLOURS))],
            "hair_length": None,
            "shirt": list(COLOURS)[rng.integers(len(COLOURS))],
            "wall": list(COLOURS)[rng.integers(len(COLOURS))],
        }
        others = [colour for colour in COLOURS if colour != drawn["wall"]]
        if drawn["shirt"] == drawn["wall"]:
            drawn["shirt"] = others[rng.integers(len(others))]
        is_long = rng.uniform()
        tone = rng.uniform()
        skin = LIGHTEST_SKIN * (1 - tone) + DARKEST_SKIN * tone
        numbers: dict[str, Any] = {
            "width": rng.uniform(0.7, 0.8),
            "eye_distance": rng.uniform(0.92, 1.1),
            "eye_size": rng.uniform(0.9, 1.2),
            "brow": rng.uniform(0.7, 1.6),
            "nose": rng.uniform(0.85, 1.2),
            "mouth": rng.uniform(0.85, 1.12),
            "fringe": rng.uniform(),
        }
        eyes = EYES[rng.integers(len(EYES))]
        drawn |= words
        drawn["hair_length"] = (
            drawn["hair_length"] or HAIR_LENGTHS[int(is_long < (0.8 if drawn["person"] == "woman" else 0.15))]
        )
        for name, allowed in ALLOWED_WORDS.items():
            if drawn[name] not in allowed:
                raise ValueError(f"There is no {name} {drawn[name]!r}: choose one of {sorted(allowed)}.")
        return cls(**drawn, skin=_as_colour(skin), eyes=eyes, **numbers)


ALLOWED_WORDS = {
    "person": PEOPLE,
    "hair": HAIR_COLOURS,
    "hair_length": HAIR_LENGTHS,
    "shirt": COLOURS,
    "wall": COLOURS,
}


@dataclass(frozen=True)
class Pose:
    """How somebody looks at one moment.

    Attributes:
        opening: of the mouth, 0 (closed) to 1.
        spread: of the mouth's width, −1 (rounded) to 1 (wide).
        lids: 0 (open) to 1 (closed).
        x, y: of the head's centre from its place, over the image's size.
        turn: of the head, −1 (left) to 1 (right): features move over the head, by 3 % of its width.
    """

    opening: float = 0.0
    spread: float = 0.0
    lids: float = 0.0
    x: float = 0.0
    y: float = 0.0
    turn: float = 0.0


def draw_face(identity: Identity, pose: Pose = Pose(), size: int = 64) -> Image.Image:
    """Return the image of somebody, RGB, `size` x `size` pixels.

    Args:
        size: at most 256, the size at which it is drawn.
    """
    if not 1 <= size <= DRAWN_SIZE:
        raise ValueError(f"A face is drawn at {DRAWN_SIZE} pixels; `size` must be 1 to that, got {size}.")
    canvas = Image.new("RGB", (DRAWN_SIZE, DRAWN_SIZE), COLOURS[identity.wall])
    draw = ImageDraw.Draw(canvas)
    h = 0.68 * DRAWN_SIZE  # the head's height
    w = h * identity.width
    cx, cy = (0.5 + pose.x) * DRAWN_SIZE, (0.47 + pose.y) * DRAWN_SIZE
    skin, hair, shirt = identity.skin, HAIR_COLOURS[identity.hair], COLOURS[identity.shirt]
    lips = shade(skin, (0.84, 0.46, 0.48))
    turn = 0.03 * pose.turn

    def ellipse(x: float, y: float, rx: float, ry: float, fill: Colour) -> None:  # in heads, from the head's centre
        draw.ellipse((cx + (x - rx) * w, cy + (y - ry) * h, cx + (x + rx) * w, cy + (y + ry) * h), fill=fill)

    # behind the face: hair, neck, shoulders
    ellipse(0, -0.08, 0.58, 0.54, hair)
    if identity.hair_length == "long":
        draw.rounded_rectangle((cx - 0.6 * w, cy - 0.1 * h, cx + 0.6 * w, cy + 0.58 * h), 0.12 * w, fill=hair)
    draw.rectangle((cx - 0.17 * w, cy + 0.38 * h, cx + 0.17 * w, cy + 0.64 * h), fill=shade(skin, 0.74))
    draw.ellipse((0.08 * DRAWN_SIZE, cy + 0.56 * h, 0.92 * DRAWN_SIZE, cy + 1.3 * h), fill=shirt)

    # the face, lighter in its middle
    ellipse(0, 0, 0.5, 0.5, shade(skin, 0.92))
    ellipse(turn, 0.04, 0.42, 0.44, skin)
    ellipse(turn, 0.06, 0.3, 0.36, shade(skin, 1.06))
    ellipse(0, -0.47 + 0.06 * identity.fringe, 0.47, 0.13 + 0.05 * identity.fringe, hair)

    for side in (-1, 1):
        x, size_x, size_y = (
            0.21 * identity.eye_distance * side + turn,
            0.1 * identity.eye_size,
            0.04 * identity.eye_size,
        )
        ellipse(x, -0.08, 1.3 * size_x, 1.5 * size_y, shade(skin, 0.8))
        ellipse(x, -0.075, size_x, size_y, (246, 246, 244))
        ellipse(x + 0.5 * turn, -0.075, 0.042 * identity.eye_size, 0.92 * size_y, identity.eyes)
        ellipse(x + 0.5 * turn, -0.075, 0.02 * identity.eye_size, 0.5 * size_y, (18, 16, 18))
        if pose.lids > 0.02:  # the lid comes down from above
            ellipse(x, -0.075 - size_y * (1 - pose.lids), 1.1 * size_x, 1.1 * size_y * pose.lids, shade(skin, 0.86))
        ellipse(x, -0.172, 0.125, 0.013 * identity.brow, shade(hair, 0.8))
    nose = 0.105 * identity.nose
    draw.line(
        (cx + (0.02 + turn) * w, cy - 0.05 * h, cx + (0.055 + 1.5 * turn) * w, cy + (nose - 0.01) * h),
        fill=shade(skin, 0.84),
        width=4,
    )
    ellipse(1.5 * turn, nose, 0.08, 0.03, shade(skin, 0.84))
    ellipse(1.5 * turn, nose - 0.008, 0.07, 0.028, shade(skin, 1.06))
    for side in (-1, 1):
        ellipse(0.045 * side + 1.5 * turn, nose + 0.016, 0.022, 0.01, shade(skin, 0.5))

    # the mouth: lips, the dark opening, teeth
    gap, half = 0.085 * pose.opening, 0.15 * identity.mouth * (1 + 0.18 * pose.spread)
    y = 0.265 + 0.35 * gap  # the lower lip moves more than the upper one
    ellipse(turn, y, half + 0.04, 0.032 + gap, lips)
    ellipse(turn, y, half, 0.006 + gap, (52, 16, 20))
    if gap > 0.02:
        ellipse(turn, y - 0.62 * gap, 0.68 * half, 0.28 * gap, (238, 232, 224))

    canvas = canvas.filter(ImageFilter.GaussianBlur(1.5))
    return canvas.resize((size, size), Image.Resampling.BOX)


def shade(colour: Colour, factor: float | tuple[float, ...]) -> Colour:
    """Return a colour made darker (factor below 1) or lighter."""
    return _as_colour(np.clip(np.multiply(colour, factor), 0, 255))


def _as_colour(values: np.ndarray) -> Colour:
    red, green, blue = (int(value) for value in values)
    return red, green, blue
