# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What jova-nano can do, in numbers: docs/nano_report.md and its plots."""

import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..evaluation.lips import LAGS
from ..evaluation.words import word_error_rate
from ..files import whole_file
from ..mouth import contact_sheet
from ..pipelines.pipeline_jova import JoVAPipeline
from .corpora import NANO, Corpus
from .directions import (
    DIRECTIONS,
    GIVEN_A_CLIP,
    HEADER,
    NEUTRAL,
    NOISE_SEED,
    SPAN,
    Direction,
    captioned,
    direction_row,
    direction_rows,
    pictured,
    recording_rows,
)
from .measuring import Measures, TalkingClips, generate, held_out_plans, measure, record, round_trip
from .pictures import TABLES, colour_word, identity_distance
from .settings import STEPS
from .speech import SAMPLING_RATE, VOICES


NUM_CLIPS_PER_STEPS = 40
ON_SHEET = 8  # clips on the contact sheet
MAX_LINE = 119  # as in all pages


@dataclass(frozen=True)
class Row:
    """One line of the main table: where clips come from, and their measures."""

    name: str
    clips: TalkingClips
    measures: Measures


def neutral(plan: Any) -> dict:
    return {"prompt": NEUTRAL, "transcript": plan.transcript}


def compare(pipe: JoVAPipeline, plans: Sequence[Any], num_pictured: int, corpus: Corpus = NANO) -> list[Row]:
    """Return the rows of the main table: recordings, round trip, and what the model makes of three kinds of prompt."""
    recordings = record(plans, corpus)
    of_images = [pictured(plan, corpus) for plan in plans[:num_pictured]]
    sources = {
        "real recordings": recordings,
        "round trip through VAEs and vocoder": round_trip(pipe, recordings),
        "generated, full captions": generate(pipe, [captioned(plan, corpus) for plan in plans], NOISE_SEED),
        "generated, neutral captions": generate(pipe, [neutral(plan) for plan in plans], NOISE_SEED),
        "generated, with an image": generate(pipe, of_images, NOISE_SEED),
    }
    return [Row(name, clips, measure(clips, corpus=corpus)) for name, clips in sources.items()]


def main_table(rows: Sequence[Row]) -> str:
    lines = [
        "| clips | number | words | word error rate | 95 % interval | lips: r at lag −1…1 | shuffled | face found |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        m = row.measures
        low, high = m.word_error_interval
        words = sum(len(transcript.split()) for transcript in m.transcripts)
        lines.append(
            f"| {row.name} | {len(m.heard)} | {words} | {m.word_error_rate:.3f} | {low:.3f}–{high:.3f} "
            f"| {m.lips_in_time:.2f} | {m.shuffled:.2f} | {100 * m.faces_found:.1f} % |"
        )
    return "\n".join(lines)


def grouped_table(
    rows: Sequence[Row], plans: Sequence[Any], groups: Collection[str], group_of: Callable[[Any], str]
) -> str:
    """Return a table of word error rates by group of clips."""
    lines = ["| clips | " + " | ".join(groups) + " |", "|---|" + "---|" * len(groups)]
    for row in rows:
        cells = []
        for group in groups:
            triples = zip(plans, row.measures.transcripts, row.measures.heard)
            texts = [(transcript, heard) for plan, transcript, heard in triples if group_of(plan) == group]
            cells.append(f"{word_error_rate(*zip(*texts)):.3f}" if texts else "–")
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def voice_table(rows: Sequence[Row], plans: Sequence[Any], voices: Collection[str]) -> str:
    """Return a table of word error rates by voice; the neutral prompts name none."""
    return grouped_table(rows, plans, voices, lambda plan: plan.voice)


def lag_table(rows: Sequence[Row]) -> str:
    lines = ["| clips | " + " | ".join(f"{lag:+d}" for lag in LAGS) + " |", "|---|" + "---|" * len(LAGS)]
    lines += [
        f"| {row.name} | " + " | ".join(f"{r:.2f}" for r in row.measures.lip_correlations) + " |" for row in rows
    ]
    return "\n".join(lines)


def directions_table(
    pipe: JoVAPipeline,
    rows: Sequence[Row],
    plans: Sequence[Any],
    number: int,
    directions: Mapping[str, Direction] = DIRECTIONS,
    watch: Callable[[str, TalkingClips, Measures], None] = lambda *_: None,
) -> str:
    """Return a table of what the pipeline makes of what it is given.

    Args:
        rows: of the main table, which has the clips of texts and of images.
        number: of clips for each of the other directions.
        watch: See `direction_rows`.
    """
    plans_made = plans[:number]
    recordings = rows[0].clips.first(number)
    lines = [HEADER, *recording_rows(GIVEN_A_CLIP, plans_made, recordings, directions)]
    for name, row in {"t2av": rows[2], "i2av": rows[4]}.items():
        direction = directions[name]
        lines.append(direction_row(direction.name, direction, plans[: len(row.clips.frames)], row.clips, row.measures))
    return "\n".join([*lines, *direction_rows(pipe, GIVEN_A_CLIP, plans_made, recordings, directions, watch)])


def identity_lines(clips: TalkingClips, plans: Sequence[Any], corpus: Corpus = NANO) -> str:
    """Return how far clips made from an image are from it, and from the images of other people."""
    people = {corpus.who(plan): np.asarray(corpus.image(plan)) for plan in plans}
    own, others, first = [], [], 0
    for frames, plan in zip(clips.frames, plans):
        distances = {name: identity_distance(frames, picture) for name, picture in people.items()}
        me = corpus.who(plan)
        own.append(distances[me])
        others.append(np.mean([distance for name, distance in distances.items() if name != me]))
        first += min(distances, key=distances.get) == me
    return (
        f"Mean absolute difference of a clip's mean frame and its own image: {np.mean(own):.4f} (of 1); and the "
        f"images of the {len(people) - 1} other held-out people: {np.mean(others):.4f}. Its own image is the "
        f"nearest of all for {first} of {len(plans)} clips."
    )


def colour_table(
    rows: Sequence[Row],
    plans: Sequence[Any],
    names: Collection[str] = TABLES,
    seen: Callable[[np.ndarray, str], str] = colour_word,
    asked: Callable[[Any, str], str | None] = lambda plan, name: getattr(plan.face(), name),
) -> str:
    """Return a table of how often things have the colour that the caption names.

    Args:
        names: of the things.
        seen: Returns the word for the colour of a thing in frames.
        asked: Returns the word in the caption of a plan, None where it names none.
    """
    lines = ["| clips | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for row in rows:
        cells = []
        for name in names:
            pairs = zip(row.clips.frames, plans)
            right = [seen(frames, name) == word for frames, plan in pairs if (word := asked(plan, name)) is not None]
            cells.append(f"{100 * np.mean(right):.1f} %" if right else "–")
        lines.append(f"| {row.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def steps_table(
    pipe: JoVAPipeline, plans: Sequence[Any], numbers: Sequence[int], corpus: Corpus = NANO
) -> tuple[str, dict[int, Measures]]:
    lines = [
        "| steps | word error rate | lips: r at lag −1…1 | face found | seconds per clip |",
        "|---|---|---|---|---|",
    ]
    found = {}
    for steps in numbers:
        started = time.perf_counter()
        requests = [captioned(plan, corpus) for plan in plans]
        clips = generate(pipe, requests, NOISE_SEED, num_inference_steps=steps)
        seconds = (time.perf_counter() - started) / len(plans)
        found[steps] = m = measure(clips, corpus=corpus)
        cells = (steps, f"{m.word_error_rate:.3f}", f"{m.lips_in_time:.2f}", f"{100 * m.faces_found:.1f} %")
        lines.append("| " + " | ".join(map(str, cells)) + f" | {seconds:.1f} |")
    return "\n".join(lines), found


def plot_lags(rows: Sequence[Row], path: Path) -> None:
    figure, axes = _figure()
    for row in rows:
        axes.plot(LAGS, row.measures.lip_correlations, marker="o", label=row.name)
    axes.set(xlabel="lag in frames of 80 ms (positive: the lips are late)", ylabel="mean r of lip gap and loudness")
    _save(figure, axes, path)


def plot_steps(found: dict[int, Measures], path: Path) -> None:
    figure, axes = _figure()
    axes.plot(list(found), [m.word_error_rate for m in found.values()], marker="o", label="word error rate")
    axes.plot(list(found), [m.lips_in_time for m in found.values()], marker="s", label="lips, r at best lag −1…1")
    axes.set(xlabel="denoising steps", ylim=(0, 1))
    _save(figure, axes, path)


def _figure():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(7, 4), dpi=100)


def _save(figure, axes, path: Path) -> None:
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path)


def write_report(
    pipe: JoVAPipeline,
    folder: Path,
    command: str,
    num_clips: int = 200,
    num_pictured: int = 100,
    num_given: int = 200,
    steps: Sequence[int] = STEPS,
    seed: int = 0,
) -> Path:
    """Measure a pipeline and write nano_report.md, its plots and a contact sheet to `folder`.

    Args:
        command: that repeats the report, to be quoted in it.
        num_clips: held-out clips of each kind.
        num_pictured: of them with an image.
        num_given: of them in each direction in which a recording or a clip is given.
        steps: numbers of denoising steps to compare.
        seed: of the corpus.
    """
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    plans = held_out_plans(num_clips, seed)
    rows = compare(pipe, plans, num_pictured)
    plot_lags(rows, images / "nano_lags.png")
    contact_sheet(rows[2].clips.frames[:ON_SHEET], num_columns=11).save(images / "nano_contact_sheet.png")
    table_of_steps, by_steps = steps_table(pipe, plans[:NUM_CLIPS_PER_STEPS], steps)
    plot_steps(by_steps, images / "nano_steps.png")
    path = folder / "nano_report.md"
    report = REPORT.format(
        command=command,
        num_clips=num_clips,
        **made_with(pipe),
        main=main_table(rows),
        voices=voice_table(rows, plans, VOICES),
        lags=lag_table(rows),
        directions=directions_table(pipe, rows, plans, num_given),
        kept=NANO.kept_s,
        span_ms=1000 * SPAN // SAMPLING_RATE,
        identity=identity_lines(rows[4].clips, plans[:num_pictured]),
        colours=colour_table(rows[:3], plans),
        on_sheet=", ".join(f'"{plan.transcript}"' for plan in plans[:ON_SHEET]),
        num_clips_per_steps=min(num_clips, NUM_CLIPS_PER_STEPS),
        steps=table_of_steps,
    )
    with whole_file(path) as partial:
        partial.write_text(folded(report), encoding="utf-8")
    return path


def made_with(pipe: JoVAPipeline) -> dict[str, Any]:
    """Return what a report says of how its clips were made."""
    return {
        "num_steps": pipe.config.num_inference_steps,
        "shift": pipe.scheduler.config.shift,
        "stochastic": pipe.scheduler.config.stochastic_sampling,
        "guidance_scale": pipe.config.guidance_scale,
        "audio_guidance_scale": pipe.config.audio_guidance_scale,
        "modality_scale": pipe.config.modality_scale,
        "noise_seed": NOISE_SEED,
        "vocoder": type(pipe.vocoder).__name__,
        "torch": torch.__version__,
    }


def folded(markdown: str) -> str:
    """Return a text whose paragraphs have no line of more than `MAX_LINE` characters; what is short enough stays."""
    blocks = markdown.split("\n\n")
    return "\n\n".join(
        textwrap.fill(block, MAX_LINE, break_long_words=False, break_on_hyphens=False)
        if block[:1] not in ("|", "-") and max(map(len, block.split("\n"))) > MAX_LINE
        else block
        for block in blocks
    )


REPORT = """# What jova-nano can do

Written by `{command}` (torch {torch}), from the shipped weights; the same command writes it again. All clips say
combinations of digits that no training clip says, and show people that none shows: the corpus's split `held_out`, seed
0, its first {num_clips} clips. Noise seeds {noise_seed} and up, {num_steps} steps, noise levels shifted by {shift},
`stochastic_sampling` {stochastic}, guidance scale {guidance_scale} for video and {audio_guidance_scale} for audio,
vocoder `{vocoder}`.

- **Words**: pocketsphinx with its English model and a grammar of the ten digits, without its last pass (`bestpath`).
  The interval is a bootstrap over clips.
- **Lips**: the gap between the inner lips in dlib's landmarks, over the nose's length, against the audio's root mean
  square in each frame; Pearson's r per clip, averaged. "Shuffled" pairs each clip's lips with all other clips' audio.

{main}

## Words by voice

{voices}

The neutral prompts name no voice; their columns only split the transcripts in the same way.

## Lips by lag

Frames of 80 ms; positive: the lips are late.

{lags}

![Mean correlation over lags](images/nano_lags.png)

## Every direction

What of a clip is given is a recording (A2V), its frames (V2A), both up to {kept:g} s (continuation), or all of both
but a span (retake); [how to call it](directions.md). Only what is made is measured: a cell is empty where it was
given, and lips, faces and seams are those of the frames that are made, beside those of the recordings in that span.

- **WER**: all errors, over as many words as are said in the span that is made.
- **Own image nearest**: for which part of the clips the mean of the frames that are made is nearer to the image of
  this person than to that of any other held-out person.
- **Seam**: the mean jump from the last frame before a border to the first one behind it, and the mean jump from frame
  to frame elsewhere. Image: the mean absolute difference, of 255. Loudness: by how many dB the levels of {span_ms} ms
  before and after differ, where one of them at least is not a pause.

{directions}

## Images

{identity}

How often wall, hair and shirt have the colour that the caption names (of 6, 5 and 6 colours, so chance is about 17,
20 and 17 %):

{colours}

![Generated clips, every second frame](images/nano_contact_sheet.png)

Every second frame of clips with full captions: {on_sheet}.

## Steps against quality

{num_clips_per_steps} clips with full captions, batches of 20, two CPU cores.

{steps}

![Quality over denoising steps](images/nano_steps.png)
"""
