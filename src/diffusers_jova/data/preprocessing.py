# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips -> cache: posterior moments, text embeddings and mouth boxes.

    plan      find the clips, probe them, cut them into windows               (`clips`, `probe`, `windows`, `plan`)
    renew     what is cached already, and what has to leave the cache         (`inventory`)
    encode    one phase for each encoder, which alone is in memory then       (`phases`, which names the others)
    assemble  the parts of a sample become one file, then the index is written (`parts`, `cache`)
    report    what became of the clips                                        (`summary`)

Every file appears whole or not at all and says from what it was made, so a run that was killed is taken up where it
stopped and ends with the same bytes.
"""

import logging

from ..engines import Engine, open_engine
from ..faces import FaceDetector
from ..files import check_output, is_same_place
from ..progress import progress
from ..remote import writes_to_any_place
from ..shards import own_cache
from . import cache
from .check import windows_to_measure
from .dry_run import dry_run as dry_run  # the other thing that can be done with a `PreprocessingConfig`
from .inventory import is_current, remove_missing
from .parts import assemble, remove_parts, write_shared
from .phases import encode_audio_parts, encode_text_parts, encode_video_parts
from .plan import make_plan
from .run import Run, check_cache, open_cache, prepare_run
from .settings import PreprocessingConfig, command_of
from .summary import Summary, report_path
from .windows import Window


logger = logging.getLogger(__name__)


@writes_to_any_place
def preprocess(
    config: PreprocessingConfig, detector: FaceDetector | None = None, command: str | None = None
) -> Summary:
    """Write the cache and its report, and return what became of the clips.

    Args:
        config: what to do.
        detector: finds faces; None for dlib's.
        command: what was started, which the summary names where it has to be started again; None for that of `config`.

    Raises:
        ValueError, FileNotFoundError: for settings or data that cannot be used, or a cache that other models or
            settings made; before any work is done.
        InUseError: if another run is at work in the cache.
        OSError: if the disk is full; what was written stays and is used again.
    """
    run = prepare_run(config, detector)
    check_output(config.output_dir, {"the model": run.facts.folder})
    if is_same_place(config.output_dir, config.data):
        raise ValueError(f"`{config.output_dir}` holds the clips: choose another folder for the cache.")
    run.summary.command = command or command_of(config)
    with (
        own_cache(config.output_dir, *run.shard),
        open_engine(run.config, run.config.num_workers, run.summary.warn) as engine,
    ):
        check_cache(run)
        plan = make_plan(run, engine)
        if plan.windows or (run.cache_dir / "fingerprint.json").is_file():
            open_cache(run)
            remove_missing(run, plan)
            failed = _make_samples(run, engine, plan.windows)
            _report(run, [window for window in plan.windows if window.key not in failed])
    return run.summary


def _make_samples(run: Run, engine: Engine, windows: list[Window]) -> set[str]:
    """Make the samples that the cache lacks; return the keys of windows that turned out to be unusable."""
    todo = [window for window in progress(windows, "verify", len(windows)) if not is_current(run, window)]
    previews = [w for w in windows if run.config.preview and not run.preview_path(w.key).is_file()]
    failed, heard = encode_video_parts(run, engine, todo, previews, windows_to_measure(run, windows))
    failed |= encode_audio_parts(run, engine, [window for window in todo if window.key not in failed], heard)
    for phase in ("text", "text_2"):
        failed |= encode_text_parts(run, engine, phase, [window for window in todo if window.key not in failed])
    todo = [window for window in todo if window.key not in failed]
    write_shared(run)
    assemble(run, todo)
    remove_parts(run, windows)
    return failed


def _report(run: Run, windows: list[Window]) -> None:
    """Write the cache's index, and what became of the clips."""
    run.summary.rows = [cache.read_row(cache.sample_path(run.cache_dir, window.key)) for window in windows]
    cache.write_index(run.cache_dir, run.writer)
    for line in run.summary.round_trip.alarm():
        logger.warning("%s.", line)
    run.summary.write(report_path(run.cache_dir, run.shard), run.writer)
