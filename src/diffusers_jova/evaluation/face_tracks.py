# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Faces in frames -> tracks of one face each -> images of it for SyncNet, as the pipeline of its authors does.

Arithmetic and order are those of syncnet_python's `run_pipeline.py`, so that its scores are met.
"""
# N frames of a track, M frames of the clip; boxes are x1, y1, x2, y2 in pixels

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import median_filter

from .pixels import resize_bilinear


GREY = 110  # around the image, where a face's square reaches beyond it
SMOOTHING = 13  # frames of the median filter over size and position
FACE_SIZE = 224  # pixels that SyncNet sees


@dataclass(frozen=True)
class Track:
    """One face over frames that follow each other, those without a detection interpolated.

    Attributes:
        frames: (N,) int, indices in the clip.
        boxes: (N, 4) float64.
    """

    frames: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True)
class CropWindows:
    """Where to cut a face out of each frame: slices of the frame with `padding` pixels around it, all (N,).

    `half_size`, `x` and `y` are the smoothed box: half of its longer side and its centre.
    """

    half_size: np.ndarray
    x: np.ndarray
    y: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray
    padding: np.ndarray


def track_faces(
    boxes_per_frame: Sequence[np.ndarray],
    min_track: int,
    num_failed: int = 25,
    iou: float = 0.5,
    min_face: float = 100.0,
) -> list[Track]:
    """Return the tracks of more than `min_track` frames with a detection whose mean side exceeds `min_face` pixels.

    Args:
        boxes_per_frame: (number of faces, 4) for each frame of one shot, the surest first.
        num_failed: frames without a detection that a track bridges.
        iou: overlap with the box before, above which it is the same face.
        min_face: pixels; the longer of the mean width and the mean height counts.
    """
    remaining = [[np.asarray(box, np.float64) for box in boxes] for boxes in boxes_per_frame]
    tracks = []
    while found := _take_track(remaining, num_failed, iou):
        if len(found) <= min_track:
            continue
        seen, boxes = np.array([frame for frame, _ in found]), np.stack([box for _, box in found])
        frames = np.arange(seen[0], seen[-1] + 1)
        boxes = np.stack([np.interp(frames, seen, coordinate) for coordinate in boxes.T], axis=1)
        if (boxes[:, 2:] - boxes[:, :2]).mean(axis=0).max() > min_face:
            tracks.append(Track(frames, boxes))
    return tracks


def _take_track(remaining: list[list[np.ndarray]], num_failed: int, iou: float) -> list[tuple[int, np.ndarray]]:
    """Take the boxes of one face out of `remaining` and return them with their frames."""
    track: list[tuple[int, np.ndarray]] = []
    for frame, boxes in enumerate(remaining):
        position = 0
        while position < len(boxes):
            if track and frame - track[-1][0] > num_failed:
                return track
            if not track or overlap(boxes[position], track[-1][1]) > iou:
                track.append((frame, boxes.pop(position)))
            position += 1  # after a pop too: the original skips the box that follows a taken one
    return track


def overlap(first: np.ndarray, second: np.ndarray) -> float:
    """Return the IoU of two boxes."""
    shared = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    shared = max(0.0, shared[0]) * max(0.0, shared[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return float(shared / (sum(areas) - shared))


def face_runs(boxes_per_frame: Sequence[np.ndarray], min_frames: int) -> list[Track]:
    """Return the first face of each run of at least `min_frames` frames with a face, wherever it is (`verse`)."""
    tracks, run = [], []
    for frame, boxes in enumerate([*boxes_per_frame, np.empty((0, 4))]):
        if len(boxes):
            run.append((frame, np.asarray(boxes[0], np.float64)))
            continue
        if run and len(run) >= min_frames:
            tracks.append(Track(np.array([frame for frame, _ in run]), np.stack([box for _, box in run])))
        run = []
    return tracks


def crop_windows(track: Track, crop_scale: float = 0.4, smoothing: int | None = SMOOTHING) -> CropWindows:
    """Return the windows of a track: half the box's longer side s up from the centre, (1 + 2 `crop_scale`) s down,
    (1 + `crop_scale`) s to each side.

    Args:
        smoothing: frames of the median filter, odd; None for none.
    """
    width, height = (track.boxes[:, 2:] - track.boxes[:, :2]).T
    x, y = ((track.boxes[:, :2] + track.boxes[:, 2:]) / 2).T
    half_size = np.maximum(height, width) / 2
    if smoothing is not None:
        # zeros stand beyond the ends, so the first and last windows are smaller; so does the original
        half_size, x, y = (median_filter(values, smoothing, mode="constant") for values in (half_size, x, y))
    padding = (half_size * (1 + 2 * crop_scale)).astype(np.int64)
    return CropWindows(
        half_size=half_size,
        x=x,
        y=y,
        top=(y + padding - half_size).astype(np.int64),
        bottom=(y + padding + half_size * (1 + 2 * crop_scale)).astype(np.int64),
        left=(x + padding - half_size * (1 + crop_scale)).astype(np.int64),
        right=(x + padding + half_size * (1 + crop_scale)).astype(np.int64),
        padding=padding,
    )


def cut_faces(frames: np.ndarray, track: Track, windows: CropWindows) -> np.ndarray:
    """Return the face in each frame of the track, (N, 224, 224, 3) uint8.

    Args:
        frames: (M, H, W, 3) uint8.
    """
    faces = np.empty((len(track.frames), FACE_SIZE, FACE_SIZE, 3), np.uint8)
    for index, frame in enumerate(track.frames):
        padding = windows.padding[index]
        padded = np.pad(frames[frame], ((padding, padding), (padding, padding), (0, 0)), constant_values=GREY)
        rows = slice(max(windows.top[index], 0), windows.bottom[index])
        columns = slice(max(windows.left[index], 0), windows.right[index])
        face = padded[rows, columns]
        faces[index] = resize_bilinear(face, FACE_SIZE, FACE_SIZE) if face.size else GREY
    return faces
