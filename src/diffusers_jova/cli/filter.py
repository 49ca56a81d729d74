# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Leave out clips that are not worth training on, and say why:

diffusers-jova filter --data split/ --output_dir filtered/ --report

A threshold is a flag or a key in a file of settings (`--config`); `none` switches a filter off. Each clip is measured
once: with other thresholds, start the command again. The exit status is 1 if no clip stays.
"""

import argparse

from ..command import logging_progress, say
from ..dataset.filters import FILTERS, MAX_DISTANCE
from .engine import add_engine_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="rows of `split`, a folder of clips, or rows of your own")
    parser.add_argument("--output_dir", required=True, help="folder of the rows; an unfinished one is continued")
    parser.add_argument("--config", help="file of settings in YAML, a line for each threshold: `min_sharpness: 0.4`")
    parser.add_argument(
        "--languages",
        nargs="+",
        default=(),
        metavar="CODE",
        help="en pt: leave out clips in which another one is spoken, as `annotate` wrote down (default: all stay)",
    )
    parser.add_argument("--no_faces", action="store_true", help="do not look for faces")
    parser.add_argument("--landmarks", help="dlib's landmark file (default: that of face_recognition_models)")
    parser.add_argument("--syncnet", help="file of SyncNet's weights, syncnet_v2.model, for lips in time")
    parser.add_argument(
        "--num_workers",
        type=int,
        default=1,
        help="processes that read clips; 0: none but this one, which a damaged clip may crash (default: 1)",
    )
    parser.add_argument(
        "--report", action="store_true", help="write report.html with the clips on both sides of each threshold"
    )
    parser.add_argument("--dry_run", action="store_true", help="count what would be left out and why, write no rows")
    add_engine_flags(parser)
    thresholds = parser.add_argument_group("thresholds", "a number, or `none`")
    for each in FILTERS:
        default = "off" if each.threshold is None else f"{each.threshold:g}"
        thresholds.add_argument(
            f"--{each.name}",
            type=threshold,
            default=argparse.SUPPRESS,
            metavar="N",
            help=f"{each.reason}: {each.unit} (default: {default})".replace("%", "%%"),
        )
    thresholds.add_argument(
        "--max_distance",
        type=threshold,
        default=argparse.SUPPRESS,
        metavar="N",
        help=f"it is nearly another clip: part of the bits of two hashes that differ (default: {MAX_DISTANCE:g})",
    )


def threshold(text: str) -> float | None:
    return None if text.lower() in ("none", "off") else float(text)


def main(args: argparse.Namespace) -> int:
    from ..dataset.filter import FilterConfig, filter_clips, read_thresholds  # late: it takes seconds
    from ..dataset.filters import NAMES

    options = vars(args).copy()
    given = read_thresholds(options.pop("config"))
    given |= {name: options.pop(name) for name in (*NAMES, "max_distance") if name in options}
    if "max_distance" in given:
        options["max_distance"] = given.pop("max_distance")
    with logging_progress("%(levelname)s: %(message)s"):
        summary = filter_clips(FilterConfig(**options, thresholds=given))
        say(summary)
    return 0 if summary.num_kept else 1
