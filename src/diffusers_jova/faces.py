# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Frames -> the mouth's box in each (paper, section 3.2.2: facial keypoint detection on the source frames).

dlib finds the face and its 68 landmarks; anything with the two methods of `FaceDetector` can stand in for it.

dlib's landmark file was trained on iBUG 300-W, whose licence excludes commercial use; its author was asked to say that
the trained file therefore cannot be used in a commercial product (https://github.com/davisking/dlib-models).
"""
# N frames, P = 68 landmarks; boxes are x1, y1, x2, y2 in pixels, half-open; NaN: no mouth

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image

from .images import face_crop, load_image, resize_frame


LANDMARKS_NAME = "shape_predictor_68_face_landmarks.dat"
MOUTH = slice(48, 68)  # of the 68 landmarks of iBUG 300-W
STEADY = slice(17, 48)  # brows, nose, eyes: they do not open and close with the mouth

# dlib's detector has a window of 80 pixels and steps of 5/6 between scales.
MIN_DETECTION_SIZE = 256  # shorter side in pixels: smaller images are enlarged
MAX_DETECTION_SIZE = 1280  # longer side in pixels: in larger images, faces are sought at this size
SAME_SIZE = 1.5  # ratio of areas within which two faces count as equally large: a step of the detector is 1.44

MAX_GAP = 4  # frames without a face that are bridged
MIN_OVERLAP = 0.3  # IoU with the face of the frame before, to be the same
MIN_AGREEMENT = 0.5  # IoU of a followed face and a detected one, below which the frames between are searched too

MIN_INSIDE = 0.5  # part of a mouth's box that a crop must show: what is less is outside
MAX_GREY_AREA = 2**22  # pixels that become grey at a time: for colours, Pillow takes 4 bytes each

# The mean difference of two frames' thumbnails, of 1, that is a cut; and how often that of its neighbourhood.
CUT_DIFFERENCE = 0.08
CUT_PROMINENCE = 4.0
THUMBNAIL = 16


class Face(NamedTuple):
    """A face in an image: its box, and how sure the detector is (more is surer)."""

    box: np.ndarray
    score: float


class FaceDetector(Protocol):
    """What finds faces. It is sent to worker processes, so it must be picklable."""

    def detect(self, image: np.ndarray) -> list[Face]:
        """Return the faces in a grey image (height, width) uint8, boxes in its pixels."""

    def landmarks(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Return the 68 landmarks (P, 2), x and y in pixels' indices, of the face in `box`."""


def find_landmarks_file(path: str | os.PathLike | None = None) -> Path:
    """Return dlib's landmark file: `path`, or the one that the package face_recognition_models carries.

    That package is not imported: it needs pkg_resources, which today's setuptools lack.

    Raises:
        FileNotFoundError: if there is none; the message says what to install.
    """
    if path is not None:
        if not Path(path).is_file():
            raise FileNotFoundError(f"There is no landmark file `{path}`. {_HOW_TO_INSTALL}")
        return Path(path)
    spec = importlib.util.find_spec("face_recognition_models")
    for folder in (spec and spec.submodule_search_locations) or ():
        if (Path(folder) / "models" / LANDMARKS_NAME).is_file():
            return Path(folder) / "models" / LANDMARKS_NAME
    raise FileNotFoundError(f"dlib's landmark file {LANDMARKS_NAME} was not found. {_HOW_TO_INSTALL}")


_HOW_TO_INSTALL = (
    "Install it with `pip install dlib-bin face_recognition_models` (or 'diffusers-jova[faces]'), or name a file with "
    "--landmarks; with --no_mouth, faces are not looked for and clips train without the mouth loss."
)


@dataclass(frozen=True)
class DlibFaceDetector:
    """dlib's frontal face detector and its 68 landmarks.

    Small images are enlarged to 256 pixels and the faces in large ones sought at 1280 [ours]; landmarks are found
    at the image's own resolution.

    Args:
        landmarks_file: `find_landmarks_file()`.
    """

    landmarks_file: str | os.PathLike

    def detect(self, image: np.ndarray) -> list[Face]:
        scale = _detection_scale(image)
        detector, _ = _load_dlib(str(self.landmarks_file))
        boxes, scores, _ = detector.run(_resize(image, scale), 0)
        boxes = [np.array([box.left(), box.top(), box.right() + 1, box.bottom() + 1]) / scale for box in boxes]
        return [Face(box, score) for box, score in zip(boxes, scores, strict=True)]

    def landmarks(self, image: np.ndarray, box: np.ndarray) -> np.ndarray:
        import dlib

        scale = max(_detection_scale(image), 1.0)
        _, predictor = _load_dlib(str(self.landmarks_file))
        x1, y1, x2, y2 = (round(value) for value in np.asarray(box) * scale)
        points = predictor(_resize(image, scale), dlib.rectangle(x1, y1, x2 - 1, y2 - 1)).parts()
        return (np.array([(point.x, point.y) for point in points]) + 0.5) / scale - 0.5


def choose_detector(
    detector: FaceDetector | None, landmarks: str | os.PathLike | None, no_faces: bool
) -> FaceDetector | None:
    """Return what finds faces in a run: `detector`, or dlib's where there is none; None if faces are not looked for.

    Args:
        landmarks: dlib's landmark file; None to find it.

    Raises:
        FileNotFoundError: if dlib's is needed and its file is not there.
    """
    if no_faces:
        return None
    return DlibFaceDetector(find_landmarks_file(landmarks)) if detector is None else detector


@lru_cache(maxsize=1)
def _load_dlib(landmarks_file: str):
    """Return dlib's detector and landmark predictor, loaded once per process (100 MB)."""
    try:
        import dlib
    except ImportError as error:
        raise ImportError(f"Finding mouths needs dlib. {_HOW_TO_INSTALL}") from error
    try:
        return dlib.get_frontal_face_detector(), dlib.shape_predictor(landmarks_file)
    except RuntimeError as error:
        raise ValueError(f"`{landmarks_file}` is not a landmark file of dlib: {error}. {_HOW_TO_INSTALL}") from error


def _detection_scale(image: np.ndarray) -> float:
    return min(max(MIN_DETECTION_SIZE / min(image.shape), 1.0), MAX_DETECTION_SIZE / max(image.shape))


def _resize(image: np.ndarray, scale: float) -> np.ndarray:
    if scale == 1:
        return image
    height, width = (max(round(size * scale), 1) for size in image.shape)
    resample = Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.BOX
    return np.asarray(Image.fromarray(image).resize((width, height), resample))


# --- a clip ---


@dataclass(frozen=True)
class Mouths:
    """What `find_mouths` returns.

    Attributes:
        boxes: (N, 4) float32, around landmarks 48-67.
        num_faces: the most faces seen in one frame.
        cuts: (N,) bool, true at the first frame after a cut.
        num_detections: frames on which the detector ran.
        faces: (N, 4) float32, the boxes of the faces with these mouths, NaN also where the mouth is interpolated.
    """

    boxes: np.ndarray
    num_faces: int
    cuts: np.ndarray
    num_detections: int
    faces: np.ndarray


def find_mouths(
    frames: Iterable[np.ndarray], detector: FaceDetector, detect_every: int = 1, cuts: np.ndarray | None = None
) -> Mouths:
    """Return the mouth of the largest face in every frame.

    Of faces about equally large, the one that was taken in the frame before stays, else the surest is taken. Up to
    four frames without a face are bridged linearly, but not across a cut.

    Args:
        frames: each (height, width, 3) uint8, or grey (height, width), at the source's resolution. No more than
            `detect_every` of them are held at a time. Without `cuts` they are iterated over twice.
        detector: finds faces and landmarks.
        detect_every: detect on every k-th frame, and before and after cuts; in between, the landmarks are found in the
            box that follows from the landmarks of the frame before. Where the detection at the end of such a stretch
            does not agree with the followed box, all its frames are searched.
        cuts: what `find_cuts` says of the frames' thumbnails, where it is known.
    """
    if detect_every < 1:
        raise ValueError(f"`detect_every` must be 1 or more, got {detect_every}.")
    cuts = find_cuts(np.stack(list(map(thumbnail, frames)))) if cuts is None else cuts
    search = _Search(frames, detector)
    for start, stop in _shots(cuts):
        search.shot(start, stop, detect_every)
    boxes = np.stack([mouth_box(points) for points in search.points]).astype(np.float32)
    faces = np.stack([np.full(4, np.nan) if box is None else box for box in search.faces]).astype(np.float32)
    return Mouths(interpolate_gaps(boxes, cuts), search.num_faces, cuts, search.num_detections, faces)


def crop_to_face(
    image: str | os.PathLike | Image.Image, height: int, width: int, detector: FaceDetector | None = None
) -> Image.Image:
    """Return an image of `height` x `width` with the face inside, cut as preprocessing's `--crop face` cuts clips.

    The reference image of a model that was trained with it: `pipe(image=crop_to_face("portrait.jpg", 480, 832))`.

    Args:
        image: what `load_image` takes; without a face, it is cropped around its centre.
        detector: finds faces and landmarks; None for dlib's.

    Raises:
        ValueError: if the image cannot be read.
        FileNotFoundError, ImportError: if dlib or its landmark file is missing.
    """
    frame = np.asarray(load_image(image))
    mouths = find_mouths([frame], DlibFaceDetector(find_landmarks_file()) if detector is None else detector)
    crop = face_crop(frame.shape[0], frame.shape[1], height, width, mouths.boxes, mouths.faces)
    return Image.fromarray(resize_frame(frame, crop, height, width))


def mouth_box(landmarks: np.ndarray | None) -> np.ndarray:
    """Return the box (4,) around the mouth's landmarks, each of which is a whole pixel; NaN for None."""
    if landmarks is None:
        return np.full(4, np.nan)
    return np.concatenate([landmarks[MOUTH].min(axis=0), landmarks[MOUTH].max(axis=0) + 1])


def find_cuts(thumbnails: np.ndarray) -> np.ndarray:
    """Return (N,) bool, true at the first frame after a cut: much changed, and far more than around it [ours].

    Args:
        thumbnails: (N, h, w) in 0-255.
    """
    change = np.abs(np.diff(thumbnails.astype(np.float32), axis=0)).mean(axis=(1, 2)) / 255  # (N - 1,)
    cuts = np.zeros(len(thumbnails), bool)
    for i in map(int, np.flatnonzero(change > CUT_DIFFERENCE)):
        around = np.delete(change[max(i - 4, 0) : i + 5], min(i, 4))
        cuts[i + 1] = not len(around) or change[i] > CUT_PROMINENCE * np.median(around)
    return cuts


def interpolate_gaps(boxes: np.ndarray, cuts: np.ndarray, max_gap: int = MAX_GAP) -> np.ndarray:
    """Return `boxes` (N, 4) with gaps of at most `max_gap` frames bridged linearly.

    Not across a cut, nor between boxes further apart than two mouths are wide: that is another face.
    """
    boxes, found = boxes.copy(), np.flatnonzero(np.isfinite(boxes).all(axis=1))
    for left, right in zip(found[:-1], found[1:]):
        gap = right - left - 1
        if not 0 < gap <= max_gap or cuts[left + 1 : right + 1].any():
            continue
        centres = (boxes[[left, right], :2] + boxes[[left, right], 2:]) / 2
        width = np.mean(boxes[[left, right], 2] - boxes[[left, right], 0])
        if np.linalg.norm(centres[1] - centres[0]) <= 2 * width:
            weights = np.arange(1, gap + 1, dtype=boxes.dtype)[:, None] / (gap + 1)
            boxes[left + 1 : right] = (1 - weights) * boxes[left] + weights * boxes[right]
    return boxes


def map_boxes(boxes: np.ndarray, crop: tuple[float, float, float, float], height: int, width: int) -> np.ndarray:
    """Return `boxes` (N, 4) of the source in the pixels of an image cut out at `crop` and resized, clipped to it.

    Args:
        crop: x1, y1, x2, y2 in pixels of the source.
        height, width: of the resized image; a mouth of which it shows less than half becomes NaN [ours].
    """
    x1, y1, x2, y2 = crop
    origin, scale = np.array([x1, y1] * 2), np.array([width / (x2 - x1), height / (y2 - y1)] * 2)
    whole = (boxes - origin) * scale
    mapped = whole.clip(0, np.array([width, height] * 2))
    area, shown = (np.prod((x[:, 2:] - x[:, :2]).clip(0), axis=1) for x in (whole, mapped))
    mapped = mapped.round(3)  # 16.000001 would touch another latent cell
    mapped[~((shown > 0) & (shown >= MIN_INSIDE * area))] = np.nan
    return mapped.astype(np.float32)


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """Return the IoU of two boxes (4,), 0 if one is NaN."""
    intersection = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    union = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - intersection
    return float(intersection / union) if union > 0 else 0.0


def _shots(cuts: np.ndarray) -> list[tuple[int, int]]:
    """Return (first frame, frame after the last) of each shot."""
    starts = [0, *np.flatnonzero(cuts), len(cuts)]
    return [(start, stop) for start, stop in zip(starts[:-1], starts[1:]) if stop > start]


class _Search:
    """The search for one face through a clip; `points` and `faces` collect its landmarks and box, frame by frame."""

    def __init__(self, frames: Iterable[np.ndarray], detector: FaceDetector):
        self.images = map(to_grey, frames)  # unlike a loop, it lets go of a frame before it asks for the next
        self.detector = detector
        self.points: list[np.ndarray | None] = []
        self.faces: list[np.ndarray | None] = []
        self.num_faces = self.num_detections = 0

    def shot(self, start: int, stop: int, detect_every: int) -> None:
        """Go through the frames from `start` to `stop`, which no cut divides."""
        before = self.keep(*self.detect(next(self.images), None))
        keys = sorted({*range(start, stop, detect_every), stop - 1})
        for left, right in zip(keys[:-1], keys[1:]):
            between = [next(self.images) for _ in range(left + 1, right)]
            stretch, followed = self.follow(between, before)
            after, points = self.detect(next(self.images), followed)
            lost = before is not None or after is not None
            if before is not None and after is not None:
                lost = intersection_over_union(followed, after) < MIN_AGREEMENT
            if lost:
                stretch, face = [], before
                for image in between:
                    stretch.append(self.detect(image, face))
                    face = stretch[-1][0]
            for found in [*stretch, (after, points)]:
                self.keep(*found)
            before = after

    def keep(self, box: np.ndarray | None, points: np.ndarray | None) -> np.ndarray | None:
        self.faces.append(box)
        self.points.append(points)
        return box

    def detect(self, image: np.ndarray, previous: np.ndarray | None) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Return the box of the face to take, and its landmarks; None if there is none."""
        faces = self.detector.detect(image)
        self.num_detections += 1
        self.num_faces = max(self.num_faces, len(faces))
        box = _choose(faces, previous)
        return box, None if box is None else self.detector.landmarks(image, box)

    def follow(
        self, images: list[np.ndarray], box: np.ndarray | None
    ) -> tuple[list[tuple[np.ndarray | None, np.ndarray | None]], np.ndarray | None]:
        """Follow the face of the last frame through the next ones; return it in each, and where it should be then."""
        if box is None:
            return [(None, None)] * len(images), None
        centre, size = _steady(self.points[-1])
        offset, ratio = ((box[:2] + box[2:]) / 2 - centre) / size, (box[2:] - box[:2]) / size
        stretch = []
        for image in images:
            points = self.detector.landmarks(image, box)
            centre, size = _steady(points)
            middle, half = centre + offset * size, ratio * size / 2
            box = np.concatenate([middle - half, middle + half])
            stretch.append((box, points))
        return stretch, box


def _steady(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Return centre (2,) and size, in pixels, of the landmarks that do not move with the mouth."""
    centre = points[STEADY].mean(axis=0)
    return centre, float(np.sqrt(((points[STEADY] - centre) ** 2).sum(axis=1).mean()))


def _choose(faces: list[Face], previous: np.ndarray | None) -> np.ndarray | None:
    """Return the box of the largest face; see `find_mouths` for faces about equally large."""
    if not faces:
        return None
    areas = [np.prod(face.box[2:] - face.box[:2]) for face in faces]
    largest = [face for face, area in zip(faces, areas) if area * SAME_SIZE >= max(areas)]
    if previous is not None:
        overlaps = [intersection_over_union(face.box, previous) for face in largest]
        if max(overlaps) >= MIN_OVERLAP:
            return largest[int(np.argmax(overlaps))].box
    return max(largest, key=lambda face: face.score).box


def to_grey(frame: np.ndarray) -> np.ndarray:
    """Return a frame (height, width, 3) uint8 as grey (height, width); a grey one as it is."""
    if frame.ndim == 2:
        return frame
    num_rows, grey = max(MAX_GREY_AREA // frame.shape[1], 1), np.empty(frame.shape[:2], np.uint8)
    for start in range(0, len(frame), num_rows):
        grey[start : start + num_rows] = np.asarray(Image.fromarray(frame[start : start + num_rows]).convert("L"))
    return grey


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Return a frame, in colour or grey, as a tiny grey image, for `find_cuts`."""
    step_y, step_x = (max(size // (4 * THUMBNAIL), 1) for size in frame.shape[:2])  # all would cost more than they say
    sampled = Image.fromarray(to_grey(np.ascontiguousarray(frame[::step_y, ::step_x])))
    return np.asarray(sampled.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
