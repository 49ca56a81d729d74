# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A window of a clip -> frames at the bucket's size, audio, and mouth boxes, in whichever process calls it."""
# N video frames; boxes are x1, y1, x2, y2, half-open, NaN: no mouth

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..faces import FaceDetector, find_cuts, find_mouths, map_boxes, thumbnail
from ..images import centre_crop, face_crop, fit_frame, resize_frame
from ..latents import nearest_num_frames, num_audio_samples
from ..media import iter_frames, read_audio
from ..media.reading import read_timeline
from .windows import Window


MAX_MISSING_FRAMES = 4  # fewer than the file promises: more than rounding, it is damaged


@dataclass
class PreparedClip:
    """A window as the encoders want it.

    Attributes:
        frames: (N, height, width, 3) uint8 at the bucket's size, or None.
        waveform: (num_samples,) float32, mono, or None.
        boxes: (N, 4) float32 in pixels of `frames`, NaN without a mouth; or None.
        num_faces: the most faces in one frame.
        num_frames: N; for audio alone, the frames that its length stands for.
        mouths_outside: frames whose mouth the crop does not show.
    """

    frames: np.ndarray | None
    waveform: np.ndarray | None
    boxes: np.ndarray | None
    num_faces: int
    num_frames: int
    mouths_outside: int = 0


@dataclass(frozen=True)
class SourceFrames:
    """The frames of a window at the source's size, decoded anew each time: a few of them may fill the memory."""

    path: Path
    frame_rate: Fraction
    start_s: Fraction
    num_frames: int
    crop: tuple[int, int, int, int] | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        duration_s = self.num_frames / self.frame_rate
        frames = iter_frames(self.path, self.frame_rate, start_s=self.start_s, duration_s=duration_s)
        return frames if self.crop is None else map(self._cropped, frames)

    def _cropped(self, frame: np.ndarray) -> np.ndarray:
        x1, y1, x2, y2 = self.crop
        return frame[y1:y2, x1:x2]


@dataclass(frozen=True)
class Preparation:
    """How windows are prepared; calling it does it, also in another process.

    Args:
        frame_rate, sampling_rate: of the model; no `sampling_rate`, no audio.
        has_video: whether frames are wanted.
        detector: finds faces; None not to look for mouths.
        detect_every: see `find_mouths`.
        crop: "face" or "centre", see `settings.CROPS`; without a detector, the centre.
    """

    frame_rate: Fraction
    sampling_rate: int | None
    has_video: bool = True
    detector: FaceDetector | None = None
    detect_every: int = 1
    crop: str = "face"

    def __call__(self, window: Window) -> PreparedClip:
        """Return the window's frames, audio and mouth.

        Raises:
            ValueError: if the clip is damaged.
        """
        with window.source.file() as path:
            if not self.has_video or read_timeline(path).video is None:
                return self._audio_alone(window, path)
            source = window.source
            frames = SourceFrames(path, self.frame_rate, window.start_s, window.num_frames, source.crop)
            clip, num_read = self._video(window, frames)
            if self.sampling_rate is not None:
                duration_s = num_read / self.frame_rate
                clip.waveform = self._audio(path, window, duration_s, clip.num_frames)
        return clip

    def _video(self, window: Window, frames: SourceFrames) -> tuple[PreparedClip, int]:
        """Return the clip without its audio, and how many frames could be read."""
        height, width = window.bucket.height, window.bucket.width
        images, thumbnails, size = np.empty((window.num_frames, height, width, 3), np.uint8), [], None
        num_read = 0
        for frame in frames:
            size = (frame.shape[0], frame.shape[1])
            images[num_read] = fit_frame(frame, height, width)
            if self.detector is not None:
                thumbnails.append(thumbnail(frame))
            num_read += 1
            del frame  # before the next one is decoded
        num_frames = nearest_num_frames(num_read)[0]
        if window.num_frames - num_frames > MAX_MISSING_FRAMES:
            raise ValueError(
                f"from {float(window.start_s):.2f} s on, only {num_read} of {window.num_frames} frames can be "
                "read: it may be damaged"
            )
        clip = PreparedClip(images[:num_frames], None, np.full((num_frames, 4), np.nan, np.float32), 0, num_frames)
        if self.detector is not None:
            cuts = find_cuts(np.stack(thumbnails[:num_frames]))
            self._find_mouths(clip, dataclasses.replace(frames, num_frames=num_frames), size, cuts)
        return clip, num_read

    def _find_mouths(self, clip: PreparedClip, frames: SourceFrames, size: tuple[int, int], cuts: np.ndarray) -> None:
        """Enter the mouths in a clip that is cropped around the centre; crop it anew where the face asks for it."""
        bucket_size = (clip.frames.shape[1], clip.frames.shape[2])
        mouths = find_mouths(frames, self.detector, self.detect_every, cuts)
        crop = centre = centre_crop(*size, *bucket_size)
        if self.crop == "face":
            crop = face_crop(*size, *bucket_size, mouths.boxes, mouths.faces)
        if crop != centre:
            for i, frame in enumerate(frames):
                clip.frames[i] = resize_frame(frame, crop, *bucket_size)
                del frame
        clip.boxes, clip.num_faces = map_boxes(mouths.boxes, crop, *bucket_size), mouths.num_faces
        clip.mouths_outside = int((np.isfinite(mouths.boxes) & ~np.isfinite(clip.boxes)).all(axis=1).sum())

    def _audio(self, path: Path, window: Window, duration_s: Fraction, num_frames: int) -> np.ndarray | None:
        waveform, _ = read_audio(path, self.sampling_rate, 1, start_s=window.start_s, duration_s=duration_s)
        if waveform is None:
            return None
        return waveform.mean(axis=0)[: num_audio_samples(num_frames, self.frame_rate, self.sampling_rate)]

    def _audio_alone(self, window: Window, path: Path) -> PreparedClip:
        duration_s, waveform = window.num_frames / self.frame_rate, None
        if self.sampling_rate is not None:
            waveform = self._audio(path, window, duration_s, window.num_frames)
        if waveform is None:
            raise ValueError("it has nothing that this model can encode")
        num_samples = num_audio_samples(window.num_frames, self.frame_rate, self.sampling_rate)
        return PreparedClip(None, np.pad(waveform, (0, num_samples - len(waveform))), None, 0, window.num_frames)
