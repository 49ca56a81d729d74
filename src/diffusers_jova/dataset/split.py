# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Films -> clips: one shot, one face, no black bars, as long as a bucket; as rows, nothing is encoded again.

Words decide where a clip begins and ends where a film's `segments` say when they are spoken, else its quiet moments.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..data.clips import Segment, Source, piece_name, probe_of_piece
from ..data.probe import Probe, is_still_picture, probe
from ..engines import EngineConfig, open_engine
from ..evaluation.loudness import PIECE_S
from ..faces import FaceDetector, choose_detector
from ..files import check_output, lock_folder
from ..media.reading import read_timeline
from ..remote import writes_to_any_place
from .apply import apply
from .films import SEVERAL, Film, face_runs, find_crop, find_speakers, look_through, loudness_of
from .rows import METADATA, read_clips, row_of, seconds, write_rows
from .summary import StepSummary


MAX_FRAME_RATE = Fraction(60)  # at which a film is looked at
QUIET_S = 0.1  # over which loudness is averaged to find a pause
EQUALLY_QUIET = 1.4  # times the quietest moment: 3 dB
EARLIEST_CUT = 0.5  # of the longest clip: a pause is sought in what lies behind
AUDIO_ALONE_RATE = Fraction(25)  # frames per second that stand for a film's time where it has none
VERSION = 1  # of what is found: another one looks through all films again


@dataclass(frozen=True)
class SplitConfig(EngineConfig):
    """What to do. Fields have the names of the flags of `diffusers-jova split`; see also `EngineConfig`.

    Attributes:
        data: folder of films, a film, or whatever `preprocess` reads.
        output_dir: folder of the rows.
        min_s, max_s: how long clips are, in seconds.
        no_faces: take every shot as it is, instead of the pieces of it that show one and the same face.
        crop_faces: where several faces stay in the image, make a clip of each, cropped around it; which of them speaks
            is `filter`'s to find out, by their lips.
        landmarks: dlib's landmark file; None to find it.
        num_workers: processes that read films; 0: none but this one, which a damaged film may crash.
        dry_run: write no rows, and count what would be in them.
    """

    data: str
    output_dir: str
    min_s: float = 1.0
    max_s: float = 5.05
    no_faces: bool = False
    crop_faces: bool = False
    landmarks: str | None = None
    num_workers: int = 1
    dry_run: bool = False


@writes_to_any_place
def split(config: SplitConfig, detector: FaceDetector | None = None) -> StepSummary:
    """Write the rows of the clips in `config.data`, and return what became of the films.

    Args:
        config: what to do.
        detector: finds faces; None for dlib's.

    Raises:
        ValueError, FileNotFoundError: for settings or data that cannot be used.
        InUseError: if another run is at work in the folder.
        OSError: if the disk is full; what was found out is used again.
    """
    if not 0 < config.min_s <= config.max_s:
        raise ValueError(f"Clips are `--min_s` to `--max_s` seconds long, got {config.min_s:g} and {config.max_s:g}.")
    check_output(config.output_dir, {"the films": config.data if os.path.isdir(config.data) else None})
    detector = choose_detector(detector, config.landmarks, no_faces=config.no_faces)
    summary, folder = StepSummary("split", "films"), Path(config.output_dir)
    with lock_folder(folder), open_engine(config, config.num_workers, summary.warn) as engine:
        films = summary.usable(read_clips(config.data))
        splitter = Splitter(config.min_s, config.max_s, detector, config.crop_faces)
        journal = folder / "films.jsonl"
        results = apply(splitter, films, journal, engine, summary, forget=not config.dry_run)
        rows = [row for film in films if film.name in results for row in _rows_of(film, results[film.name], folder)]
        for name, found in results.items():
            for warning in found["warnings"]:
                summary.warn(name, warning)
            for start_s, end_s, reason in found["left_out"]:
                summary.leave_out(piece_name(name, start_s, end_s), end_s - start_s, reason)
        summary.num_kept, summary.kept_s = len(rows), sum(row["end"] - row["start"] for row in rows)
        if not config.dry_run:
            write_rows(folder / METADATA, rows)
            summary.write(folder)
    return summary


def _rows_of(film: Source, found: Mapping[str, Any], folder: Path) -> list[dict[str, Any]]:
    """Return the rows of one film from what `Splitter` found."""
    film = film.with_caption(found["has_video"])
    rows = []
    for clip in found["clips"]:
        start_s, end_s = (Fraction(clip[key]).limit_denominator(10**6) for key in ("start", "end"))
        x, y = (film.crop or (0, 0))[:2]
        crop = clip["crop"] and tuple(a + b for a, b in zip(clip["crop"], (x, y, x, y)))
        segments = tuple(Segment(*segment) for segment in clip["segments"])
        piece = replace(film, segments=segments, start_s=start_s, end_s=end_s, crop=crop or film.crop)
        values: dict[str, Any] = {} if segments else {"segments": None}
        if not clip["whole"]:  # a transcript of the film says more than is heard
            values["transcript"] = " ".join(segment.text for segment in segments if segment.text) or None
        rows.append(row_of(piece, folder, **values))
    return rows


@dataclass(frozen=True)
class Splitter:
    """How films are split; calling it does it, also in another process.

    Args:
        min_s, max_s: how long clips are, in seconds.
        detector: finds faces; None: every shot is taken as it is.
        crop_faces: see `SplitConfig`.
    """

    min_s: float
    max_s: float
    detector: FaceDetector | None
    crop_faces: bool = False

    def settings(self, film: Source) -> list[Any]:
        """Return what decides about the clips, besides the film's file."""
        detector = None if self.detector is None else type(self.detector).__name__
        piece = [film.start_s, film.end_s, film.crop, film.segments]
        return [VERSION, self.min_s, self.max_s, detector, self.crop_faces, *piece]

    def __call__(self, film: Source) -> dict[str, Any]:
        """Return the clips of a film, and what of it is left out, as JSON can hold it; times are the film's.

        Raises:
            ValueError: if it cannot be read.
        """
        with film.file() as path:
            return self._split(film, path)

    def _split(self, film: Source, path: Path) -> dict[str, Any]:
        if is_still_picture(path):
            raise ValueError("it is an image, not a video")
        found = probe(path)
        piece = probe_of_piece(film, found)
        begin_s = film.start_s or Fraction(0)
        rate = AUDIO_ALONE_RATE
        if found.has_video:
            rate = min(read_timeline(path).frame_rate, MAX_FRAME_RATE)
            seen = look_through(path, rate, begin_s, piece.duration_s, self.detector)
        else:
            seen = Film(rate, round(piece.duration_s * rate))
        loudness = loudness_of(path, begin_s, piece.duration_s) if found.has_audio else np.zeros(0)
        seen.gaps += _unheard(loudness, rate)
        clips, left_out = self._clips(film, seen, loudness, found)
        offset_s = float(begin_s)
        return {
            "has_video": found.has_video,
            "warnings": list(found.warnings),
            "clips": [clip | {"start": clip["start"] + offset_s, "end": clip["end"] + offset_s} for clip in clips],
            "left_out": [[seconds(a + offset_s), seconds(b + offset_s), reason] for a, b, reason in left_out],
        }

    def _clips(
        self, film: Source, seen: Film, loudness: np.ndarray, found: Probe
    ) -> tuple[list[dict[str, Any]], list[tuple[float, float, str]]]:
        rate, left_out, clips = seen.frame_rate, [], []
        left_out += [(float(first / rate), float(end / rate), reason) for first, end, reason in seen.gaps]
        for first, end in seen.shots():
            looks = seen.looks_in(first, end)
            runs = [(first, end, "")]
            if self.detector is not None and found.has_video:
                runs = face_runs(looks, first, end)
            crop = find_crop(looks, seen.size) if film.crop is None else None
            for run_first, run_end, problem in runs:
                start_s, end_s = float(run_first / rate), float(run_end / rate)
                crops = [crop]
                if problem == SEVERAL and self.crop_faces and film.crop is None:
                    crops = find_speakers(seen.looks_in(run_first, run_end), seen.size) or crops
                    problem = "" if crops[0] is not crop else problem
                windows = [] if problem else self._windows(start_s, end_s, film.segments, loudness, float(rate))
                for window in windows:
                    whole = window == (0.0, float(seen.num_frames / rate))
                    segments = _segments_in(window, film.segments, float(1 / rate))
                    clips += [
                        {
                            "start": seconds(window[0]),
                            "end": seconds(window[1]),
                            "crop": None if crop is None else list(crop),
                            "segments": segments,
                            "whole": whole,
                        }
                        for crop in crops
                    ]
                left_out += _rest(
                    start_s, end_s, windows, problem or f"it is shorter than {self.min_s:g} s", float(1 / rate)
                )
        return clips, left_out

    def _windows(
        self, start_s: float, end_s: float, segments: Sequence[Segment], loudness: np.ndarray, rate: float
    ) -> list[tuple[float, float]]:
        """Return (start, end) of the clips in a run of frames, on whole frames."""
        if segments:
            pieces = windows_of_words(start_s, end_s, segments, self.max_s)
        else:
            pieces = windows_by_pauses(start_s, end_s, loudness, self.max_s, 1 / rate)
        frames = [(round(a * rate), round(b * rate)) for a, b in pieces]
        return [(a / rate, b / rate) for a, b in frames if (b - a) / rate >= self.min_s - 0.5 / rate]


def _segments_in(
    window: tuple[float, float], segments: Sequence[Segment], frame_s: float
) -> list[tuple[float, float, str]]:
    """Return the segments in a window, from its start on; its ends are whole frames, near those of the words."""
    start_s, end_s = window
    inside = [s for s in segments if start_s - frame_s < s.start and s.end < end_s + frame_s]
    return [
        (seconds(max(s.start - start_s, 0)), seconds(min(s.end, end_s) - start_s), s.text)
        for s in inside
        if max(s.start, start_s) < min(s.end, end_s)
    ]


def windows_of_words(
    start_s: float, end_s: float, segments: Sequence[Segment], max_s: float
) -> list[tuple[float, float]]:
    """Return (start, end) of pieces of at most `max_s`, each of whole segments and the silence around them.

    Where a piece would be too long with all the silence before and after its words, its ends lie in the middle of it
    or nearer. A segment that does not lie inside as a whole, or is longer than `max_s`, is in no piece.
    """
    inside = [s for s in segments if start_s <= s.start and s.end <= end_s and s.end - s.start <= max_s]
    groups: list[list[Segment]] = []
    for segment in inside:
        if groups and segment.end - groups[-1][0].start <= max_s:
            groups[-1].append(segment)
        else:
            groups.append([segment])
    pieces = []
    for group in groups:
        begin, stop = group[0].start, max(segment.end for segment in group)
        others = [segment for segment in segments if segment not in group]
        floor = max((s.end for s in others if s.start < begin), default=start_s)
        ceiling = min((s.start for s in others if s.start >= begin), default=end_s)
        floor, ceiling = min(max(floor, start_s), begin), max(min(ceiling, end_s), stop)
        spare = max_s - (stop - begin)
        before = min(begin - floor, max(spare / 2, spare - (ceiling - stop)))
        after = min(ceiling - stop, spare - before)
        pieces.append((begin - before, stop + after))
    return pieces


def windows_by_pauses(
    start_s: float, end_s: float, loudness: np.ndarray, max_s: float, frame_s: float
) -> list[tuple[float, float]]:
    """Return (start, end) of pieces of at most `max_s`, divided at the quietest moments.

    Args:
        loudness: of the film, every `PIECE_S`; empty where there is no audio.
        frame_s: one frame, by which a piece may be longer.
    """
    width = max(round(QUIET_S / PIECE_S), 1)
    pieces = []
    while end_s - start_s > max_s + frame_s:
        first, last = (int((start_s + part * max_s) / PIECE_S) for part in (EARLIEST_CUT, 1))
        around = loudness[max(first - width, 0) : last + width]
        cut_s = start_s + max_s
        if len(around) > width:
            heard = np.convolve(around, np.ones(width) / width, "same")[min(first, width) :][: last - first]
            # of moments that are about equally quiet the last: clips are as long as they may be
            quiet = np.flatnonzero(heard <= EQUALLY_QUIET * np.nanmin(heard))
            cut_s = min((first + int(quiet[-1]) + 1) * PIECE_S, cut_s)
        pieces.append((start_s, cut_s))
        start_s = cut_s
    return [*pieces, (start_s, end_s)]


def _unheard(loudness: np.ndarray, rate: Fraction) -> list[tuple[int, int, str]]:
    """Return (first, end) frames of the gaps in the audio."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], np.isnan(loudness), [0]])))
    pairs = zip(edges[::2], edges[1::2])
    reason = "its audio cannot be decoded"
    return [(int(a * PIECE_S * rate), math.ceil(b * PIECE_S * rate), reason) for a, b in pairs]


def _rest(
    start_s: float, end_s: float, windows: list[tuple[float, float]], reason: str, frame_s: float
) -> list[tuple[float, float, str]]:
    """Return what no window covers, without what is shorter than two frames."""
    edges = [start_s, *(edge for window in windows for edge in window), end_s]
    holes = [(a, b) for a, b in zip(edges[::2], edges[1::2]) if b - a > 2 * frame_s]
    return [(a, b, reason) for a, b in holes]
