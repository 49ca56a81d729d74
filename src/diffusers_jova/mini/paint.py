# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The colours of skin, lips, eyes and clothes, and where they are, in coordinates of the template.

The template is the head before it is anybody's: what is painted there is at the right place on every shape. Its origin
is the middle between the eyes, lengths are in decimetres, x goes to the person's left, y up, z forward.
"""
# V vertices, P pixels

import numpy as np

from .hair import STYLES, hairline
from .heads import MASKS
from .people import COLOURS, HAIR_COLOURS, Colour, Person


IRIS, PUPIL = (0.45, 0.50), (0.17, 0.21)  # radians around the gaze, from where to where they fade
TOOTH = 0.088  # decimetres
SHOULDERS = -0.9  # clothes are below


def linear(colour: Colour | list[Colour]) -> np.ndarray:
    """Return sRGB colours, 0 to 1, as amounts of light."""
    return np.asarray(colour, np.float32) ** np.float32(2.2)


def smoothstep(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """Return 0 at `low` and 1 at `high`, without a corner; `low` may be the greater one."""
    x = np.clip((values - low) / (high - low), 0, 1)
    return x * x * (3 - 2 * x)


def mixed(colours: np.ndarray, other: np.ndarray | tuple[float, ...], amount: np.ndarray) -> np.ndarray:
    """Return colours (V, 3) of which an amount (V,) is another one."""
    return colours + amount[:, None] * (np.asarray(other, np.float32) - colours)


def brow_area(places: np.ndarray, fullness: float) -> np.ndarray:
    """Return how much of a brow is at places (..., 3), 0 to 1."""
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    arch = np.interp(x, (0.1, 0.22, 0.38, 0.47, 0.56), (0.205, 0.222, 0.243, 0.23, 0.195))
    width = (0.03 + 0.02 * fullness) * (1.2 - np.clip(x - 0.12, 0, 1) * 1.6)
    ends = smoothstep(0.09, 0.16, x) * smoothstep(0.56, 0.46, x) * (z > -0.3)
    hairs = 0.85 + 0.15 * np.sin(x * 150 + y * 330) * np.sin(x * 61 - y * 130)
    return smoothstep(1.0, 0.2, np.abs(y - arch) / width) * ends * hairs


def beard_area(places: np.ndarray) -> np.ndarray:
    """Return how dense a beard is at places (..., 3), 0 to 1."""
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    cheek = -0.42 - 0.28 * np.clip((z + 0.35) / 0.45, 0, 1) + 0.25 * np.clip((x - 0.4) / 0.3, 0, 1)
    jaw = smoothstep(0.0, 0.1, cheek - y) * smoothstep(-1.22, -1.1, y) * smoothstep(-0.75, -0.6, z)
    moustache = smoothstep(0.075, 0.03, np.abs(y + 0.5 + 0.1 * x)) * smoothstep(0.36, 0.26, x) * (z > 0)
    return np.clip(jaw + moustache, 0, 1)


def inside_clothes(places: np.ndarray, clothes: str) -> np.ndarray:
    """Return how far places (..., 3) lie inside clothes, in decimetres from the edge at the neck; below 0 outside."""
    x, y, z = np.abs(places[..., 0]), places[..., 1], places[..., 2]
    if clothes == "turtleneck":
        edge = -1.2 + 0.28 * (z + 0.5) - 1.5 * np.clip(z + 0.25, 0, 1)  # not on the chin
    elif clothes == "sweater":
        edge = -1.6 + 0.3 * (-z - 0.4)
    else:
        edge = -1.68 + 0.34 * (-z - 0.4) - 0.12 * np.clip(1 - x / 0.6, 0, 1)
    return np.where(y < SHOULDERS, edge - y, -1.0).astype(np.float32)


def skin_colours(person: Person, template: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Return the colours of the body at its vertices, as amounts of light, (V, 3).

    Args:
        template: (V, 3).
        masks: (V, len(heads.MASKS)).
    """
    x, y, z = np.abs(template[:, 0]), template[:, 1], template[:, 2]
    lips, inside, eyelids, _, ears = (masks[:, MASKS.index(name)] for name in MASKS)
    skin, hair = linear(person.skin), linear(HAIR_COLOURS[person.hair])
    redder = skin * (1.0, 0.72, 0.70)

    def spot(cx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2) * (z > -0.5)

    colours = np.broadcast_to(skin, template.shape)
    colours = mixed(colours, redder, (0.35 + 0.45 * person.makeup) * spot(0.42, -0.28, 0.2, 0.16))  # cheeks
    colours = mixed(colours, redder, 0.4 * spot(0.0, -0.27, 0.13, 0.12))  # the tip of the nose
    colours = mixed(colours, redder, 0.3 * ears)
    colours = mixed(colours, skin * (0.80, 0.72, 0.72), (0.3 + 0.4 * person.age) * spot(0.3, -0.13, 0.16, 0.05))
    colours = mixed(colours, skin * (0.5, 0.5, 0.5), 0.8 * person.makeup * eyelids)
    lip = skin * (0.78, 0.44, 0.44) + person.makeup * np.array([0.06, -0.03, -0.02])
    lips = smoothstep(0.25, 0.75, lips)
    colours = mixed(colours, np.clip(lip, 0.01, 1), lips)
    colours = mixed(colours, (0.22, 0.045, 0.05), smoothstep(0.3, 0.7, inside) * (1 - lips))
    scalp = smoothstep(-0.06, 0.08, hairline(template)) * (ears < 0.5)
    shows = 0.75 if STYLES[person.hair_style].top < 0.2 else 1.0  # skin, under short hair
    return mixed(colours, 0.6 * hair, shows * scalp).astype(np.float32)


def fabric(person: Person, places: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return the colours of clothes at places (P, 3), as amounts of light.

    Args:
        inside: (P,), see `inside_clothes`.
    """
    x, y, z = places.T
    weave = 1.0 + 0.03 * np.sin(x * 190) * np.sin(y * 190)
    collar = np.where(np.abs(x) < 0.8, inside, 1.0)  # farther out, what is at the edge is a sleeve
    if person.clothes == "T-shirt":
        rib = np.where(collar < 0.09, 0.93 - 0.25 * (np.abs(collar - 0.09) < 0.012), 1.0)
    else:
        deep = 0.16 if person.clothes == "sweater" else 0.6
        knit = 0.93 + 0.1 * np.sin(np.arctan2(x, z + 0.5) * 70)
        rib = np.where(collar < deep, knit, 1 + 0.04 * np.sin(x * 60))
    return (linear(COLOURS[person.shirt]) * (weave * rib)[:, None]).astype(np.float32)


def gaps_between_teeth(places: np.ndarray) -> np.ndarray:
    """Return how bright teeth are at places (P, 3), (P, 1): less between them."""
    return 0.82 + 0.18 * smoothstep(0.0, 0.25, np.abs(np.sin(np.pi * places[:, :1] / TOOTH)))


def eye_colours(out: np.ndarray, look: np.ndarray, iris: Colour) -> np.ndarray:
    """Return the colours of an eyeball, (P, 3), as amounts of light.

    Args:
        out: (P, 3), directions from the eyeball's middle.
        look: (3,), the direction of the gaze.
    """
    angle = np.arccos(np.clip(out @ look, -1, 1))
    around = np.arctan2(out[:, 1] - look[1], out[:, 0] - look[0])
    fibres = 1 + 0.22 * np.sin(around * 17 + 3 * np.sin(around * 5)) * smoothstep(0.16, 0.3, angle)
    ring = (1 - 0.65 * smoothstep(0.36, 0.46, angle)) * (1 + 0.5 * smoothstep(0.30, 0.2, angle))
    coloured = mixed(linear(iris) * (1.15 * fibres * ring)[:, None], (0.004,) * 3, 1 - smoothstep(*PUPIL, angle))
    white = np.array([0.66, 0.61, 0.59]) * (1 - 0.25 * smoothstep(0.6, 1.1, angle))[:, None]
    return mixed(coloured, white, smoothstep(*IRIS, angle)).astype(np.float32)
