# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whose face a clip shows: dlib's 128 numbers of a face against those of the reference picture.

On drawn faces it often errs: see the page on the measures' proof. dlib's network was made for photographs.
"""

from pathlib import Path

import numpy as np

from ..training.likeness import describe_faces, face_distance
from .measurement import Measurement, Status


NUM_FRAMES = 3  # of a clip, evenly spaced


def describe_clip(frames: np.ndarray, network: Path) -> np.ndarray:
    """Return dlib's descriptors (M, 128) of the largest faces in up to three frames.

    Args:
        frames: (F, H, W, 3) uint8.
        network: `training.likeness.find_face_network()`.
    """
    return describe_faces(frames[evenly_spaced(len(frames), NUM_FRAMES)], network)


def measure_likeness(faces: np.ndarray, reference: np.ndarray | None) -> Measurement:
    """Return `face-distance`, the mean distance of a clip's faces to the reference picture's.

    dlib's author takes photographs of a distance below 0.6 for one person. Statuses: `no_reference` without a picture
    or a face in it, `no_face` without a face in the clip.

    Args:
        faces: descriptors (M, 128) of `describe_clip`.
        reference: those of the picture; None without one.
    """
    if reference is None:
        return Measurement(Status.NO_REFERENCE)
    if not len(reference):
        return Measurement(Status.NO_REFERENCE, details={"reason": "the reference picture has no face"})
    if not len(faces):
        return Measurement(Status.NO_FACE)
    return Measurement(Status.OK, {"face-distance": face_distance(faces, reference)}, {"faces": len(faces)})


def evenly_spaced(num_frames: int, number: int) -> np.ndarray:
    """Return the indices of at most `number` frames, the first and the last among them."""
    return np.unique(np.linspace(0, num_frames - 1, number).round().astype(int))
