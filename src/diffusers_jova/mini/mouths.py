# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How a mouth moves while it speaks: from phones and their times to face units for each frame.

Every phone has a shape, and a hold on each feature of it that fades before and after the phone: neighbours so shape
each other (co-articulation by dominance, as in Cohen and Massaro, "Modeling coarticulation in synthetic visual
speech", 1993; the numbers are ours). The lips of p, b and m close in a frame of their own, however short they are.
"""
# F frames, M moments, P phones

from collections.abc import Sequence

import numpy as np

from .voices import Phone


FEATURES = ("jaw", "round", "wide", "funnel", "teeth", "tongue", "bite")
#             jaw   round wide  funnel teeth tongue bite; None: whatever the neighbours want
SHAPES: dict[str, tuple[float | None, ...]] = {
    **dict.fromkeys("ɑaæʌɐ", (0.62, 0.0, 0.25, 0.0, 0.2, 0.0, 0.0)),
    **dict.fromkeys("ɒɔ", (0.5, 0.35, 0.0, 0.35, 0.0, 0.0, 0.0)),
    **dict.fromkeys("oO", (0.36, 0.7, 0.0, 0.3, 0.0, 0.0, 0.0)),
    **dict.fromkeys("ɛe", (0.4, 0.0, 0.45, 0.0, 0.3, 0.0, 0.0)),
    **dict.fromkeys("iIj", (0.16, 0.0, 0.9, 0.0, 0.4, 0.0, 0.0)),
    **dict.fromkeys("ɪᵻ", (0.22, 0.0, 0.6, 0.0, 0.3, 0.0, 0.0)),
    **dict.fromkeys("əɜɚ", (0.26, 0.1, 0.15, 0.05, 0.1, 0.0, 0.0)),
    **dict.fromkeys("uʊ", (0.14, 0.95, 0.0, 0.25, 0.0, 0.0, 0.0)),
    "w": (0.1, 1.0, 0.0, 0.2, 0.0, 0.0, 0.0),
    "ɹ": (0.16, 0.4, 0.0, 0.35, 0.0, 0.0, 0.0),
    "l": (0.24, None, None, 0.0, 0.2, 0.35, 0.0),
    **dict.fromkeys("tdnɾ", (0.14, None, None, 0.0, 0.35, 0.2, 0.0)),
    **dict.fromkeys("sz", (0.05, None, 0.45, 0.0, 0.75, 0.0, 0.0)),
    **dict.fromkeys("ʃʒʧʤ", (0.1, 0.2, 0.0, 0.75, 0.5, 0.0, 0.0)),
    **dict.fromkeys("θð", (0.18, None, 0.2, 0.0, 0.3, 0.75, 0.0)),
    **dict.fromkeys("kɡŋhʔ", (0.22, None, None, None, None, 0.0, 0.0)),
    **dict.fromkeys("pbm", (0.0, None, None, 0.0, 0.0, 0.0, 0.0)),
    **dict.fromkeys("fv", (0.06, None, 0.1, 0.0, 0.1, 0.0, 1.0)),
}
CLOSED, VOWELS = "pbm", "ɑaæʌɐɒɔoOɛeiIɪᵻəɜɚuʊ"
STRESS, LONG = "ˈˌ", "ː"  # belong to the phone after and before
REST = (0.0,) * len(FEATURES)
HOLDS_S = {"jaw": 0.055, "round": 0.085, "wide": 0.075, "funnel": 0.07, "teeth": 0.05, "tongue": 0.045, "bite": 0.035}
REST_AFTER_S = 0.12  # how long a mouth takes to rest
MOMENTS = 8  # a frame at which shapes are computed; their mean is what a frame shows

UNITS: dict[str, dict[str, float]] = {  # of the head model, at a feature of 1
    "jaw": {"jawOpen": 0.68},
    "round": {"mouthPucker": 0.95},
    "wide": {"mouthSmile": 0.22, "mouthStretch": 0.35},
    "funnel": {"mouthFunnel": 0.8},
    "teeth": {"mouthUpperUp": 0.35, "mouthLowerDown": 0.45},
    "tongue": {"tongueOut": 0.22},
    "bite": {"mouthRollLower": 0.75, "mouthUpperUp": 0.3},
    "closed": {"mouthRollLower": 0.22, "mouthRollUpper": 0.18, "mouthPress": 0.25},
}
BOTH_SIDES = ("mouthSmile", "mouthStretch", "mouthUpperUp", "mouthLowerDown", "mouthPress", "eyeBlink", "eyeSquint")


def both_sides(units: dict[str, float]) -> dict[str, float]:
    """Return face units in which those that the model has for the left and the right are named for both."""
    named: dict[str, float] = {}
    for name, weight in units.items():
        for full in (f"{name}Left", f"{name}Right") if name in BOTH_SIDES else (name,):
            named[full] = named.get(full, 0.0) + weight
    return named


def merge_marks(phones: Sequence[Phone]) -> list[Phone]:
    """Return the phones that have a shape; marks of stress and length give them their time."""
    merged: list[Phone] = []
    stressed_from: float | None = None
    for phone in phones:
        if phone.symbol in STRESS:
            stressed_from = phone.start_s
        elif phone.symbol == LONG and merged:
            merged[-1] = Phone(merged[-1].symbol, merged[-1].start_s, phone.end_s)
        elif phone.symbol in SHAPES:
            start_s = phone.start_s if stressed_from is None else stressed_from
            merged.append(Phone(phone.symbol, start_s, phone.end_s))
            stressed_from = None
        else:
            stressed_from = None
    return merged


def mouth_features(phones: Sequence[Phone], moments_s: np.ndarray) -> np.ndarray:
    """Return the mouth's features at moments (M,) in seconds, (M, len(FEATURES)) from 0 to 1.

    Args:
        phones: with a shape, see `merge_marks`.
    """
    values = np.zeros((len(moments_s), len(FEATURES)))
    edges = [(REST, -np.inf, phones[0].start_s - REST_AFTER_S), (REST, phones[-1].end_s + REST_AFTER_S, np.inf)]
    spans = [(SHAPES[phone.symbol], phone.start_s, phone.end_s) for phone in phones] + edges
    for number, feature in enumerate(FEATURES):
        total, hold = np.full(len(moments_s), 1e-9), HOLDS_S[feature]
        for shape, start_s, end_s in spans:
            if shape[number] is None:
                continue
            away = np.maximum(np.maximum(start_s - moments_s, moments_s - end_s), 0)
            inside = 0.25 * np.clip(np.minimum(moments_s - start_s, end_s - moments_s) / hold, 0, 1)
            dominance = np.exp(-((away / hold) ** 1.3) * 2.2) * (1 + inside)
            values[:, number] += dominance * shape[number]
            total += dominance
        values[:, number] /= total
    return values


def closed_frames(phones: Sequence[Phone], num_frames: int, frame_rate: float) -> np.ndarray:
    """Return how closed the lips are in each frame for p, b and m, (num_frames,): 1 in the frame of their middle."""
    closed = np.zeros(num_frames)
    for phone in phones:
        if phone.symbol in CLOSED:
            overlap = [
                (min(phone.end_s, (k + 1) / frame_rate) - max(phone.start_s, k / frame_rate)) * frame_rate
                for k in range(num_frames)
            ]
            closed = np.maximum(closed, smooth_share(np.array(overlap)))
            middle = int((phone.start_s + phone.end_s) / 2 * frame_rate)
            if middle < num_frames:
                closed[middle] = 1.0
    return closed


def smooth_share(share: np.ndarray) -> np.ndarray:
    """Return how closed lips look in a frame of which they are closed for a share: fully from 60 % on."""
    return np.clip(share / 0.6, 0, 1)


def mouth_units(phones: Sequence[Phone], num_frames: int, frame_rate: float) -> list[dict[str, float]]:
    """Return the face units of the mouth for each frame of a clip.

    Args:
        phones: of the audio, with times from the clip's beginning.
    """
    phones = merge_marks(phones)
    moments_s = (np.arange(num_frames * MOMENTS) + 0.5) / (MOMENTS * frame_rate)
    features = mouth_features(phones, moments_s).reshape(num_frames, MOMENTS, -1).mean(1)
    closed = closed_frames(phones, num_frames, frame_rate)
    frames = []
    for values, shut in zip(features, closed):
        amounts = dict(zip(FEATURES, values))
        for name in ("jaw", "teeth", "tongue", "bite", "funnel"):
            amounts[name] *= 1 - shut
        amounts["closed"] = shut
        units: dict[str, float] = {}
        for feature, amount in amounts.items():
            for unit, weight in UNITS[feature].items():
                units[unit] = units.get(unit, 0.0) + weight * float(amount)
        frames.append(both_sides(units))
    return frames
