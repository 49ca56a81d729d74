# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Compare preprocessing before the encoders with decoding and bare dlib on the same frames (aim: 0.8 of its speed),
and detection on every k-th frame with detection on every frame:

python benchmarks/preprocess.py --num_runs 3
"""

import argparse
import runpy
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import dlib
import numpy as np
import skimage.data
from PIL import Image

from diffusers_jova import command
from diffusers_jova.data.clips import Source
from diffusers_jova.data.prepare import Preparation
from diffusers_jova.data.windows import Bucket, Window
from diffusers_jova.faces import DlibFaceDetector, find_landmarks_file, intersection_over_union
from diffusers_jova.media import open_input, write_video


DRAWN_FACES = Path(__file__).parents[1] / "tests" / "drawn_faces.py"
FRAME_RATE = 25


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--num_runs", type=int, default=3, help="runs per side, one side after the other")
    parser.add_argument("--num_frames", type=int, default=49, help="frames per clip, 4k + 1")
    parser.add_argument("--detect_every", type=int, nargs="+", default=[4, 8], help="k of the second comparison")
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    detector = DlibFaceDetector(find_landmarks_file())
    with tempfile.TemporaryDirectory() as folder:
        for name, path in make_clips(Path(folder), args.num_frames).items():
            compare(name, path, detector, args)


def make_clips(folder: Path, num_frames: int) -> dict[str, Path]:
    """Write a drawn talking face, small and large, and a photograph that moves past and nears; return their paths."""
    drawn = runpy.run_path(str(DRAWN_FACES))
    paths = {}
    for height, width in ((360, 640), (1080, 1920)):
        paths[f"drawn face, {height}x{width}"] = path = folder / f"drawn{height}.mp4"
        drawn["write_talking_clip"](path, num_frames, FRAME_RATE, size=(height, width), faces=((0.5, 0.48, 0.62),))
    photograph, frames = Image.fromarray(skimage.data.astronaut()), []
    for i in range(num_frames):
        zoom, shift = 1 + 0.15 * np.sin(i / 9), 30 * np.sin(i / 7)
        width, height = 500 / zoom, 281 / zoom
        left, top = 225 + shift - width / 2, 140 + shift / 4 - height / 2
        box = tuple(np.clip([left, top, left + width, top + height], 0, 512))
        frames.append(photograph.resize((1280, 720), Image.Resampling.BICUBIC, box=box))
    paths["photograph, 720x1280"] = write_video(folder / "photograph.mp4", frames, FRAME_RATE)
    return paths


def compare(name: str, path: Path, detector: DlibFaceDetector, args: argparse.Namespace) -> None:
    window = Window(
        Source(name, path=path), "", Bucket(480, 832, args.num_frames), Fraction(0), args.num_frames, {}, ""
    )
    sides = {
        "decode + bare dlib": lambda: bare_dlib(path, detector.landmarks_file, as_grey=False),
        "decode + bare dlib, grey": lambda: bare_dlib(path, detector.landmarks_file, as_grey=True),
        "preprocessing": lambda: Preparation(Fraction(FRAME_RATE), 16000, detector=detector)(window),
    }
    for k in args.detect_every:
        sides[f"preprocessing, k = {k}"] = lambda k=k: Preparation(
            Fraction(FRAME_RATE), 16000, detector=detector, detect_every=k
        )(window)
    seconds, results = {side: [] for side in sides}, {}
    for _ in range(args.num_runs):
        for side, run in sides.items():
            started = time.process_time()  # of all threads: calmer than the clock where others work too
            results[side] = run()
            seconds[side].append(time.process_time() - started)

    best = {side: min(values) for side, values in seconds.items()}
    print(f"{name}, {args.num_frames} frames, CPU seconds (best of {args.num_runs})")
    for side in sides:
        line = f"  {side:<26} {best[side]:6.2f} s, {args.num_frames / best[side]:5.1f} frames/s"
        if side.startswith("preprocessing"):
            line += f", {best['decode + bare dlib'] / best[side]:.2f} x bare"
            line += f", {best['decode + bare dlib, grey'] / best[side]:.2f} x bare grey"
        if "k =" in side:
            pairs = zip(results["preprocessing"].boxes, results[side].boxes)
            overlap = np.mean([intersection_over_union(*pair) for pair in pairs])
            line += f", {best['preprocessing'] / best[side]:.2f} x every frame, mean IoU {overlap:.3f}"
        print(line)


def bare_dlib(path: Path, landmarks_file: Path, as_grey: bool) -> None:
    """Decode and run dlib as its own examples do, on colour pictures, or on grey ones, which is faster."""
    find_faces, find_landmarks = dlib.get_frontal_face_detector(), load_landmarks(landmarks_file)
    with open_input(path) as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            picture = frame.to_ndarray(format="gray" if as_grey else "rgb24")
            for face in find_faces(picture):
                find_landmarks(picture, face)


def load_landmarks(path: Path, loaded: dict = {}):  # noqa: B006 loaded once, outside of the measured time after run one
    if path not in loaded:
        loaded[path] = dlib.shape_predictor(str(path))
    return loaded[path]


if __name__ == "__main__":
    sys.exit(command.run(main, parse_args()))
