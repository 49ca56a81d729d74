# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""LSE-C and LSE-D of a clip by one of the protocols in use: who finds the face, how long it must be seen, what is cut.

One model's LSE-C differs by more than 2 between them: name the protocol beside every number.
"""
# M frames of the clip at 25 fps

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..faces import FaceDetector
from .face_tracks import FACE_SIZE, Track, crop_windows, cut_faces, face_runs, track_faces
from .measurement import Measurement, Status
from .pixels import resize_bilinear
from .syncnet import MAX_OFFSET, MIN_FRAMES, SAMPLES_PER_FRAME, SyncNet, SyncScore, score_faces


@dataclass(frozen=True)
class LipSyncProtocol:
    """How one source measures.

    Attributes:
        detector: "s3fd", "insightface", "dlib" (this project's own), or None where frames show nothing but the face.
        min_track: frames; a track must have more, a run of `runs` as many.
        runs: no tracking: the first face of each run of frames with one.
        crop_scale: of the square around the face.
        smoothed: whether the square is smoothed over time.
        faces: of several tracks the "mean", the "best" (largest LSE-C - LSE-D) or the "largest" face counts.
        drops_late: a track whose best offset lies within a frame of the end of the search drops the clip.
    """

    detector: str | None = "s3fd"
    min_track: int = 50
    runs: bool = False
    crop_scale: float = 0.4
    smoothed: bool = True
    faces: str = "mean"
    drops_late: bool = False


FACES = ("mean", "best", "largest")
PROTOCOLS = {
    "s3fd50": LipSyncProtocol(),  # LatentSync, and the package syncnet-python
    "s3fd100": LipSyncProtocol(min_track=100),  # SyncNet's authors and Wav2Lip; nothing below 4 s
    "mova": LipSyncProtocol(min_track=20, faces="best"),
    "verse": LipSyncProtocol("insightface", runs=True, crop_scale=0.3, smoothed=False, drops_late=True),
    "precropped": LipSyncProtocol(None, min_track=0),  # Wav2Lip's script for LRS
    "dlib": LipSyncProtocol("dlib"),  # not of any paper
}


def find_faces(frames: np.ndarray, detect: Callable[[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    """Return the boxes (faces, 4) in each frame. To have one network in memory, free the detector before the next.

    Args:
        frames: (M, H, W, 3) uint8, RGB, at 25 fps.
        detect: from a frame to boxes (faces, 4 or more) in pixels, the surest first: `S3FD.detect`, or the one of
            `detect_with_dlib`.
    """
    found = [np.asarray(detect(frame), np.float64) for frame in frames]
    return [boxes[:, :4] if len(boxes) else np.empty((0, 4)) for boxes in found]


def detect_with_dlib(detector: FaceDetector) -> Callable[[np.ndarray], np.ndarray]:
    """Return a `detect` for `find_faces` of this project's own detector, for the protocol `dlib`."""

    def detect(frame: np.ndarray) -> np.ndarray:
        faces = detector.detect(np.asarray(Image.fromarray(frame).convert("L")))
        faces = sorted(faces, key=lambda face: face.score, reverse=True)
        return np.array([[*face.box, face.score] for face in faces]).reshape(-1, 5)

    return detect


def measure_lip_sync(
    network: SyncNet,
    frames: np.ndarray,
    waveform: np.ndarray | None,
    boxes_per_frame: Sequence[np.ndarray] | None,
    protocol: LipSyncProtocol = PROTOCOLS["s3fd50"],
    shots: Sequence[tuple[int, int]] | None = None,
) -> Measurement:
    """Return LSE-C and LSE-D of a clip, with the offset, the tracks and the frames they cover as details.

    Statuses: `silent` without audio, `no_face` if no frame has a face, `short` if none is large or seen for long
    enough, or the clip has fewer than six frames, `no_sync` as the protocol says.

    Args:
        frames: (M, H, W, 3) uint8, RGB, at 25 fps.
        waveform: (samples,) float in [-1, 1], mono at 16 kHz.
        boxes_per_frame: of `find_faces`; None for a protocol without a detector.
        shots: (first, end) frames between cuts, of `shots.find_shots`; None for a clip without any. A track never
            crosses a cut.
    """
    if waveform is None or not np.any(waveform):
        return Measurement(Status.SILENT)
    if len(frames) < MIN_FRAMES:
        return Measurement(Status.SHORT, details={"frames": len(frames)})
    samples = (waveform * 32768).round().clip(-32768, 32767).astype(np.int16)
    if protocol.detector is None:
        faces = np.stack([resize_bilinear(frame, FACE_SIZE, FACE_SIZE) for frame in frames])
        found = [(score_faces(network, faces, samples), len(frames), 0.0)]
        num_with_face = len(frames)
    else:
        if protocol.runs:  # frames without audio are left out before anything is sought
            boxes_per_frame = boxes_per_frame[: len(samples) // SAMPLES_PER_FRAME]
        num_with_face = sum(len(boxes) > 0 for boxes in boxes_per_frame)
        if not num_with_face:
            return Measurement(Status.NO_FACE)
        found = [
            (_score_track(network, frames, samples, track, protocol), len(track.frames), _mean_side(track))
            for track in find_tracks(boxes_per_frame, protocol, shots)
        ]
    details: dict[str, Any] = {"frames": len(frames), "frames_with_face": num_with_face, "tracks": len(found)}
    found = [item for item in found if item[0] is not None]
    if not found:
        return Measurement(Status.SHORT, details=details)
    details["offsets"] = [score.offset for score, _, _ in found]
    details["track_lengths"] = [length for _, length, _ in found]
    if protocol.drops_late and max(map(abs, details["offsets"])) >= MAX_OFFSET - 1:
        return Measurement(Status.NO_SYNC, details=details)
    if protocol.faces == "best":
        found = [max(found, key=lambda item: item[0].lse_c - item[0].lse_d)]
    elif protocol.faces == "largest":
        found = [max(found, key=lambda item: item[2])]
    values = {
        "LSE-C": float(np.mean([score.lse_c for score, _, _ in found])),
        "LSE-D": float(np.mean([score.lse_d for score, _, _ in found])),
    }
    return Measurement(Status.OK, values, details)


def find_tracks(
    boxes_per_frame: Sequence[np.ndarray],
    protocol: LipSyncProtocol,
    shots: Sequence[tuple[int, int]] | None = None,
) -> list[Track]:
    """Return the faces that the protocol scores."""
    if protocol.runs:
        return face_runs(boxes_per_frame, protocol.min_track)
    tracks = []
    for first, end in shots or [(0, len(boxes_per_frame))]:
        if end - first < protocol.min_track:
            continue
        for track in track_faces(boxes_per_frame[first:end], protocol.min_track):
            tracks.append(Track(track.frames + first, track.boxes))
    return tracks


def _score_track(
    network: SyncNet, frames: np.ndarray, samples: np.ndarray, track: Track, protocol: LipSyncProtocol
) -> SyncScore | None:
    windows = crop_windows(track, protocol.crop_scale, **({} if protocol.smoothed else {"smoothing": None}))
    # Verse-Bench cuts the audio at the beginning of the last frame, the others at its end
    first, end = track.frames[0], track.frames[-1] + (0 if protocol.runs else 1)
    samples = samples[first * SAMPLES_PER_FRAME : end * SAMPLES_PER_FRAME]
    if min(len(track.frames), len(samples) // SAMPLES_PER_FRAME) < MIN_FRAMES:
        return None
    return score_faces(network, cut_faces(frames, track, windows), samples)


def _mean_side(track: Track) -> float:
    return float((track.boxes[:, 2:] - track.boxes[:, :2]).mean())
