# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether lips move with the sound: the gap between them (dlib's landmarks) against the sound's loudness."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from ..training.faces import FaceDetector


UPPER_LIP, LOWER_LIP = 62, 66  # of the 68 landmarks: the middle of the inner lips
BROWS_AND_NOSE = (27, 33)  # top of the nose and its tip: a length that speech does not change
LAGS = tuple(range(-4, 5))  # frames; positive: the lips are late


def lip_gaps(frames: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Return the gap between the inner lips in each frame, over the nose's length, (N,); NaN without a face.

    Args:
        frames: (N, H, W, 3) uint8.
    """
    gaps = []
    for frame in frames:
        grey = np.asarray(Image.fromarray(frame).convert("L"))
        faces = detector.detect(grey)
        if not faces:
            gaps.append(np.nan)
            continue
        points = detector.landmarks(grey, max(faces, key=lambda face: face.score).box)
        nose = np.linalg.norm(points[BROWS_AND_NOSE[1]] - points[BROWS_AND_NOSE[0]])
        gaps.append(np.linalg.norm(points[LOWER_LIP] - points[UPPER_LIP]) / max(nose, 1e-6))
    return np.array(gaps)


def lagged_correlations(gaps: np.ndarray, loudness: np.ndarray, lags: Sequence[int] = LAGS) -> np.ndarray:
    """Return Pearson's r of lip gaps (N,) with the loudness (N,) `lag` frames before, for each lag.

    Frames without a face are left out; a mouth or a sound that never changes has r = 0.
    """
    return np.array([correlation(*shifted(gaps, loudness, lag)) for lag in lags])


def shifted(gaps: np.ndarray, loudness: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    end = len(gaps) - abs(lag)
    return (gaps[lag:], loudness[:end]) if lag >= 0 else (gaps[:end], loudness[-lag:])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    seen = np.isfinite(a) & np.isfinite(b)
    a, b = a[seen], b[seen]
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])
