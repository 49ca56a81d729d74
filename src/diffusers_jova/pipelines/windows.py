# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Long clips, window by window: each window begins with the last frames of the one before, and goes on from there.

B batch, O frames of overlap, T frames of the clip, W frames of a window
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from ..images import to_uint8
from ..latents import exact_frame_rate, nearest_num_frames
from .given_media import Recording, nearest_to_recording, read_recordings
from .pipeline_output import JoVAPipelineOutput


WINDOWS = ("window_num_frames", "overlap_num_frames", "window_transcripts")  # the arguments of a call
FADE_S = Fraction(1, 50)  # where audio that was made goes over from one window to the next


@dataclass(frozen=True)
class Window:
    """Frames `start` to `stop` of the clip, made in one call. What is new in it begins at `first_new`."""

    start: int
    first_new: int
    stop: int


@dataclass(frozen=True)
class WindowPlan:
    """How a clip is cut into windows.

    Attributes:
        windows: In the order of time.
        num_frames: T.
        window_num_frames: W. The last window is as long as the others; what is made beyond the clip is cut off.
        frame_rate: Frames per second.
    """

    windows: list[Window]
    num_frames: int
    window_num_frames: int
    frame_rate: Fraction

    @property
    def overlap_num_frames(self) -> int:
        """O; 0 where there is one window."""
        return self.windows[-1].first_new - self.windows[-1].start

    def words(self, window_transcripts: Sequence | None, num_prompts: int | None = None) -> list[Any]:
        """Return the transcript of each window: a text, a list with one per sample, or None where there are none.

        Args:
            window_transcripts: One text for each window; for a batch, a list of them for each sample.
            num_prompts: Samples that the call names; None for one.
        """
        number = len(self.windows)
        if window_transcripts is None:
            return [None] * number
        if isinstance(window_transcripts, str):
            raise ValueError("`window_transcripts` must be a list with a text for each window, got one text.")
        lists = [entry for entry in window_transcripts if not isinstance(entry, str)]
        if lists and len(lists) != len(window_transcripts):
            raise ValueError("`window_transcripts` mixes texts and lists: give one text per window, or lists of them.")
        if num_prompts is not None and (len(window_transcripts) if lists else 1) != num_prompts:
            raise ValueError(
                f"`window_transcripts` has {f'{len(lists)} lists' if lists else 'texts for 1 sample'}, but there are "
                f"{num_prompts} prompts. Give a list of texts for each prompt."
            )
        for texts in lists or [window_transcripts]:
            if len(texts) != number:
                raise ValueError(
                    f"`window_transcripts` has {len(texts)} texts, but a clip of {self.num_frames} frames has "
                    f"{number} windows of {self.window_num_frames} frames. Give one text for each window, '' where "
                    "nothing is said, or another `num_frames`."
                )
        return [list(texts) for texts in zip(*window_transcripts)] if lists else list(window_transcripts)

    def describe(self, words: Sequence[Any]) -> str:
        """Return a line for each window: its time, what of it is new, and its words."""
        lines = []
        for number, (window, text) in enumerate(zip(self.windows, words), start=1):
            start_s, new_s, stop_s = (
                float(frame / self.frame_rate) for frame in (window.start, window.first_new, window.stop)
            )
            overlap = f", the first {new_s - start_s:.2f} s from the window before" if new_s > start_s else ""
            lines.append(f"window {number}: {start_s:.2f} s to {stop_s:.2f} s{overlap}: {text or '(no words)'}")
        return "\n".join(lines)


def plan_windows(
    num_frames: int,
    frame_rate: float | Fraction,
    window_num_frames: int,
    overlap_num_frames: int,
    temporal_compression: int,
) -> WindowPlan:
    """Return the windows of a clip of `num_frames` frames.

    Args:
        num_frames: T.
        frame_rate: Frames per second.
        window_num_frames, overlap_num_frames: W and O, both temporal_compression · k + 1.
        temporal_compression: Video frames per latent frame.

    Raises:
        ValueError: If T is less than 1, W or O is not a length that the video VAE allows, or O is not less than W.
    """
    for name, number in (("window_num_frames", window_num_frames), ("overlap_num_frames", overlap_num_frames)):
        below, above = nearest_num_frames(number, temporal_compression)
        if number != below or number < 1:
            raise ValueError(
                f"`{name}` must be {temporal_compression}k + 1 for the video VAE, got {number}. "
                f"Nearest: {below} or {above}."
            )
    if overlap_num_frames >= window_num_frames:
        raise ValueError(
            f"`overlap_num_frames={overlap_num_frames}` must be less than `window_num_frames={window_num_frames}`."
        )
    if num_frames < 1:
        raise ValueError(f"`num_frames` must be at least 1, got {num_frames}.")
    step = window_num_frames - overlap_num_frames
    number = 1 + max(math.ceil((num_frames - window_num_frames) / step), 0)
    windows = [
        Window(
            start=k * step,
            first_new=k * step + (overlap_num_frames if k else 0),
            stop=min(k * step + window_num_frames, num_frames),
        )
        for k in range(number)
    ]
    return WindowPlan(windows, num_frames, window_num_frames, exact_frame_rate(frame_rate))


def default_overlap(window_num_frames: int, temporal_compression: int, condition_mode: str | None) -> int:
    """Return the frames that a window takes from the one before: a quarter of it, where the transformer learned to go
    on from a beginning; else one, as from a reference image."""
    if condition_mode is None:
        return 1
    return nearest_num_frames(max(window_num_frames // 4, 1), temporal_compression)[0]


def plan_call(
    arguments: Mapping[str, Any],
    defaults: Mapping[str, Any],
    temporal_compression: int,
    condition_mode: str | None,
    recording: Recording | None,
) -> WindowPlan:
    """Return the windows of a call.

    Args:
        arguments: Of the call.
        defaults: What the checkpoint makes by default, `num_frames` and `frame_rate`.
        temporal_compression: Video frames per latent frame.
        condition_mode: Of the transformer's config.
        recording: The clip's audio, where it is given.

    Raises:
        ValueError: If an argument does not go with windows, or their number is not that of the transcripts.
    """
    check_windows(arguments)
    frame_rate = defaults["frame_rate"] if arguments["frame_rate"] is None else arguments["frame_rate"]
    num_frames, window_num_frames = arguments["num_frames"], arguments["window_num_frames"]
    if num_frames is None and recording is not None:
        num_frames = nearest_to_recording(recording, frame_rate, temporal_compression)
    num_frames = defaults["num_frames"] if num_frames is None else num_frames
    window_num_frames = defaults["num_frames"] if window_num_frames is None else window_num_frames
    overlap_num_frames = arguments["overlap_num_frames"]
    if overlap_num_frames is None:
        overlap_num_frames = default_overlap(window_num_frames, temporal_compression, condition_mode)
    plan = plan_windows(num_frames, frame_rate, window_num_frames, overlap_num_frames, temporal_compression)
    plan.words(arguments["window_transcripts"], num_prompts_of(arguments))
    return plan


def num_prompts_of(arguments: Mapping[str, Any]) -> int | None:
    """Return how many samples the texts of a call are for, None where each is a single string or missing."""
    texts = (arguments[name] for name in ("prompt", "audio_prompt"))
    return next((len(text) for text in texts if isinstance(text, list | tuple)), None)


def check_windows(arguments: Mapping[str, Any]) -> None:
    """Check that a call in windows asks for nothing that goes on over their borders."""
    for name in ("latents", "audio_latents", "retake", "prompt_embeds", "prompt_embeds_2"):
        if arguments[name] is not None:
            raise ValueError(f"`{name}` is for a clip in one piece, and this one is made window by window.")
    if arguments["video"] is not None and arguments["keep"] is None:
        raise ValueError(
            "A clip that is given whole as `video` is not cut into windows. Give it piece by piece, or with `keep`."
        )
    modalities = arguments["modalities"]
    if "video" not in ((modalities,) if isinstance(modalities, str) else modalities):
        raise ValueError("A clip is made window by window from frames on, and `modalities` asks for audio alone.")
    if arguments["num_videos_per_prompt"] != 1:
        raise ValueError("`num_videos_per_prompt` must be 1 window by window: repeat the prompt instead.")
    if arguments["output_type"] == "latent":
        raise ValueError("`output_type='latent'` is for a clip in one piece: windows overlap in their latents.")
    if arguments["transcript"] is not None:
        raise ValueError(
            "`transcript` is what one piece says, and this clip is made window by window: give `window_transcripts`, "
            "one text for each window."
        )


def read_long_recording(arguments: Mapping[str, Any]) -> Recording | None:
    """Return the recording of a call in windows, None without one."""
    if arguments["audio"] is None:
        return None
    return read_recordings(arguments["audio"], arguments["audio_sampling_rate"])


def make_windows(
    call: Callable[..., JoVAPipelineOutput],
    arguments: Mapping[str, Any],
    plan: WindowPlan,
    recording: Recording | None,
    is_interrupted: Callable[[], bool],
) -> Iterator[JoVAPipelineOutput]:
    """Yield what is new in each window.

    Audio that was made goes over from one window to the next in the last 20 ms of their overlap; these samples come
    with the next window, so that audio is that much behind the frames until the clip ends. Given audio is exact.

    Args:
        call: Makes one piece, with the arguments of a call.
        arguments: Of the whole clip.
        plan: Its windows.
        recording: Its audio, where it is given.
        is_interrupted: Whether a callback has stopped the window, after which there are no more.
    """
    words = plan.words(arguments["window_transcripts"], num_prompts_of(arguments))
    settings = {name: value for name, value in arguments.items() if name not in WINDOWS}
    settings |= {"num_frames": plan.window_num_frames, "return_dict": True}
    seam: torch.Tensor | None = None  # the last samples of the window before, which are not out yet
    for number, (window, text) in enumerate(zip(plan.windows, words)):
        is_last = number == len(plan.windows) - 1
        if recording is not None:
            end = window.start + plan.window_num_frames
            piece = recording.between(window.start / plan.frame_rate, end / plan.frame_rate)
            settings |= {"audio": piece, "audio_sampling_rate": None}
        output = call(**(settings | {"transcript": text}))
        frames = [clip[window.first_new - window.start : window.stop - window.start] for clip in output.frames]
        audio = None
        if output.audio is not None:
            audio, seam = _new_audio(output, window, plan, seam, holds_back=not is_last and recording is None)
        yield JoVAPipelineOutput(_like(output.frames, frames), audio, output.audio_sampling_rate, output.frame_rate)
        if is_interrupted():
            return
        if not is_last:
            settings |= {"image": None, "video": _last_part(output, plan)}
            settings["keep"] = plan.overlap_num_frames / plan.frame_rate


def _new_audio(
    output: JoVAPipelineOutput, window: Window, plan: WindowPlan, seam: torch.Tensor | None, holds_back: bool
) -> tuple[Any, torch.Tensor | None]:
    """Return what is new in the audio of a window, after the end of the one before, `seam`, and this one's end."""
    audio, rate = torch.as_tensor(output.audio), output.audio_sampling_rate
    start, first, stop = (round(k / plan.frame_rate * rate) for k in (window.start, window.first_new, window.stop))
    first, stop = first - start, stop - start
    new = audio[..., first:stop]
    if seam is not None:
        length = seam.shape[-1]
        share = torch.linspace(0, 1, length + 2, dtype=audio.dtype)[1:-1]  # of the new window
        new = torch.cat([torch.lerp(seam, audio[..., first - length : first], share), new], dim=-1)
    seam = None
    if holds_back:
        length = round(min(FADE_S, plan.overlap_num_frames / plan.frame_rate) * rate)
        new, seam = new[..., :-length], new[..., -length:]
    return new if torch.is_tensor(output.audio) else new.numpy(), seam


def _last_part(output: JoVAPipelineOutput, plan: WindowPlan) -> list[Any]:
    """Return the last frames of each sample of a window, with their audio, as clips that the next one is given."""
    from ..media import Clip

    rate, overlap = output.audio_sampling_rate, plan.overlap_num_frames
    clips = []
    for k, frames in enumerate(output.frames):
        waveform = None
        if output.audio is not None:
            first = round((plan.window_num_frames - overlap) / plan.frame_rate * rate)
            waveform = np.atleast_2d(np.asarray(output.audio[k])[..., first:])
        clips.append(Clip(np.stack(to_uint8(frames[-overlap:])), plan.frame_rate, waveform, rate))
    return clips


def _like(frames: Any, clips: list[Any]) -> Any:
    """Return the clips of a batch as `frames` holds them: a list of lists, an array or a tensor."""
    if isinstance(frames, torch.Tensor):
        return torch.stack(clips)
    return np.stack(clips) if isinstance(frames, np.ndarray) else clips


def join_windows(windows: Iterator[JoVAPipelineOutput]) -> JoVAPipelineOutput:
    """Return the whole clip of its windows."""
    outputs = list(windows)
    batches: list[Any] = [output.frames for output in outputs]
    if isinstance(batches[0], torch.Tensor | np.ndarray):
        frames = _concatenated(batches, axis=1)
    else:
        frames = [[frame for clip in clips for frame in clip] for clips in zip(*batches)]
    audio = None if outputs[0].audio is None else _concatenated([output.audio for output in outputs], axis=-1)
    return JoVAPipelineOutput(frames, audio, outputs[0].audio_sampling_rate, outputs[0].frame_rate)


def _concatenated(pieces: list[Any], axis: int) -> Any:
    return torch.cat(pieces, dim=axis) if isinstance(pieces[0], torch.Tensor) else np.concatenate(pieces, axis=axis)
