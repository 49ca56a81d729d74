# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Join clips into films, put faults in, and see whether `dataset` gives the clips back and names the faults:

    python training/nano/make_corpus.py --num_train 200 --num_held_out 0 --output_dir corpus/
    python benchmarks/dataset.py --corpus corpus/train --work_dir films/
    python benchmarks/dataset.py --corpus corpus/train --work_dir films/ --engine ray

Each film is a talk of 25 clips, one cut after the other; every other film has black bars. In each, some clips get one
fault each, and between two clips there are two seconds of black. Printed: how many frames the cuts are off, the part
of the good clips that are in the cache, by what each fault was named, and the time. `--engine ray` starts a cluster of
two nodes on this machine and kills one of them in the middle of `filter`; where the local engine has been at work in
the same folder before, what differs between the two caches is printed, too.
"""

import argparse
import json
import os
import resource
import shlex
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from diffusers_jova.cli.dispatch import main as diffusers_jova
from diffusers_jova.command import run
from diffusers_jova.data.cache import read_index
from diffusers_jova.engines import ENGINES
from diffusers_jova.media import read_video, write_video
from diffusers_jova.nano.faults import FAULTS, RATE, SAMPLING_RATE


CLIPS_PER_FILM, DARK_FRAMES, BAR = 25, 25, 24
SETTINGS = "filter: {min_lips: 0.75}"  # drawn lips go with the loudness as no real ones do


def make_films(corpus: Path, folder: Path, num_clips: int) -> list[dict]:
    """Write the films, and return what is in them: a row per clip, with its fault."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, planted, rng = sorted(corpus.glob("*.mp4"))[:num_clips], [], np.random.default_rng(0)
    for number, first in enumerate(range(0, len(paths), CLIPS_PER_FILM)):
        film, position = folder / f"film-{number:03d}.mp4", 0
        names = [*FAULTS, *[None] * (CLIPS_PER_FILM - len(FAULTS))]
        rng.shuffle(names)
        frames, waveforms, goods = [], [], []
        for name, path in zip(names, paths[first : first + CLIPS_PER_FILM]):
            clip = read_video(path, RATE, SAMPLING_RATE)
            own = good = clip.frames, clip.waveform[0]
            if name is not None and len(goods) >= 2:
                own = FAULTS[name][0](*good, goods[-2], rng)  # not the last: there is no cut before its copy
            else:
                name = None
                goods.append(good)
            if len(frames) == CLIPS_PER_FILM // 2:
                frames.append(np.zeros((DARK_FRAMES, *clip.frames.shape[1:]), np.uint8))
                waveforms.append(np.zeros(round(DARK_FRAMES / RATE * SAMPLING_RATE)))
                position += DARK_FRAMES
            planted.append({"film": film.name, "first": position, "end": position + len(own[0]), "fault": name})
            frames.append(own[0])
            waveforms.append(own[1][: round(len(own[0]) / RATE * SAMPLING_RATE)])
            position += len(own[0])
        joined = np.concatenate(frames)
        if number % 2:
            joined = np.pad(joined, ((0, 0), (BAR, BAR), (0, 0), (0, 0)))
        write_video(film, joined, RATE, np.concatenate(waveforms), SAMPLING_RATE, crf=14)
        film.with_suffix(".txt").write_text("A person talks.", encoding="utf-8")
    return planted


def overlap(clip: dict, first_s: float, end_s: float) -> float:
    return min(clip["end"] / RATE, end_s) - max(clip["first"] / RATE, first_s)


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def parse_span(name: str) -> dict:
    """Return the film and the seconds of a clip by its name."""
    film, _, times = name.partition("#t=")
    first_s, end_s = map(float, times.partition("&")[0].split(","))
    return {"film": Path(film).name, "first_s": first_s, "end_s": end_s}


def found_in(cache: Path) -> tuple[list[dict], list[dict], list[dict]]:
    """Return the spans that split gave, that are cached, and that were left out, with their reasons."""
    clips = [
        {"film": Path(row["file_name"]).name, "first_s": row["start"], "end_s": row["end"], "crop": row.get("crop")}
        for row in read_lines(cache / "dataset" / "split" / "metadata.jsonl")
    ]
    left_out = [
        parse_span(row["clip"]) | {"reasons": row["reasons"]}
        for step in ("split", "filtered")
        for row in read_lines(cache / "dataset" / step / "left_out.jsonl")
    ]
    return clips, [parse_span(row["source"]) for row in read_index(cache)], left_out


def report(planted: list[dict], cache: Path) -> int:
    clips, kept, left_out = found_in(cache)
    edges = {(p["film"], p[side]) for p in planted for side in ("first", "end")}
    ends = {(c["film"], round(c[side] * RATE)) for c in clips + left_out for side in ("first_s", "end_s")}
    off = [min((abs(edge - e) for f, e in ends if f == film), default=99) for film, edge in sorted(edges)]
    within = np.mean(np.array(off) <= 1)
    print(f"cuts: {len(off)}, within one frame {within:.1%}, frames off {dict(sorted(Counter(off).items()))}")
    good = [p for p in planted if p["fault"] is None]
    back = [
        any(
            k["film"] == p["film"]
            and max(abs(k["first_s"] * RATE - p["first"]), abs(k["end_s"] * RATE - p["end"])) <= 1.01
            for k in kept
        )
        for p in good
    ]
    print(f"good clips that come back: {sum(back)} of {len(good)}, {np.mean(back):.1%}")
    for p in (p for p, is_back in zip(good, back) if not is_back):
        print(
            "  lost",
            p,
            sorted(
                {
                    r
                    for o in left_out
                    if o["film"] == p["film"] and overlap(p, o["first_s"], o["end_s"]) > 0.2
                    for r in o["reasons"]
                }
            ),
        )
    unnamed = 0
    for fault, (_, expected) in FAULTS.items():
        of_fault = [p for p in planted if p["fault"] == fault]
        reasons = [
            {
                r
                for o in left_out
                if o["film"] == p["film"] and overlap(p, o["first_s"], o["end_s"]) > 0.5
                for r in o["reasons"]
            }
            for p in of_fault
        ]
        named = sum(bool(found & set(expected)) for found in reasons)
        unnamed += len(of_fault) - named
        others = Counter(r for found in reasons for r in found - set(expected))
        print(f"{fault}: named {named} of {len(of_fault)}; also {dict(others.most_common(3))}")
    crops = {c["film"]: c["crop"] for c in clips}
    print("crops:", sorted({str(crop) for crop in crops.values()}))
    print(f"faults that are named: {len(planted) - len(good) - unnamed} of {len(planted) - len(good)}")
    return int(unnamed > 0 or within < 1 or np.mean(back) < 0.98)


@contextmanager
def two_nodes(journal: Path, num_lines: int) -> Iterator[list[str]]:
    """Give the flags for a cluster of two nodes, of which one is killed as soon as a journal has so many lines."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster  # late: it changes how signals are handled

    config = {"num_cpus": 4, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=config | {"include_dashboard": False})
    node, is_over = cluster.add_node(**config), threading.Event()
    cluster.wait_for_nodes()

    def shoot() -> None:
        while not is_over.wait(0.2):
            if journal.is_file() and len(journal.read_bytes().splitlines()) >= num_lines:
                cluster.remove_node(node, allow_graceful=False)
                print(f"a node was killed when {journal.name} had {num_lines} lines")
                return

    hunter = threading.Thread(target=shoot)
    hunter.start()
    try:
        yield ["--engine", "ray", "--address", cluster.address, "--num_workers", "2"]
    finally:
        is_over.set()
        hunter.join()
        cluster.shutdown()


def differences(a: Path, b: Path) -> list[str]:
    """Return the files that are not the same in both caches, but for those that name the caches' folders."""
    names = {path.relative_to(top) for top in (a, b) for path in top.rglob("*") if path.is_file()}
    contents = {
        name: [(top / name).read_bytes() if (top / name).is_file() else None for top in (a, b)]
        for name in names
        if not name.name.startswith("report") and name.name != "data.json"
    }
    return sorted(str(name) for name, (first, second) in contents.items() if first != second)


def main(args: argparse.Namespace) -> int:
    work = Path(args.work_dir)
    if not (work / "planted.json").is_file():
        planted = make_films(Path(args.corpus), work / "films", args.num_clips)
        (work / "planted.json").write_text(json.dumps(planted), encoding="utf-8")
    planted = json.loads((work / "planted.json").read_text(encoding="utf-8"))
    (work / "dataset.yaml").write_text(SETTINGS, encoding="utf-8")
    cache = work / f"cache-{args.engine}"
    command = ["dataset", str(work / "films"), "--model", args.model, "--captions", "given"]
    command += ["--output_dir", str(cache), "--config", str(work / "dataset.yaml")]
    command += ["--report"] if args.report else []
    started_s, started_cpu_s = time.monotonic(), time.process_time()
    if args.engine == "ray":
        with two_nodes(cache / "dataset" / "filtered" / "measures.jsonl", len(planted) // 2) as flags:
            status = diffusers_jova(command + flags)
    else:
        status = diffusers_jova([*command, "--num_workers", "0"])
    wall_s, cpu_s = time.monotonic() - started_s, time.process_time() - started_cpu_s
    print(shlex.join(command), f"ended with {status} after {wall_s:.0f} s, {cpu_s:.0f} CPU s of this process")
    print(f"memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    status |= report(planted, cache)
    if args.engine == "ray" and (work / "cache-local").is_dir():
        different = differences(work / "cache-local", cache)
        print("files that differ from the local engine's:", len(different), *different)
        status |= bool(different)
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of clips with drawn faces")
    parser.add_argument("--work_dir", required=True, help="where films and rows are written")
    parser.add_argument("--model", default="jova-nano", help="whose cache is made")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="ray: with a cluster of its own")
    parser.add_argument("--num_clips", type=int, default=200, help="how many clips are joined")
    parser.add_argument("--report", action="store_true", help="also write filter's HTML page")
    sys.exit(run(main, parser.parse_args()))
