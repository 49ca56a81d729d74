# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A window of a clip -> frames at the bucket's size, sound, and mouth boxes, in this process or in several."""
# N video frames; boxes are x1, y1, x2, y2, half-open, NaN: no mouth

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..images import centre_crop, resize_frames
from ..latents import nearest_num_frames, num_audio_samples
from ..media import read_video
from .clips import Window
from .faces import FaceDetector, find_mouths, map_boxes
from .workers import Workers


logger = logging.getLogger(__name__)

MAX_MISSING_FRAMES = 4  # fewer than the file promises: more than rounding, it is damaged


@dataclass
class PreparedClip:
    """A window as the encoders want it.

    Attributes:
        frames: (N, height, width, 3) uint8 at the bucket's size, or None.
        waveform: (num_samples,) float32, mono, or None.
        boxes: (N, 4) float32 in pixels of `frames`, NaN without a mouth; or None.
        num_faces: the most faces in one frame.
        num_frames: N; for sound alone, the frames that its length stands for.
    """

    frames: np.ndarray | None
    waveform: np.ndarray | None
    boxes: np.ndarray | None
    num_faces: int
    num_frames: int


@dataclass(frozen=True)
class Preparation:
    """How windows are prepared; calling it does it, also in another process.

    Args:
        frame_rate, sampling_rate: of the model; no `sampling_rate`, no sound.
        has_video: whether pictures are wanted.
        detector: None to look for no mouths.
        detect_every: see `find_mouths`.
    """

    frame_rate: Fraction
    sampling_rate: int | None
    has_video: bool = True
    detector: FaceDetector | None = None
    detect_every: int = 1

    def __call__(self, window: Window) -> PreparedClip:
        """Return the window's frames, sound and mouth.

        Raises:
            ValueError: if the clip is damaged.
        """
        duration_s = window.num_frames / self.frame_rate
        with window.source.file() as path:
            clip = read_video(path, self.frame_rate, self.sampling_rate, start_s=window.start_s, duration_s=duration_s)
        waveform = None if clip.waveform is None or self.sampling_rate is None else clip.waveform.mean(axis=0)
        if waveform is not None and not np.isfinite(waveform).all():
            raise ValueError("its sound has samples that are not finite")
        if clip.frames is None or not self.has_video:
            return self._sound_alone(window, waveform)

        num_frames = nearest_num_frames(min(len(clip.frames), window.num_frames))[0]
        if window.num_frames - num_frames > MAX_MISSING_FRAMES:
            raise ValueError(
                f"from {float(window.start_s):.2f} s on, only {len(clip.frames)} of {window.num_frames} frames can be "
                "read: it may be damaged"
            )
        source_frames = clip.frames[:num_frames]
        crop = centre_crop(*source_frames.shape[1:3], window.bucket.height, window.bucket.width)
        boxes, num_faces = np.full((num_frames, 4), np.nan, np.float32), 0
        if self.detector is not None:
            mouths = find_mouths(source_frames, self.detector, self.detect_every)
            num_faces = mouths.num_faces
            boxes = map_boxes(mouths.boxes, crop, window.bucket.height, window.bucket.width)
        if waveform is not None:
            waveform = waveform[: num_audio_samples(num_frames, self.frame_rate, self.sampling_rate)]
        frames = resize_frames(source_frames, crop, window.bucket.height, window.bucket.width)
        return PreparedClip(frames, waveform, boxes, num_faces, num_frames)

    def _sound_alone(self, window: Window, waveform: np.ndarray | None) -> PreparedClip:
        if waveform is None:
            raise ValueError("it has nothing that this model can encode")
        num_samples = num_audio_samples(window.num_frames, self.frame_rate, self.sampling_rate)
        waveform = np.pad(waveform[:num_samples], (0, max(num_samples - len(waveform), 0)))
        return PreparedClip(None, waveform, None, 0, window.num_frames)


def prepare_all(
    windows: Iterable[Window], prepare: Preparation, num_workers: int
) -> Iterator[tuple[Window, PreparedClip | str]]:
    """Yield each window, in order, with its prepared clip, or with why it cannot be had."""
    with Workers(num_workers) as workers:
        if not workers.accept(prepare):
            logger.warning(
                "%s cannot be sent to another process, so clips are decoded in this one, which a damaged clip may "
                "crash: define it in a module.",
                type(prepare.detector).__name__,
            )
            workers = Workers(0)
        yield from workers.map(prepare, windows)
