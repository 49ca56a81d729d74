# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips without faces, a detector that finds one anyway, and what is in a cache."""

import importlib.util
from fractions import Fraction

import av
import numpy as np
import pytest

from diffusers_jova.data import cache
from diffusers_jova.data.windows import Bucket
from diffusers_jova.faces import Face
from diffusers_jova.media import write_video


needs_dlib = pytest.mark.skipif(
    importlib.util.find_spec("dlib") is None or importlib.util.find_spec("face_recognition_models") is None,
    reason="needs dlib and its landmark file",
)

RATE, BUCKET = Fraction(25, 2), Bucket(64, 64, 25)


class MouthInTheMiddle:
    """A detector that needs no dlib: one face fills the picture."""

    def detect(self, image):
        return [Face(np.array([0, 0, image.shape[1], image.shape[0]], float), 1.0)]

    def landmarks(self, image, box):
        points = np.zeros((68, 2))
        points[17:48] = np.linspace((0, 0), (box[2], box[3] / 2), 31)
        points[48:] = np.linspace((box[2] * 0.4, box[3] * 0.6), (box[2] * 0.6, box[3] * 0.8), 20)
        return points


def coloured(num_frames=9, height=64, width=64, value=100):
    frames = np.full((num_frames, height, width, 3), value, np.uint8)
    frames[:, : height // 2, : width // 2] = np.linspace(0, 255, num_frames, dtype=np.uint8)[:, None, None, None]
    return frames


def hum(duration_s, rate=16000):
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(duration_s * rate)) / rate)


def write_clip(path, num_frames=9, sound=True, caption=None, **kwargs):
    audio = hum(num_frames / 12.5) if sound else None
    write_video(path, coloured(num_frames, **kwargs), 12.5, audio, 16000 if sound else None)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


def content(folder):
    """What is in a cache, but for the reports, which name its folder and the run."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("report"))
    return {path.relative_to(folder): path.read_bytes() for path in files}


def rows_by_source(cache_dir):
    return {row["source"]: row for row in cache.read_index(cache_dir)}


def write_variable_rate(path, times_ms, frames, audio, sampling_rate):
    """Write a file as phones do, with a timestamp of its own for every frame."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=30, options={"crf": "10"})
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=sampling_rate, layout="mono")
        sound.bit_rate = 96000
        for time, array in zip(times_ms, frames, strict=True):
            frame = av.VideoFrame.from_ndarray(array)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(audio[None].astype(np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = sampling_rate, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
