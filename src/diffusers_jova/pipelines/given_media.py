# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Recordings and clips that a call is given: whatever they come as, samples and frames out.

R recordings, C audio channels, N samples, F frames, H W rows and columns
"""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..images import fit_frame, to_uint8
from ..latents import exact_frame_rate, fit_audio, nearest_num_frames


if TYPE_CHECKING:  # PyAV takes a fifth of a second to import, and most calls read no file
    from ..media import Clip


MAX_AMPLITUDE = 2.0  # 6 dB above full scale: what a loud master has; more are integers that were never divided
SILENCE = 1e-4  # -80 dB of full scale: above the dither of 16 bits


@dataclass(frozen=True)
class Recording:
    """Audio as it was given, at its own rate and with its own channels.

    Attributes:
        samples: `(R, C, N)` float32, one or two channels; shorter recordings are padded with silence.
        sampling_rate: Samples per second.
    """

    samples: torch.Tensor
    sampling_rate: int

    @property
    def duration_s(self) -> Fraction:
        """Seconds of the longest recording."""
        return Fraction(self.samples.shape[-1], self.sampling_rate)

    def between(self, start_s: Fraction, end_s: Fraction) -> "Recording":
        """Return the part from `start_s` to `end_s`; silence where the recording has ended."""
        start, end = (round(time_s * self.sampling_rate) for time_s in (start_s, end_s))
        return Recording(fit_audio(self.samples[..., start:], end - start), self.sampling_rate)

    def for_model(self, sampling_rate: int, num_samples: int) -> torch.Tensor:
        """Return the copy that the audio VAE reads, `(R, num_samples)`: one channel, another rate, cut or padded."""
        mono = self.samples.mean(dim=1)
        if sampling_rate != self.sampling_rate:
            from ..media.sound import resample

            # half a second more than is used, for the filter
            num_read = math.ceil((num_samples / sampling_rate + 0.5) * self.sampling_rate)
            mono = torch.from_numpy(resample(mono[:, :num_read].numpy(), self.sampling_rate, sampling_rate))
        return fit_audio(mono, num_samples)

    def as_output(self, num_samples: int) -> torch.Tensor:
        """Return the samples themselves, cut or padded with silence: `(R, num_samples)`, or `(R, 2, num_samples)`."""
        samples = fit_audio(self.samples, num_samples)
        return samples[:, 0] if samples.shape[1] == 1 else samples


def read_recordings(audio: Any, sampling_rate: int | None) -> Recording:
    """Return what was given as `audio`.

    Args:
        audio: A path; an array or a tensor `(N,)` or `(C, N)`, float in [-1, 1]; or several: a list, or `(R, C, N)`.
            A `Recording`, of which a part may be silent, is returned as it is.
        sampling_rate: Samples per second of arrays and tensors; files bring their own.

    Raises:
        ValueError: If it cannot be read, holds NaN, is silent, or its recordings differ in rate or channels.
    """
    if isinstance(audio, Recording):
        return audio
    several = isinstance(audio, list | tuple) or getattr(audio, "ndim", 0) == 3
    items = list(audio) if several else [audio]
    if not items:
        raise ValueError("`audio` is an empty list: give one recording, or one per prompt.")
    recordings = [_read_recording(item, sampling_rate) for item in items]
    for number, recording in enumerate(recordings):
        peak = recording.samples.abs().max().item() if recording.samples.numel() else 0.0
        if peak < SILENCE:
            raise ValueError(
                f"`audio` is silent{f' (recording {number})' if several else ''}: its loudest sample is {peak:.1g} of "
                f"full scale, less than {SILENCE:g}. A video would keep its mouth shut. Give a recording that is not, "
                "or leave out `audio`."
            )
    return join_recordings(recordings)


def nearest_to_recording(recording: Recording, frame_rate: float | Fraction, temporal_compression: int) -> int:
    """Return the number of frames that the video VAE allows which is nearest to the recording's length."""
    num_frames = recording.duration_s * exact_frame_rate(frame_rate)
    below, above = nearest_num_frames(math.floor(num_frames), temporal_compression)
    return below if num_frames - below < above - num_frames else above


def join_recordings(recordings: Sequence[Recording]) -> Recording:
    """Return several recordings as one batch, the shorter ones padded with silence.

    Raises:
        ValueError: If they differ in rate or channels.
    """
    kinds = {(recording.sampling_rate, recording.samples.shape[1]) for recording in recordings}
    if len(kinds) > 1:
        raise ValueError(
            "The recordings of one call must have the same sampling rate and number of channels, got "
            f"{' and '.join(f'{rate} Hz with {channels}' for rate, channels in sorted(kinds))}. Convert them first, "
            "or make one call each."
        )
    num_samples = max(recording.samples.shape[-1] for recording in recordings)
    samples = torch.cat([fit_audio(recording.samples, num_samples) for recording in recordings])
    return Recording(samples, recordings[0].sampling_rate)


def _read_recording(item: Any, sampling_rate: int | None) -> Recording:
    if isinstance(item, str | os.PathLike):
        if sampling_rate is not None:
            raise ValueError(
                f"`audio_sampling_rate={sampling_rate}` is for arrays and tensors; the file `{item}` says its own. "
                "Leave it out."
            )
        return read_recording_file(item)
    if not isinstance(item, np.ndarray | torch.Tensor):
        raise ValueError(f"`audio` holds a {type(item).__name__}: pass a path, or an array or tensor (N,) or (C, N).")
    samples = torch.as_tensor(item).detach().cpu()
    if samples.ndim == 1:
        samples = samples[None]
    if samples.ndim != 2 or samples.shape[0] not in (1, 2):
        transposed = samples.ndim == 2 and samples.shape[1] in (1, 2)
        raise ValueError(
            f"`audio` must be (N,), (1, N) or (2, N), got {tuple(item.shape)}."
            f"{' Transpose it.' if transposed else ' Mix other channels into one or two.'}"
        )
    if not samples.is_floating_point():
        raise ValueError(f"`audio` must be float in [-1, 1], got {item.dtype}. Divide integers by their range.")
    if sampling_rate is None:
        raise ValueError("`audio` is an array: give its samples per second as `audio_sampling_rate`.")
    if int(sampling_rate) != sampling_rate or sampling_rate < 1:
        raise ValueError(f"`audio_sampling_rate` must be a whole number of 1 or more, got {sampling_rate}.")
    samples = samples.float()
    if not torch.isfinite(samples).all():
        raise ValueError("`audio` has NaN or infinite samples: repair or decode the recording again.")
    peak = samples.abs().max().item() if samples.numel() else 0.0
    if peak > MAX_AMPLITUDE:
        raise ValueError(f"`audio` must be float in [-1, 1], got samples up to {peak:.4g}. Divide by their range.")
    return Recording(samples[None], int(sampling_rate))


def read_recording_file(path: str | os.PathLike, duration_s: Fraction | None = None) -> Recording:
    """Return the audio of a file, from its first frame on if it has a video; see `media.read_audio`.

    Raises:
        ValueError: If it has no audio.
    """
    from ..media import read_audio

    waveform, sampling_rate = read_audio(path, duration_s=duration_s)
    if waveform is None:
        raise ValueError(f"`{path}` has no audio: give a recording, or a clip that has audio.")
    return Recording(torch.from_numpy(np.ascontiguousarray(waveform))[None], sampling_rate)


@dataclass(frozen=True)
class GivenClip:
    """One clip that was given as `video`.

    Attributes:
        source: A file, a `media.Clip`, or frames `(F, H, W, 3)` uint8 at the frame rate of the call.
    """

    source: "Path | Clip | np.ndarray"

    def num_frames(self, frame_rate: Fraction) -> int:
        """Return how many frames it has at `frame_rate`."""
        if isinstance(self.source, np.ndarray):
            return len(self.source)
        if isinstance(self.source, Path):
            from ..media import probe_media

            duration_s = probe_media(self.source).duration_s
        else:
            duration_s = len(self.source.frames) / self.source.frame_rate
        return math.floor(duration_s * frame_rate + Fraction(1, 2))  # frame k is seen at (k + 1/2) / frame_rate

    def frames(self, frame_rate: Fraction, num_frames: int, height: int, width: int) -> np.ndarray:
        """Return the first frames, `(num_frames, height, width, 3)` uint8, cropped and resized as `image` is.

        Raises:
            ValueError: If there are fewer.
        """
        if isinstance(self.source, np.ndarray):
            frames = self.source[:num_frames]
        elif isinstance(self.source, Path):
            from ..media import iter_frames

            frames = iter_frames(self.source, frame_rate, duration_s=num_frames / frame_rate)
        else:
            times = (math.floor((k + Fraction(1, 2)) / frame_rate * self.source.frame_rate) for k in range(num_frames))
            frames = (self.source.frames[time] for time in times if time < len(self.source.frames))
        resized = [fit_frame(frame, height, width) for frame in frames]
        if len(resized) < num_frames:
            raise ValueError(
                f"`video` has {len(resized)} frames at {float(frame_rate):g} frames/s, but {num_frames} are needed. "
                "Give a longer clip, or ask for fewer frames."
            )
        return np.stack(resized)

    def recording(self, duration_s: Fraction | None = None) -> Recording:
        """Return the clip's audio.

        Raises:
            ValueError: If it has none.
        """
        if isinstance(self.source, Path):
            return read_recording_file(self.source, duration_s)
        if isinstance(self.source, np.ndarray) or self.source.waveform is None:
            raise ValueError(
                "`video` has no audio: frames alone have none. Give a file or a `media.Clip` that has, give the audio "
                "as `audio`, or make the video alone with `modalities=('video',)`."
            )
        samples = torch.from_numpy(np.asarray(self.source.waveform, np.float32))
        return Recording(samples[None], self.source.sampling_rate)


def given_clips(video: Any) -> list[GivenClip]:
    """Return what was given as `video`.

    Args:
        video: A path; a `media.Clip`; frames: a list of PIL images or of arrays, an array `(F, H, W, 3)` or a tensor
            `(F, 3, H, W)`, uint8 or [0, 1]; or several: a list of these, or a batch with one more axis.

    Raises:
        ValueError: If it is none of these, or a file is missing.
    """
    is_list = isinstance(video, list | tuple)
    if is_list and not video:
        raise ValueError("`video` is an empty list: give a clip, or one per prompt.")
    is_frame = is_list and (isinstance(video[0], Image.Image) or getattr(video[0], "ndim", 0) == 3)
    several = (is_list and not is_frame) or getattr(video, "ndim", 0) == 5
    return [_given_clip(item) for item in (video if several else [video])]


def _given_clip(item: Any) -> GivenClip:
    if isinstance(item, str | os.PathLike):
        if not Path(item).is_file():
            raise FileNotFoundError(f"There is no file `{item}`.")
        return GivenClip(Path(item))
    if hasattr(item, "waveform") and hasattr(item, "frames"):  # a `media.Clip`, which needs PyAV to be named
        if item.frames is None:
            raise ValueError("`video` is a clip without frames: give its audio as `audio`.")
        return GivenClip(item)
    if not isinstance(item, list | tuple) and getattr(item, "ndim", 0) != 4:
        raise ValueError(
            f"`video` must be a path, a `media.Clip`, a list of images, an array (F, H, W, 3) or a tensor "
            f"(F, 3, H, W), got {type(item).__name__}{f' {tuple(item.shape)}' if hasattr(item, 'shape') else ''}."
        )
    try:
        frames = to_uint8(item)
    except ValueError as error:  # it speaks of an image
        raise ValueError(str(error).replace("`image`", "`video`")) from None
    sizes = sorted({frame.shape[:2] for frame in frames})
    if len(sizes) > 1:
        raise ValueError(f"The frames of `video` differ in size: {' and '.join(f'{h} x {w}' for h, w in sizes)}.")
    return GivenClip(np.stack(frames))
