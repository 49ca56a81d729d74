# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What jova-mini can do, in numbers: docs/mini_report.md and its plots."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..evaluation.lips import LAGS
from ..evaluation.loudness import measure_loudness
from ..evaluation.word_errors import FasterWhisper, Whisper, normalize
from ..evaluation.words import confidence_interval, word_error_rate
from ..files import whole_file
from ..mouth import contact_sheet
from ..nano.directions import NOISE_SEED, SPAN, Direction, directions_of, nearest_own
from ..nano.measuring import Measures, TalkingClips, generate, measure
from ..nano.report import (
    NUM_CLIPS_PER_STEPS,
    ON_SHEET,
    Row,
    colour_table,
    compare,
    directions_table,
    folded,
    grouped_table,
    identity_lines,
    lag_table,
    made_with,
    main_table,
    plot_lags,
    plot_steps,
    steps_table,
    voice_table,
)
from ..nano.settings import STEPS
from ..nano.speech import SAMPLING_RATE
from ..pipelines.pipeline_jova import JoVAPipeline
from .articulation import Articulation, aligned_phones, articulate
from .hearing import words_heard
from .recordings import MINI, TABLES, RecordedClip, colour_asked, colour_seen, read_clips, said_by, seed_of
from .sentences import KINDS_HELD_OUT
from .voices import HELD_OUT_VOICES, VOICES


NUM_WORST = 20  # words in the table of those that were heard wrong most often
DIRECTIONS = directions_of(MINI)
HEARD_VOICES = tuple(name for name in VOICES if name not in HELD_OUT_VOICES)


@dataclass(frozen=True)
class Numbers:
    """Of how many clips the report is made.

    Attributes:
        clips: held-out ones, of each kind of prompt.
        pictured: of them with an image.
        given: of them in each direction in which a recording or a clip is given.
        voiced: for each voice that no training clip has.
        steps: numbers of denoising steps to compare.
    """

    clips: int = 200
    pictured: int = 100
    given: int = 100
    voiced: int = 25
    steps: Sequence[int] = STEPS


def check_sizes(pipe: JoVAPipeline, clips: TalkingClips) -> None:
    """Raise ValueError unless a pipeline makes clips as long and as large as those of the corpus."""
    made = tuple(pipe.config[name] for name in ("num_frames", "height", "width"))
    found = clips.frames.shape[1:4]
    if made != found:
        raise ValueError(
            "The pipeline makes {} frames of {} x {} pixels, and the clips of the corpus have {} of {} x {}: measure "
            "it on the corpus that it was trained with.".format(*made, *found)
        )


# --- words ---


def count_heard(measures: Measures) -> tuple[Counter[str], Counter[str]]:
    """Return how often each word was heard where it was said, and how often it was said."""
    heard: Counter[str] = Counter()
    said: Counter[str] = Counter()
    for transcript, found in zip(measures.transcripts, measures.heard):
        words = transcript.split()
        said.update(words)
        heard.update(words_heard(words, found))
    return heard, said


def worst_words_table(recordings: Row, generated: Row) -> str:
    """Return a table of the words of generated clips that were most often heard wrong, beside recordings."""
    (heard, said), (heard_recorded, said_recorded) = (count_heard(row.measures) for row in (generated, recordings))
    worst = sorted(said, key=lambda word: (heard[word] / said[word], -said[word], word))[:NUM_WORST]
    lines = ["| word | said | wrong, generated | wrong, recordings |", "|---|---|---|---|"]
    for word in worst:
        if heard[word] < said[word]:
            wrong = said_recorded[word] - heard_recorded[word]
            lines.append(f"| {word} | {said[word]} | {said[word] - heard[word]} | {wrong} |")
    return "\n".join(lines)


def open_words_lines(rows: Sequence[Row], whisper: Whisper | FasterWhisper | None) -> str:
    """Return a table of what Whisper, which knows all of English, hears wrong; without it, a sentence."""
    if whisper is None:
        return "Whisper was not run: its weights were not at hand (`--whisper`, a folder such as whisper-base)."
    lines = ["| clips | number | word error rate | 95 % interval |", "|---|---|---|---|"]
    for row in rows:
        texts = (row.clips.transcripts, [whisper.transcribe(waveform).text for waveform in row.clips.waveforms])
        said, heard = ([normalize(text, spellings=whisper.english_spellings) for text in each] for each in texts)
        low, high = confidence_interval(said, heard)
        lines.append(f"| {row.name} | {len(said)} | {word_error_rate(said, heard):.3f} | {low:.3f}–{high:.3f} |")
    return "\n".join(lines)


# --- lips ---


PHONES_HEADER = (
    "| clips | number | words found | lips: r at lag −1…1 | best lag | shuffled | p, b, m | elsewhere |\n"
    "|---|---|---|---|---|---|---|---|"
)


def phones_cells(articulation: Articulation) -> list[str]:
    """Return for how many clips phones are known, r, at which lag it is best, its floor, and how far lips close."""
    found, lips = articulation.found, articulation.lips
    cells = ["–"] * 3
    if found.any():
        shuffled = "–" if np.isnan(lips.shuffled) else f"{lips.shuffled:.2f}"
        cells = [f"{lips.in_time:.2f}", f"{LAGS[int(np.argmax(lips.correlations))]:+d}", shuffled]
    closures = ["–" if np.isnan(value) else f"{value:.2f}" for value in articulation.closure]
    return [f"{100 * found.mean():.0f} %", *cells, *closures]


def phones_row(name: str, articulation: Articulation) -> str:
    return "| " + " | ".join([name, str(len(articulation.gaps)), *phones_cells(articulation)]) + " |"


def aligned(clips: TalkingClips, measures: Measures) -> Articulation:
    """Return how the lips of clips go with the phones that are found in their audio."""
    return articulate(measures.gaps, aligned_phones(clips.transcripts, clips.waveforms))


def phones_rows(rows: Sequence[Row], clips: Sequence[RecordedClip]) -> list[str]:
    """Return the lines of the main table's clips under `PHONES_HEADER`; recordings also with their true phones."""
    recordings = rows[0]
    lines = [
        phones_row("real recordings, phones known", articulate(recordings.measures.gaps, [c.phones for c in clips]))
    ]
    found = aligned(recordings.clips, recordings.measures)
    lines.append(phones_row(recordings.name, found))
    for direction in DIRECTIONS.values():
        if direction.made_s is not None:
            name = "{}, {:g} to {:g} s".format(recordings.name, *direction.made_s)
            lines.append(phones_row(name, found.within(direction.made)))
    return lines + [phones_row(row.name, aligned(row.clips, row.measures)) for row in rows[1:]]


def tables_of_directions(pipe: JoVAPipeline, rows: Sequence[Row], clips: Sequence[RecordedClip], number: int):
    """Return the table of every direction, and its lines under `PHONES_HEADER`."""
    lines = []

    def watch(name: str, made: TalkingClips, measures: Measures) -> None:
        direction = DIRECTIONS[name]
        lines.append(phones_row(direction.name, aligned(made, measures).within(direction.made)))

    return directions_table(pipe, rows, clips, number, DIRECTIONS, watch), lines


def voices_table(pipe: JoVAPipeline, clips: Sequence[RecordedClip], number: int, seed: int) -> str:
    """Return a table of A2V, with an image and no text, of voices that no training clip has."""
    direction: Direction = DIRECTIONS["a2v_image"]
    lines = [
        "| voice | number | lips and loudness: r | shuffled | words found | lips and phones: r | best lag "
        "| shuffled | p, b, m | elsewhere | face found | own image nearest |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for voice in HELD_OUT_VOICES:
        shown = [clip for clip in clips if MINI.person(clip) == VOICES[voice].person][:number]
        if not shown:
            continue
        said, waveforms = said_by(voice, shown, seed)
        requests = [direction.request(clip, None, waveform) for clip, waveform in zip(said, waveforms)]
        made = generate(pipe, requests, NOISE_SEED, **direction.settings)
        made = replace(made, transcripts=[clip.transcript for clip in said])
        m = measure(made, corpus=MINI)
        shuffled = "–" if np.isnan(m.shuffled) else f"{m.shuffled:.2f}"
        cells = [VOICES[voice].caption, str(len(said)), f"{m.lips_in_time:.2f}", shuffled]
        cells += [*phones_cells(aligned(made, m)), f"{100 * m.faces_found:.1f} %"]
        lines.append("| " + " | ".join([*cells, f"{100 * nearest_own(made.frames, said, MINI):.0f} %"]) + " |")
    return "\n".join(lines)


# --- audio ---


def loudness_table(rows: Sequence[Row]) -> str:
    lines = ["| clips | level | standard deviation | peak | part below −50 dB |", "|---|---|---|---|---|"]
    for row in rows:
        found = [measure_loudness(waveform) for waveform in row.clips.waveforms]
        levels, silent = (np.array([m.values[name] for m in found]) for name in ("loudness", "silence"))
        peak = np.mean([m.details["peak"] for m in found])
        cells = (f"{levels.mean():.1f} dB", f"{levels.std():.1f} dB", f"{peak:.2f}", f"{100 * silent.mean():.0f} %")
        lines.append("| " + " | ".join([row.name, *cells]) + " |")
    return "\n".join(lines)


# --- the report ---


def write_report(
    pipe: JoVAPipeline,
    corpus: Path,
    folder: Path,
    command: str,
    numbers: Numbers = Numbers(),
    whisper: Whisper | FasterWhisper | None = None,
) -> Path:
    """Measure a pipeline and write mini_report.md, its plots and a contact sheet to `folder`.

    Args:
        corpus: folder that training/mini/make_corpus.py wrote.
        command: that repeats the report, to be quoted in it.
        whisper: hears words without knowing which there are; None: it is not asked.

    Raises:
        FileNotFoundError: If the corpus is not complete.
        ValueError: If it has fewer held-out clips, or others than the pipeline makes.
    """
    clips, seed = read_clips(corpus, numbers.clips), seed_of(corpus)
    check_sizes(pipe, TalkingClips([], MINI.record(clips[0])[0][None], None))
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows = compare(pipe, clips, numbers.pictured, MINI)
    plot_lags(rows, images / "mini_lags.png")
    contact_sheet(rows[2].clips.frames[:ON_SHEET], num_columns=10).save(images / "mini_contact_sheet.jpg", quality=90)
    directions, phones_of_directions = tables_of_directions(pipe, rows, clips, numbers.given)
    table_of_steps, by_steps = steps_table(pipe, clips[:NUM_CLIPS_PER_STEPS], numbers.steps, MINI)
    plot_steps(by_steps, images / "mini_steps.png")
    report = REPORT.format(
        command=command,
        num_clips=numbers.clips,
        seed=seed,
        **made_with(pipe),
        num_words=len(MINI.words),
        main=main_table(rows),
        kinds=grouped_table(rows, clips, KINDS_HELD_OUT, lambda clip: clip.held_out),
        voices=voice_table(rows, clips, HEARD_VOICES),
        worst=worst_words_table(rows[0], rows[2]),
        num_worst=NUM_WORST,
        open_words=open_words_lines(rows[:3], whisper),
        lags=lag_table(rows),
        phones="\n".join([PHONES_HEADER, *phones_rows(rows, clips), *phones_of_directions]),
        directions=directions,
        kept=MINI.kept_s,
        span_ms=1000 * SPAN // SAMPLING_RATE,
        new_voices=voices_table(pipe, clips, numbers.voiced, seed),
        identity=identity_lines(rows[4].clips, clips[: numbers.pictured], MINI),
        colours=colour_table(rows[:3], clips, TABLES, colour_seen, colour_asked),
        loudness=loudness_table(rows),
        on_sheet=", ".join(f'"{clip.transcript}"' for clip in clips[:ON_SHEET]),
        num_clips_per_steps=min(numbers.clips, NUM_CLIPS_PER_STEPS),
        device=pipe.device.type,
        steps=table_of_steps,
    )
    path = folder / "mini_report.md"
    with whole_file(path) as partial:
        partial.write_text(folded(report), encoding="utf-8")
    return path


REPORT = """# What jova-mini can do

Written by `{command}` (torch {torch}); the same command writes it again. All clips say sentences that no training
clip says, or have a word where none has it, and show people that none shows: the corpus's split `held_out`, seed
{seed}, its first {num_clips} clips. Noise seeds {noise_seed} and up, {num_steps} steps, noise levels shifted by
{shift}, `stochastic_sampling` {stochastic}, guidance scale {guidance_scale} for video and {audio_guidance_scale} for
audio, modality scale {modality_scale} for video, vocoder `{vocoder}`.

- **Recordings** are the files of the corpus, H.264 and AAC, as a training reads them.
- **Words**: pocketsphinx with its English model in a free loop over the {num_words} words of the vocabulary, without
  its last pass (`bestpath`): there is no grammar of sentences to guess from. The interval is a bootstrap over clips.
- **Lips**: the gap between the inner lips in dlib's landmarks, over the nose's length, against the audio's root mean
  square in each frame; Pearson's r per clip, averaged. "Shuffled" pairs each clip's lips with all other clips' audio.

{main}

## Words by kind

"sentence": the sentence is new, and each of its words is known at its place; "place": no training clip has one of the
words at this place.

{kinds}

## Words by voice

{voices}

The neutral prompts name no voice; their columns only split the transcripts in the same way.

## Words heard wrong most often

The {num_worst} words of the clips with full captions that were least often heard where they were said, if any was
missed, and how often the same words were missed in the recordings of the same sentences.

{worst}

## Words, without knowing which there are

{open_words}

## Lips by lag

Frames of 80 ms; positive: the lips are late.

{lags}

![Mean correlation over lags](images/mini_lags.png)

## Lips and phones

The gap of the lips against how far the jaw should open for the phones that are said, as
`diffusers_jova.mini.mouths` draws it. When a phone is said is known of recordings, for their speech was made with it;
in all rows but the first it is what pocketsphinx finds, that aligns the audio with its transcript. "Words found" is
the part of the clips in which it finds them; the others have no r. "Best lag", in frames of 80 ms, of −4 to 4: above
0 the lips are late. "Shuffled" pairs each clip's lips with the phones of all others.

**p, b, m**: the mean gap in the frames where lips should be closed, over the mean of the clips' median gaps in the
middle of their vowels: 0 is shut, 1 as open as for a vowel. **Elsewhere**: the same gap in the frames where the lips
of the other clips should be closed.

{phones}

## Every direction

What of a clip is given is a recording (A2V), its frames (V2A), both up to {kept:g} s (continuation), or all of both
but a span (retake); [how to call it](directions.md). Only what is made is measured: a cell is empty where it was
given, and lips, faces and seams are those of the frames that are made, beside those of the recordings in that span.
An image is the first frame of a recording.

- **WER**: all errors, over as many words as are said in the span that is made.
- **Own image nearest**: for which part of the clips the mean of the frames that are made is nearer to the image of
  this person than to that of any other held-out person.
- **Seam**: the mean jump from the last frame before a border to the first one behind it, and the mean jump from frame
  to frame elsewhere. Image: the mean absolute difference, of 255. Loudness: by how many dB the levels of {span_ms} ms
  before and after differ, where one of them at least is not a pause.

{directions}

## Voices that no training clip has

A2V with the first frame of a recording and no text at all, of audio that voices say that are not in the training. The
same direction with the voices that are is a row of the two tables above.

{new_voices}

## Images

{identity}

How often wall, hair and shirt have the colour that the caption names (of 8, 5 and 8 colours, so chance is about 13,
20 and 13 %; walls are counted where the caption names one):

{colours}

![Generated clips](images/mini_contact_sheet.jpg)

Clips with full captions: {on_sheet}.

## Loudness

The root mean square of whole clips, in dB of full scale, with pauses; its standard deviation over clips; their peaks,
of 1.

{loudness}

## Steps against quality

{num_clips_per_steps} clips with full captions, in batches of 20, on `{device}`.

{steps}

![Quality over denoising steps](images/mini_steps.png)
"""
