# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The plan: which clips there are, what each holds, and the windows of it that become samples."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from ..engines import Engine
from ..images import centre_crop
from ..progress import progress
from ..remote import RemotePath
from ..workers import Failure
from .clips import Source, examine, find_sources, probe_of_piece
from .probe import Probe
from .run import Run
from .windows import Bucket, Window, choose_bucket, plan_windows


MAX_CROPPED = 0.4  # part of the image's area that may be cropped away without a word


@dataclass
class Plan:
    """What `make_plan` returns.

    Attributes:
        all_sources: the clips in the data, also those of other shards.
        sources: this shard's clips.
        windows: of this shard's clips, those that become samples.
        unread: names of clips that could not be read for now: what is cached of them stays.
    """

    all_sources: list[Source]
    sources: list[Source]
    windows: list[Window] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)


def make_plan(run: Run, engine: Engine) -> Plan:
    """Return the windows of this shard's clips. What cannot be used is in the summary.

    Raises:
        FileNotFoundError, ValueError: see `find_sources`.
    """
    index, count = run.shard
    all_sources = find_sources(run.config.data, probe_captions=False)
    plan = Plan(all_sources, all_sources[index::count])
    run.summary.num_sources = len(plan.sources)
    for source in plan.sources:
        if source.problem:
            run.summary.skip(source.name, source.problem)
            plan.unread |= {source.name} if source.is_away else set()
    by_file: dict[
        str | Path | RemotePath, list[Source]
    ] = {}  # a film is read once, however many clips are pieces of it
    for source in plan.sources:
        if not source.problem:
            by_file.setdefault(source.path or source.name, []).append(source)
    examined = engine.map(examine, [pieces[0] for pieces in by_file.values()])
    for (_, found), pieces in progress(zip(examined, by_file.values()), "plan", len(by_file)):
        for source in pieces:
            try:
                if isinstance(found, Failure):
                    plan.unread |= set() if found.is_lasting else {source.name}
                    raise ValueError(found)
                plan.windows += _plan_source(run, source, probe_of_piece(source, found[0]), found[1])
                found = replace(found[0], warnings=()), found[1]  # what there is to say of the file is said once
            except ValueError as error:
                run.summary.skip(source.name, " ".join(str(error).split()))
    return plan


def _plan_source(run: Run, source: Source, found: Probe, sha256: str) -> list[Window]:
    _check_modalities(run, found)
    source = source.with_caption(found.has_video)
    if found.has_video and run.config.instance_prompt and "video_caption" not in source.texts:
        source = replace(source, texts={**source.texts, "video_caption": run.config.instance_prompt})
    bucket = choose_bucket(found, run.buckets, run.frame_rate)
    windows, warnings = plan_windows(source, found, sha256, bucket, run.frame_rate)
    cropped = _cropped(found, bucket) if found.has_video and run.facts.has_video else 0
    if cropped > MAX_CROPPED:
        size = f"{found.height}x{found.width}, the bucket {bucket.height}x{bucket.width}"
        warnings.append(f"{cropped:.0%} of the image is cropped away: it is {size}. Another of --buckets may fit")
    for warning in (*found.warnings, *warnings):
        run.summary.warn(source.name, warning)
    has_words = source.texts.get("transcript") or source.segments
    if has_words and found.has_audio and not any(window.texts["transcript"] for window in windows):
        run.summary.wordless.append(source.name)
    if not windows:
        raise ValueError("none of its segments can be used")
    return windows


def _check_modalities(run: Run, found: Probe) -> None:
    if found.has_video and not found.has_audio and run.config.require_audio:
        raise ValueError("it has no audio track, which --require_audio asks for")
    if not (found.has_video and run.facts.has_video) and not (found.has_audio and run.facts.has_audio):
        raise ValueError("the model has no VAE for what it holds")


def _cropped(found: Probe, bucket: Bucket) -> float:
    """Return the part of the image's area that is cropped away."""
    x1, y1, x2, y2 = centre_crop(found.height, found.width, bucket.height, bucket.width)
    return 1 - (x2 - x1) * (y2 - y1) / (found.width * found.height)
