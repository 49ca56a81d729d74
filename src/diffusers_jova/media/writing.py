# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Frames and waveform -> mp4, mov or wav."""
# F frames, H W rows and columns, C audio channels, N samples

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from ..files import whole_file
from ..latents import exact_frame_rate
from .containers import open_output


VIDEO_SUFFIXES = (".mp4", ".mov")
AUDIO_SUFFIXES = (".wav",)

# IPTC's word for media made by a model, so that people and programs can both read it.
AI_GENERATED_COMMENT = "AI-generated with diffusers-jova (IPTC digital source type: trainedAlgorithmicMedia)"

AAC_SAMPLING_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # Hz

BT709 = 1  # the number that H.264 has for BT.709 as matrix, primaries and transfer curve alike


def write_video(
    path: str | os.PathLike,
    frames: Sequence | np.ndarray | torch.Tensor,
    frame_rate: float | Fraction,
    audio: np.ndarray | torch.Tensor | None = None,
    audio_sampling_rate: int | None = None,
    *,
    ai_generated: bool = True,
    title: str | None = None,
    comment: str | None = None,
    crf: int = 18,
) -> Path:
    """Write frames, and audio if there is any, as H.264 + AAC and return the path.

    The file appears whole or not at all. An odd width or height is padded by repeating its last column or row: players
    need 4:2:0 colour, which needs even sizes.

    Args:
        path: ends in .mp4 or .mov; its folder exists.
        frames: one clip in any of diffusers' output types: a list of PIL images ("pil"), `(F, H, W, 3)` ("np") or
            `(F, 3, H, W)` ("pt"), float in [0, 1] or uint8, also inside a batch of one.
        frame_rate: frames per second; 23.976 and 29.97 mean 24000/1001 and 30000/1001.
        audio: `(N,)` or `(C, N)` with one or two channels, float; beyond [-1, 1] it is clipped. It lasts as long as
            the frames, within one frame.
        audio_sampling_rate: samples per second of `audio`. A rate that AAC lacks is resampled to the next one above.
        ai_generated: say in the file's comment that the clip is AI-generated.
        title: of the clip, for players and media libraries.
        comment: a remark of your own, before the note on AI.
        crf: H.264 quality, 0 (lossless) to 51; 18 is visually lossless.

    Raises:
        ValueError: for frames or audio of another shape, range or length, or with NaN.
        FileNotFoundError, PermissionError: see `check_output_path`.
    """
    frames = _unbatch(frames)
    frame_rate = exact_frame_rate(frame_rate)
    if len(frames) == 0:
        raise ValueError("`frames` is empty: there is nothing to write.")
    if audio is not None:
        if not audio_sampling_rate:
            raise ValueError("`audio` needs `audio_sampling_rate`, in Hz.")
        audio = _to_waveform(audio)
        video_s, audio_s = len(frames) / frame_rate, Fraction(audio.shape[1], audio_sampling_rate)
        if abs(video_s - audio_s) > 1 / frame_rate:
            raise ValueError(
                f"`audio` lasts {float(audio_s):.3f} s but the {len(frames)} frames last {float(video_s):.3f} s. "
                f"Cut or pad it to {round(video_s * audio_sampling_rate)} samples."
            )

    with video_writer(
        path, frame_rate, audio_sampling_rate, ai_generated=ai_generated, title=title, comment=comment, crf=crf
    ) as write:
        write(frames, audio)
    return Path(path)


@contextmanager
def video_writer(
    path: str | os.PathLike,
    frame_rate: float | Fraction,
    audio_sampling_rate: int | None = None,
    *,
    ai_generated: bool = True,
    title: str | None = None,
    comment: str | None = None,
    crf: int = 18,
) -> Iterator[Callable[..., None]]:
    """Give a function `write(frames, audio=None)` that writes a clip piece by piece, so that no more is ever held.

    The file appears whole when the block ends, or not at all. Arguments and errors are those of `write_video`; the
    audio of a piece may end a little before or after its frames, and either all pieces have audio or none has.
    """
    with whole_file(check_output_path(path, VIDEO_SUFFIXES)) as partial:
        pieces = _Pieces(partial, exact_frame_rate(frame_rate), audio_sampling_rate, crf)
        try:
            pieces.metadata = _metadata(ai_generated, title, comment)
            yield pieces.write
            pieces.finish()
        finally:
            pieces.close()


class _Pieces:
    """An open clip that pieces are written to; what it looks like is known with the first one."""

    def __init__(self, path: Path, frame_rate: Fraction, audio_sampling_rate: int | None, crf: int):
        self.path, self.frame_rate, self.crf = path, frame_rate, crf
        self.rate = audio_sampling_rate
        self.metadata: dict[str, str] = {}
        self.container: Any = None
        self.stream: Any = None
        self.audio_stream: Any = None
        self.pending: np.ndarray | None = None  # of the last piece: encoded after its frames
        self.num_frames = self.num_samples = 0

    def open(self, audio: np.ndarray | None) -> None:
        # Without a limit on the interleaving delay, packets come in the order of time however the streams are encoded.
        # The movie's clock counts edits: at its default of 1 ms they would cut the audio short of its last samples.
        options = {"movflags": "+faststart", "max_interleave_delta": "0"}
        if audio is not None:
            options["movie_timescale"] = str(_aac_rate(self.rate))
        self.container = open_output(self.path, options)
        self.container.metadata.update(self.metadata)
        # The macroblock tree's AVX-512 code of libx264 gives two different files for the same frames.
        encoder_options = {"crf": str(self.crf), "mbtree": "0"}
        self.stream = self.container.add_stream("libx264", rate=self.frame_rate, options=encoder_options)
        self.stream.pix_fmt = "yuv420p"
        context = self.stream.codec_context  # BT.709, and said so: players guess by size, and wrongly
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = ColorRange.MPEG
        if audio is not None:
            self.audio_stream = _add_audio_stream(self.container, "aac", audio, _aac_rate(self.rate))

    def write(self, frames: Sequence | np.ndarray | torch.Tensor, audio: np.ndarray | torch.Tensor | None = None):
        """Write frames and their audio, as `write_video` takes them."""
        audio = None if audio is None else _to_waveform(audio)
        if self.container is None:
            self.open(audio)
        if (audio is None) != (self.audio_stream is None):
            raise ValueError("Some pieces of this clip have audio and others have none: give it to all or to none.")
        self._encode_pending()
        self.pending = audio
        for image in _unbatch(frames):
            array = _pad_to_even(_to_uint8(image))
            if self.num_frames == 0:
                self.stream.height, self.stream.width = array.shape[:2]
            elif array.shape[:2] != (self.stream.height, self.stream.width):
                size = f"{self.stream.height}x{self.stream.width}"
                raise ValueError(f"Frames differ in size: {size} and {array.shape[:2]}.")
            self.container.mux(self.stream.encode(_to_yuv(array, self.num_frames)))
            self.num_frames += 1

    def finish(self) -> None:
        """Write what the encoders still hold."""
        if self.container is None:
            raise ValueError("`frames` is empty: there is nothing to write.")
        self.container.mux(self.stream.encode(None))
        if self.audio_stream is not None:
            self._encode_pending()
            self.container.mux(self.audio_stream.encode(None))

    def _encode_pending(self) -> None:
        if self.pending is not None:
            _encode_audio(self.container, self.audio_stream, self.pending, self.rate, self.num_samples)
            self.num_samples += self.pending.shape[1]

    def close(self) -> None:
        if self.container is not None:
            self.container.close()


def write_wav(
    path: str | os.PathLike,
    audio: np.ndarray | torch.Tensor,
    sampling_rate: int,
    *,
    ai_generated: bool = True,
    title: str | None = None,
    comment: str | None = None,
) -> Path:
    """Write a waveform as 16-bit PCM and return the path. The file appears whole or not at all.

    Samples that were read from 16 bits, which are whole numbers over 32768, become the same 16 bits again.

    Args:
        path: ends in .wav; its folder exists.
        audio: `(N,)` or `(C, N)` with one or two channels, float; beyond [-1, 1] it is clipped.
        sampling_rate: samples per second.
        ai_generated: say in the file's comment that the audio is AI-generated.
        title: of the audio, for players and media libraries.
        comment: a remark of your own, before the note on AI.
    """
    audio = _to_int16(_to_waveform(audio))
    path = check_output_path(path, AUDIO_SUFFIXES)
    with whole_file(path) as partial, open_output(partial) as container:
        container.metadata.update(_metadata(ai_generated, title, comment))
        stream = _add_audio_stream(container, "pcm_s16le", audio, sampling_rate)
        _encode_audio(container, stream, audio, sampling_rate)
        container.mux(stream.encode(None))
    return Path(path)


def check_output_path(path: str | os.PathLike, suffixes: Sequence[str] = VIDEO_SUFFIXES) -> Path:
    """Return `path` if a file can be written there; call it before the expensive work.

    Raises:
        ValueError: if the name does not end in one of `suffixes`.
        FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError: if the folder is missing, is not a
            folder or cannot be written to, or if `path` is itself a folder.
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"The output `{path}` must end in {' or '.join(suffixes)}.")
    folder = path.absolute().parent
    if not folder.exists():
        raise FileNotFoundError(f"The output folder `{folder}` does not exist. Create it, or choose another path.")
    if not folder.is_dir():
        raise NotADirectoryError(f"`{folder}` is not a folder. Choose another output path.")
    if path.is_dir():
        raise IsADirectoryError(f"The output `{path}` is a folder. Give the name of a file in it.")
    try:  # Permission bits say little to root and on network drives: trying is the only true test.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise PermissionError(
            f"Cannot write to the folder `{folder}` ({error.strerror}). Choose another output path."
        ) from error
    return path


def _metadata(ai_generated: bool, title: str | None, comment: str | None) -> dict[str, str]:
    comment = " | ".join(filter(None, [comment, AI_GENERATED_COMMENT if ai_generated else None]))
    return {key: value for key, value in {"title": title, "comment": comment}.items() if value}


def _unbatch(frames):
    """Return the frames of the only clip in `frames`, which diffusers may have wrapped in a batch of one."""
    is_array = isinstance(frames, np.ndarray | torch.Tensor)
    if not is_array and not isinstance(frames, list | tuple):
        raise ValueError(f"`frames` must be a list of images, an array or a tensor, got {type(frames).__name__}.")
    # An image has three axes (PIL images have no `ndim`), a clip four, a batch five.
    num_axes = frames.ndim if is_array else 1 + max((_num_axes(item) for item in frames), default=3)
    if num_axes < 5:
        return frames
    if len(frames) != 1:
        raise ValueError(f"`frames` holds {len(frames)} clips. Write one at a time: frames[0], frames[1], ...")
    return frames[0]


def _num_axes(item) -> int:
    return 4 if isinstance(item, list | tuple) else getattr(item, "ndim", 3)


def _to_numpy(array: np.ndarray | torch.Tensor) -> np.ndarray:
    if isinstance(array, torch.Tensor):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()  # NumPy has no bfloat16
    return np.asarray(array)


def _to_uint8(image: Image.Image | np.ndarray | torch.Tensor) -> np.ndarray:
    """Return one frame as `(H, W, 3)` uint8."""
    if isinstance(image, Image.Image):
        return np.asarray(image.convert("RGB"))
    channel_axis = 0 if isinstance(image, torch.Tensor) else -1  # "pt" is (3, H, W), "np" is (H, W, 3)
    image = _to_numpy(image)
    if image.ndim == 3 and image.shape[channel_axis] != 3:
        channel_axis = -1 - channel_axis
    if image.ndim != 3 or image.shape[channel_axis] != 3:
        raise ValueError(f"A frame must be (H, W, 3) or (3, H, W), got {image.shape}.")
    image = np.moveaxis(image, channel_axis, -1)
    if np.issubdtype(image.dtype, np.floating):
        if not (image.min() >= -1e-3 and image.max() <= 1 + 1e-3):  # false for NaN
            raise ValueError(f"Frames must be in [0, 1] without NaN, got {image.min()} to {image.max()}.")
        image = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise ValueError(f"Frames must be uint8 or float in [0, 1], got {image.dtype}.")
    return np.ascontiguousarray(image)


def _pad_to_even(array: np.ndarray) -> np.ndarray:
    height, width = array.shape[:2]
    return np.pad(array, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


def _to_yuv(array: np.ndarray, index: int) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(array, format="rgb24")
    frame = frame.reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, threads=1
    )
    frame.pts = index
    return frame


def _to_waveform(audio: np.ndarray | torch.Tensor) -> np.ndarray:
    """Return the audio as `(C, N)` float32 in [-1, 1]."""
    audio = _to_numpy(audio)
    audio = audio[None] if audio.ndim == 1 else audio
    if audio.ndim != 2 or audio.shape[0] not in (1, 2) or audio.shape[1] == 0:
        raise ValueError(f"`audio` must be (N,), (1, N) or (2, N), got {audio.shape}. Of a batch, take one: audio[0].")
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"`audio` must be float in [-1, 1], got {audio.dtype}.")
    if not np.isfinite(audio).all():
        raise ValueError("`audio` has NaN or infinite samples.")
    return np.ascontiguousarray(audio.clip(-1, 1), dtype=np.float32)


def _to_int16(waveform: np.ndarray) -> np.ndarray:
    exact = waveform * 32768  # a power of two: no sample is rounded
    if (exact == np.rint(exact)).all():
        return exact.clip(-32768, 32767).astype(np.int16)
    return np.rint(waveform * 32767).astype(np.int16)


def _aac_rate(sampling_rate: int) -> int:
    return next((rate for rate in AAC_SAMPLING_RATES if rate >= sampling_rate), AAC_SAMPLING_RATES[-1])


def _add_audio_stream(container, codec: str, audio: np.ndarray, sampling_rate: int):
    stream = container.add_stream(codec, rate=sampling_rate, layout="mono" if len(audio) == 1 else "stereo")
    if codec == "aac":
        stream.bit_rate = min(128_000, 6 * sampling_rate) * len(audio)  # the format's limit is 6 bits per sample
    return stream


def _encode_audio(container, stream, audio: np.ndarray, sampling_rate: int, start: int = 0) -> None:
    """Encode `(C, N)` float32 or int16 from sample `start` on; PyAV resamples to the stream's rate."""
    format = {"float32": "fltp", "int16": "s16p"}[audio.dtype.name]
    frame = av.AudioFrame.from_ndarray(audio, format=format, layout="mono" if len(audio) == 1 else "stereo")
    frame.sample_rate, frame.time_base, frame.pts = sampling_rate, Fraction(1, sampling_rate), start
    container.mux(stream.encode(frame))
