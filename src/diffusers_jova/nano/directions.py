# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How well a pipeline makes what it is not given: every direction, on clips of a corpus that training never saw.

N clips, F frames
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..media import Clip, exact_frame_rate
from ..pipelines.pipeline_jova import JoVAPipeline
from .corpora import NANO, Corpus
from .corpus import FRAME_RATE
from .measuring import Measures, TalkingClips, generate, measure
from .pictures import identity_distance
from .speech import SAMPLING_RATE


NEUTRAL = "A person is talking."
NOISE_SEED = 1000

SPAN = int(0.04 * SAMPLING_RATE)  # samples before and after a seam whose loudness is compared
QUIET_DB = -40  # below it is a pause


@dataclass(frozen=True)
class Direction:
    """One way to call the pipeline: what of a clip it is given, and what it makes.

    Attributes:
        name: In tables.
        corpus: Whose clips are given.
        request: The arguments of the call for a clip, of its plan, frames and waveform.
        settings: The arguments that all clips share.
        made_s: The span that is made, in seconds; None: all of it.
        makes: Of "video" and "audio".
        shows_person: Whether what is given tells who is seen.
    """

    name: str
    corpus: Corpus
    request: Callable[[Any, np.ndarray, np.ndarray], dict[str, Any]]
    settings: Mapping[str, Any]
    made_s: tuple[float, float] | None = None
    makes: tuple[str, ...] = ("video", "audio")
    shows_person: bool = False

    @property
    def made(self) -> slice:
        """The frames that are made."""
        if self.made_s is None:
            return slice(0, self.corpus.num_frames)
        start_s, end_s = self.made_s
        return slice(round(start_s * FRAME_RATE), round(end_s * FRAME_RATE))

    @property
    def seams(self) -> list[int]:
        """The first frames behind a border between what is given and what is made."""
        return [frame for frame in (self.made.start, self.made.stop) if 0 < frame < self.corpus.num_frames]


# --- what is given ---


def captioned(plan: Any, corpus: Corpus = NANO) -> dict[str, Any]:
    """Return the arguments that name looks, voice and words of a clip."""
    return {
        "prompt": corpus.describe(plan),
        "audio_prompt": corpus.voices[plan.voice],
        "transcript": plan.transcript,
    }


def pictured(plan: Any, corpus: Corpus = NANO) -> dict[str, Any]:
    """Return the arguments with an image of somebody no training clip shows; the caption tells no looks."""
    prompt = f"A {corpus.person(plan)} is talking."
    return captioned(plan, corpus) | {"prompt": prompt, "image": corpus.image(plan)}


def clip_of(frames: np.ndarray, waveform: np.ndarray) -> Clip:
    return Clip(frames, exact_frame_rate(FRAME_RATE), waveform[None], SAMPLING_RATE)


def directions_of(corpus: Corpus) -> dict[str, Direction]:
    """Return every direction, by a short name, for the clips of a corpus."""
    recording = {"audio_sampling_rate": SAMPLING_RATE}
    kept_s, retaken_s = corpus.kept_s, corpus.retaken_s
    duration_s = corpus.num_frames / FRAME_RATE
    return {
        "t2av": Direction("T2AV, captions and transcript", corpus, lambda plan, *_: captioned(plan, corpus), {}),
        "i2av": Direction(
            "I2AV, with a transcript", corpus, lambda plan, *_: pictured(plan, corpus), {}, shows_person=True
        ),
        "a2v": Direction(
            "A2V, captions and transcript",
            corpus,
            lambda plan, _, waveform: captioned(plan, corpus) | {"audio": waveform},
            recording,
            makes=("video",),
        ),
        "a2v_neutral": Direction(
            f'A2V, "{NEUTRAL}"',
            corpus,
            lambda plan, _, waveform: {"prompt": NEUTRAL, "audio": waveform},
            recording,
            makes=("video",),
        ),
        "a2v_image": Direction(
            "A2V, an image, no text at all",
            corpus,
            lambda plan, _, waveform: {"prompt": "", "image": corpus.image(plan), "audio": waveform},
            recording,
            makes=("video",),
            shows_person=True,
        ),
        "v2a": Direction(
            "V2A, captions and transcript",
            corpus,
            lambda plan, frames, _: captioned(plan, corpus) | {"video": frames},
            {},
            makes=("audio",),
        ),
        "continuation": Direction(
            f"continuation of {kept_s:g} s, captions and transcript",
            corpus,
            lambda plan, frames, waveform: captioned(plan, corpus) | {"video": clip_of(frames, waveform)},
            {"keep": kept_s},
            made_s=(kept_s, duration_s),
            shows_person=True,
        ),
        "retake": Direction(
            "retake of {:g} to {:g} s, captions and transcript".format(*retaken_s),
            corpus,
            lambda plan, frames, waveform: captioned(plan, corpus) | {"video": clip_of(frames, waveform)},
            {"retake": retaken_s},
            made_s=retaken_s,
            shows_person=True,
        ),
    }


DIRECTIONS = directions_of(NANO)
GIVEN_A_CLIP = [name for name in DIRECTIONS if name not in ("t2av", "i2av")]


def make(pipe: JoVAPipeline, direction: Direction, plans: Sequence[Any], recordings: TalkingClips) -> TalkingClips:
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


def nearest_own(frames: np.ndarray, plans: Sequence[Any], corpus: Corpus = NANO) -> float:
    """Return for which part of clips (N, F, H, W, 3) no other person's image is nearer than that of their own."""
    people = {corpus.who(plan): np.asarray(corpus.image(plan)) for plan in plans}
    nearest = [min(people, key=lambda name: identity_distance(clip, people[name])) for clip in frames]
    return float(np.mean([name == corpus.who(plan) for name, plan in zip(nearest, plans)]))


def words_made(plan: Any, made_s: tuple[float, float] | None, corpus: Corpus = NANO) -> float:
    """Return how many of a clip's words are said in a span of time (None: all), if all of them last equally long."""
    words = len(plan.transcript.split())
    if made_s is None:
        return words
    start_s, end_s = corpus.spoken_s(plan)
    said_s = min(made_s[1], end_s) - max(made_s[0], start_s)
    return words * max(said_s, 0.0) / (end_s - start_s)


def within(measures: Measures, frames: slice) -> Measures:
    """Return the measures with the lips and the loudness of some frames alone."""
    return replace(measures, gaps=measures.gaps[:, frames], loudness=measures.loudness[:, frames])


HEADER = (
    "| clips | number | WER | lips: r | shuffled | face found | own image nearest | seam: image | loudness |\n"
    "|---|---|---|---|---|---|---|---|---|"
)


def direction_row(
    name: str, direction: Direction, plans: Sequence[Any], clips: TalkingClips, measures: Measures
) -> str:
    """Return a line of the table under `HEADER`: what is made is measured, and a cell is empty where it was given.

    Args:
        name: Of the line.
        direction: In which the clips were made, or of which recordings are the measure.
    """
    lips, corpus = within(measures, direction.made), direction.corpus
    errors = measures.word_error_rate * sum(words_made(plan, None) for plan in plans)
    made = sum(words_made(plan, direction.made_s, corpus) for plan in plans)
    cells = [name, str(len(plans))]
    cells.append(f"{errors / made:.3f}" if "audio" in direction.makes else "")
    cells += [f"{lips.lips_in_time:.2f}", f"{lips.shuffled:.2f}"]
    cells.append(f"{100 * lips.faces_found:.1f} %" if "video" in direction.makes else "")
    is_shown = direction.shows_person and "video" in direction.makes
    cells.append(f"{100 * nearest_own(clips.frames[:, direction.made], plans, corpus):.0f} %" if is_shown else "")
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
    pipe: JoVAPipeline,
    names: Sequence[str],
    plans: Sequence[Any],
    recordings: TalkingClips,
    directions: Mapping[str, Direction] = DIRECTIONS,
    watch: Callable[[str, TalkingClips, Measures], None] = lambda *_: None,
) -> Iterator[str]:
    """Yield a pipeline's lines of the table in the directions of these names, each as soon as it is measured.

    Args:
        watch: Is told the name of a direction, its clips and their measures, before its line.
    """
    for name in names:
        direction = directions[name]
        clips = make(pipe, direction, plans, recordings)
        measures = measure(clips, corpus=direction.corpus)
        watch(name, clips, measures)
        yield direction_row(direction.name, direction, plans, clips, measures)


def recording_rows(
    names: Sequence[str],
    plans: Sequence[Any],
    recordings: TalkingClips,
    directions: Mapping[str, Direction] = DIRECTIONS,
) -> Iterator[str]:
    """Yield the same of the recordings themselves: of whole clips, and of each span that `names` makes a part of."""
    whole = directions["t2av"]
    measures = measure(recordings, corpus=whole.corpus)
    yield direction_row("recordings", whole, plans, recordings, measures)
    for direction in (directions[name] for name in names):
        if direction.made_s is not None:
            name = "recordings, {:g} to {:g} s".format(*direction.made_s)
            yield direction_row(name, direction, plans, recordings, measures)
