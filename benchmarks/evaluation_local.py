# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How well the profile `local` measures lips and likeness, on drawn faces that say recorded digits.

python benchmarks/evaluation_local.py --num_clips 100

Prints, for lips against loudness and against phones, Pearson's r with the clip's own audio and with that of other
clips, and how often a shift of the audio by -5 to 5 frames is found to the frame, within 10 frames; then how often a
face is nearest to its own person. Needs flite and the extras faces and eval; about three minutes on one core.
"""

import argparse
import sys

import numpy as np

from diffusers_jova.command import run


MAX_SHIFT = 5  # frames


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num_clips", type=int, default=100, help="held-out clips of the corpus (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="of the corpus (default: 0)")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    from tqdm import tqdm

    from diffusers_jova.evaluation.lips import find_landmarks, mouth_openings, mouth_widths
    from diffusers_jova.evaluation.loudness import SAMPLING_RATE, frame_loudness
    from diffusers_jova.evaluation.phones import PhoneAligner, mouth_shapes
    from diffusers_jova.faces import DlibFaceDetector, find_landmarks_file
    from diffusers_jova.nano.corpus import FRAME_RATE, make_frames, make_waveform, plan_clip

    detector, aligner = DlibFaceDetector(find_landmarks_file()), PhoneAligner()
    gaps, widths, loudness, openings, spreads = [], [], [], [], []
    for index in tqdm(range(args.num_clips), mininterval=10):
        plan = plan_clip("held_out", index, args.seed)
        waveform = make_waveform(plan)
        landmarks = find_landmarks(make_frames(plan, waveform), detector)
        phones = aligner.align(plan.transcript, waveform)
        if phones is None:
            print(f"{plan.name}: {plan.transcript!r} was not found in the audio")
            continue
        shapes = mouth_shapes(phones, len(landmarks), FRAME_RATE)
        gaps.append(mouth_openings(landmarks))
        widths.append(mouth_widths(landmarks))
        loudness.append(frame_loudness(waveform, len(landmarks), FRAME_RATE, SAMPLING_RATE))
        openings.append(shapes[:, 0])
        spreads.append(shapes[:, 1])
    print(f"{len(gaps)} of {args.num_clips} clips, {len(landmarks)} frames at {FRAME_RATE:g} frames/s\n")
    print("| lips | audio | r matched | r mismatched | shifts found to the frame |")
    print("|---|---|---|---|---|")
    report("gap", "loudness", gaps, loudness)
    report("gap", "phones: opening", gaps, openings)
    report("width", "phones: width", widths, spreads)
    report_likeness(args)


def report_likeness(args: argparse.Namespace) -> None:
    """Print how often dlib's descriptor finds a clip's person among pictures of all, and with the mouth opened."""
    from diffusers_jova.evaluation.likeness import describe_clip, describe_faces, face_distance, find_face_network
    from diffusers_jova.nano.corpus import SIZE, make_frames, make_waveform, plan_clip
    from diffusers_jova.nano.faces import Pose, draw_face

    network = find_face_network()
    plans = {}  # one clip of each person
    for index in range(args.num_clips):
        plan = plan_clip("held_out", index, args.seed)
        plans.setdefault(plan.identity, plan)
    clips = [describe_clip(make_frames(plan, make_waveform(plan)), network) for plan in plans.values()]
    poses = (Pose(), Pose(opening=0.7, x=0.01, turn=0.5))
    still, talking = (
        [describe_faces(np.asarray(draw_face(plan.face(), pose, SIZE))[None], network) for plan in plans.values()]
        for pose in poses
    )
    number = len(plans)
    distances = np.array([[face_distance(clip, picture) for picture in still] for clip in clips])
    right = int((distances.argmin(axis=1) == np.arange(number)).sum())
    own, other = distances.diagonal().mean(), distances[~np.eye(number, dtype=bool)].mean()
    print(
        f"\nClips nearest to their own person's picture: {right} of {number}; distance {own:.2f}, others {other:.2f}"
    )
    pictures = [*still, *talking]
    distances = np.array([[face_distance(a, b) for b in pictures] for a in pictures])
    np.fill_diagonal(distances, np.inf)  # not itself
    right = int((distances.argmin(axis=1) == (np.arange(2 * number) + number) % (2 * number)).sum())
    print(f"Pictures, mouth closed and mouth open, nearest to the other one of the person: {right} of {2 * number}")


def report(lips: str, audio: str, seen: list[np.ndarray], heard: list[np.ndarray]) -> None:
    """Print a line of the table."""
    from diffusers_jova.evaluation.lips import best_lag, correlation

    number = range(len(seen))
    matched = np.mean([correlation(seen[i], heard[i]) for i in number])
    mismatched = np.mean([correlation(seen[i], heard[j]) for i in number for j in number if i != j])
    shifts = range(-MAX_SHIFT, MAX_SHIFT + 1)
    found = [best_lag(seen[i], late(heard[i], shift)) == -shift for i in number for shift in shifts]
    print(f"| {lips} | {audio} | {matched:.2f} | {mismatched:.2f} | {sum(found)} of {len(found)} |")


def late(curve: np.ndarray, shift: int) -> np.ndarray:
    """Return a curve some frames later, or earlier if negative; silence takes the place of what is not there."""
    moved = np.zeros_like(curve)
    moved[max(shift, 0) : len(curve) + min(shift, 0)] = curve[max(-shift, 0) : len(curve) - max(shift, 0)]
    return moved


if __name__ == "__main__":
    sys.exit(run(main, parse_args()))
