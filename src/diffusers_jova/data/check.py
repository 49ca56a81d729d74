# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The check: a few clips of each run go through the model's VAEs and back, see `round_trip`."""

from ..pipelines.pipeline_jova import JoVAPipeline
from .prepare import PreparedClip
from .round_trip import choose_clips, log_mel_error, read_own_figures, video_psnr
from .run import Run
from .summary import read_round_trip, report_path
from .windows import Window


def windows_to_measure(run: Run, windows: list[Window]) -> list[Window]:
    """Take over what the last run measured of the clips that are chosen, and return those still to measure."""
    chosen, trip = choose_clips(windows), run.summary.round_trip
    trip.own = read_own_figures(run.facts.folder)
    before = read_round_trip(report_path(run.cache_dir, run.shard))
    for name, values in trip.clips.items():
        found = before.get(name, {})
        values |= {window.digest: found[window.digest] for window in chosen if window.digest in found}
    return [window for window in chosen if not any(window.digest in values for values in trip.clips.values())]


def measure_video(run: Run, window: Window, clip: PreparedClip, pipe: JoVAPipeline | None) -> None:
    if clip.frames is not None:
        run.summary.round_trip.clips["psnr_db"][window.digest] = round(video_psnr(pipe.vae, clip.frames), 2)


def measure_audio(run: Run, digest: str, waveform, pipe: JoVAPipeline) -> None:
    error_db = log_mel_error(pipe.audio_vae, waveform)
    run.summary.round_trip.clips["log_mel_error_db"][digest] = round(error_db, 2)
