# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What faults, made on purpose, do to the measures of the profile `local`: the table of docs/evaluation_proof.md.

python benchmarks/evaluation_faults.py --clips tests/evaluation/clips

Needs the extras faces and eval. --make writes the clips anew: drawn faces that say recorded digits; needs flite.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from diffusers_jova.command import run


CLIPS = {  # voice: the digits that it says, and where in the spare time it begins
    "slt": ("seven one, four, nine two", 0.0),
    "rms": ("three, eight zero five", 1.0),
    "awb": ("nine two six, one", 0.5),
}
PACE = 1.0  # of flite's durations
MARGIN_S = 0.42  # of silence before and after: a shift of five frames loses no word
IDENTITIES = range(10_000, 10_100)  # held out: seeds of people whom jova-nano has never seen
SIZE, NUM_FRAMES, FRAME_RATE = 128, 36, 12.5


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, required=True, help="folder with prompts.jsonl, ID.mp4 and pictures")
    parser.add_argument("--make", action="store_true", help="write the clips into that folder, which must be new")
    return parser.parse_args()


def main(args: argparse.Namespace) -> int:
    if args.make:
        make_clips(args.clips)
    from diffusers_jova.evaluation.faults import Ruler, as_markdown, fault_table, measure_faults, read_clips

    found = measure_faults(Ruler({"Words": "digits"}), read_clips(args.clips))
    table = fault_table(found)
    print(as_markdown(table, found))
    return 0 if all(cell.good for cells in table.values() for cell in cells.values()) else 1


def make_clips(folder: Path) -> None:
    """Write the clips. They begin to speak at different times: those that begin together look alike to any measure."""
    from diffusers_jova.media import write_video
    from diffusers_jova.nano.corpus import make_poses
    from diffusers_jova.nano.faces import Identity, Pose, draw_face
    from diffusers_jova.nano.speech import SAMPLING_RATE, VOICES, speak

    folder.mkdir(parents=True)
    rows, margin = [], round(MARGIN_S * SAMPLING_RATE)
    for seed, (voice, (text, place)) in zip(IDENTITIES, CLIPS.items()):
        spoken = speak(voice, text, PACE)
        waveform = np.zeros(round(NUM_FRAMES / FRAME_RATE * SAMPLING_RATE), np.float32)
        spare = len(waveform) - len(spoken) - 2 * margin
        start = margin + round(place * spare)
        waveform[start : start + len(spoken)] = spoken
        face = Identity.from_seed(seed, person=VOICES[voice].person)
        poses = make_poses(waveform, seed, NUM_FRAMES)
        frames = np.stack([np.asarray(draw_face(face, pose, SIZE)) for pose in poses])
        write_video(folder / f"{voice}.mp4", frames, FRAME_RATE, waveform, SAMPLING_RATE, ai_generated=False)
        draw_face(face, Pose(), SIZE).save(folder / f"{voice}.png", optimize=True)
        rows.append({"id": voice, "speech_text": text.replace(",", ""), "image": f"{voice}.png"})
        print(f"{voice}: {len(spoken) / SAMPLING_RATE:.2f} s of speech from {start / SAMPLING_RATE:.2f} s on")
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
