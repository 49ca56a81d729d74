# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A window of a clip -> frames at the bucket's size, sound, and mouth boxes, in this process or in several."""
# N video frames; boxes are x1, y1, x2, y2, half-open, NaN: no mouth

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch

from ..images import centre_crop, resize_frames
from ..latents import nearest_num_frames, num_audio_samples
from ..media import read_video
from .clips import Window
from .faces import FaceDetector, find_mouths, map_boxes


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
    if num_workers == 0:
        for window in windows:
            yield window, _try(prepare, window)
        return
    waiting = deque(windows)
    while waiting:
        running: deque = deque()
        try:
            with _worker_pool(num_workers) as pool:
                while waiting or running:
                    while waiting and len(running) < 2 * num_workers:
                        running.append((waiting[0], pool.submit(_try, prepare, waiting[0])))
                        waiting.popleft()
                    result = running[0][1].result()
                    yield running.popleft()[0], result
        except BrokenProcessPool:  # a file crashed its reader: try those under way alone, to find out which
            for window, _ in running:
                yield window, _try_alone(prepare, window)


def _try(prepare: Preparation, window: Window) -> PreparedClip | str:
    try:
        return prepare(window)
    except Exception as error:  # whatever a damaged clip makes a decoder do, the others go on
        return " ".join(str(error).split()) or type(error).__name__


def _try_alone(prepare: Preparation, window: Window) -> PreparedClip | str:
    try:
        with _worker_pool(1) as pool:
            return pool.submit(_try, prepare, window).result()
    except BrokenProcessPool:
        return "reading it crashed the process"


def _worker_pool(num_workers: int) -> ProcessPoolExecutor:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if "forkserver" in methods:  # imports once, not once per worker
        context.set_forkserver_preload([__name__])
    return ProcessPoolExecutor(num_workers, context, initializer=_start_worker)


def _start_worker() -> None:
    torch.set_num_threads(1)
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:  # also when that was killed and could not say goodbye
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
