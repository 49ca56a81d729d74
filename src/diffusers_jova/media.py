# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files in and out: frames + waveform -> mp4 or wav, file -> frames + waveform at given rates, picture -> PIL image.

Everything in memory is NumPy or PIL; on disk PyAV (FFmpeg) does the work.
"""
# F frames, H W rows and columns, C audio channels, N samples

import logging
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from av.stream import Disposition
from av.video.reformatter import ColorRange, Colorspace
from diffusers.utils import load_image as load_any_image
from PIL import Image

from .files import whole_file
from .latents import exact_frame_rate


logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = (".mp4", ".mov")
AUDIO_SUFFIXES = (".wav",)

# IPTC's word for media made by a model, so that people and programs can both read it.
AI_GENERATED_COMMENT = "AI-generated with diffusers-jova (IPTC digital source type: trainedAlgorithmicMedia)"

AAC_SAMPLING_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)  # Hz

BT709 = 1  # the number that H.264 has for BT.709 as matrix, primaries and transfer curve alike

# Gaps in a file's audio timestamps below this are rounding of its clock (mkv counts milliseconds), above it real.
MAX_CLOCK_JITTER_S = 0.02


@dataclass(frozen=True)
class Clip:
    """What `read_video` returns. Both streams start at the same moment and last equally long.

    Attributes:
        frames: `(F, H, W, 3)` uint8, or None for a file without pictures.
        frame_rate: frames per second, exactly.
        waveform: `(C, N)` float32 in [-1, 1], or None for a silent file; N is F / frame_rate seconds of samples.
        sampling_rate: samples per second.
    """

    frames: np.ndarray | None
    frame_rate: Fraction | None
    waveform: np.ndarray | None
    sampling_rate: int | None


# --- writing ---


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
    """Write frames, and sound if there is any, as H.264 + AAC and return the path.

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

    with whole_file(check_output_path(path, VIDEO_SUFFIXES)) as partial:
        # Without a limit on the interleaving delay, packets come in the order of time however the streams are encoded.
        # The movie's clock counts edits: at its default of 1 ms they would cut the sound short of its last samples.
        options = {"movflags": "+faststart", "max_interleave_delta": "0"}
        if audio is not None:
            options["movie_timescale"] = str(_aac_rate(audio_sampling_rate))
        with av.open(str(partial), "w", options=options) as container:
            container.metadata.update(_metadata(ai_generated, title, comment))
            # The macroblock tree's AVX-512 code of libx264 gives two different files for the same frames.
            encoder_options = {"crf": str(crf), "mbtree": "0"}
            stream = container.add_stream("libx264", rate=frame_rate, options=encoder_options)
            stream.pix_fmt = "yuv420p"
            context = stream.codec_context  # BT.709, and said so: players guess by size, and wrongly
            context.colorspace = context.color_primaries = context.color_trc = BT709
            context.color_range = ColorRange.MPEG
            if audio is not None:
                audio_stream = _add_audio_stream(container, "aac", audio, _aac_rate(audio_sampling_rate))

            for index, picture in enumerate(frames):
                array = _pad_to_even(_to_uint8(picture))
                if index == 0:
                    stream.height, stream.width = array.shape[:2]
                elif array.shape[:2] != (stream.height, stream.width):
                    raise ValueError(f"Frames differ in size: {stream.height}x{stream.width} and {array.shape[:2]}.")
                container.mux(stream.encode(_to_yuv(array, index)))
            container.mux(stream.encode(None))

            if audio is not None:
                _encode_audio(container, audio_stream, audio, audio_sampling_rate)
    return Path(path)


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

    Args:
        path: ends in .wav; its folder exists.
        audio: `(N,)` or `(C, N)` with one or two channels, float; beyond [-1, 1] it is clipped.
        sampling_rate: samples per second.
        ai_generated: say in the file's comment that the sound is AI-generated.
        title: of the sound, for players and media libraries.
        comment: a remark of your own, before the note on AI.
    """
    audio = np.rint(_to_waveform(audio) * 32767).astype(np.int16)
    path = check_output_path(path, AUDIO_SUFFIXES)
    with whole_file(path) as partial, av.open(str(partial), "w") as container:
        container.metadata.update(_metadata(ai_generated, title, comment))
        stream = _add_audio_stream(container, "pcm_s16le", audio, sampling_rate)
        _encode_audio(container, stream, audio, sampling_rate)
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
        raise ValueError(f"`frames` must be a list of pictures, an array or a tensor, got {type(frames).__name__}.")
    # A picture has three axes (PIL images have no `ndim`), a clip four, a batch five.
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


def _to_uint8(picture: Image.Image | np.ndarray | torch.Tensor) -> np.ndarray:
    """Return one frame as `(H, W, 3)` uint8."""
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    channel_axis = 0 if isinstance(picture, torch.Tensor) else -1  # "pt" is (3, H, W), "np" is (H, W, 3)
    picture = _to_numpy(picture)
    if picture.ndim == 3 and picture.shape[channel_axis] != 3:
        channel_axis = -1 - channel_axis
    if picture.ndim != 3 or picture.shape[channel_axis] != 3:
        raise ValueError(f"A frame must be (H, W, 3) or (3, H, W), got {picture.shape}.")
    picture = np.moveaxis(picture, channel_axis, -1)
    if np.issubdtype(picture.dtype, np.floating):
        if not (picture.min() >= -1e-3 and picture.max() <= 1 + 1e-3):  # false for NaN
            raise ValueError(f"Frames must be in [0, 1] without NaN, got {picture.min()} to {picture.max()}.")
        picture = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    if picture.dtype != np.uint8:
        raise ValueError(f"Frames must be uint8 or float in [0, 1], got {picture.dtype}.")
    return np.ascontiguousarray(picture)


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
    """Return the sound as `(C, N)` float32 in [-1, 1]."""
    audio = _to_numpy(audio)
    audio = audio[None] if audio.ndim == 1 else audio
    if audio.ndim != 2 or audio.shape[0] not in (1, 2) or audio.shape[1] == 0:
        raise ValueError(f"`audio` must be (N,), (1, N) or (2, N), got {audio.shape}. Of a batch, take one: audio[0].")
    if not np.issubdtype(audio.dtype, np.floating):
        raise ValueError(f"`audio` must be float in [-1, 1], got {audio.dtype}.")
    if not np.isfinite(audio).all():
        raise ValueError("`audio` has NaN or infinite samples.")
    return np.ascontiguousarray(audio.clip(-1, 1), dtype=np.float32)


def _aac_rate(sampling_rate: int) -> int:
    return next((rate for rate in AAC_SAMPLING_RATES if rate >= sampling_rate), AAC_SAMPLING_RATES[-1])


def _add_audio_stream(container, codec: str, audio: np.ndarray, sampling_rate: int):
    stream = container.add_stream(codec, rate=sampling_rate, layout="mono" if len(audio) == 1 else "stereo")
    if codec == "aac":
        stream.bit_rate = min(128_000, 6 * sampling_rate) * len(audio)  # the format's limit is 6 bits per sample
    return stream


def _encode_audio(container, stream, audio: np.ndarray, sampling_rate: int) -> None:
    """Encode `(C, N)` float32 or int16 to the end; PyAV resamples to the stream's rate and drains itself at None."""
    format = {"float32": "fltp", "int16": "s16p"}[audio.dtype.name]
    frame = av.AudioFrame.from_ndarray(audio, format=format, layout="mono" if len(audio) == 1 else "stereo")
    frame.sample_rate, frame.time_base, frame.pts = sampling_rate, Fraction(1, sampling_rate), 0
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


# --- reading ---


def load_image(image: str | os.PathLike | Image.Image) -> Image.Image:
    """Return the picture as RGB, turned the way its EXIF orientation says.

    Args:
        image: a path, an http(s) address or a PIL image.

    Raises:
        ValueError: if it is none of these, or cannot be read; the message names the file.
    """
    try:
        return load_any_image(os.fspath(image) if isinstance(image, os.PathLike) else image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise ValueError(f"Cannot read the image `{image}`: {error}") from error


def read_video(
    path: str | os.PathLike,
    frame_rate: float | Fraction | None = None,
    sampling_rate: int | None = None,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
) -> Clip:
    """Return the frames and the sound of a file, at the rates asked for and from the same moment on.

    Time zero is the first picture. Frame k is what the file shows in the middle of its own interval, at
    (k + 1/2) / frame_rate: a change in the picture lands within half a frame of its sound, also with the variable
    frame rate of phones. Rotation flags are obeyed. Sound is placed by its timestamps, then cut, or padded with
    silence, to the length of the frames.

    Args:
        path: any container and codec that FFmpeg reads; sound alone is fine.
        frame_rate: frames per second, as in `exact_frame_rate`; None for the file's own average.
        sampling_rate: samples per second; None for the file's own.
        start_s: where to begin, in seconds after the first picture.
        duration_s: how long to read, in seconds; None for the rest.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged or has neither pictures nor sound in the time asked for; the message names it.
    """
    path, start_s = Path(path), Fraction(start_s)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file `{path}`.")
    frames = waveform = audio_end_s = None
    try:
        with av.open(str(path)) as container:
            video, audio = _stream(container, "video"), _stream(container, "audio")
            if video is None and audio is None:
                raise ValueError(f"`{path}` has neither pictures nor sound.")
            if video is not None:
                frame_rate = exact_frame_rate(frame_rate or video.average_rate or video.guessed_rate)
            if audio is not None and audio.duration and audio.start_time is not None:
                audio_end_s = (audio.start_time + audio.duration) * audio.time_base
            first = next(container.decode(video or audio), None)
            zero = first.pts * first.time_base if first is not None and first.pts is not None else Fraction(0)
        if video is not None:
            frames = _read_frames(_decode(path, "video", zero, start_s), frame_rate, duration_s)
            duration_s = len(frames) / frame_rate
        if audio is not None:
            audio_end_s = None if audio_end_s is None else audio_end_s - zero - start_s
            waveform, source_rate = _read_waveform(_decode(path, "audio", zero, start_s), audio_end_s, duration_s)
    except av.FFmpegError as error:
        raise ValueError(f"Cannot read `{path}`, which may be damaged: {error.strerror}.") from error
    if (waveform if frames is None else frames) is None or duration_s == 0:
        raise ValueError(f"`{path}` has nothing to read from {float(start_s):g} s on, or is damaged.")

    if waveform is None:
        return Clip(frames, frame_rate, None, None)
    sampling_rate = sampling_rate or source_rate
    if frames is None:
        frame_rate, audio_s = None, Fraction(waveform.shape[1], source_rate)
        duration_s = audio_s if duration_s is None else min(audio_s, Fraction(duration_s))
    waveform = _fit(_resample(waveform, source_rate, sampling_rate), round(duration_s * sampling_rate))
    return Clip(frames, frame_rate, waveform, sampling_rate)


def _stream(container, kind: str):
    """Return the first "video" or "audio" stream, if any. The cover of a song is a video stream, but not for us."""
    streams = (stream for stream in container.streams if stream.type == kind)
    return next((stream for stream in streams if not stream.disposition & Disposition.attached_pic), None)


def _decode(path: Path, kind: str, zero: Fraction, start_s: Fraction) -> Iterator[tuple[Fraction, Fraction, Any]]:
    """Yield (time, length, frame), in seconds after `zero + start_s`; a few frames come from before."""
    with av.open(str(path)) as container:
        stream = _stream(container, kind)
        stream.thread_type = "AUTO"
        if start_s > 1:  # land well before: pictures need their key frame, sound the frame before
            container.seek(int((zero + start_s - 1) * av.time_base))
        time = -start_s
        for frame in container.decode(stream):
            if frame.pts is not None:
                time = frame.pts * frame.time_base - zero - start_s
            if kind == "audio":
                length = Fraction(frame.samples, frame.sample_rate)
            elif frame.duration:
                length = frame.duration * frame.time_base
            else:
                length = 1 / (stream.average_rate or stream.guessed_rate)
            yield time, length, frame
            time += length  # frames without a timestamp follow each other


def _read_frames(timed_frames: Iterator, frame_rate: Fraction, duration_s: float | None) -> np.ndarray:
    """Return `(F, H, W, 3)`: at index k what is on the screen at (k + 1/2) / frame_rate seconds."""
    num_frames = math.inf if duration_s is None else round(Fraction(duration_s) * frame_rate)
    arrays, shown, end = [], None, Fraction(0)

    def show_until(time: Fraction) -> None:
        array = None
        while len(arrays) < num_frames and len(arrays) + Fraction(1, 2) < time * frame_rate:
            array = _to_rgb(shown) if array is None else array
            arrays.append(array)

    for time, length, frame in timed_frames:
        if shown is not None:
            show_until(time)
        if len(arrays) == num_frames:
            break
        shown, end = frame, time + length
    show_until(end)
    return np.stack(arrays) if arrays else np.empty((0, 0, 0, 3), np.uint8)


def _to_rgb(frame: av.VideoFrame) -> np.ndarray:
    """Return the picture as `(H, W, 3)` uint8, upright."""
    array = frame.to_ndarray(
        format="rgb24", src_color_range=frame.color_range, dst_color_range=ColorRange.JPEG, threads=1
    )
    return np.rot90(array, frame.rotation // 90)  # both count counterclockwise


def _read_waveform(
    timed_frames: Iterator, end_s: Fraction | None, duration_s: float | None
) -> tuple[np.ndarray | None, int | None]:
    """Return the sound `(C, N)` and its rate, with silence where the file has gaps; (None, None) if there is none."""
    chunks, position = [], None
    for time, _, frame in timed_frames:
        rate = frame.sample_rate
        start = round(time * rate)
        if position is None or abs(start - position) > MAX_CLOCK_JITTER_S * rate:
            position = start
        if duration_s is not None and position >= duration_s * rate:
            break
        chunks.append((position, _to_float(frame)))
        position += frame.samples
    if not chunks:
        return None, None

    start, chunk = chunks[-1]
    excess = 0 if end_s is None else position - round(end_s * rate)
    if 0 < excess < chunk.shape[1]:  # AAC fills its last 1024 samples up; the stream's length says how far
        chunks[-1], position = (start, chunk[:, :-excess]), position - excess

    waveform = np.zeros((len(chunk), max(position, 0)), np.float32)
    for start, chunk in chunks:
        first = max(start, 0)
        waveform[:, first : max(start + chunk.shape[1], first)] = chunk[:, first - start :]
    return waveform, rate


def _to_float(frame: av.AudioFrame) -> np.ndarray:
    """Return the samples as `(C, N)` float32 in [-1, 1]."""
    array = frame.to_ndarray()
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype == np.uint8:
        array = (array.astype(np.float32) - 128) / 128
    elif np.issubdtype(array.dtype, np.integer):
        array = array / -float(np.iinfo(array.dtype).min)
    return array.astype(np.float32)


def _resample(waveform: np.ndarray, source_rate: int, sampling_rate: int) -> np.ndarray:
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


def _fit(waveform: np.ndarray, num_samples: int) -> np.ndarray:
    """Return `(C, num_samples)`: cut, or padded with silence."""
    waveform = waveform[:, :num_samples]
    return np.pad(waveform, ((0, 0), (0, num_samples - waveform.shape[1])))
