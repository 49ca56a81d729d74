# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A clip to measure: its frames and audio, decoded once for all networks into files, and what it was made from."""
# F frames, H W rows and columns, C channels, N samples

import hashlib
import os
import shutil
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np

from ..images import load_image
from ..media import exact_frame_rate, iter_frames, read_audio
from ..media.reading import read_timeline
from .audio_input import mono, resample
from .pixels import frames_at_rate
from .prompt_file import Prompt


@dataclass(frozen=True)
class ClipFile:
    """A clip of a model: a video, or audio alone.

    Attributes:
        audio_path: where its audio is: itself, or a file beside it; None for none.
    """

    path: Path
    audio_path: Path | None


@dataclass(frozen=True)
class DecodeRequest:
    """A clip to decode into a folder.

    Attributes:
        video, audio: where the streams are; None for a stream that is not wanted.
        max_bytes: that its frames may take.
    """

    folder: Path
    video: Path | None
    audio: Path | None
    max_bytes: int


@dataclass(frozen=True)
class Decoded:
    """What lies in the folder of a decoded clip; None for a stream that it does not have.

    Attributes:
        shape: of the frames, (F, H, W, 3).
        audio_shape: (C, N).
    """

    folder: Path
    shape: tuple[int, int, int, int] | None = None
    frame_rate: Fraction | None = None
    audio_shape: tuple[int, int] | None = None
    sampling_rate: int | None = None

    @property
    def num_bytes(self) -> int:
        frames = int(np.prod(self.shape)) if self.shape else 0
        return frames + (4 * int(np.prod(self.audio_shape)) if self.audio_shape else 0)


def decode(request: DecodeRequest) -> Decoded:
    """Return what a clip holds, its frames and samples written into the folder, which must not exist.

    Raises:
        ValueError: if it is damaged, or too long for the limit.
    """
    request.folder.mkdir()
    try:
        shape, frame_rate = _write_frames(request) if request.video is not None else (None, None)
        waveform, sampling_rate = read_audio(request.audio) if request.audio is not None else (None, None)
        if waveform is not None and not waveform.size:
            waveform = None
        if waveform is not None:
            waveform.astype(np.float32).tofile(request.folder / "audio")
        return Decoded(request.folder, shape, frame_rate, None if waveform is None else waveform.shape, sampling_rate)
    except BaseException:
        shutil.rmtree(request.folder, ignore_errors=True)
        raise


def _write_frames(request: DecodeRequest) -> tuple[tuple[int, int, int, int] | None, Fraction | None]:
    timeline = read_timeline(request.video)
    if timeline.video is None:
        return None, None
    num_frames, num_bytes = 0, 0
    with (request.folder / "frames").open("wb") as file:
        for frame in iter_frames(request.video):
            num_bytes += frame.nbytes
            if num_bytes > request.max_bytes:
                raise ValueError(
                    f"`{request.video}` has more than {request.max_bytes / 2**30:.2g} GiB of frames: cut it, or allow "
                    "more with --decoded-gb."
                )
            file.write(np.ascontiguousarray(frame).data)
            num_frames += 1
    return (num_frames, *frame.shape), exact_frame_rate(timeline.frame_rate)


class Subject:
    """A clip, or reference audio, as passes see it.

    Attributes:
        name: the clip's, from set and id.
        prompt: what it was made from.
        frames: (F, H, W, 3) uint8, RGB, at `frame_rate`, read from the disk as they are used; None without video.
        waveform: (C, N) float32 at `sampling_rate`; None without audio.
    """

    def __init__(self, prompt: Prompt, decoded: Decoded):
        self.prompt, self.name, self._decoded = prompt, prompt.name, decoded
        self.frame_rate, self.sampling_rate = decoded.frame_rate, decoded.sampling_rate

    @cached_property
    def frames(self) -> np.ndarray | None:
        if self._decoded.shape is None:
            return None
        # "c": PyTorch warns of arrays that nobody may write into; what is written stays in memory
        return np.memmap(self._decoded.folder / "frames", np.uint8, "c", shape=self._decoded.shape)

    @cached_property
    def waveform(self) -> np.ndarray | None:
        if self._decoded.audio_shape is None:
            return None
        return np.fromfile(self._decoded.folder / "audio", np.float32).reshape(self._decoded.audio_shape)

    def frames_at(self, frame_rate: int) -> np.ndarray | None:
        """Return the frames at another rate: repeated or left out, as FFmpeg's filter `fps` does."""
        if self.frames is None or self.frame_rate == frame_rate:
            return self.frames
        return self.frames[frames_at_rate(len(self.frames), self.frame_rate, frame_rate)]

    def audio(self, sampling_rate: int) -> np.ndarray | None:
        """Return the audio (samples,) in one channel at a rate; None without any."""
        if self.waveform is None:
            return None
        return resample(mono(self.waveform), self.sampling_rate, sampling_rate)

    @cached_property
    def image(self) -> np.ndarray | None:
        """The prompt's image (H, W, 3) uint8, RGB; None without one.

        Raises:
            ValueError: if it cannot be read.
        """
        if self.prompt.image is None or not self.prompt.image.is_file():
            return None
        return np.array(load_image(self.prompt.image))


def sha256_of(path: str | os.PathLike) -> str:
    """Return the sha256 of a file, or of the names and files in a folder but for hidden ones."""
    path = Path(path)
    if path.is_dir():
        names = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
        names = [name for name in names if not any(part.startswith(".") for part in name.split("/"))]
        return hashlib.sha256("".join(f"{sha256_of(path / name)} {name}\n" for name in names).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
