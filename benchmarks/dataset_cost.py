# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How many CPU seconds a second of film takes in each step, and from that, what 700 hours cost on 16 and 160 cores.

    python benchmarks/dataset_cost.py --head docs/images/nano.mp4 --seconds 20

The film is a drawn head in 1280x720 at 25 frames per second, in clips of 5 s. The table of hours is computed: cores in
place of machines, as if films were divided evenly and disks kept up. `preprocess` is asked for a small model's bucket
and encodes with its small encoders, so that reading, faces and mouths are most of it: a large one's encoders run on a
GPU and come on top. Models that describe clips are not in it.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from diffusers_jova.command import run
from diffusers_jova.data.preprocessing import PreprocessingConfig, preprocess
from diffusers_jova.dataset.filter import FilterConfig, filter_clips
from diffusers_jova.dataset.filters import NAMES
from diffusers_jova.dataset.pack import PackConfig, pack
from diffusers_jova.dataset.split import SplitConfig, split
from diffusers_jova.media import read_video, write_video


RATE, SIZE, SAMPLING_RATE = 25, (720, 1280), 48000
HOURS, CORES = 700, (16, 160)


def write_film(path: Path, head: Path, seconds: int) -> None:
    """Write a clip of a head over and over, large, before a plain ground, with a hum."""
    from PIL import Image

    clip = read_video(head, RATE).frames
    left, frames = (SIZE[1] - SIZE[0]) // 2, np.full((len(clip), *SIZE, 3), 128, np.uint8)
    for frame, image in zip(frames, clip):
        frame[:, left : left + SIZE[0]] = np.asarray(Image.fromarray(image).resize((SIZE[0], SIZE[0])))
    frames = np.concatenate([frames] * (seconds * RATE // len(frames) + 1))[: seconds * RATE]
    times_s = np.arange(seconds * SAMPLING_RATE) / SAMPLING_RATE
    write_video(path, frames, RATE, 0.3 * np.sin(2 * np.pi * 220 * times_s), SAMPLING_RATE)


def main(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "films").mkdir()
        write_film(work / "films" / "film.mp4", Path(args.head), args.seconds)
        clips, here = str(work / "split"), {"num_workers": 0}
        tiny = {"buckets": ("64x64x61",), "instance_prompt": "A person talks.", "device": "cpu"}
        steps = {
            "split": lambda: split(SplitConfig(str(work / "films"), clips, **here)).num_kept,
            "filter": lambda: (
                filter_clips(FilterConfig(clips, str(work / "filtered"), dict.fromkeys(NAMES), **here)).num_kept
            ),
            "preprocess": lambda: len(
                preprocess(PreprocessingConfig(clips, args.model, str(work / "cache"), **tiny, **here)).rows
            ),
            "pack": lambda: pack(PackConfig(clips, str(work / "tars"), **here)).num_kept,
        }
        total = 0.0
        print("| step | CPU s per second of film |", *(f"{HOURS} hours on {n} cores, computed |" for n in CORES))
        print("|---|---|", *("---|" for _ in CORES))
        for step, do in steps.items():
            started_s = time.process_time()
            num_clips = do()
            cost = (time.process_time() - started_s) / args.seconds
            total += cost
            print(f"| {step} ({num_clips} clips) | {cost:.2f} |", *(f"{HOURS * cost / n:.1f} h |" for n in CORES))
        print(f"| all | {total:.2f} |", *(f"{HOURS * total / n:.1f} h |" for n in CORES))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--head", required=True, help="a clip with a head that fills it, such as docs/images/nano.mp4")
    parser.add_argument("--model", default="jova-nano", help="whose cache `preprocess` makes")
    parser.add_argument("--seconds", type=int, default=20, help="length of the film")
    sys.exit(run(main, parser.parse_args()))
