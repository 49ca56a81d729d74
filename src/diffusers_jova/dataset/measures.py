# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A clip -> the numbers that filters look at: of its frames, its face, its audio, and of lips and audio together.

What the ruler measures (`evaluation`) is measured by the ruler's own functions.
"""
# F frames, H W rows and columns, P = 68 landmarks, N samples; NaN: no face

import importlib.util
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..data.clips import Source, probe_of_piece
from ..data.probe import Probe, is_still_picture, probe
from ..evaluation.checkpoints import read_state_dict
from ..evaluation.likeness import evenly_spaced
from ..evaluation.lip_sync import PROTOCOLS, detect_with_dlib, find_faces, measure_lip_sync
from ..evaluation.lips import find_landmarks, measure_lips_by_loudness
from ..evaluation.loudness import PIECE_S, SAMPLING_RATE, SILENCE_DB, decibels, measure_loudness
from ..evaluation.measurement import Measurement
from ..evaluation.picture import measure_motion, measure_sharpness
from ..evaluation.syncnet import SyncNet, load_syncnet
from ..faces import MOUTH, FaceDetector, find_cuts, thumbnail, to_grey
from ..images import resize_frame
from ..media import iter_frames, read_audio
from ..media.reading import read_timeline
from .films import SECOND_FACE


logger = logging.getLogger(__name__)

MAX_SIDE = 480  # pixels of the shorter side of the frames that are looked at
MAX_FRAME_RATE = Fraction(25)  # at which they are: SyncNet's
NUM_LOOKS = 5  # frames in which faces are counted, and text is sought
NUM_MOMENTS = 3  # frames that a clip's hash is made of
HASH_SIZE = 16  # 256 bits
HEARD_DB = 60  # below the loudest: what audio is hashed by
FFT, HOP = 512, 160  # samples at 16 kHz, likewise

FLAT_TOP, FLAT_FOOT = 0.9, 0.6  # of full scale: what a codec makes of a clipped peak stays above the first
MIN_FLATNESS = 2  # samples above the top over those between foot and top: a tone at full scale has 0.95
MIN_TOP = 3  # samples in a row
NOISE_QUANTILE, VOICE_QUANTILE = 0.1, 0.9  # of the level every 20 ms
MAX_SNR_DB = 60.0  # digital silence between words says nothing about a microphone

LAG_GAIN = 0.2  # of r over that without a lag, from which on lips count as early or late: chance gains less

TEXT_CONTRAST = 60  # of 255, between a letter and what is around it
TEXT_HEIGHTS = 0.02, 0.12  # of a line, over the frame's
MIN_TEXT_SHAPE = 2.5  # width of a line over its height
MIN_TEXT_STROKES = 0.3  # upright edges of a line, over its width in heights / 10


VERSION = 2  # of what is measured: another one measures all clips again

Measures = dict[str, Any]


@dataclass(frozen=True)
class MeasuredClip:
    """A clip with what was measured of it, and why it is left out, if so."""

    source: Source
    measures: Mapping[str, Any]
    duration_s: float
    reasons: Sequence[str] = ()


@dataclass(frozen=True)
class Measurer:
    """How clips are measured; calling it does it, also in another process.

    Args:
        detector: finds faces; None: none are looked for.
        syncnet: file of SyncNet's weights, for lips in time; None: loudness alone has to tell.
    """

    detector: FaceDetector | None
    syncnet: str | None = None

    def settings(self, source: Source) -> list[Any]:
        """Return what decides about the numbers, besides the clip's file."""
        detector = None if self.detector is None else type(self.detector).__name__
        return [VERSION, detector, self.syncnet, source.start_s, source.end_s, source.crop]

    def __call__(self, source: Source) -> tuple[Measures, bool, float]:
        """Return what was measured of a clip, whether it has video, and its seconds; None where it has no value.

        Raises:
            ValueError: if it cannot be read.
        """
        with source.file() as path:
            return self._measure(source, path)

    def _measure(self, source: Source, path: Path) -> tuple[Measures, bool, float]:
        found = probe_of_piece(source, _probe_file(path))
        measures: Measures = {}
        start_s = source.start_s or Fraction(0)
        waveform = None
        if found.has_audio:
            read, _ = read_audio(path, SAMPLING_RATE, 1, start_s=start_s, duration_s=found.duration_s)
            waveform = None if read is None else read[0]
        measures |= measure_audio(waveform)
        if found.has_video:
            frames, rate, size = _frames(source, path, found.duration_s)
            measures |= {"resolution": min(size)} | measure_frames(frames, rate)
            if self.detector is not None:
                measures |= measure_face(frames, rate, waveform, self.detector)
                if self.syncnet is not None:
                    measures |= measure_sync(frames, rate, waveform, self.detector, _load_syncnet(self.syncnet))
        rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in measures.items()}
        return rounded, found.has_video, float(found.duration_s)


@lru_cache(maxsize=8)
def _probe_file(path) -> Probe:
    if is_still_picture(path):
        raise ValueError("it is an image, not a video")
    return probe(path)


@lru_cache(maxsize=1)
def _load_syncnet(path: str) -> SyncNet:
    return load_syncnet(read_state_dict(path)).eval()


def _frames(source: Source, path: Path, duration_s: Fraction) -> tuple[np.ndarray, Fraction, tuple[int, int]]:
    """Return the frames of a clip at the size at which they are looked at, their rate, and their own size."""
    rate = min(read_timeline(path).frame_rate, MAX_FRAME_RATE)
    frames, size, crop = [], (0, 0), source.crop
    start_s = source.start_s or Fraction(0)
    for frame in iter_frames(path, rate, start_s=start_s, duration_s=duration_s):
        x1, y1, x2, y2 = crop or (0, 0, frame.shape[1], frame.shape[0])
        size = (y2 - y1, x2 - x1)
        scale = min(MAX_SIDE / min(size), 1)
        height, width = (max(round(side * scale), 1) for side in size)
        if scale < 1:
            frames.append(resize_frame(frame, (x1, y1, x2, y2), height, width))
        else:
            frames.append(np.ascontiguousarray(frame[y1:y2, x1:x2]))
        del frame
    return np.stack(frames), rate, size


# --- frames ---


def measure_frames(frames: np.ndarray, frame_rate: Fraction) -> Measures:
    """Return `sharpness`, `motion`, `cuts`, `text` and `image_hash` of frames (F, H, W, 3) uint8."""
    looks = [frames[index] for index in evenly_spaced(len(frames), NUM_LOOKS)]
    return {
        "sharpness": _value(measure_sharpness(frames), "sharpness"),
        "motion": _value(measure_motion(frames, frame_rate), "motion"),
        "cuts": int(find_cuts(np.stack([thumbnail(frame) for frame in frames])).sum()),
        "text": float(np.median([text_area(frame) for frame in looks])),
        "image_hash": "".join(
            _hash(Image.fromarray(frames[index])) for index in evenly_spaced(len(frames), NUM_MOMENTS)
        ),
    }


def _value(measured: Measurement, name: str) -> float | None:
    return measured.values.get(name)


def text_area(frame: np.ndarray) -> float:
    """Return the part of a frame (H, W, 3) uint8 that lines of text cover, by their strokes [ours].

    Strong edges that stand close together in a row, wider than high and with many upright strokes: what subtitles,
    names and watermarks have. It does not read: a fence may count, and pale or very large letters do not.
    """
    import cv2

    grey = to_grey(frame)
    height, width = grey.shape
    edges = cv2.morphologyEx(grey, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    strokes = (edges > TEXT_CONTRAST).astype(np.uint8)
    gap = max(round(height * TEXT_HEIGHTS[0]), 3)
    lines = cv2.morphologyEx(strokes, cv2.MORPH_CLOSE, np.ones((1, gap * 2 + 1), np.uint8))
    lines = cv2.morphologyEx(lines, cv2.MORPH_OPEN, np.ones((gap, gap), np.uint8))
    count, _, boxes, _ = cv2.connectedComponentsWithStats(lines)
    area = 0
    for x, y, w, h, _ in boxes[1:count]:
        is_line = TEXT_HEIGHTS[0] * height <= h <= TEXT_HEIGHTS[1] * height and w >= MIN_TEXT_SHAPE * h
        if is_line and _num_strokes(grey[y : y + h, x : x + w]) >= MIN_TEXT_STROKES * 10 * w / h / 2:
            area += w * h
    return area / (height * width)


def _num_strokes(line: np.ndarray) -> float:
    """Return how often a line of text goes from dark to bright along its middle rows, on average."""
    middle = line[len(line) // 4 : max(len(line) * 3 // 4, len(line) // 4 + 1)]
    threshold = (int(line.min()) + int(line.max())) / 2
    return float((np.diff((middle > threshold).astype(np.int8), axis=1) > 0).sum(axis=1).mean())


def _hash(image: Image.Image) -> str:
    import imagehash

    return str(imagehash.phash(image, HASH_SIZE))


# --- the face ---


def measure_face(
    frames: np.ndarray, frame_rate: Fraction, waveform: np.ndarray | None, detector: FaceDetector
) -> Measures:
    """Return `faces`, `face_frames`, `face_size`, `turn`, `mouth`, and of the lips `lips`, `lag_s`.

    Args:
        frames: (F, H, W, 3) uint8.
        waveform: (N,) float in [-1, 1], mono at 16 kHz, or None.
    """
    landmarks = find_landmarks(frames, detector)
    seen = np.isfinite(landmarks[:, 0, 0])
    looks = [to_grey(frames[index]) for index in evenly_spaced(len(frames), NUM_LOOKS)]
    measures: Measures = {
        "faces": max(_num_faces(image, detector) for image in looks),
        "face_frames": float(seen.mean()),
        **dict.fromkeys(("face_size", "turn", "mouth", "lips", "lag_s")),
    }
    if not seen.any():
        return measures
    height, width = frames.shape[1:3]
    points = landmarks[seen]
    spans = points.max(axis=1) - points.min(axis=1)
    mouths = points[:, MOUTH]
    inside = ((mouths >= 0) & (mouths <= (width - 1, height - 1))).all(axis=(1, 2))
    measures["face_size"] = float(np.median(spans[:, 1]) / height)
    measures["turn"] = float(np.median(head_turns(points)))
    measures["mouth"] = float(inside.sum() / len(frames))
    lips = measure_lips_by_loudness(landmarks, frame_rate, waveform)
    if lips.values:
        measures["lips"] = lips.details["r_at_lag"]
        is_sure = lips.details["r_at_lag"] - lips.values["lips-loudness"] >= LAG_GAIN
        measures["lag_s"] = lips.details["lag"] / float(frame_rate) if is_sure else 0.0
    return measures


def _num_faces(image: np.ndarray, detector: FaceDetector) -> int:
    """Return how many faces an image has, besides much smaller ones."""
    areas = [float(np.prod(face.box[2:] - face.box[:2])) for face in detector.detect(image)]
    return sum(area >= SECOND_FACE * max(areas) for area in areas)


def head_turns(landmarks: np.ndarray) -> np.ndarray:
    """Return how far heads are turned to a side, (F,), of landmarks (F, P, 2): 0 from the front, 1 in profile [ours].

    |a - b| / (a + b), with a and b the distances from the nose's tip to the ends of the jaw.
    """
    left, right = (np.linalg.norm(landmarks[:, 30] - landmarks[:, end], axis=-1) for end in (0, 16))
    return np.abs(left - right) / np.maximum(left + right, 1e-6)


def measure_sync(
    frames: np.ndarray, frame_rate: Fraction, waveform: np.ndarray | None, detector: FaceDetector, network: SyncNet
) -> Measures:
    """Return `sync`, the ruler's LSE-C by the protocol `dlib`, and `sync_lag_s`; None where it has no value.

    SyncNet wants 25 frames per second, at which these are looked at unless a clip has fewer: such ones repeat then.
    """
    index = ((np.arange(int(len(frames) * 25 / frame_rate)) + 0.5) * float(frame_rate) / 25).astype(int)
    frames = frames[index.clip(0, len(frames) - 1)]
    with torch.inference_mode():
        found = measure_lip_sync(
            network, frames, waveform, find_faces(frames, detect_with_dlib(detector)), PROTOCOLS["dlib"]
        )
    offsets = found.details.get("offsets") if found.values else None
    return {"sync": _value(found, "LSE-C"), "sync_lag_s": None if not offsets else float(np.median(offsets)) / 25}


# --- audio ---


def measure_audio(waveform: np.ndarray | None) -> Measures:
    """Return `audio`, `loudness`, `silence`, `clipping`, `snr`, `speech`, `other` and `audio_hash`.

    Args:
        waveform: (N,) float in [-1, 1], mono at 16 kHz, or None.
    """
    names = ("loudness", "silence", "clipping", "snr", "speech", "other", "audio_hash")
    if waveform is None or not len(waveform):
        return {"audio": 0, **dict.fromkeys(names)}
    level = measure_loudness(waveform)
    size = round(PIECE_S * SAMPLING_RATE)
    count = max(len(waveform) // size, 1)
    pieces = np.pad(waveform, (0, max(count * size - len(waveform), 0)))[: count * size].reshape(count, size)
    levels = np.array([decibels(piece) for piece in pieces])
    noise, voice = np.quantile(levels, (NOISE_QUANTILE, VOICE_QUANTILE))
    is_speech = find_speech(waveform)
    measures: Measures = {
        "audio": 1,
        "loudness": level.values["loudness"],
        "silence": level.values["silence"],
        "clipping": clipped_part(waveform),
        "snr": float(min(voice - noise, MAX_SNR_DB)) if voice > SILENCE_DB else None,
        "speech": None,
        "other": None,
        "audio_hash": _hash(_spectrogram(waveform)) if voice > SILENCE_DB and len(waveform) >= FFT else None,
    }
    if is_speech is not None:
        heard = levels > SILENCE_DB
        spoken = is_speech[(np.arange(count) * size + size // 2).clip(0, len(is_speech) - 1)]
        measures["speech"] = float(spoken.mean())
        measures["other"] = float((heard & ~spoken).mean())
    return measures


def clipped_part(waveform: np.ndarray) -> float:
    """Return the part of samples that are in the flat tops of clipped peaks at full scale [ours].

    A peak is a run of samples beyond `FLAT_FOOT` on one side of zero. It is clipped where it has `MIN_TOP` samples and
    more beyond `FLAT_TOP`, and `MIN_FLATNESS` times as many there as on its slopes: lossy codecs and resampling round
    flat tops off, to either side of full scale, but keep the slopes steep. A limiter, which turns loud parts down as a
    whole, leaves peaks round.
    """
    clipped = 0
    for side in (waveform, -waveform):
        is_top = np.concatenate([[0], np.cumsum(side >= FLAT_TOP)])
        edges = np.flatnonzero(np.diff(np.concatenate([[False], side >= FLAT_FOOT, [False]])))
        tops = is_top[edges[1::2]] - is_top[edges[::2]]
        slopes = edges[1::2] - edges[::2] - tops
        clipped += int(tops[(tops >= MIN_TOP) & (tops >= MIN_FLATNESS * slopes)].sum())
    return clipped / len(waveform)


def find_speech(waveform: np.ndarray) -> np.ndarray | None:
    """Return (N,) bool, where Silero's detector hears speech in 16 kHz audio; None where it is not installed."""
    detector = _load_speech_detector()
    if detector is None:
        return None
    found, is_speech = (
        detector(torch.from_numpy(np.ascontiguousarray(waveform, np.float32))),
        np.zeros(len(waveform), bool),
    )
    for span in found:
        is_speech[span["start"] : span["end"]] = True
    return is_speech


@lru_cache(maxsize=1)
def _load_speech_detector() -> Callable[[torch.Tensor], list[dict[str, int]]] | None:
    if importlib.util.find_spec("silero_vad") is None:
        logger.warning("Speech is not told from other audio: that needs `pip install 'diffusers-jova[data]'`.")
        return None
    threads = torch.get_num_threads()
    from silero_vad import get_speech_timestamps, load_silero_vad  # sets the number of threads

    network = load_silero_vad()
    torch.set_num_threads(threads)

    def find(waveform: torch.Tensor) -> list[dict[str, int]]:
        with torch.inference_mode():
            return get_speech_timestamps(waveform, network, sampling_rate=SAMPLING_RATE)

    return find


def _spectrogram(waveform: np.ndarray) -> Image.Image:
    """Return the levels of 16 kHz audio, by frequency and time, as an image."""
    samples = torch.from_numpy(np.ascontiguousarray(waveform, np.float32))
    power = torch.stft(samples, FFT, HOP, window=torch.hann_window(FFT), return_complex=True).abs() ** 2
    levels = 10 * (power + 1e-12).log10().numpy()[1:]
    levels = levels.clip(levels.max() - HEARD_DB, None)  # below lies what codecs change
    scaled = (levels - levels.min()) / max(float(np.ptp(levels)), 1e-6)
    return Image.fromarray((scaled * 255).astype(np.uint8))
