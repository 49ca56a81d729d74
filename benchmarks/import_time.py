# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Compare the time of importing `JoVAPipeline` with that of its parts from diffusers and transformers (aim: 1.1):

python benchmarks/import_time.py --num_runs 7
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

from diffusers_jova import command


STATEMENTS = {
    "parts": "from diffusers import AutoencoderKLWan, DiffusionPipeline, FlowMatchEulerDiscreteScheduler; "
    "from transformers import T5EncoderModel",
    "diffusers_jova": "from diffusers_jova import JoVAPipeline",
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--num_runs", type=int, default=7, help="fresh interpreters per side, one side after the other"
    )
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    wall_s, cpu_s = {name: [] for name in STATEMENTS}, {name: [] for name in STATEMENTS}
    for run in range(args.num_runs + 1):
        for name, statement in STATEMENTS.items():
            wall, cpu = time.perf_counter(), children_cpu_s()
            subprocess.run([sys.executable, "-c", statement], check=True)
            if run > 0:  # the first one writes bytecode and fills the disk cache
                wall_s[name].append(time.perf_counter() - wall)
                cpu_s[name].append(children_cpu_s() - cpu)
    for label, seconds in {"wall": wall_s, "cpu": cpu_s}.items():  # the second is calmer on a machine that others use
        parts, ours = (statistics.median(seconds[name]) for name in STATEMENTS)
        print(f"{label:>4}: parts {parts:.2f} s, diffusers_jova {ours:.2f} s (medians), ratio {ours / parts:.3f}")


def children_cpu_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
