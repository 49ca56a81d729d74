# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much sooner `filter` and `preprocess` are done with two readers than with one, in seconds of wall clock.

    python benchmarks/dataset_scaling.py --data clips/ --num_workers 1 2

Each is run as a user runs it, start included, into a new folder, on a machine that should do nothing else. How much
two readers gain depends on whether the machine has two cores, or one core with two threads.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from diffusers_jova.command import run


VERBS = {"filter": ["--min_resolution", "0"], "preprocess": ["--model", "jova-nano"]}


def seconds(verb: str, data: str, num_workers: int) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "diffusers_jova", verb, "--data", data, "--output_dir", f"{folder}/out"]
        started_s = time.perf_counter()
        subprocess.run(
            [*command, "--num_workers", str(num_workers), *VERBS[verb]], check=True, capture_output=True, text=True
        )
        return time.perf_counter() - started_s


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder of clips, some dozens")
    parser.add_argument("--num_workers", type=int, nargs="+", default=[1, 2], help="(default: 1 2)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    num_clips = len(list(Path(args.data).glob("*.mp4")))
    print(f"| {num_clips} clips | " + " | ".join(f"{number} readers" for number in args.num_workers) + " | ratio |")
    print("|---" * (len(args.num_workers) + 2) + "|")
    for verb in VERBS:
        taken = [seconds(verb, args.data, number) for number in args.num_workers]
        print(f"| {verb} | " + " | ".join(f"{each:.1f} s" for each in taken) + f" | {taken[0] / taken[-1]:.2f} |")


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
