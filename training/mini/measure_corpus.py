# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Look at the files of a corpus of spoken sentences, and hear what is said in them: faces, lips, words.

Lips are compared with the jaw that the phones ask for, and with loudness; words are heard in the audio before it went
into a file. Needs the extras mini, eval and faces.

python training/mini/measure_corpus.py --corpus outputs/mini/corpus --number 20
"""

import argparse
import sys
from pathlib import Path

from diffusers_jova.command import run


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder that make_corpus.py wrote")
    parser.add_argument("--split", default="train", choices=("train", "held_out"))
    parser.add_argument("--number", type=int, default=20, help="clips, from the first one (default: 20)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    import json

    import numpy as np

    from diffusers_jova.evaluation.lips import correlation, lip_gaps
    from diffusers_jova.evaluation.loudness import frame_loudness
    from diffusers_jova.evaluation.words import WordListener, word_error_rate
    from diffusers_jova.faces import DlibFaceDetector, find_landmarks_file
    from diffusers_jova.media import read_video
    from diffusers_jova.mini.corpus import FRAME_RATE, NUM_FRAMES, SAMPLING_RATE, make_poses, plan_clip
    from diffusers_jova.mini.sentences import vocabulary

    seed = json.loads((args.corpus / "corpus.json").read_text(encoding="utf-8"))["seed"]
    detector, listener = DlibFaceDetector(find_landmarks_file()), WordListener(list(vocabulary()))
    said, heard, seen = [], [], []
    for index in range(args.number):
        plan = plan_clip(args.split, index, seed)
        speech = plan.speech()
        gaps = lip_gaps(read_video(args.corpus / args.split / plan.name).frames, detector)
        jaw = [pose.units["jawOpen"] for pose in make_poses(speech.phones, plan.motion)]
        loudness = frame_loudness(speech.waveform, NUM_FRAMES, FRAME_RATE, SAMPLING_RATE)
        seen.append((np.isfinite(gaps).mean(), correlation(gaps, np.array(jaw)), correlation(gaps, loudness)))
        said.append(plan.transcript)
        heard.append(listener.hear(speech.waveform))
        faces, phones, loud = seen[-1]
        print(
            f"{plan.name}: faces {faces:.2f}, lips with phones {phones:.2f}, with loudness {loud:.2f}, {heard[-1]!r}"
        )
    faces, phones, loud = np.mean(seen, axis=0)
    print(f"{args.number} clips: faces {faces:.3f}, lips with phones {phones:.2f}, with loudness {loud:.2f}, ", end="")
    print(f"word error rate {word_error_rate(said, heard):.3f}")


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
