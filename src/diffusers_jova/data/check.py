# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The check: a few clips of each run go through the model's VAEs and back, see `round_trip`."""

from .round_trip import choose_clips, read_own_figures
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
