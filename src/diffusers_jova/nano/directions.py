# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How well a pipeline makes what it is not given: every direction, on clips of the corpus that training never saw.

N clips, F frames
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..media import Clip, exact_frame_rate
from ..pipelines.pipeline_jova import JoVAPipeline
from .corpus import DURATION_S, FRAME_RATE, NUM_FRAMES, ClipPlan, describe
from .faces import Pose, draw_face
from .measuring import Measures, TalkingClips, generate, measure
from .pictures import identity_distance
from .speech import SAMPLING_RATE, VOICES, speak


NEUTRAL = "A person is talking."
NOISE_SEED = 1000

KEPT_S = 0.64  # where frame 8 and audio latent 20 begin
RETAKEN_S = (0.64, 1.28)
SPAN = int(0.04 * SAMPLING_RATE)  # samples before and after a seam whose loudness is compared
QUIET_DB = -40  # below it is a pause


@dataclass(frozen=True)
class Direction:
    """One way to call the pipeline: what of a clip it is given, and what it makes.

    Attributes:
        name: In tables.
        request: The arguments of the call for a clip, of its plan, frames and waveform.
        settings: The arguments that all clips share.
        made_s: The span that is made, in seconds.
        makes: Of "video" and "audio".
        shows_person: Whether what is given tells who is seen.
    """

    name: str
    request: Callable[[ClipPlan, np.ndarray, np.ndarray], dict[str, Any]]
    settings: Mapping[str, Any]
    made_s: tuple[float, float] = (0.0, DURATION_S)
    makes: tuple[str, ...] = ("video", "audio")
    shows_person: bool = False

    @property
    def made(self) -> slice:
        """The frames that are made."""
        start_s, end_s = self.made_s
        return slice(round(start_s * FRAME_RATE), round(end_s * FRAME_RATE))

    @property
    def seams(self) -> list[int]:
        """The first frames behind a border between what is given and what is made."""
        return [frame for frame in (self.made.start, self.made.stop) if 0 < frame < NUM_FRAMES]


# --- what is given ---


def captioned(plan: ClipPlan) -> dict[str, Any]:
    """Return the arguments that name looks, voice and words of a clip."""
    return {
        "prompt": describe(plan.face()),
        "audio_prompt": VOICES[plan.voice].caption,
        "transcript": plan.transcript,
    }


def pictured(plan: ClipPlan) -> dict[str, Any]:
    """Return the arguments with an image of somebody no training clip shows; the caption tells no looks."""
    prompt = f"A {plan.face().person} is talking."
    return captioned(plan) | {"prompt": prompt, "image": draw_face(plan.face(), Pose(), 64)}


def clip_of(frames: np.ndarray, waveform: np.ndarray) -> Clip:
    return Clip(frames, exact_frame_rate(FRAME_RATE), waveform[None], SAMPLING_RATE)


RECORDING = {"audio_sampling_rate": SAMPLING_RATE}
DIRECTIONS = {
    "t2av": Direction("T2AV, captions and transcript", lambda plan, *_: captioned(plan), {}),
    "i2av": Direction("I2AV, with a transcript", lambda plan, *_: pictured(plan), {}, shows_person=True),
    "a2v": Direction(
        "A2V, captions and transcript",
        lambda plan, _, waveform: captioned(plan) | {"audio": waveform},
        RECORDING,
        makes=("video",),
    ),
    "a2v_neutral": Direction(
        f'A2V, "{NEUTRAL}"',
        lambda plan, _, waveform: {"prompt": NEUTRAL, "audio": waveform},
        RECORDING,
        makes=("video",),
    ),
    "a2v_image": Direction(
        "A2V, an image, no text at all",
        lambda plan, _, waveform: {"prompt": "", "image": pictured(plan)["image"], "audio": waveform},
        RECORDING,
        makes=("video",),
        shows_person=True,
    ),
    "v2a": Direction(
        "V2A, captions and transcript",
        lambda plan, frames, _: captioned(plan) | {"video": frames},
        {},
        makes=("audio",),
    ),
    "continuation": Direction(
        f"continuation of {KEPT_S:g} s, captions and transcript",
        lambda plan, frames, waveform: captioned(plan) | {"video": clip_of(frames, waveform)},
        {"keep": KEPT_S},
        made_s=(KEPT_S, DURATION_S),
        shows_person=True,
    ),
    "retake": Direction(
        "retake of {:g} to {:g} s, captions and transcript".format(*RETAKEN_S),
        lambda plan, frames, waveform: captioned(plan) | {"video": clip_of(frames, waveform)},
        {"retake": RETAKEN_S},
        made_s=RETAKEN_S,
        shows_person=True,
    ),
}


def make(
    pipe: JoVAPipeline, direction: Direction, plans: Sequence[ClipPlan], recordings: TalkingClips
) -> TalkingClips:
    """Return what a pipeline makes of recordings in one direction, with what was given of them."""
    clips = zip(plans, recordings.frames, recordings.waveforms)
    requests = [direction.request(*clip) for clip in clips]
    clips_made = generate(pipe, requests, NOISE_SEED, **direction.settings)
    return replace(clips_made, transcripts=recordings.transcripts)  # of a recording that is given no text tells


# --- how well it is made ---


def image_jumps(frames: np.ndarray) -> np.ndarray:
    """Return the mean absolute difference of frames that follow each other: (F, H, W, 3) uint8 -> (F - 1,), of 255."""
    return np.abs(np.diff(frames.astype(np.float32), axis=0)).mean(axis=(1, 2, 3))


def loudness_jumps(waveform: np.ndarray, num_frames: int) -> np.ndarray:
    """Return by how many dB the level differs 40 ms before and after each frame's beginning, but the first one's.

    (N,) at 16 kHz -> (F - 1,); NaN in pauses, where both are below `QUIET_DB`.
    """
    jumps = []
    for k in range(1, num_frames):
        edge = round(k / FRAME_RATE * SAMPLING_RATE)
        pieces = waveform[edge - SPAN : edge], waveform[edge : edge + SPAN]
        before, after = (20 * np.log10(np.sqrt(np.mean(piece**2)) + 1e-4) for piece in pieces)
        jumps.append(abs(after - before) if max(before, after) > QUIET_DB else np.nan)
    return np.array(jumps)


def seam_and_inside(jumps: np.ndarray, seams: Sequence[int]) -> tuple[float, float]:
    """Return the mean of jumps (N, F - 1) at seams, and elsewhere; NaN where there is none but in pauses."""
    at_seam = np.isin(np.arange(1, jumps.shape[1] + 1), seams)
    seam, inside = jumps[:, at_seam], jumps[:, ~at_seam]
    means = [float(np.nanmean(part)) if np.isfinite(part).any() else np.nan for part in (seam, inside)]
    return means[0], means[1]


def nearest_own(frames: np.ndarray, plans: Sequence[ClipPlan]) -> float:
    """Return for which part of clips (N, F, H, W, 3) no other person's image is nearer than that of their own."""
    people = {plan.identity: np.asarray(draw_face(plan.face(), Pose(), 64)) for plan in plans}
    nearest = [min(people, key=lambda name: identity_distance(clip, people[name])) for clip in frames]
    return float(np.mean([name == plan.identity for name, plan in zip(nearest, plans)]))


def words_made(plan: ClipPlan, made_s: tuple[float, float]) -> float:
    """Return how many of a clip's words are said in a span of time, if all of them last equally long."""
    duration_s = len(speak(plan.voice, plan.text, plan.pace, plan.pitch)) / SAMPLING_RATE
    said_s = min(made_s[1], plan.onset_s + duration_s) - max(made_s[0], plan.onset_s)
    return len(plan.digits) * max(said_s, 0.0) / duration_s


def within(measures: Measures, frames: slice) -> Measures:
    """Return the measures with the lips and the loudness of some frames alone."""
    return replace(measures, gaps=measures.gaps[:, frames], loudness=measures.loudness[:, frames])


HEADER = (
    "| clips | number | WER | lips: r | shuffled | face found | own image nearest | seam: image | loudness |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def direction_row(
    name: str, direction: Direction, plans: Sequence[ClipPlan], clips: TalkingClips, measures: Measures
) -> str:
    """Return a line of the table under `HEADER`: what is made is measured, and a cell is empty where it was given.

    Args:
        name: Of the line.
        direction: In which the clips were made, or of which recordings are the measure.
    """
    lips = within(measures, direction.made)
    errors = measures.word_error_rate * sum(len(plan.digits) for plan in plans)
    made = sum(words_made(plan, direction.made_s) for plan in plans)
    cells = [name, str(len(plans))]
    cells.append(f"{errors / made:.3f}" if "audio" in direction.makes else "")
    cells += [f"{lips.lips_in_time:.2f}", f"{lips.shuffled:.2f}"]
    cells.append(f"{100 * lips.faces_found:.1f} %" if "video" in direction.makes else "")
    is_shown = direction.shows_person and "video" in direction.makes
    cells.append(f"{100 * nearest_own(clips.frames[:, direction.made], plans):.0f} %" if is_shown else "")
    jumps = {
        "image": [image_jumps(frames) for frames in clips.frames],
        "loudness": [loudness_jumps(waveform, clips.frames.shape[1]) for waveform in clips.waveforms],
    }
    for each in jumps.values():
        seam, inside = seam_and_inside(np.stack(each), direction.seams)
        ratio = seam / inside if inside else np.nan
        cells.append(f"{seam:.1f} / {inside:.1f} = {ratio:.2f}" if direction.seams else "")
    return "| " + " | ".join(cells) + " |"


def direction_rows(
    pipe: JoVAPipeline, names: Sequence[str], plans: Sequence[ClipPlan], recordings: TalkingClips
) -> Iterator[str]:
    """Yield a pipeline's lines of the table in the directions of these names, each as soon as it is measured."""
    for name in names:
        direction = DIRECTIONS[name]
        clips = make(pipe, direction, plans, recordings)
        yield direction_row(direction.name, direction, plans, clips, measure(clips))


def recording_rows(names: Sequence[str], plans: Sequence[ClipPlan], recordings: TalkingClips) -> Iterator[str]:
    """Yield the same of the recordings themselves: of whole clips, and of each span that `names` makes a part of."""
    measures = measure(recordings)
    whole = DIRECTIONS["t2av"]
    yield direction_row("recordings", whole, plans, recordings, measures)
    for direction in (DIRECTIONS[name] for name in names):
        if direction.made_s != whole.made_s:
            name = "recordings, {:g} to {:g} s".format(*direction.made_s)
            yield direction_row(name, direction, plans, recordings, measures)
