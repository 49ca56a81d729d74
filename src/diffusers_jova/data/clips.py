# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What there is to train on: the clips in a folder or a dataset, and what is said about each.

| where | what |
|---|---|
| `clip.txt` beside `clip.mp4` | the video caption (of audio alone: the audio caption), or three labelled lines |
| `clip.json` beside `clip.mp4` | any of the fields below |
| `metadata.jsonl`, `metadata.csv` | a row per clip: `file_name`, relative to the metadata, and any of the fields |
| a dataset of `datasets` | on disk, as parquet or on the Hub: a `video` or `audio` column and any of the fields |

Fields: `video_caption`, `audio_caption`, `transcript`, and `segments`: `[{"start": s, "end": s, "text": words}]`.
What a row of metadata leaves out, the files beside the clip may say.

A row may also be a piece of a file, with `start` and `end` in seconds and `crop`, four pixels; several rows may be of
one file then, and it may lie elsewhere. Such a row says all there is to say about its piece.
"""

import csv
import hashlib
import io
import json
import math
import os
import posixpath
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..files import is_remote
from ..headers import read_json_lines
from ..pipelines.prompts import LABELS, is_labelled
from ..remote import RemotePath, local_file, members_of, place_of
from ..text import split_lines
from .cache import TEXTS
from .names import FileNames, encodable, walk
from .probe import Probe, is_still_picture, probe, probe_kinds


METADATA_NAMES = ("metadata.jsonl", "metadata.csv")
DATASET_SUFFIXES = (".parquet", ".arrow")
TAR_SUFFIXES = (".tar",)  # shards of WebDataset: a clip and what is said of it have one name up to the first dot
MEDIA_COLUMNS = ("video", "audio", "file_name", "file", "path")
SPLITS_IN_ONE = "train"
MAX_BEYOND_END_S = Fraction(1, 10)  # by which a row may be wrong about the end of its file: the last frame or two

# Every other file is taken for a clip: PyAV reads more containers than anyone lists.
NO_CLIPS = {
    *(".txt", ".json", ".jsonl", ".csv", ".tsv", ".md", ".yaml", ".yml", ".toml", ".ini", ".log"),
    *(".py", ".sh", ".lock", ".srt", ".vtt", ".ass", ".pdf", ".html", ".xml", ".zip", ".tar", ".gz"),
    *(".safetensors", ".pt", ".npy", ".npz"),
    *(".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".svg"),
    *DATASET_SUFFIXES,
}


class Segment(NamedTuple):
    """Words and when they are spoken, in seconds."""

    start: float
    end: float
    text: str


@dataclass(frozen=True)
class Source:
    """A file, or an entry of a dataset, and what is said about it.

    Attributes:
        name: path relative to the data folder, or a URL; of a piece of a file with its times, and its crop if it has
            one, "talk.mp4#t=12.48,17.36&xywh=0,60,1280,600".
        texts: by the names of `cache.TEXTS`; what is not said is not there.
        segments: sorted by time.
        path: of the file, on this machine or elsewhere; None for an entry of a dataset, of which `content` returns
            the bytes.
        caption: a text beside the clip of which it is not known yet whether it is of the video or of the audio.
        problem: why the clip cannot be used, or "".
        is_away: whether that may pass: the file is not there, but its folder is not either, or is empty, as where a
            drive is not mounted.
        start_s, end_s: of the piece of the file that is the clip, in seconds after its first frame; None: all of it.
        crop: x1, y1, x2, y2 of the part of each frame that is the clip's, in pixels as it is shown; None: all of it.
        row: what its row of metadata says, as it stands there.
    """

    name: str
    texts: Mapping[str, str] = field(default_factory=dict)
    segments: tuple[Segment, ...] = ()
    path: Path | RemotePath | None = None
    content: Callable[[], bytes] | None = None
    problem: str = ""
    is_away: bool = False
    caption: str = ""
    start_s: Fraction | None = None
    end_s: Fraction | None = None
    crop: tuple[int, int, int, int] | None = None
    row: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_there(self) -> bool:
        """Whether there is a clip at all, also one that cannot be used, or may be."""
        return self.path is not None or self.content is not None or self.is_away

    def with_caption(self, has_video: bool) -> "Source":
        """Return the source with its `caption` among the texts, as what it is of a clip with or without video."""
        name = "video_caption" if has_video else "audio_caption"
        texts = {name: self.caption, **self.texts} if self.caption else self.texts
        return replace(self, texts=texts, caption="")

    @contextmanager
    def file(self) -> Iterator[Path]:
        """Give a path of this machine at which the clip can be read: a remote one is copied."""
        if self.content is None:
            with local_file(self.path) as path:
                yield path
            return
        with tempfile.TemporaryDirectory(prefix="diffusers-jova-") as folder:
            # not its own name, which may be too long for a file
            path = Path(folder) / f"clip{Path(self.name).suffix[:16]}"
            path.write_bytes(self.content())
            yield path


# --- finding clips ---


def find_sources(data: str | Path, probe_captions: bool = True) -> list[Source]:
    """Return the clips in `data`, sorted by name.

    A clip that metadata does not name is in the list too, and so is one that it names and that is not there, and a
    folder that cannot be listed, with a slash behind its name.

    Args:
        data: a folder, a single clip, or a dataset: saved to disk, as parquet, or its name on the Hub. Folders and
            clips may be URLs of fsspec. Tars (WebDataset) are folders, too.
        probe_captions: whether to open clips, in this process, where what kind they are decides what a text beside
            them is. Without, such texts stay in `Source.caption`, and no clip is opened.

    Raises:
        FileNotFoundError: if there is nothing at `data`.
        ValueError: if there is no clip in it, or metadata cannot be read; the message names file and line.
    """
    path = place_of(data)
    if path.suffix.lower() in TAR_SUFFIXES and path.is_file():
        sources = _sources_of(path.parent, {path.name: path}, {})
    elif isinstance(path, RemotePath):
        sources = _remote_sources(path)
    elif path.is_file() and path.suffix.lower() not in DATASET_SUFFIXES:
        names = FileNames({other.name: other for other in path.parent.iterdir()})
        sources = _tell_apart([_with_sidecars(path, path.name, {}, names)])
    elif any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        sources = _dataset_sources(data, saved_to_disk=True)
    elif path.is_dir():
        sources = _folder_sources(path)
        if not sources and any(next(path.rglob(f"*{suffix}"), None) for suffix in DATASET_SUFFIXES):
            sources = _dataset_sources(data)
    elif path.suffix.lower() in DATASET_SUFFIXES or re.fullmatch(r"[\w.-]+/[\w.-]+", str(data)):
        sources = _dataset_sources(data)
    else:
        raise FileNotFoundError(f"There is no folder, clip or dataset `{data}`.")
    if not sources:
        raise ValueError(f"There is no clip in `{data}`: put video or audio files there, or name another folder.")
    if probe_captions:
        sources = [_with_known_caption(source) if source.caption else source for source in sources]
    return sorted(sources, key=lambda source: source.name)


def _with_known_caption(source: Source) -> Source:
    with source.file() as path:
        return source.with_caption(probe_kinds(path)[0])


def _remote_sources(path: RemotePath) -> list[Source]:
    """Return the clips of a folder that fsspec reaches, or the one clip that is there."""
    if path.is_file():
        return _tell_apart([_with_sidecars(path, path.name, {}, FileNames(path.parent.files()))])
    return _sources_of(path, dict(path.files()), {})


def _folder_sources(folder: Path) -> list[Source]:
    files: dict[str, Path | RemotePath] = {}
    problems: dict[str, str] = {}
    for path, problem in walk(folder):
        name = path.relative_to(folder).as_posix()
        if not problem:
            files[name] = path
        elif path.is_dir():
            problems[f"{name}/"] = problem
        elif path.suffix.lower() not in NO_CLIPS:
            problems[name] = problem
    return _sources_of(folder, files, problems)


def _sources_of(
    folder: Path | RemotePath, files: dict[str, Path | RemotePath], problems: dict[str, str]
) -> list[Source]:
    """Return the clips among `files`, by their path relative to `folder`, and what metadata there name elsewhere."""
    for tar in [name for name, path in files.items() if path.suffix.lower() in TAR_SUFFIXES]:
        try:
            files |= {f"{tar}/{name}": path for name, path in members_of(files[tar]).items()}
        except ValueError as error:
            problems[tar] = str(error)
    names = FileNames(files)
    rows: dict[str, dict[str, Any]] = {}
    pieces: dict[str, Source] = {}
    in_pieces: set[str] = set()
    known: dict[str, Source] = {}
    for listed in [name for name in files if posixpath.basename(name).lower() in METADATA_NAMES]:
        for where, row in _read_metadata(files[listed]):
            given = _file_name(row, where)
            if not is_remote(given):
                given = posixpath.normpath(posixpath.join(posixpath.dirname(listed), given))
            if given not in known:  # a film has thousands of rows
                try:
                    name = names.find(given) or given
                except ValueError as error:
                    problems[given] = str(error)
                    continue
                known[given] = _look_for(files.get(name) or _joined(folder, name), name)
            name = known[given].name
            is_piece = any(_is_given(row.get(key)) for key in ("start", "end"))
            if is_piece or (name not in files and known[given].path is not None):
                source = _piece(known[given], row)
                if source.name in pieces:
                    raise ValueError(f"{where} names `{source.name}` a second time: give one row per clip.")
                pieces[source.name] = source
                in_pieces.add(name)
            elif name in rows:
                raise ValueError(
                    f"{where} names `{name}` a second time: give one row per clip, with `segments`, or with `start` "
                    "and `end`."
                )
            else:
                rows[name] = row
    clips = {n: path for n, path in files.items() if path.suffix.lower() not in NO_CLIPS and n not in in_pieces}
    missing = sorted(set(rows) - set(clips) - set(problems))
    sources = [_with_sidecars(path, name, rows.get(name, {}), names) for name, path in clips.items()]
    sources += [Source(name, problem=problem) for name, problem in problems.items()]
    by_name = {source.name: source for source in known.values()}
    sources += [replace(by_name[name], row=rows[name]) for name in missing]
    return _tell_apart([*sources, *pieces.values()])


def _joined(folder: Path | RemotePath, name: str) -> Path | RemotePath:
    return RemotePath(name) if is_remote(name) else folder / name


def _look_for(path: Path | RemotePath, name: str) -> Source:
    """Return the file that metadata name, or why there is none."""
    if path.is_file():
        return Source(name, path=path)
    problem, is_away = "the metadata name it, but there is no such file", False
    if isinstance(path, Path):
        try:
            is_away = not any(os.scandir(path.parent))
        except OSError:
            is_away = True
    if is_away:
        problem += f": `{path.parent}` is not there or empty. Is its drive or network share mounted?"
    return Source(name, problem=problem, is_away=is_away)


def _is_given(value: Any) -> bool:
    """Whether a row says something: a cell of a table that is left empty does not."""
    return value is not None and value != ""


def _piece(file: Source, row: Mapping[str, Any]) -> Source:
    """Return the clip that is a piece of a file, or the whole of one that lies elsewhere."""
    name = file.name
    try:
        start_s, end_s = _parse_times(row)
    except ValueError as error:
        return Source(f"{name}#t={row.get('start')},{row.get('end')}", problem=str(error), row=row)
    if start_s is not None:
        name = piece_name(name, start_s, end_s)
    if file.problem:
        return replace(file, name=name, row=row)
    try:
        crop = _parse_crop(row)
        if crop is not None and start_s is not None:
            name += "&xywh={},{},{},{}".format(*crop[:2], crop[2] - crop[0], crop[3] - crop[1])
        texts, segments = _parse_fields(row)
    except ValueError as error:
        return Source(name, path=file.path, problem=str(error), row=row)
    return Source(name, texts, segments, file.path, start_s=start_s, end_s=end_s, crop=crop, row=row)


def piece_name(name: str, start_s: Fraction, end_s: Fraction) -> str:
    """Return "talk.mp4#t=12.48,17.36", as W3C's Media Fragments name a piece of a file."""
    return f"{name}#t={round(float(start_s), 6):.10g},{round(float(end_s), 6):.10g}"


def _parse_times(row: Mapping[str, Any]) -> tuple[Fraction | None, Fraction | None]:
    given = [row.get(key) if _is_given(row.get(key)) else None for key in ("start", "end")]
    if given == [None, None]:
        return None, None
    try:
        start_s, end_s = (float(value) for value in given)
    except (TypeError, ValueError):
        start_s = end_s = math.nan
    if not 0 <= start_s < end_s < math.inf:
        raise ValueError(f"`start` and `end` must be seconds, the end later, got {given[0]!r} and {given[1]!r}")
    return Fraction(start_s).limit_denominator(10**6), Fraction(end_s).limit_denominator(10**6)


def _parse_crop(row: Mapping[str, Any]) -> tuple[int, int, int, int] | None:
    value = row.get("crop")
    if not _is_given(value):
        return None
    try:
        x1, y1, x2, y2 = json.loads(value) if isinstance(value, str) else value  # a text in a csv file
        crop = (int(x1), int(y1), int(x2), int(y2))
        if crop != (x1, y1, x2, y2) or not (0 <= crop[0] < crop[2] and 0 <= crop[1] < crop[3]):
            raise ValueError
    except (TypeError, ValueError):
        raise ValueError(f"`crop` must be four whole pixels, [x1, y1, x2, y2], got {value!r}") from None
    return crop


def _tell_apart(sources: list[Source]) -> list[Source]:
    """Return `sources` with names that UTF-8 can hold; of two that have the same one then, the second is a problem."""
    sources, taken = [_encodable(source) for source in sources], set[str]()
    for index, source in enumerate(sources):
        if source.name in taken:
            sources[index] = replace(source, name=f"{source.name} (2)", problem="another clip has its name: rename it")
        taken.add(source.name)
    return sources


def _encodable(source: Source) -> Source:
    name = encodable(source.name)
    return source if name == source.name else replace(source, name=name)


def _read_metadata(path: Path | RemotePath) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ("`metadata.jsonl`, line 3,", row)."""
    with local_file(path) as file:
        yield from _read_csv(file) if path.suffix.lower() == ".csv" else read_json_lines(file)


def _read_csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the rows of a table with commas; a cell in quotes may hold line feeds (RFC 4180)."""
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        columns = [(name or "").strip() for name in reader.fieldnames or ()]
        twice = sorted({name for name in columns if name and columns.count(name) > 1})
        if twice:
            raise ValueError(f"`{path}`, line 1, has the column `{twice[0]}` twice: keep one of them.")
        reader.fieldnames = columns
        for row in reader:
            where = f"`{path}`, line {reader.line_num},"
            if any(cell.strip() for cell in row.pop(None, ())):
                raise ValueError(
                    f'{where} has more cells than the {len(columns)} columns: put texts that hold a comma in "quotes".'
                )
            yield where, {name: _fold_lines(cell) if name in TEXTS else cell for name, cell in row.items()}
    except csv.Error as error:
        raise ValueError(f"`{path}`: the row at line {reader.line_num + 1} is not CSV: {error}.") from None


def _fold_lines(text: str | None) -> str | None:
    """Return a cell's text on one line: a table cannot say whether its line feeds are more than a narrow column."""
    return text and re.sub(r"\s*[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]\s*", " ", text)


def _file_name(row: Mapping[str, Any], where: str) -> str:
    name = row.get("file_name")
    if not isinstance(name, str) or not name:
        raise ValueError(f"{where} has no `file_name`, the clip's path relative to this file; got {sorted(row)}.")
    return name


def _with_sidecars(path: Path | RemotePath, name: str, row: Mapping[str, Any], names: FileNames) -> Source:
    """Return the clip at `path` with what its row of metadata and the files beside it, among `names`, say."""
    stem, caption = posixpath.splitext(name)[0], ""
    if isinstance(path, RemotePath) and path.is_member:  # WebDataset's names
        stem = posixpath.join(posixpath.dirname(name), posixpath.basename(name).partition(".")[0])
    try:
        texts, segments = _parse_fields(row)
        crop = _parse_crop(row)
        if (described := names.find_path(f"{stem}.json")) is not None:
            try:
                content = json.loads(_read_text(described))
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"`{described}` is not JSON: {error}") from None
            if not isinstance(content, dict):
                raise ValueError(f"`{described}` must be an object with {', '.join(TEXTS)}")
            more_texts, more_segments = _parse_fields(content)
            texts, segments, row = more_texts | texts, segments or more_segments, content | dict(row)
        if (described := names.find_path(f"{stem}.txt")) is not None:
            caption = _read_text(described).strip()
            if is_labelled(caption):
                texts, caption = parse_labelled(caption) | texts, ""
    except ValueError as error:
        return Source(name, path=path, problem=str(error), row=row)
    return Source(name, texts, segments, path, caption=caption, crop=crop, row=row)


def _read_text(path: Path | RemotePath) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"`{path}` is not UTF-8 (at byte {error.start}): save it as UTF-8") from None
    except OSError as error:
        raise ValueError(f"`{path}` cannot be read: {error.strerror}") from None


def parse_labelled(prompt: str) -> dict[str, str]:
    """Return the texts of a prompt in three labelled lines, by the names of `cache.TEXTS`, without empty ones."""
    texts: dict[str, str] = {}
    name = None
    for line in split_lines(prompt):
        label = next((label for label in LABELS if line.lstrip().startswith(label)), None)
        if label is not None:
            name, line = TEXTS[LABELS.index(label)], line.lstrip().removeprefix(label)
        if name is not None:
            texts[name] = f"{texts.get(name, '')} {line.strip()}".strip()
    return {name: text for name, text in texts.items() if text}


def _parse_fields(row: Mapping[str, Any]) -> tuple[dict[str, str], tuple[Segment, ...]]:
    """Return the texts and the segments in a row of metadata."""
    texts = {}
    for name in TEXTS:
        value = row.get(name)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"`{name}` must be a text, got {value!r}")
        if value and value.strip():
            texts[name] = _whole_text(value.strip(), name)
    if is_labelled(texts.get("video_caption")):
        texts = parse_labelled(texts.pop("video_caption")) | texts
    return texts, _parse_segments(row.get("segments"))


def _whole_text(text: str, name: str) -> str:
    """Return `text`, if UTF-8 can hold it: JSON can write half a character, such as "\\ud83d"."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"`{name}` holds half a character, {text[error.start]!a}") from None
    return text


def _parse_segments(value: Any) -> tuple[Segment, ...]:
    if isinstance(value, str):  # a column of a csv file
        try:
            value = json.loads(value) if value.strip() else None
        except json.JSONDecodeError as error:
            raise ValueError(f"`segments` is not JSON: {error}") from None
    if isinstance(value, Mapping):  # `datasets` before version 4 turned lists of objects into objects of lists
        value = [dict(zip(value, items, strict=True)) for items in zip(*value.values(), strict=True)]
    segments = []
    for item in value if value is not None else ():
        try:
            words = _whole_text(" ".join(str(item["text"] or "").split()), "text")
            segment = Segment(float(item["start"]), float(item["end"]), words)
        except (TypeError, KeyError, ValueError):
            raise ValueError(f'a segment must be {{"start": s, "end": s, "text": words}}, got {item!r}') from None
        if not 0 <= segment.start < segment.end < math.inf:
            raise ValueError(f"a segment must start at 0 s or later and before it ends, got {item!r}")
        segments.append(segment)
    return tuple(sorted(segments))


# --- datasets ---


def _dataset_sources(data: str | Path, saved_to_disk: bool = False) -> list[Source]:
    """Return the clips of a dataset. Its files are not decoded here, which would need torchcodec."""
    import datasets

    if saved_to_disk:
        dataset = datasets.load_from_disk(str(data))
    elif Path(data).is_file():
        loader = Path(data).suffix[1:].lower()
        dataset = datasets.load_dataset(loader, data_files=str(data))
    else:
        try:
            dataset = datasets.load_dataset(str(data))
        except (OSError, datasets.exceptions.DatasetNotFoundError) as error:
            raise FileNotFoundError(f"There is no folder or dataset `{data}`, nor one on the Hub: {error}") from error
    splits = dataset if isinstance(dataset, datasets.DatasetDict) else {SPLITS_IN_ONE: dataset}
    sources = []
    for split, dataset in splits.items():
        column = next((name for name in MEDIA_COLUMNS if name in dataset.column_names), None)
        if column is None:
            raise ValueError(
                f"The dataset `{data}` has no column of clips: it has {dataset.column_names}, but clips are in one of "
                f"{MEDIA_COLUMNS}."
            )
        if type(dataset.features[column]).__name__ in ("Video", "Audio"):
            dataset = dataset.cast_column(column, type(dataset.features[column])(decode=False))
        described = dataset.select_columns([c for c in dataset.column_names if c in (*TEXTS, "segments")])
        for index in range(len(dataset)):
            row = described[index] if described.column_names else {}
            sources.append(_dataset_source(dataset.select_columns([column]), column, split, index, row, Path(data)))
    return sources


def _dataset_source(dataset, column: str, split: str, index: int, row: Mapping[str, Any], data: Path) -> Source:
    """Return one entry, as a file where it names one, else as the bytes in the dataset."""
    value = dataset[index][column]
    value = {"path": value} if isinstance(value, str) else value or {}
    given = value.get("path") or ""
    name = f"{split}/{index:06d}" + (f"-{Path(given).name}" if given else "")
    texts: dict[str, str] = {}
    segments: tuple[Segment, ...] = ()
    problem = ""
    try:
        texts, segments = _parse_fields(row)
    except ValueError as error:
        problem = str(error)
    if value.get("bytes") is not None:
        content = partial(_dataset_bytes, dataset, column, index)
        return Source(name, texts, segments, content=content, problem=problem)
    paths = [path for path in (given, os.path.join(data, given)) if given and os.path.isfile(path)]
    if not paths:
        problem = f"the dataset names the file `{given}`, which is not there"
    return Source(name, texts, segments, Path(paths[0]) if paths else None, problem=problem)


def _dataset_bytes(dataset, column: str, index: int) -> bytes:
    return dataset[index][column]["bytes"]


# --- opening a clip ---


def examine(source: Source) -> tuple[Probe, str]:
    """Return what the file of a clip says about itself, and the sha256 of its content.

    Raises:
        ValueError: if it is not a clip or cannot be read.
    """
    with source.file() as path:
        if is_still_picture(path):
            raise ValueError("it is an image, not a video")
        found = probe(path)
        with path.open("rb") as file:
            return found, hashlib.file_digest(file, "sha256").hexdigest()


def probe_of_piece(source: Source, found: Probe) -> Probe:
    """Return what a clip holds that is a piece of its file, of which `found` was said.

    Raises:
        ValueError: if the file has no such piece.
    """
    start_s, end_s = source.start_s or Fraction(0), found.duration_s if source.end_s is None else source.end_s
    if end_s > found.duration_s + MAX_BEYOND_END_S or start_s >= found.duration_s:
        raise ValueError(f"it ends at {float(end_s):.2f} s, but its file lasts {float(found.duration_s):.2f} s")
    height, width = found.height, found.width
    if source.crop is not None:
        x1, y1, x2, y2 = source.crop
        if x2 > width or y2 > height:
            raise ValueError(f"its crop {list(source.crop)} does not fit into the {width}x{height} pixels of its file")
        height, width = y2 - y1, x2 - x1
    return replace(found, height=height, width=width, duration_s=min(end_s, found.duration_s) - start_s)
