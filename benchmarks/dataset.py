# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Join clips into films, put faults in, and see whether `split` and `filter` give the clips back and name the faults:

    python training/nano/make_corpus.py --num_train 200 --num_held_out 0 --output_dir corpus/
    python benchmarks/dataset.py --corpus corpus/train --work_dir /tmp/films

Each film is a talk of 25 clips, one cut after the other; every other film has black bars. In each, some clips get one
fault each, and between two clips there are two seconds of black. Printed: how many frames the cuts are off, the part
of the good clips that comes back, by what each fault was named, and clips per second and core for each step.
"""

import argparse
import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from diffusers_jova.command import run
from diffusers_jova.dataset.filter import FilterConfig, filter_clips
from diffusers_jova.dataset.split import SplitConfig, split
from diffusers_jova.media import read_video, write_video


RATE, SAMPLING_RATE = 12.5, 16000
CLIPS_PER_FILM, DARK_FRAMES, BAR = 25, 25, 24
# the corpus has 128 pixels, and drawn lips go with the loudness as no real ones do
THRESHOLDS = {"min_resolution": 100.0, "min_lips": 0.75}


def shift(waveform, num_frames):
    return np.roll(waveform, round(num_frames / RATE * SAMPLING_RATE))


def on_canvas(frames, scale, places):
    """Return frames with small copies of themselves on a plain ground; places in parts of the side."""
    side, canvas = frames.shape[1], np.full_like(frames, 128)
    small = np.stack([Image.fromarray(f).resize((round(side * scale),) * 2, Image.Resampling.BOX) for f in frames])
    for x, y in places:
        top, left = round(y * side), round(x * side)
        canvas[:, top : top + small.shape[1], left : left + small.shape[2]] = small
    return canvas


def with_text(frames):
    shown = []
    for frame in frames:
        image = Image.fromarray(frame)
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 112, 127, 127), fill="black")
        draw.text((4, 113), "SUBSCRIBE NOW, PLEASE", fill="white")
        shown.append(np.asarray(image))
    return np.stack(shown)


def chord(waveform, rng):
    seconds = np.arange(len(waveform)) / SAMPLING_RATE
    notes = rng.choice([220, 262, 330, 392, 440], 3, replace=False)
    return 0.2 * sum(np.sin(2 * np.pi * note * seconds) for note in notes)


# name -> (what is done with frames, waveform, frames and waveform of another clip, rng; reasons that name it)
FAULTS = {
    "silent": (lambda f, w, o, r: (f, 0 * w), ("it is mostly silent", "it is too quiet")),
    "music": (
        lambda f, w, o, r: (f, chord(w, r)),
        ("nobody speaks for most of it", "it has music or noise without speech"),
    ),
    "noise": (lambda f, w, o, r: (f, w + r.normal(0, 0.1, len(w))), ("its audio is noisy",)),
    "clipped": (lambda f, w, o, r: (f, (40 * w).clip(-1, 1)), ("its audio is clipped",)),
    "blurred": (lambda f, w, o, r: (gaussian_filter(f, (0, 3, 3, 0)), w), ("it is blurred", "no face")),
    "still": (lambda f, w, o, r: (np.repeat(f[:1], len(f), 0), w), ("nothing moves",)),
    "text": (lambda f, w, o, r: (with_text(f), w), ("it shows text",)),
    "late lips": (
        lambda f, w, o, r: (f, shift(w, -4)),
        ("its lips are early or late", "its lips do not move with its audio"),
    ),
    "other words": (
        lambda f, w, o, r: (f, o[1]),
        ("its lips do not move with its audio", "its lips are early or late"),
    ),
    "two faces": (
        lambda f, w, o, r: (on_canvas(f, 0.5, [(0, 0.2), (0.5, 0.2)]), w),
        ("several faces", "it shows several faces"),
    ),
    "no face": (lambda f, w, o, r: (f[:, ::-1].copy(), w), ("no face", "its face is not seen all the time")),
    "copy": (lambda f, w, o, r: o, ("it is nearly the same as another clip",)),
}


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
    return planted


def overlap(clip: dict, first_s: float, end_s: float) -> float:
    return min(clip["end"] / RATE, end_s) - max(clip["first"] / RATE, first_s)


def read_lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def found_in(work: Path) -> tuple[list[dict], list[dict], list[dict]]:
    """Return the spans that split gave, that filter kept, and that were left out, with their reasons."""

    def span(row: dict) -> dict:
        return {
            "film": Path(row["file_name"]).name,
            "first_s": row["start"],
            "end_s": row["end"],
            "crop": row.get("crop"),
        }

    left_out = []
    for step in ("split", "filtered"):
        for row in read_lines(work / step / "left_out.jsonl"):
            name, _, times = row["clip"].partition("#t=")
            first_s, end_s = map(float, times.partition("&")[0].split(","))
            left_out.append({"film": Path(name).name, "first_s": first_s, "end_s": end_s, "reasons": row["reasons"]})
    steps = [[span(row) for row in read_lines(work / step / "metadata.jsonl")] for step in ("split", "filtered")]
    return *steps, left_out


def report(planted: list[dict], work: Path) -> int:
    clips, kept, left_out = found_in(work)
    edges = {
        (p["film"], p[side])
        for p in planted
        for side in ("first", "end")
        if p["fault"] not in ("no face", "two faces")
    }
    ends = {(c["film"], round(c[side] * RATE)) for c in clips for side in ("first_s", "end_s")}
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
    return int(unnamed > 0 or np.mean(back) < 0.98)


def main(args: argparse.Namespace) -> int:
    work = Path(args.work_dir)
    planted = make_films(Path(args.corpus), work / "films", args.num_clips)
    started_s = time.process_time()
    split_summary = split(SplitConfig(str(work / "films"), str(work / "split"), max_s=1.7, num_workers=0))
    split_s, started_s = time.process_time() - started_s, time.process_time()
    filter_summary = filter_clips(
        FilterConfig(str(work / "split"), str(work / "filtered"), THRESHOLDS, num_workers=0, report=args.report)
    )
    filter_s = time.process_time() - started_s
    print(split_summary, filter_summary, sep="\n")
    status = report(planted, work)
    number, peak = len(planted), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"clips per CPU second: split {number / split_s:.2f}, filter {number / filter_s:.2f}; memory {peak:.0f} MiB")
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of clips with drawn faces")
    parser.add_argument("--work_dir", required=True, help="where films and rows are written")
    parser.add_argument("--num_clips", type=int, default=200, help="how many clips are joined")
    parser.add_argument("--report", action="store_true", help="also write filter's HTML page")
    sys.exit(run(main, parser.parse_args()))
