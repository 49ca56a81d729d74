# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How long the rows of half a million clips take to read and write: 700 hours at 5 s.

python benchmarks/dataset_index.py --num_rows 500000
python benchmarks/dataset_index.py --num_rows 0 --num_duplicates 100000
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from diffusers_jova.command import run
from diffusers_jova.data.clips import find_sources
from diffusers_jova.dataset.duplicates import find_duplicates
from diffusers_jova.dataset.journal import Journal, key_of
from diffusers_jova.dataset.rows import row_of, write_rows


CLIPS_PER_FILM, CLIP_S = 720, 5.0  # an hour
TEXTS = {"video_caption": "A woman sits at a desk and speaks. " * 6, "audio_caption": "A calm voice. " * 4}


def write_index(folder: Path, num_rows: int) -> None:
    """Write films, which are empty, and the rows of clips in them."""
    (folder / "rows").mkdir()
    with open(folder / "rows" / "metadata.jsonl", "w", encoding="utf-8") as file:
        for number in range(num_rows):
            film, clip = divmod(number, CLIPS_PER_FILM)
            if not clip:
                (folder / f"film-{film:04d}.mp4").touch()
            start, transcript = clip * CLIP_S, f"These are the words of clip {number}."
            row = {"file_name": f"../film-{film:04d}.mp4", "start": start, "end": start + CLIP_S, **TEXTS}
            row |= {"transcript": transcript, "segments": [{"start": 0.5, "end": 4.5, "text": transcript}]}
            file.write(json.dumps(row | {"measures": {"loudness": -21.4, "speech": 0.83}}) + "\n")


def timed(name: str, function: Callable) -> object:
    started_s = time.process_time()
    result = function()
    print(f"{name}: {time.process_time() - started_s:.1f} CPU s")
    return result


def write_journal(path: Path, keys: list[str]) -> None:
    with Journal(path) as journal:
        for key in keys:
            journal.add(key, {"found": {"loudness": -21.4, "speech": 0.83, "sharpness": 0.61}})


def hashes(num_rows: int) -> list[dict[str, str]]:
    """Return measures with hashes that are far from each other."""
    import numpy as np

    bits = np.random.default_rng(0).bytes(num_rows * 64)
    texts = [bits[64 * number : 64 * number + 64].hex() for number in range(num_rows)]
    return [{"image_hash": text[:64], "audio_hash": text[64:]} for text in texts]


def measure_rows(folder: Path, num_rows: int) -> None:
    write_index(folder, num_rows)
    sources = timed("read rows", lambda: find_sources(folder / "rows", probe_captions=False))
    timed("write rows", lambda: write_rows(folder / "copy.jsonl", (row_of(s, folder) for s in sources)))
    keys = timed("keys", lambda: [key_of(s.path, s.start_s, s.end_s, s.crop) for s in sources])
    timed("write journal", lambda: write_journal(folder / "journal.jsonl", keys))
    timed("read journal", lambda: Journal(folder / "journal.jsonl"))


def say_memory(when: str) -> None:
    print(f"memory {when}: at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB so far")


def main(args: argparse.Namespace) -> int:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.num_rows:
            measure_rows(folder, args.num_rows)
        measures = hashes(args.num_duplicates)
        say_memory("with the hashes")
        timed(f"near-duplicates among {args.num_duplicates}", lambda: find_duplicates(measures))
    say_memory("at the end")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_rows", type=int, default=500_000, help="how many clips; 0: none")
    parser.add_argument("--num_duplicates", type=int, default=20_000, help="of them, to look for near-duplicates")
    sys.exit(run(main, parser.parse_args()))
