# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Films for tests: scenes of one colour, in which a red square stands for a face, and a detector that finds it."""

import json

import numpy as np

from diffusers_jova.faces import Face
from diffusers_jova.media import write_video


RATE, SAMPLING_RATE = 12.5, 16000
FACE = 235  # of 255: how bright a square is, and nothing else
COLOURS = [(40, 90, 60), (90, 50, 120), (60, 110, 130), (120, 100, 40), (50, 60, 150), (110, 60, 60)]

# of `dataset`: squares do not speak
SETTINGS = """
split: {max_s: 2}
filter: {min_resolution: 90, min_sharpness: null, min_speech: null, max_other: null, min_snr: null, min_motion: 0.01}
preprocess: {buckets: [64x64x9], frame_rate: 12.5, no_line_dropout_variants: true, device: cpu}
"""


class SquareFinder:
    """A detector that takes bright squares for faces; it needs no dlib and can be sent to another process."""

    def detect(self, image):
        columns = np.flatnonzero(np.diff(np.concatenate([[0], (image > 200).sum(axis=0) > 8, [0]])))
        faces = []
        for left, right in zip(columns[::2], columns[1::2]):
            rows = np.flatnonzero((image[:, left:right] > 200).sum(axis=1) > 4)
            faces.append(Face(np.array([left, rows[0], right, rows[-1] + 1], float), 1.0))
        return faces

    def landmarks(self, image, box):
        x1, y1, x2, y2 = box
        angles = np.linspace(0, 2 * np.pi, 68)
        points = np.stack(
            [(x1 + x2) / 2 + (x2 - x1) / 2 * np.cos(angles), (y1 + y2) / 2 + (y2 - y1) / 2 * np.sin(angles)]
        )
        return points.T


def scene(colour, num_frames, squares=(0.3,), size=(96, 128)):
    """Return frames of a colour with something that moves, and squares that begin at these parts of the width."""
    frames = np.empty((num_frames, *size, 3), np.uint8)
    frames[:] = colour
    for index, frame in enumerate(frames):
        frame[-8:, 4 * (index % 25) :][:, :8] = 255 - np.array(colour)
        for left in squares:
            x = round(left * size[1]) + index % 3
            frame[30:60, x : x + 30] = FACE
    return frames


def voice(num_frames, pause=None):
    """Return a hum as long as so many frames, with a pause of a fifth of a second around a frame."""
    seconds = np.arange(round(num_frames / RATE * SAMPLING_RATE)) / SAMPLING_RATE
    loud = np.ones_like(seconds) if pause is None else np.abs(seconds - pause / RATE) > 0.1
    return 0.3 * np.sin(2 * np.pi * 220 * seconds) * loud


def write_film(path, scenes, audio=None, **options):
    path.parent.mkdir(exist_ok=True)
    frames = np.concatenate(scenes)
    audio = voice(len(frames)) if audio is None else audio
    write_video(path, frames, RATE, audio if len(audio) else None, SAMPLING_RATE if len(audio) else None, **options)
    return path


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
