# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips -> those that are worth training on. Each is measured once; thresholds may change without measuring again."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..engines import Engine, EngineConfig, open_engine
from ..faces import FaceDetector, choose_detector
from ..files import check_output, lock_folder, reading
from ..remote import writes_to_any_place
from ..text import nearest
from .apply import apply
from .duplicates import find_duplicates
from .filters import FILTERS, MAX_DISTANCE, NAMES, choose_thresholds, reasons_against
from .html_report import histogram, write_html
from .measures import MeasuredClip, Measurer
from .rows import METADATA, read_clips, row_of, write_rows
from .summary import StepSummary


@dataclass(frozen=True)
class FilterConfig(EngineConfig):
    """What to do. Fields have the names of the flags of `diffusers-jova filter`; see also `EngineConfig`.

    Attributes:
        data: rows of `split`, a folder of clips, or whatever `preprocess` reads.
        output_dir: folder of the rows of clips that stay.
        thresholds: by the names in `filters.NAMES`; None switches a filter off, what is not there has its default.
        max_distance: part of the bits of two hashes that differ between near-duplicates at most; None to keep them.
        languages: those in which something is said in clips that stay, as `annotate` writes them down ("en"); none:
            all stay. Where nobody has written down which it is, a clip stays.
        no_faces: do not look for faces: no filter of faces counts.
        landmarks: dlib's landmark file; None to find it.
        syncnet: file of SyncNet's weights.
        num_workers: processes that read clips; 0: none but this one, which a damaged clip may crash.
        report: write an HTML page with the clips on both sides of each threshold.
        dry_run: count what would be left out, and why, and write no rows.
    """

    data: str
    output_dir: str
    thresholds: Mapping[str, float | None] = field(default_factory=dict)
    max_distance: float | None = MAX_DISTANCE
    languages: Sequence[str] = ()
    no_faces: bool = False
    landmarks: str | None = None
    syncnet: str | None = None
    num_workers: int = 1
    report: bool = False
    dry_run: bool = False


@writes_to_any_place
def filter_clips(config: FilterConfig, detector: FaceDetector | None = None) -> StepSummary:
    """Write the rows of the clips that stay, and return what became of all.

    Args:
        config: what to do.
        detector: finds faces; None for dlib's.

    Raises:
        ValueError, FileNotFoundError: for settings or data that cannot be used.
        InUseError: if another run is at work in the folder.
        OSError: if the disk is full; what was measured is used again.
    """
    thresholds = choose_thresholds(config.thresholds, not config.no_faces)
    check_output(config.output_dir, {"the clips": config.data if os.path.isdir(config.data) else None})
    if config.syncnet is not None and not Path(config.syncnet).is_file():
        raise FileNotFoundError(f"There is no file `{config.syncnet}` with SyncNet's weights: correct the path.")
    detector = choose_detector(detector, config.landmarks, no_faces=config.no_faces)
    summary = StepSummary("filter", "clips")
    folder = Path(config.output_dir)
    with lock_folder(folder), open_engine(config, config.num_workers, summary.warn) as engine:
        clips = _measure(config, Measurer(detector, config.syncnet), engine, summary)
        clips = _judge(clips, thresholds, config.max_distance, config.languages)
        kept = [clip for clip in clips if not clip.reasons]
        for clip in clips:
            if clip.reasons:
                summary.leave_out(clip.source.name, clip.duration_s, *clip.reasons)
        summary.num_kept, summary.kept_s = len(kept), sum(clip.duration_s for clip in kept)
        if not config.dry_run:
            rows = [row_of(clip.source, folder, measures=dict(clip.measures)) for clip in kept]
            write_rows(folder / METADATA, rows)
            languages = Counter(language_of(clip) or "unknown" for clip in clips)
            summary.write(folder, thresholds=thresholds, histograms=_histograms(clips), languages=languages)
            if config.report:
                write_html(folder, clips, thresholds)
    return summary


def _measure(config: FilterConfig, measurer: Measurer, engine: Engine, summary: StepSummary) -> list[MeasuredClip]:
    """Return the clips that can be read, measured."""
    clips, journal = summary.usable(read_clips(config.data)), Path(config.output_dir) / "measures.jsonl"
    results = apply(measurer, clips, journal, engine, summary, forget=not config.dry_run)
    measured = []
    for clip in clips:
        if clip.name in results:
            measures, has_video, duration_s = results[clip.name]
            measured.append(MeasuredClip(clip.with_caption(has_video), measures, duration_s))
    return measured


def _judge(
    clips: Sequence[MeasuredClip],
    thresholds: Mapping[str, float | None],
    max_distance: float | None,
    languages: Sequence[str],
) -> list[MeasuredClip]:
    """Return the clips with the reasons against each; of near-duplicates, the first that has no other stays."""
    reasons = [
        reasons_against(clip.measures, thresholds) + _against_language(language_of(clip), languages) for clip in clips
    ]
    good = [number for number, found in enumerate(reasons) if not found]
    if max_distance is not None:
        for copy in find_duplicates([clips[number].measures for number in good], max_distance):
            reasons[good[copy]].append("it is nearly the same as another clip")
    return [MeasuredClip(c.source, c.measures, c.duration_s, found) for c, found in zip(clips, reasons)]


def language_of(clip: MeasuredClip) -> str | None:
    """Return the language that is spoken in a clip, as its row says; None where it does not."""
    language = clip.source.row.get("language")
    return language.lower() if isinstance(language, str) and language else None


def _against_language(language: str | None, languages: Sequence[str]) -> list[str]:
    is_other = language is not None and languages and language not in languages
    return [f"it is in another language ({language})"] if is_other else []


def _histograms(clips: Sequence[MeasuredClip]) -> dict[str, list[list[float]]]:
    """Return [from, to, number] of each measure's values."""
    found = {}
    for name in dict.fromkeys(each.measure for each in FILTERS):
        values = [float(clip.measures[name]) for clip in clips if clip.measures.get(name) is not None]
        found[name] = [[round(a, 6), round(b, 6), n] for a, b, n in histogram(values)]
    return found


def read_thresholds(path: str | os.PathLike | None) -> dict[str, float | None]:
    """Return the thresholds in a YAML file, by name; none without a file.

    Raises:
        FileNotFoundError, ValueError: if it is not there, or holds something else.
    """
    if path is None:
        return {}
    import yaml

    with reading(path, "correct it"):
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    known = (*NAMES, "max_distance")
    for name, value in content.items() if isinstance(content, dict) else [(content, None)]:
        if name not in known:
            raise ValueError(f"`{path}`: there is no threshold `{name}`{nearest(str(name), known)}")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ValueError(f"`{path}`: `{name}` must be a number, or null to switch it off, got {value!r}.")
    return dict(content)
