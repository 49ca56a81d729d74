# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Put clips into tars as WebDataset has them, a thousand in each, to be copied, shared or trained from elsewhere:

diffusers-jova pack --data annotated/ --output_dir shards/

Clips that are pieces of films are cut out and encoded; whole files are taken as they are. `split`, `filter`,
`annotate` and `preprocess` read such a folder, or one tar, with `--data`. The exit status is 1 if no clip is left.
"""

import argparse

from ..command import logging_progress, say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", required=True, help="rows of a step, or a folder of clips")
    parser.add_argument("--output_dir", required=True, help="folder of the tars; an unfinished one is continued")
    parser.add_argument("--shard_size", type=int, default=1000, help="clips in a tar (default: %(default)s)")
    parser.add_argument(
        "--crf", type=int, default=18, help="H.264 quality of what is cut, 0 to 51 (default: %(default)s)"
    )
    parser.add_argument(
        "--num_workers",
        type=int,
        default=1,
        help="processes that cut clips; 0: none but this one, which a damaged film may crash (default: 1)",
    )


def main(args: argparse.Namespace) -> int:
    from ..dataset.pack import PackConfig, pack  # late: it takes seconds

    with logging_progress("%(levelname)s: %(message)s"):
        summary = pack(PackConfig(**vars(args)))
        say(summary)
    return 0 if summary.num_kept else 1
