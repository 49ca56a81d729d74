# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How near a clip is to other images: its faces by dlib's descriptor, its frames by their pixels.

On drawn faces it often errs: see the page on the measures' proof. dlib's network was made for photographs.
"""
# N frames, M faces found in them, D = 128 numbers of a descriptor

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ..faces import MIN_DETECTION_SIZE, DlibFaceDetector, find_landmarks_file
from .measurement import Measurement, Status


NETWORK_NAME = "dlib_face_recognition_resnet_model_v1.dat"
SAME_PERSON = 0.6  # the distance below which dlib's author takes two photographs for one person
NUM_FRAMES = 3  # of a clip, evenly spaced
NUM_SAMPLE_FRAMES = 4  # of a sample of training, evenly spaced: what faces are looked for in
THUMBNAIL = 32  # pixels on either side


def describe_clip(frames: np.ndarray, network: Path) -> np.ndarray:
    """Return dlib's descriptors (M, 128) of the largest faces in up to three frames.

    Args:
        frames: (F, H, W, 3) uint8.
        network: `find_face_network()`.
    """
    return describe_faces(frames[evenly_spaced(len(frames), NUM_FRAMES)], network)


def measure_likeness(faces: np.ndarray, reference: np.ndarray | None) -> Measurement:
    """Return `face-distance`, the mean distance of a clip's faces to the reference image's.

    dlib's author takes photographs of a distance below 0.6 for one person. Statuses: `no_reference` without an image
    or a face in it, `no_face` without a face in the clip.

    Args:
        faces: descriptors (M, 128) of `describe_clip`.
        reference: those of the image; None without one.
    """
    if reference is None:
        return Measurement(Status.NO_REFERENCE)
    if not len(reference):
        return Measurement(Status.NO_REFERENCE, details={"reason": "the reference image has no face"})
    if not len(faces):
        return Measurement(Status.NO_FACE)
    return Measurement(Status.OK, {"face-distance": face_distance(faces, reference)}, {"faces": len(faces)})


def evenly_spaced(num_frames: int, number: int) -> np.ndarray:
    """Return the indices of at most `number` frames, the first and the last among them."""
    return np.unique(np.linspace(0, num_frames - 1, number).round().astype(int))


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


def picture_distance(frames: np.ndarray, images: list[np.ndarray]) -> float:
    """Return how far a sample's mean frame is from images: mean absolute difference of thumbnails, of 1.

    Args:
        frames: (N, height, width, 3) uint8.
        images: each (height, width, 3) uint8, of any size.
    """
    mean = np.mean([thumbnail(frame) for frame in frames], axis=0)
    return float(np.mean([np.abs(mean - thumbnail(image)).mean() for image in images]) / 255)


def thumbnail(image: np.ndarray) -> np.ndarray:
    resized = Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(resized, np.float32)


def some_frames(frames: np.ndarray) -> np.ndarray:
    """Return up to `NUM_SAMPLE_FRAMES` of frames (N, height, width, 3) in [0, 1], evenly spaced, as uint8."""
    return (frames[evenly_spaced(len(frames), NUM_SAMPLE_FRAMES)] * 255).round().clip(0, 255).astype(np.uint8)
