# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Decoded audio frames with their times -> one waveform."""
# C audio channels, N samples

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import av
import numpy as np


# Gaps in a file's audio timestamps below this are rounding of its clock (mkv counts milliseconds), above it real.
MAX_CLOCK_JITTER_S = 0.02

# PyAV asks for one plane more than there are where a frame has eight or more, and the process dies of it.
MAX_PLANES = 7


@dataclass
class Track:
    """A waveform under construction, at one rate and with one layout of channels.

    Attributes:
        rate: samples per second.
        layout: FFmpeg's name of it, as "5.1".
        chunks: (index of the first sample, (C, n) float32).
    """

    rate: int
    layout: str
    chunks: list[tuple[int, np.ndarray]] = field(default_factory=list)

    @property
    def num_samples(self) -> int:
        """How many samples there are from time zero to the end."""
        return max(0, *(start + chunk.shape[1] for start, chunk in self.chunks))

    @property
    def end_s(self) -> Fraction:
        return Fraction(self.num_samples, self.rate)

    def waveform(self) -> np.ndarray:
        """Return `(C, N)` float32 from time zero on, with silence where there is no chunk."""
        waveform = np.zeros((len(self.chunks[0][1]), self.num_samples), np.float32)
        for start, chunk in self.chunks:
            first = max(start, 0)
            waveform[:, first : max(start + chunk.shape[1], first)] = chunk[:, first - start :]
        return waveform


def collect_waveform(
    timed_frames: Iterable[tuple[Fraction, Fraction, av.AudioFrame]],
    end_s: Fraction | None,
    duration_s: Fraction | None,
) -> list[Track]:
    """Return the audio in the frames as tracks that follow each other; several where rate or channels change.

    Args:
        timed_frames: (time, length, frame) in seconds; times below zero are before the beginning.
        end_s: where the file says that the audio ends, for what fills up its last packet.
        duration_s: how much is wanted, in seconds; None for all.
    """
    tracks: list[Track] = []
    position: int | None = None
    for time, _, frame in timed_frames:
        rate = frame.sample_rate
        start = round(time * rate)
        if not tracks or (rate, frame.layout.name) != (tracks[-1].rate, tracks[-1].layout):
            tracks, position = [*tracks, Track(rate, frame.layout.name)], None
        if position is None or abs(start - position) > MAX_CLOCK_JITTER_S * rate:
            position = start
        if duration_s is not None and position >= duration_s * rate:
            break
        tracks[-1].chunks.append((position, to_float(frame)))
        position += frame.samples
    tracks = [track for track in tracks if track.chunks]
    if tracks and end_s is not None:
        _cut_padding(tracks[-1], end_s)
    return tracks


def _cut_padding(track: Track, end_s: Fraction) -> None:
    """Cut the last chunk where the stream ends: AAC fills its last 1024 samples up."""
    start, chunk = track.chunks[-1]
    excess = start + chunk.shape[1] - round(end_s * track.rate)
    if 0 < excess < chunk.shape[1]:
        track.chunks[-1] = (start, chunk[:, :-excess])


def to_float(frame: av.AudioFrame) -> np.ndarray:
    """Return the samples as `(C, n)` float32 in [-1, 1]."""
    if frame.layout.nb_channels > MAX_PLANES and frame.format.is_planar:
        resampler = av.AudioResampler(format=frame.format.packed, layout=frame.layout, rate=frame.sample_rate)
        frames = resampler.resample(frame) + resampler.resample(None)
        return np.concatenate([to_float(frame) for frame in frames], axis=1)
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype.kind == "i":
        array = array / 2.0 ** (8 * array.itemsize - 1)
    return array.astype(np.float32)


def join_tracks(tracks: list[Track], sampling_rate: int, num_channels: int | None = None) -> np.ndarray:
    """Return the tracks as one waveform `(C, N)`.

    Args:
        sampling_rate: to resample to.
        num_channels: 1 or 2; None for those of the first track, and one if it has more than two.
    """
    if num_channels is None:
        num_channels = {2: 2}.get(av.AudioLayout(tracks[0].layout).nb_channels, 1)
    waveforms = [mix(resample(t.waveform(), t.rate, sampling_rate), t.layout, num_channels) for t in tracks]
    if len(waveforms) == 1:
        return waveforms[0]
    joined = np.zeros((num_channels, max(waveform.shape[1] for waveform in waveforms)), np.float32)
    for waveform in waveforms:  # each is silent where another one sounds
        joined[:, : waveform.shape[1]] += waveform
    return joined


def mix(waveform: np.ndarray, layout: str, num_channels: int) -> np.ndarray:
    """Return `(num_channels, N)`: one or two channels, which `layout`, FFmpeg's name, says how to mix."""
    if len(waveform) == num_channels:
        return waveform
    if len(waveform) == 2:
        return waveform.mean(axis=0, keepdims=True)
    if len(waveform) == 1:
        return np.repeat(waveform, 2, axis=0)
    return mix_matrix(layout, {1: "mono", 2: "stereo"}[num_channels]) @ waveform


def mix_matrix(layout: str, target: str) -> np.ndarray:
    """Return `(C, channels of layout)` float32: by how much each channel is heard in each of the target's.

    FFmpeg's own coefficients (ITU-R BS.775: centre 1, front 0.71, surround 0.5 in mono), which it applies to one
    impulse per channel here. Channels without a place, of which it knows nothing, are all heard equally.
    """
    num_channels = av.AudioLayout(layout).nb_channels
    impulses = np.eye(num_channels, dtype=np.float32).reshape(1, -1)
    try:
        frame = av.AudioFrame.from_ndarray(impulses, format="flt", layout=layout)
        frame.sample_rate = 48000
        resampler = av.AudioResampler(format="flt", layout=target, rate=48000)
        pieces = resampler.resample(frame) + resampler.resample(None)
    except (av.FFmpegError, ValueError):
        return np.full((av.AudioLayout(target).nb_channels, num_channels), 1 / num_channels, np.float32)
    return np.concatenate([piece.to_ndarray().reshape(num_channels, -1) for piece in pieces]).T


def resample(waveform: np.ndarray, source_rate: int, sampling_rate: int) -> np.ndarray:
    """Return `(C, N)` at another rate; libswresample's filter has no delay."""
    if source_rate == sampling_rate:
        return waveform
    resampled = []
    for channel in waveform:  # one at a time: no layout to name
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(channel[None]), format="fltp", layout="mono")
        frame.sample_rate = source_rate
        resampler = av.AudioResampler(format="fltp", layout="mono", rate=sampling_rate)
        pieces = resampler.resample(frame) + resampler.resample(None)
        resampled.append(np.concatenate([piece.to_ndarray() for piece in pieces], axis=1))
    return np.concatenate(resampled)


def fit(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Return `(C, num_samples)`: cut, or padded with silence."""
    waveform = waveform[:, :num_samples]
    return np.pad(waveform, ((0, 0), (0, num_samples - waveform.shape[1])))
