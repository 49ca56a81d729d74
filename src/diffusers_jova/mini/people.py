# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Who somebody is, from a seed: the words that a caption can say, and the numbers that only an image can tell.

Nobody's likeness: shapes are random mixtures of a model's targets.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from .hair import STYLES


Colour = tuple[float, float, float]  # red, green and blue, sRGB from 0 to 1

PEOPLE = ("woman", "man")
HAIR_COLOURS: dict[str, Colour] = {
    "black": (0.07, 0.06, 0.065),
    "brown": (0.25, 0.15, 0.09),
    "blond": (0.70, 0.53, 0.30),
    "red": (0.48, 0.19, 0.08),
    "grey": (0.55, 0.54, 0.54),
}
COLOURS: dict[str, Colour] = {  # of clothes and walls
    "red": (0.66, 0.16, 0.17),
    "orange": (0.85, 0.45, 0.17),
    "yellow": (0.88, 0.72, 0.28),
    "green": (0.23, 0.48, 0.33),
    "blue": (0.20, 0.36, 0.64),
    "purple": (0.44, 0.28, 0.55),
    "white": (0.87, 0.86, 0.83),
    "black": (0.11, 0.11, 0.125),
}
CLOTHES = ("T-shirt", "sweater", "turtleneck")
BACKGROUNDS = ("wall", "window", "bookshelf", "garden", "evening lights")
BEARDS = ("no beard", "stubble", "beard")
SKINS: tuple[Colour, ...] = (  # from light to dark
    (0.93, 0.76, 0.68),
    (0.87, 0.67, 0.55),
    (0.76, 0.55, 0.42),
    (0.60, 0.41, 0.30),
    (0.40, 0.26, 0.19),
    (0.28, 0.18, 0.135),
)
IRISES: tuple[Colour, ...] = ((0.25, 0.15, 0.08), (0.36, 0.24, 0.12), (0.30, 0.42, 0.56), (0.33, 0.42, 0.28))
WOMENS_HAIR = {"chin-length": 0.2, "long": 0.24, "wavy": 0.24, "tied-back": 0.16, "curly": 0.1, "cropped": 0.06}
MENS_HAIR = {"cropped": 0.28, "short": 0.34, "swept-back": 0.22, "curly": 0.1, "long": 0.06}
NUM_FEATURES = 22  # targets of single features that a head has


@dataclass(frozen=True)
class Person:
    """Who somebody is.

    Attributes:
        person, hair, hair_style, beard, clothes, shirt, background, wall: words, see the tables above.
        glasses: whether they wear them.
        seed: of shapes and strands.
        peoples: how much of each of `heads.PEOPLES` is in the head; they sum to 1.
        age: 0 (young) to 1 (old).
        weight: -1 to 1.
        skin, iris: colours.
        makeup, brow: how much, 0 to 1.
        light: where the brightest light is: -1 (right of the person) to 1 (left).
        warmth: of that light, -1 to 1.
    """

    person: str
    hair: str
    hair_style: str
    beard: str
    glasses: bool
    clothes: str
    shirt: str
    background: str
    wall: str
    seed: int
    peoples: tuple[float, float, float]
    age: float
    weight: float
    skin: Colour
    iris: Colour
    makeup: float
    brow: float
    light: float
    warmth: float

    @classmethod
    def from_seed(cls, seed: int, **words: Any) -> "Person":
        """Return the person of a seed. `words` fix what must be so, such as `person="man"`.

        Raises:
            ValueError: For a word that is not in the tables.
        """
        rng = np.random.default_rng([seed, 31])
        for name, word in words.items():
            if name not in WORDS or word not in WORDS[name]:
                raise ValueError(
                    f"There is no {name} {word!r}: choose one of {', '.join(map(str, WORDS.get(name, WORDS)))}."
                )
        draws = rng.uniform(size=16)
        is_woman = (words.get("person") or PEOPLE[int(draws[0] > 0.5)]) == "woman"
        peoples = rng.dirichlet((0.5, 0.5, 0.5))
        darkness = float(np.clip(peoples @ (0.8, 0.3, 0.16) + rng.normal(0, 0.07), 0.02, 0.98)) * (len(SKINS) - 1)
        red, green, blue = (float(np.interp(darkness, range(len(SKINS)), channel)) for channel in zip(*SKINS))
        age = float(rng.beta(1.1, 2.6))
        natural = np.array([0.5, 0.3, 0.0, 0.0, 0.0]) if darkness > 2.2 else np.array([0.18, 0.3, 0.26, 0.16, 0.0])
        natural = natural + [0, 0, 0, 0, max(age - 0.45, 0) * 2.5 + 0.03]
        styles = WOMENS_HAIR if is_woman else MENS_HAIR
        shirt, wall = rng.choice(list(COLOURS), 2, replace=False)
        beard = BEARDS[0] if is_woman else str(rng.choice(BEARDS, p=(0.5, 0.25, 0.25)))
        drawn: dict[str, Any] = {
            "person": PEOPLE[0 if is_woman else 1],
            "hair": str(rng.choice(list(HAIR_COLOURS), p=natural / natural.sum())),
            "hair_style": str(rng.choice(list(styles), p=np.array(list(styles.values())) / sum(styles.values()))),
            "beard": beard,
            "glasses": bool(draws[1] < 0.22),
            "clothes": str(rng.choice(CLOTHES, p=(0.4, 0.4, 0.2))),
            "shirt": str(shirt),
            "background": str(rng.choice(BACKGROUNDS, p=(0.52, 0.12, 0.12, 0.12, 0.12))),
            "wall": str(wall),
        }
        return cls(
            **(drawn | words),
            seed=seed,
            peoples=(float(peoples[0]), float(peoples[1]), float(peoples[2])),
            age=age,
            weight=float(rng.uniform(-0.7, 0.8)),
            skin=(red, green, blue),
            iris=IRISES[0 if darkness > 2.8 else int(draws[2] * len(IRISES))],
            makeup=float(draws[5]) if is_woman else 0.0,
            brow=float(draws[6]),
            light=float(np.sign(draws[7] - 0.5) * (0.25 + 0.75 * draws[8])),
            warmth=float(2 * draws[9] - 1),
        )

    def weights(self) -> dict[str, float]:
        """Return how far each target of the head model moves it for this shape."""
        from .heads import PEOPLES, head_model

        gender = "female" if self.person == "woman" else "male"
        weights: dict[str, float] = {}
        for age, part in (("young", 1 - self.age), ("old", self.age)):
            for people, share in zip(PEOPLES, self.peoples):
                weights[f"macro/{people}-{gender}-{age}"] = share * part
            heavy = "maxweight" if self.weight > 0 else "minweight"
            weights[f"macro/universal-{gender}-{age}-averagemuscle-{heavy}"] = abs(self.weight) * part
        rng = np.random.default_rng([self.seed, 32])
        names = [name for name in head_model().local_targets() if not name.endswith(EXCLUDED)]
        for name in rng.choice(names, NUM_FEATURES, replace=False):
            weight = float(rng.uniform(0, 0.5))
            weights[str(name)] = weight
            if "/l-" in name:
                weights[str(name).replace("/l-", "/r-")] = weight
        return weights


# Features that look like a mask, or move what captions and drawing rely on
EXCLUDED = (
    *("ear-shape-pointed", "ear-shape-triangle", "ear-shape-square", "ear-wing-incr", "ear-flap-incr"),
    *("head-trans-in", "head-trans-out", "head-trans-up", "head-trans-down", "head-trans-forward"),
    *("head-trans-backward", "head-angle-in", "head-angle-out", "head-scale-vert-incr", "head-scale-vert-decr"),
    *("nose-trans-in", "nose-trans-out", "mouth-trans-in", "mouth-trans-out", "eye-epicanthus-in"),
    *("mouth-angles-down", "mouth-angles-up", "nose-greek-incr", "head-invertedtriangular"),
)
WORDS: dict[str, Any] = {
    "person": PEOPLE,
    "hair": HAIR_COLOURS,
    "hair_style": STYLES,
    "beard": BEARDS,
    "glasses": (False, True),
    "clothes": CLOTHES,
    "shirt": COLOURS,
    "background": BACKGROUNDS,
    "wall": COLOURS,
}
