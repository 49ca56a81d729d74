# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Rows of clips -> the same rows with a transcript, a video caption and an audio caption.

One level after another, so that one model is in memory at a time. What a person wrote stays; what models say is noted
batch by batch in annotations.jsonl, from which a run that was stopped goes on.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ...data.clips import Source, probe_of_piece
from ...data.probe import Probe, is_still_picture, probe
from ...engines import Engine, open_engine
from ...files import check_output, lock_folder
from ...headers import read_json_lines
from ...progress import progress
from ...remote import RemotePath, local_file, writes_to_any_place
from ...text import printable
from ...workers import Failure
from ..journal import Journal, key_of
from ..rows import METADATA, read_clips, row_of, write_rows
from ..summary import StepSummary
from .audio_captioner import AudioFlamingo3Captioner, check_audio_captioner
from .captions import caption
from .items import Annotation, FrameReader, Item, SpeechReader, WaveformReader, split_into_parts
from .models import Place, empty_cache, find_checkpoint
from .settings import LEVELS, AnnotationConfig, read_prompts
from .transcriber import Transcriber, check_transcriber
from .video_captioner import check_video_captioner, load_video_captioner


logger = logging.getLogger(__name__)

JOURNAL = "annotations.jsonl"
# What each level writes into a row.
FIELDS = {
    "transcript": ("transcript", "segments", "language", "no_speech"),
    "video_caption": ("video_caption",),
    "audio_caption": ("audio_caption",),
}


class Annotator(NamedTuple):
    """A model of a level.

    Attributes:
        read: returns what the model is shown of an item, in a child process.
        ask: returns what it says of each of these.
    """

    read: Callable[[Item], Any]
    ask: Callable[[Sequence[Any]], list[Annotation | Failure]]


@dataclass(frozen=True)
class Clip:
    """A clip that can be read.

    Attributes:
        found: what it holds.
        content: another one when the file or the piece of it changes.
        earlier: its row in the folder of an earlier run, where people may have written since; {} where there is none.
    """

    source: Source
    found: Probe
    content: str
    earlier: Mapping[str, Any] = field(default_factory=dict)

    def has(self, level: str) -> bool:
        """Whether the clip has what a level describes."""
        return self.found.has_video if level == "video_caption" else self.found.has_audio

    def is_given(self, level: str) -> bool:
        """Whether the data say it, or an annotation of before did."""
        if level == "transcript" and (self.source.segments or self.source.row.get("no_speech")):
            return True
        return bool(self.source.texts.get(level))

    def items(self, level: str) -> list[Item]:
        """Return what is asked about, for a level: of a long transcript, part by part."""
        items = [Item(self.source, Fraction(0), self.found.duration_s)]
        if level == "transcript":
            items = split_into_parts(self.source, self.found.duration_s)
        return [replace(i, key=f"{level} {i.part + 1}/{i.num_parts} {self.content}") for i in items]


@dataclass
class Level:
    """What became of the clips on one level; each counts once.

    Attributes:
        given: the data say it.
        edited: a person has changed what a model wrote.
        kept: a model wrote it before; `other_model` of these were asked another model, or asked otherwise.
        nothing: the clip has no such stream.
        reasons: why a model could say nothing that can be used, by the clip's name.
    """

    given: int = 0
    edited: int = 0
    kept: int = 0
    other_model: int = 0
    nothing: int = 0
    made: int = 0
    without_speech: int = 0
    reasons: dict[str, str] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        """Return the numbers that are not 0, by what they count, in words."""
        found = {
            "annotated now": self.made,
            "annotated before": self.kept,
            "of these with another model or question (--redo does them anew)": self.other_model,
            "without speech": self.without_speech,
            "given": self.given,
            "changed by hand": self.edited,
            "without such a stream": self.nothing,
            "left out": len(self.reasons),
        }
        return {what: number for what, number in found.items() if number}

    def __str__(self) -> str:
        return ", ".join(f"{number} {what}" for what, number in self.counts().items())


@dataclass
class AnnotationSummary(StepSummary):
    """What became of the clips. `str(summary)` is what people read.

    Attributes:
        levels: by name, those that were asked for.
    """

    levels: dict[str, Level] = field(default_factory=dict)

    @property
    def has_result(self) -> bool:
        """Whether there is anything in the rows, or nothing was to be done."""
        levels = self.levels.values()
        return bool(self.num_kept) and (any(x.made for x in levels) or not any(x.reasons for x in levels))

    def __str__(self) -> str:
        head, *rest = super().__str__().split("\n")
        return "\n".join([head, *(f"  {name}: {level}" for name, level in self.levels.items()), *rest])


@dataclass(frozen=True)
class Run:
    """What the levels of one run share.

    Attributes:
        edited: (clip, level) of what a person has changed since a model wrote it.
    """

    config: AnnotationConfig
    prompts: Mapping[str, str]
    journal: Journal
    summary: AnnotationSummary
    clips: Sequence[Clip]
    edited: Set[tuple[str, str]]

    def annotation(self, clip: Clip, level: str) -> dict[str, Any] | None:
        """Return what a model said of a clip, as keys of its row; None if it has not said all of it."""
        results = [self.journal.results.get(item.key) or {} for item in clip.items(level)]
        return joined([r["fields"] for r in results]) if all("fields" in r for r in results) else None

    def left_out(self, clip: Clip, level: str) -> str:
        """Return why the model of this run has said nothing that can be used, or ""."""
        results = [self.journal.results.get(item.key) or {} for item in clip.items(level)]
        return next((r["left_out"] for r in results if r.get("left_out") and self.is_current(r, level)), "")

    def asked(self, level: str) -> dict[str, Any]:
        """Return what decides about an answer, beside the clip."""
        names = {
            "transcript": ("language", "max_segment_s"),
            "video_caption": ("num_frames", "max_pixels", "max_new_tokens"),
            "audio_caption": ("max_new_tokens",),
        }[level]
        settings = {name: getattr(self.config, name) for name in names}
        return {"model": self.config.model(level), "prompt": self.prompts[level], **settings}

    def is_current(self, result: Mapping[str, Any], level: str) -> bool:
        """Whether an answer is by this run's model, asked the same."""
        return all(result.get(name) == value for name, value in self.asked(level).items())

    def is_open(self, item: Item, level: str) -> bool:
        """Whether an item is to be asked about: it was not, or it is to be done anew and was asked otherwise."""
        result = self.journal.results.get(item.key)
        return result is None or (level in self.config.redo and not self.is_current(result, level))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield the row of each clip, with what is known by now."""
        for clip in self.clips:
            values: dict[str, Any] = {}
            for level in LEVELS:
                if (clip.source.name, level) in self.edited:
                    values |= {name: clip.earlier.get(name) for name in FIELDS[level]}
                elif not clip.is_given(level):
                    values |= self.annotation(clip, level) or {}
            yield row_of(clip.source, self.config.output_dir, **values)

    def write_rows(self) -> None:
        write_rows(Path(self.config.output_dir) / METADATA, self.rows())


def joined(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the keys of a row that the parts of a clip make together."""
    if len(parts) == 1:
        return dict(parts[0])
    spoken = [part for part in parts if part["transcript"]]
    if not spoken:
        return {"transcript": "", "no_speech": True}
    segments = [segment for part in spoken for segment in part["segments"]]
    languages = [part["language"] for part in spoken if "language" in part]
    most = {"language": max(languages, key=languages.count)} if languages else {}
    return {"transcript": " ".join(part["transcript"] for part in spoken), "segments": segments, **most}


@writes_to_any_place
def annotate(config: AnnotationConfig) -> AnnotationSummary:
    """Return what became of the clips in `config.data`; their rows, with texts, are in `config.output_dir`.

    Raises:
        FileNotFoundError, ValueError: for data, checkpoints, prompts or settings that cannot be used.
        MemoryError: if a model's weights are larger than the memory that is free.
        OSError: if the output cannot be written, or another run is at work there.
    """
    prompts = read_prompts(config.prompts)
    check_output(config.output_dir, {"the data": config.data})
    summary = AnnotationSummary("annotate", "clips")
    sources = summary.usable(read_clips(config.data))
    output_dir = Path(config.output_dir)
    with lock_folder(output_dir), open_engine(config, config.num_workers, summary.warn) as engine:
        clips = look_at(sources, config, engine, summary)
        with Journal(output_dir / JOURNAL) as journal:
            run = Run(config, prompts, journal, summary, clips, find_edited(clips, journal))
            todo = {level: find_todo(run, level) for level in LEVELS if level in config.levels}
            folders = find_checkpoints(run, [level for level, items in todo.items() if items])
            try:
                for level, folder in folders.items():
                    annotate_level(run, engine, level, folder, todo[level])
            finally:  # also what an interrupted run has
                run.write_rows()
        count(run, todo)
        summary.write(output_dir, levels={name: level.counts() for name, level in summary.levels.items()})
    return summary


def dry_run(config: AnnotationConfig) -> str:
    """Return, as a text, what `annotate` would do on each level. Nothing is written."""
    prompts = read_prompts(config.prompts)
    check_output(config.output_dir, {"the data": config.data})
    summary = AnnotationSummary("annotate", "clips")
    with open_engine(config, config.num_workers, summary.warn) as engine:
        clips = look_at(summary.usable(read_clips(config.data)), config, engine, summary)
    journal = Journal(Path(config.output_dir) / JOURNAL)
    run = Run(config, prompts, journal, summary, clips, find_edited(clips, journal))
    lines = [f"plan: {len(clips)} clips of {summary.num_given}, {summary.kept_s:.2f} s"]
    for level in LEVELS:
        if level in config.levels:
            items = find_todo(run, level)
            length_s = float(sum(item.end_s - item.start_s for item in items))
            number = len({item.source.name for item in items})
            model = f" with {config.model(level)}" if items else ""
            lines.append(f"  {level}: {number} clips, {length_s:.2f} s, to annotate{model}")
            lines[-1] += f"; {summary.levels[level]}" if summary.levels[level].counts() else ""
    lines += [f"  skipped: {name}: {reason}" for name, reason in summary.skipped]
    return "\n".join(lines)


# --- which clips ---


def look_at(
    sources: Sequence[Source], config: AnnotationConfig, engine: Engine, summary: AnnotationSummary
) -> list[Clip]:
    """Return the clips that can be read; the others are in the summary."""
    earlier = earlier_rows(Path(config.output_dir) / METADATA)
    by_file: dict[Path | RemotePath, list[Source]] = {}  # a film is read once, however many clips are pieces of it
    for source in sources:
        by_file.setdefault(source.path, []).append(source)
    clips = []
    for path, found in progress(engine.map(probe_clip, by_file), "look", len(by_file)):
        for source in by_file[path]:
            try:
                if isinstance(found, Failure):
                    raise ValueError(found)
                piece = probe_of_piece(source, found)
                source = source.with_caption(piece.has_video)
                content = key_of(path, source.start_s, source.end_s, source.crop)
                row = earlier.get(row_key(row_of(source, config.output_dir)), {})
                clips.append(Clip(source, piece, content, row))
            except ValueError as error:
                summary.skip(source.name, " ".join(str(error).split()))
    summary.num_kept, summary.kept_s = len(clips), float(sum(clip.found.duration_s for clip in clips))
    return clips


def probe_clip(path: Path | RemotePath) -> Probe:
    """Return what a file holds.

    Raises:
        ValueError: if it is not a clip or cannot be read.
    """
    with local_file(path) as file:
        if is_still_picture(file):
            raise ValueError("it is an image, not a video")
        return probe(file)


def earlier_rows(path: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of an earlier run by what they are rows of."""
    return {row_key(row): row for _, row in read_json_lines(path)} if path.is_file() else {}


def row_key(row: Mapping[str, Any]) -> str:
    return json.dumps([row.get(name) for name in ("file_name", "start", "end", "crop")])


def find_edited(clips: Sequence[Clip], journal: Journal) -> set[tuple[str, str]]:
    """Return (clip, level) of texts in the earlier rows that no model wrote."""
    said: dict[tuple[str, str], list[dict[str, Any]]] = {}
    parts: dict[tuple[str, str, str], dict[int, Mapping[str, Any]]] = {}
    for key, result in journal.results.items():
        level, part, content = key.split(" ")
        parts.setdefault((result["clip"], level, content), {})[int(part.partition("/")[0])] = result
    for (name, level, _), results in parts.items():
        for version in ("fields", "before"):  # a run that was killed has left rows with what was said before
            of_parts = [result.get(version) or result.get("fields") for _, result in sorted(results.items())]
            if all(of_parts):
                said.setdefault((name, level), []).append(joined(of_parts))
    return {
        (clip.source.name, level)
        for clip in clips
        for level in LEVELS
        if level in clip.earlier
        and not clip.is_given(level)
        and all(
            any(clip.earlier.get(name) != fields.get(name) for name in FIELDS[level])
            for fields in said.get((clip.source.name, level), [{}])
        )
    }


def find_todo(run: Run, level: str) -> list[Item]:
    """Return what is left to ask on a level, and count the rest."""
    counts = run.summary.levels[level] = Level()
    items = []
    for clip in run.clips:
        of_clip = clip.items(level)
        if not clip.has(level):
            counts.nothing += 1
        elif clip.is_given(level):
            counts.given += 1
        elif (clip.source.name, level) in run.edited:
            counts.edited += 1
        elif still_open := [item for item in of_clip if run.is_open(item, level)]:
            items += still_open
        elif (said := run.annotation(clip, level)) is not None:
            counts.kept += 1
            counts.without_speech += bool(said.get("no_speech"))
            results = [run.journal.results[item.key] for item in of_clip]
            counts.other_model += not all(run.is_current(result, level) for result in results)
        elif reason := run.left_out(clip, level):
            counts.reasons[clip.source.name] = reason
        else:  # by another model or question: perhaps this one can
            items += of_clip
    return items


# --- asking ---


def find_checkpoints(run: Run, levels: Iterable[str]) -> dict[str, Path]:
    """Return the folders of the models that are needed, all of them before the first is loaded."""
    folders = {level: find_checkpoint(run.config.model(level)) for level in levels}
    for level, folder in folders.items():
        if level == "transcript":
            check_transcriber(folder, run.config.language)
        elif level == "video_caption":
            check_video_captioner(folder)
        else:
            check_audio_captioner(folder)
    return folders


def load_annotator(config: AnnotationConfig, level: str, folder: Path, prompt: str) -> Annotator:
    """Return the model of a level, and how it is shown clips."""
    place = Place.of(config)
    if level == "transcript":
        whisper = Transcriber.from_folder(folder, config.language, prompt, config.max_segment_s, place)
        return Annotator(SpeechReader(), partial(whisper.transcribe, batch_size=config.batch_size))
    if level == "video_caption":
        captioner = load_video_captioner(folder, prompt, config.max_new_tokens, config.max_pixels, place)
        return Annotator(FrameReader(config.num_frames, config.max_pixels), partial(caption, captioner, level))
    listener = AudioFlamingo3Captioner.from_folder(folder, prompt, config.max_new_tokens, place)
    return Annotator(WaveformReader(listener.longest_s), partial(caption, listener, level))


@dataclass(frozen=True)
class Asking:
    """What the model of a level does with clips, for an engine."""

    config: AnnotationConfig
    level: str
    folder: Path
    prompt: str

    @contextmanager
    def load(self) -> Iterator[Annotator]:
        yield load_annotator(self.config, self.level, self.folder, self.prompt)

    def reader(self, annotator: Annotator) -> Callable[[Item], Any]:
        return annotator.read

    def __call__(self, annotator: Annotator, batch: Sequence[tuple[Item, Any]]) -> list[Annotation | Failure]:
        return annotator.ask([content for _, content in batch])


def annotate_level(run: Run, engine: Engine, level: str, folder: Path, items: Sequence[Item]) -> None:
    """Ask the model of a level about `items`, and note what it says batch by batch."""
    asking = Asking(run.config, level, folder, run.prompts[level])
    answers = engine.ask(asking, items, run.config.batch_size)
    for item, problem, answer in progress(answers, level, len(items)):
        note(run, level, item, problem or answer, is_of_model=problem is None)
    del answers  # and the model with it
    empty_cache()


def note(run: Run, level: str, item: Item, answer: Annotation | Failure, is_of_model: bool) -> None:
    """Put an answer into the journal, or why there is none; a file that cannot be read now may be mended."""
    result: dict[str, Any] = {"clip": item.source.name, **run.asked(level)}
    before = run.journal.results.get(item.key, {}).get("fields")
    if isinstance(answer, Failure):
        logger.warning("%s: %s: left out: %s", printable(item.source.name), level, printable(answer))
        run.summary.levels[level].reasons.setdefault(item.source.name, str(answer))
        if not (answer.is_lasting and is_of_model):
            return
        result |= {"left_out": str(answer)} | ({"fields": before} if before else {})  # what was there stays
    else:
        result |= {"fields": dict(answer.fields)} | ({"before": before} if before else {})
    run.journal.add(item.key, result)


def count(run: Run, todo: Mapping[str, Sequence[Item]]) -> None:
    """Count what was annotated now, and what was left out."""
    lengths = {clip.source.name: float(clip.found.duration_s) for clip in run.clips}
    for level, items in todo.items():
        counts = run.summary.levels[level]
        asked_about = {item.source.name for item in items}
        for clip in run.clips:
            said = run.annotation(clip, level)
            if said is not None and clip.source.name in asked_about and clip.source.name not in counts.reasons:
                counts.made += 1
                counts.without_speech += bool(said.get("no_speech"))
        for name, reason in counts.reasons.items():
            run.summary.leave_out(name, lengths[name], f"{level}: {reason}")
