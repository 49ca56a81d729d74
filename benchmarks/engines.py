# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the engines of a data set cost beside the work itself, in CPU seconds of all their processes:

    python benchmarks/engines.py --num_items 400 --num_workers 1 2

Each item is a number, and what is "read" of it an array of so many MiB. `start` is what it takes until the first one
is there: processes, and their imports. `per item` is the rest, divided. Ray starts a cluster of this machine alone, or
takes the one at `--address`; its own processes count too.
"""

import argparse
import os
import sys
import threading
import time
from functools import partial

import numpy as np
import psutil

from diffusers_jova.command import run
from diffusers_jova.engines import ENGINES, EngineConfig, open_engine


SAMPLE_S = 0.2


class CpuSeconds:
    """CPU seconds of this process and of all that it has started, also of those that are gone again."""

    def __init__(self):
        self.seconds: dict[tuple[int, float], float] = {}
        self.process, self.is_over = psutil.Process(), threading.Event()
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        while not self.is_over.wait(SAMPLE_S):
            self.total()

    def total(self) -> float:
        for process in [self.process, *self.process.children(recursive=True)]:
            try:
                times = process.cpu_times()
                self.seconds[process.pid, process.create_time()] = times.user + times.system
            except psutil.NoSuchProcess:
                continue
        return sum(self.seconds.values())


def measure(engine: str, address: str | None, num_workers: int, num_items: int, mib: float) -> None:
    cpu, config = CpuSeconds(), EngineConfig(engine=engine, address=address)
    begun_s, begun_cpu_s = time.monotonic(), cpu.total()
    with open_engine(config, num_workers, print) as opened:
        make = partial(np.full, round(mib * 2**20 / np.dtype(int).itemsize))  # a script's own would not be sent
        results = opened.map(make, range(num_items + 1))
        next(results)
        first_s, first_cpu_s = time.monotonic(), cpu.total()
        assert [int(found[-1]) for _, found in results] == list(range(1, num_items + 1))
        end_s, end_cpu_s = time.monotonic(), cpu.total()
    cpu.is_over.set()
    print(
        f"{engine}, {num_workers} workers, {mib:g} MiB: start {first_cpu_s - begun_cpu_s:.1f} CPU s "
        f"({first_s - begun_s:.1f} s), per item {1000 * (end_cpu_s - first_cpu_s) / num_items:.2f} CPU ms "
        f"({1000 * (end_s - first_s) / num_items:.2f} ms)",
        flush=True,
    )


def main(args: argparse.Namespace) -> int:
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {args.num_items} items")
    for mib in args.mib:
        for num_workers in args.num_workers:
            for engine in args.engines:
                address = args.address if engine == "ray" else None
                measure(engine, address, num_workers, args.num_items, mib)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--address", help="of a Ray cluster")
    parser.add_argument("--num_workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--num_items", type=int, default=400)
    parser.add_argument("--mib", nargs="+", type=float, default=[0.001, 20.0], help="what is read of each item")
    sys.exit(run(main, parser.parse_args()))
