# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure speed and memory on a GPU within a budget of time, most valuable first. `benchmarks/gpu.sh` calls it:

    benchmarks/gpu.sh --dry_run                    # the plan
    benchmarks/gpu.sh                              # all of it, in less than 8 minutes
    benchmarks/gpu.sh --only blocks attention      # some of it; figures of other parts stay
    benchmarks/gpu.sh --smoke                      # in small on a CPU: tries the code, measures nothing

Each part is a process of its own, `benchmarks/gpu_parts.py PART`, with a time limit. Its figures, JSON Lines, are in
the output as soon as they are there, and the file is whole at any moment: whoever ends the run loses what was being
measured and nothing else. A part that fails or takes too long leaves its error, and the next one goes on.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from diffusers_jova import command
from diffusers_jova.files import whole_file
from diffusers_jova.headers import read_json_lines


ROOT = Path(__file__).parents[1]
UNUSED = {"av"}  # of our dependencies: no part reads or writes a clip
Row = dict[str, Any]


class Part(NamedTuple):
    expected_s: int  # our guess for an H100: nothing was measured yet
    what: str


# in the order of their value
PARTS = {
    "card": Part(10, "matrix product and copy, which all rates are read against"),
    "tests": Part(20, "the tests that need a GPU"),
    "blocks": Part(45, "jova-24b's blocks at 480p and 720p, 5 s: eager, compiled"),
    "forward": Part(45, "jova-3.2b whole at 480p and 720p, 5 s: eager, blocks compiled"),
    "forward_24b": Part(45, "jova-24b whole at 480p, 5 s: eager, blocks compiled (needs 60 GiB)"),
    "training": Part(55, "a LoRA step and a step of whole weights of jova-3.2b, memory against --dry_run"),
    "sampling": Part(30, "pipeline steps: plain, batch_guidance, FirstBlockCache, TaylorSeer, modulation cache"),
    "offload": Part(
        70, "jova-24b on 24 GiB of the card: group offload, modulation cache (needs 120 GiB of main memory)"
    ),
    "storage": Part(40, "jova-24b whole, blocks stored in float8 and in nf4 (needs 60 GiB)"),
    "attention": Part(20, "each attention backend that is there"),
    "peers": Part(30, "blocks of LTX2, Kandinsky6 and Flux2 beside ours"),
    "compiled_whole": Part(60, "jova-3.2b as one graph"),
}
LEAST_S = 10  # with less than this left, no part is begun


def check_packages() -> None:
    """Raise ImportError for what is missing, with where to get it. Other versions than ours are told, and tried."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    missing, foreign = [], []
    for requirement in map(Requirement, [*project["dependencies"], "pytest"]):
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing += [requirement.name] if requirement.name not in UNUSED else []
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            foreign.append(f"{requirement.name} {version} (ours: {requirement.specifier})")
    if foreign:
        print("not tested with:", ", ".join(foreign), file=sys.stderr)
    if missing:
        raise ImportError(
            f"{', '.join(missing)} cannot be imported. Where there is a network, `benchmarks/wheels.sh "
            f"{' '.join(missing)}` puts wheels into benchmarks/wheels; bring that folder along."
        )


def run_part(name: str, limit_s: float, smoke: bool) -> Iterator[Row]:
    """Yield the figures of a part as they come, then how it ended: "ok", "failed" or "out of time".

    Raises:
        ValueError: If the part says that nothing can be measured here.
    """
    program = [
        os.environ.get("PYTHON", sys.executable),
        str(ROOT / "benchmarks" / "gpu_parts.py"),
        name,
        *(["--smoke"] if smoke else []),
    ]
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        # a session of its own, so that compilers that it starts end with it
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True)
        timer = threading.Timer(limit_s, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            for line in process.stdout:
                yield json.loads(line) | {"command": f"benchmarks/gpu.sh --only {name}"}
            status = process.wait()
            timed_out = not timer.is_alive() and status == -signal.SIGKILL
        finally:  # also where this process is interrupted
            timer.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        errors.seek(0)
        told = errors.read()
    end: Row = {"part": name, "what": "end", "took_s": round(time.monotonic() - started, 1)}
    if timed_out:
        yield end | {"status": "out of time", "error": f"it was ended after {limit_s:.0f} s"}
    elif status:
        print(told[-3000:], file=sys.stderr, flush=True)
        last = (told.strip().splitlines() or [f"exit status {status}"])[-1]
        if status == command.UNUSABLE and last.startswith("error: There is no GPU"):
            raise ValueError(last.removeprefix("error: "))
        yield end | {"status": "failed", "error": last[:300]}
    else:
        yield end | {"status": "ok"}


def measure(names: list[str], args: argparse.Namespace) -> int:
    """Run parts, write their figures as they come, and return how many gave figures."""
    deadline = time.monotonic() + args.budget_s
    rows = read_rows(args.output)
    num_measured = 0
    for name in names:
        left = deadline - time.monotonic()
        needed, limit = (0, left) if args.smoke else (PARTS[name].expected_s / 2, 2 * PARTS[name].expected_s)
        rows = [row for row in rows if row["part"] != name]
        if left < max(LEAST_S, needed):
            reason = f"{left:.0f} s of the budget were left: benchmarks/gpu.sh --only {name}"
            new: Iterator[Row] = iter([{"part": name, "what": "end", "status": "not run", "error": reason}])
        else:
            new = run_part(name, min(left, limit), args.smoke)
        for row in new:
            rows.append(row)
            write_rows(args.output, rows)
            num_measured += row.get("status") == "ok"
            print(describe(row), flush=True)
    return num_measured


def read_rows(path: Path) -> list[Row]:
    return [row for _, row in read_json_lines(path)] if path.is_file() else []


def write_rows(path: Path, rows: list[Row]) -> None:
    with whole_file(path) as partial:
        partial.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def describe(row: Row) -> str:
    """Return a row as one line for a terminal."""
    hidden = {"part", "card", "torch", "date", "command", "what"}
    figures = [f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
               for name, value in row.items() if name not in hidden]  # fmt: skip
    return f"{row['part']:15} {row['what']}: {', '.join(figures)}"


def describe_plan(names: list[str]) -> str:
    """Return the plan as a table: when each part begins if all before it take what is expected."""
    lines, begins = [f"{'part':15} {'begins':>7} {'takes':>6}"], 0
    for name in names:
        lines.append(f"{name:15} {begins:>5} s {PARTS[name].expected_s:>4} s  {PARTS[name].what}")
        begins += PARTS[name].expected_s
    return "\n".join([*lines, f"{'':15} {begins:>5} s in all"])


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/gpu.jsonl"), help="JSON Lines (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--budget_s", type=float, default=470, help="seconds for everything (default: %(default)s)")
    parser.add_argument("--smoke", action="store_true", help="in small, on the CPU: tries the code, measures nothing")
    parser.add_argument("--dry_run", action="store_true", help="print the plan and stop")
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    names = [name for name in PARTS if args.only is None or name in args.only]
    if args.dry_run:
        print(describe_plan(names))
        return 0
    if args.budget_s <= 0:
        raise ValueError(f"--budget_s must be positive, got {args.budget_s:g}.")
    check_packages()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    num_measured = measure(names, args)
    print(f"{num_measured} of {len(names)} parts are in {args.output}.")
    return 0 if num_measured else 1


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
