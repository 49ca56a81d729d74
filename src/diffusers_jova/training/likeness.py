# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How near a sample is to pictures of a run's clips: its faces by dlib's descriptor, its pictures by their pixels."""
# N frames, M faces found in them, D = 128 numbers of a descriptor

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from .faces import MIN_DETECTION_SIZE, DlibFaceDetector, find_landmarks_file


NETWORK_NAME = "dlib_face_recognition_resnet_model_v1.dat"
SAME_PERSON = 0.6  # the distance below which dlib's author takes two photographs for one person
NUM_FRAMES = 4  # of a sample, evenly spaced: what faces are looked for in
THUMBNAIL = 32  # pixels on either side


def find_face_network() -> Path | None:
    """Return dlib's face descriptor, from the package that carries the landmarks; None if there is none."""
    try:
        import dlib  # noqa: F401

        path = find_landmarks_file().with_name(NETWORK_NAME)
    except (ImportError, FileNotFoundError):
        return None
    return path if path.is_file() else None


@lru_cache(maxsize=1)
def _load_network(path: Path):
    import dlib

    return dlib.face_recognition_model_v1(str(path))


def describe_faces(frames: np.ndarray, network: Path) -> np.ndarray:
    """Return the descriptors (M, D) of the largest face of each frame that has one.

    Args:
        frames: (N, height, width, 3) uint8.
        network: `find_face_network()`.
    """
    import dlib

    detector, descriptors = DlibFaceDetector(find_landmarks_file()), []
    for frame in frames:
        image = Image.fromarray(frame)
        scale = max(MIN_DETECTION_SIZE / min(image.size), 1.0)
        image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
        grey = np.asarray(image.convert("L"))
        faces = detector.detect(grey)
        if faces:
            box = max(faces, key=lambda face: np.prod(face.box[2:] - face.box[:2])).box
            points = [dlib.point(*map(round, point)) for point in detector.landmarks(grey, box)]
            face = dlib.full_object_detection(dlib.rectangle(*map(round, box)), points)
            descriptors.append(np.asarray(_load_network(network).compute_face_descriptor(np.asarray(image), face)))
    return np.stack(descriptors) if descriptors else np.empty((0, 128))


def face_distance(descriptors: np.ndarray, others: np.ndarray) -> float:
    """Return the mean Euclidean distance of faces (M, D) to others (M', D); NaN where there are none."""
    if not len(descriptors) or not len(others):
        return float("nan")
    return float(np.linalg.norm(descriptors[:, None] - others[None], axis=-1).mean())


def picture_distance(frames: np.ndarray, pictures: list[np.ndarray]) -> float:
    """Return how far a sample's mean frame is from pictures: mean absolute difference of thumbnails, of 1.

    Args:
        frames: (N, height, width, 3) uint8.
        pictures: each (height, width, 3) uint8, of any size.
    """
    mean = np.mean([thumbnail(frame) for frame in frames], axis=0)
    return float(np.mean([np.abs(mean - thumbnail(picture)).mean() for picture in pictures]) / 255)


def thumbnail(picture: np.ndarray) -> np.ndarray:
    resized = Image.fromarray(picture).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(resized, np.float32)


def some_frames(frames: np.ndarray) -> np.ndarray:
    """Return up to `NUM_FRAMES` of frames (N, height, width, 3) in [0, 1], evenly spaced, as uint8."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, NUM_FRAMES).round().astype(int))
    return (frames[chosen] * 255).round().clip(0, 255).astype(np.uint8)
