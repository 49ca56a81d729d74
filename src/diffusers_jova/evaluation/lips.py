# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether lips move with the audio: the mouth in dlib's landmarks against the audio's loudness."""
# F frames, P = 68 landmarks; NaN: no face

from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..faces import FaceDetector, to_grey
from .loudness import SAMPLING_RATE, frame_loudness
from .measurement import Measurement, Status


UPPER_LIP, LOWER_LIP = 62, 66  # of the 68 landmarks: the middle of the inner lips
MOUTH_CORNERS = (48, 54)
BROWS_AND_NOSE = (27, 33)  # top of the nose and its tip: a length that speech does not change
LAGS = tuple(range(-4, 5))  # frames; positive: the lips are late
MIN_FRAMES = 10  # with a face and with its lips at a lag
MAX_LAG = 10  # frames, of the search for the best


def find_landmarks(frames: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Return the 68 landmarks of the surest face in each frame, (F, P, 2) in pixels; NaN without a face.

    Args:
        frames: (F, H, W, 3) uint8.
    """
    found = np.full((len(frames), 68, 2), np.nan)
    for index, (points, frame) in enumerate(zip(found, frames)):
        if index and np.array_equal(frame, frames[index - 1]):
            points[:] = found[index - 1]
            continue
        grey = to_grey(np.asarray(frame))
        faces = detector.detect(grey)
        if faces:
            points[:] = detector.landmarks(grey, max(faces, key=lambda face: face.score).box)
    return found


def mouth_openings(landmarks: np.ndarray) -> np.ndarray:
    """Return the gap between the inner lips over the nose's length, (F,), of landmarks (F, P, 2)."""
    return _distances(landmarks, UPPER_LIP, LOWER_LIP) / _nose_lengths(landmarks)


def mouth_widths(landmarks: np.ndarray) -> np.ndarray:
    """Return the distance of the mouth's corners over the nose's length, (F,), of landmarks (F, P, 2)."""
    return _distances(landmarks, *MOUTH_CORNERS) / _nose_lengths(landmarks)


def _nose_lengths(landmarks: np.ndarray) -> np.ndarray:
    return np.maximum(_distances(landmarks, *BROWS_AND_NOSE), 1e-6)


def _distances(landmarks: np.ndarray, a: int, b: int) -> np.ndarray:
    return np.linalg.norm(landmarks[:, b] - landmarks[:, a], axis=-1)


def lip_gaps(frames: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Return the gap between the inner lips in each frame, over the nose's length, (F,); NaN without a face."""
    return mouth_openings(find_landmarks(frames, detector))


def lagged_correlations(gaps: np.ndarray, curve: np.ndarray, lags: Sequence[int] = LAGS) -> np.ndarray:
    """Return Pearson's r of lip gaps (F,) with a curve of the audio (F,) `lag` frames before, for each lag.

    Frames without a face are left out; a mouth or a curve that never changes has r = 0.
    """
    return np.array([correlation(*shifted(gaps, curve, lag)) for lag in lags])


def shifted(gaps: np.ndarray, curve: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    end = len(gaps) - abs(lag)
    return (gaps[lag:], curve[:end]) if lag >= 0 else (gaps[:end], curve[-lag:])


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    seen = np.isfinite(a) & np.isfinite(b)
    a, b = a[seen], b[seen]
    if len(a) < 3 or a.std() < 1e-9 or b.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def best_lag(gaps: np.ndarray, curve: np.ndarray) -> int:
    """Return by how many frames lips (F,) are late (negative: early) where they agree best with a curve (F,).

    Sought within 10 frames, or fewer where 10 frames would not be left to compare; of equals, the smallest.
    """
    longest = max(min(MAX_LAG, len(gaps) - MIN_FRAMES), 0)
    lags = sorted(range(-longest, longest + 1), key=abs)
    return lags[int(np.argmax(lagged_correlations(gaps, curve, lags)))]


def measure_face_coverage(landmarks: np.ndarray) -> Measurement:
    """Return `faces`, the part of the frames in which dlib found a face, of landmarks (F, P, 2)."""
    return Measurement(Status.OK, {"faces": float(np.isfinite(landmarks[:, 0, 0]).mean())})


def measure_lips_by_loudness(
    landmarks: np.ndarray, frame_rate: float | Fraction, waveform: np.ndarray | None
) -> Measurement:
    """Return how the lips' gap goes with the audio's loudness: r in time, and the lag in frames at which r is best.

    Statuses: `silent` without audio, `no_face` without any, `short` if fewer than ten frames have a face.

    Args:
        landmarks: (F, P, 2) of `find_landmarks`.
        waveform: (samples,) float in [-1, 1], mono at 16 kHz.
    """
    gaps = mouth_openings(landmarks)
    problem = why_not_lips(gaps, waveform)
    if problem is not None:
        return Measurement(problem)
    loudness = frame_loudness(waveform, len(gaps), float(frame_rate), SAMPLING_RATE)
    lag = best_lag(gaps, loudness)
    values = {"lips-loudness": correlation(gaps, loudness), "lag-loudness": float(abs(lag))}
    details = {"lag": lag, "r_at_lag": correlation(*shifted(gaps, loudness, lag))}
    return Measurement(Status.OK, values, details)


def why_not_lips(gaps: np.ndarray, waveform: np.ndarray | None) -> Status | None:
    """Return why lips and audio cannot be compared, if so."""
    if waveform is None or not np.any(waveform):
        return Status.SILENT
    num_seen = np.isfinite(gaps).sum()
    if not num_seen:
        return Status.NO_FACE
    return Status.SHORT if num_seen < MIN_FRAMES else None
