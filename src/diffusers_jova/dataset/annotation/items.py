# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a model is asked about, read in a child process, and what it answers."""
# F frames, H W rows and columns, N samples

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from ...data.clips import Source
from ...evaluation.loudness import PIECE_S, SAMPLING_RATE, SILENCE_DB, decibels
from ...media import iter_frames, read_audio


LONGEST_PART_S = 300  # a transcript of a longer clip is made part by part, so that memory does not grow with it
LONGEST_WINDOW_S = 30  # Whisper hears no more at a time
CUT_WITHIN_S = 5  # parts and windows are cut at the quietest moment this near to where they should be cut
MAX_FRAMES_PER_S = 8  # that a captioner sees; more show nothing new


@dataclass(frozen=True)
class Item:
    """A clip, or a part of a long one.

    Attributes:
        start_s, end_s: of the part, in seconds of the clip.
        part, num_parts: which part it is, of how many.
        key: of the answer, in the journal.
    """

    source: Source
    start_s: Fraction
    end_s: Fraction
    part: int = 0
    num_parts: int = 1
    key: str = ""

    @property
    def file_start_s(self) -> Fraction:
        """Where the part begins in the file, in seconds."""
        return (self.source.start_s or Fraction(0)) + self.start_s


@dataclass(frozen=True)
class Annotation:
    """What a model says of a clip: keys of its row."""

    fields: Mapping[str, Any] = field(default_factory=dict)


class Window(NamedTuple):
    """A piece of a clip's audio.

    Attributes:
        start_s: where it begins, in seconds of the clip.
        waveform: (N,) float32 at 16 kHz.
    """

    start_s: float
    waveform: np.ndarray


def split_into_parts(source: Source, duration_s: Fraction) -> list[Item]:
    """Return a clip in parts of at most about `LONGEST_PART_S`, equally long."""
    count = max(math.ceil(duration_s / LONGEST_PART_S), 1)
    edges = [duration_s * index / count for index in range(count + 1)]
    return [Item(source, edges[index], edges[index + 1], index, count) for index in range(count)]


# --- reading, in child processes ---


@dataclass(frozen=True)
class FrameReader:
    """Reads the frames of a clip that a captioner sees: the middles of equal lengths of time."""

    num_frames: int
    max_pixels: int

    def __call__(self, item: Item) -> list[Image.Image]:
        duration_s = item.end_s - item.start_s
        count = max(min(self.num_frames, int(duration_s * MAX_FRAMES_PER_S)), 1)
        with item.source.file() as path:
            frames = iter_frames(path, count / duration_s, start_s=item.file_start_s, duration_s=duration_s)
            return [self._small(frame, item.source.crop) for frame in frames]

    def _small(self, frame: np.ndarray, crop: tuple[int, int, int, int] | None) -> Image.Image:
        image = Image.fromarray(frame).crop(crop) if crop else Image.fromarray(frame)
        scale = (self.max_pixels / (image.width * image.height)) ** 0.5
        if scale >= 1:
            return image
        size = max(int(image.width * scale), 1), max(int(image.height * scale), 1)
        return image.resize(size, Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class WaveformReader:
    """Reads the audio of a clip, (N,) float32 at 16 kHz. Of silence a model would say anything."""

    longest_s: int

    def __call__(self, item: Item) -> np.ndarray:
        duration_s = min(item.end_s - item.start_s, Fraction(self.longest_s))
        waveform = read_mono(item, item.start_s, item.start_s + duration_s)
        if is_silent(waveform):
            raise ValueError("its audio is silent")
        return waveform


@dataclass(frozen=True)
class SpeechReader:
    """Reads a part of a clip's audio as windows that Whisper can hear; those of silence are left out."""

    def __call__(self, item: Item) -> list[Window]:
        # neighbours look for the quietest moment in the same seconds, and find the same one
        before_s = CUT_WITHIN_S if item.part > 0 else 0
        after_s = CUT_WITHIN_S if item.part + 1 < item.num_parts else 0
        start_s = item.start_s - before_s
        waveform = read_mono(item, start_s, item.end_s + after_s)
        first = quietest(waveform[: 2 * before_s * SAMPLING_RATE]) if before_s else 0
        last = len(waveform)
        if after_s:
            last -= 2 * after_s * SAMPLING_RATE
            last += quietest(waveform[last:])
        windows = []
        for begin, end in cut_at_pauses(waveform[first:last]):
            piece = waveform[first + begin : first + end]
            if not is_silent(piece):
                windows.append(Window(float(start_s) + (first + begin) / SAMPLING_RATE, piece))
        return windows


def read_mono(item: Item, start_s: Fraction, end_s: Fraction) -> np.ndarray:
    """Return the audio of a clip from `start_s` to `end_s` of it, (N,) float32 at 16 kHz."""
    with item.source.file() as path:
        file_start_s = (item.source.start_s or Fraction(0)) + start_s
        waveform, _ = read_audio(path, SAMPLING_RATE, 1, start_s=file_start_s, duration_s=end_s - start_s)
    if waveform is None or not waveform.shape[1]:
        raise ValueError(f"it has no audio from {float(start_s):.2f} to {float(end_s):.2f} s")
    return waveform[0]


def cut_at_pauses(waveform: np.ndarray) -> list[tuple[int, int]]:
    """Return (begin, end) of windows of at most `LONGEST_WINDOW_S`, in samples, cut where it is quietest."""
    longest, within = LONGEST_WINDOW_S * SAMPLING_RATE, 2 * CUT_WITHIN_S * SAMPLING_RATE
    edges = [0]
    while len(waveform) - edges[-1] > longest:
        search = edges[-1] + longest - within
        edges.append(search + quietest(waveform[search : search + within]))
    return list(zip(edges, [*edges[1:], len(waveform)]))


def quietest(waveform: np.ndarray) -> int:
    """Return the middle of the quietest fifth of a second, in samples; of several, of the first."""
    size = round(PIECE_S * SAMPLING_RATE)
    power = np.square(waveform[: len(waveform) // size * size], dtype=np.float64).reshape(-1, size).mean(axis=1)
    width = min(10, len(power))
    means = np.convolve(power, np.ones(width) / width, mode="valid")
    return (int(means.argmin()) * 2 + width) * size // 2


def is_silent(waveform: np.ndarray) -> bool:
    """Whether nothing in a waveform is louder than -50 dB of full scale, in any 20 ms."""
    pieces = np.array_split(waveform, max(len(waveform) // round(PIECE_S * SAMPLING_RATE), 1))
    return all(decibels(piece) < SILENCE_DB for piece in pieces if len(piece))
