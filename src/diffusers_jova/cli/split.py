# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Cut films into clips of one shot and one face, as rows that name the film and its seconds:

diffusers-jova split --data films/ --output_dir split/

Nothing is encoded again. Films that cannot be read are skipped, named and counted at the end; the exit status is 1 if
no clip is left. Start the same command again after an interruption: films that were looked through are not again.
"""

import argparse

from ..command import logging_progress, say
from .engine import add_engine_flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="folder of films, one film, or rows of an earlier step")
    parser.add_argument("--output_dir", required=True, help="folder of the rows; an unfinished one is continued")
    parser.add_argument("--min_s", type=float, default=1.0, help="shortest clip, in seconds (default: 1)")
    parser.add_argument(
        "--max_s",
        type=float,
        default=5.05,
        help="longest clip, in seconds; a bucket's frames over its frame rate (default: 5.05, 121 frames at 24)",
    )
    parser.add_argument(
        "--no_faces",
        action="store_true",
        help="take whole shots, not the parts of them that show one and the same face",
    )
    parser.add_argument(
        "--crop_faces",
        action="store_true",
        help="where several faces stay in the image, make a clip of each, cropped around it; `filter` leaves out "
        "those whose lips do not move with the audio",
    )
    parser.add_argument("--landmarks", help="dlib's landmark file (default: that of face_recognition_models)")
    parser.add_argument(
        "--num_workers",
        type=int,
        default=1,
        help="processes that read films; 0: none but this one, which a damaged film may crash (default: 1)",
    )
    parser.add_argument("--dry_run", action="store_true", help="count what would be left, and why, and write no rows")
    add_engine_flags(parser)


def main(args: argparse.Namespace) -> int:
    from ..dataset.split import SplitConfig, split  # late: it takes seconds

    with logging_progress("%(levelname)s: %(message)s"):
        summary = split(SplitConfig(**vars(args)))
        say(summary)
    return 0 if summary.num_kept else 1
