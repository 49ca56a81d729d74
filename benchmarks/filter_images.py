# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Show what each filter leaves out, with clips of the drawn heads, as the images of docs/dataset.md:

    python training/nano/make_corpus.py --num_train 2 --num_held_out 0 --output_dir corpus/
    python benchmarks/filter_images.py --corpus corpus/train --output_dir docs/images

Each clip gets the fault of its filter, is measured as `filter` measures it, and stands there with its number; one that
would stay is an error.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from diffusers_jova.command import run
from diffusers_jova.dataset.filters import FILTERS, Filter
from diffusers_jova.dataset.measures import measure_audio, measure_face, measure_frames
from diffusers_jova.evaluation.lips import find_landmarks, mouth_openings
from diffusers_jova.evaluation.loudness import frame_loudness
from diffusers_jova.faces import FaceDetector, choose_detector
from diffusers_jova.media import read_video
from diffusers_jova.nano.faults import FAULTS, RATE, SAMPLING_RATE, Clip


SIDE, NUM_FRAMES, CAPTION, GAP = 128, 3, 48, 12  # pixels of a frame; frames of a tile; pixels
NUM_COLUMNS = 3
NEAREST = Image.Resampling.NEAREST  # so that one sees how many pixels there are


def planted(name: str) -> Callable[[Clip, Clip], Clip]:
    """Return what does to a clip what `dataset.py` plants under that name."""
    return lambda clip, other: FAULTS[name][0](*clip, other, np.random.default_rng(0))


def moving(frames: np.ndarray) -> np.ndarray:
    return np.stack([np.roll(frame, 9 * number, axis=1) for number, frame in enumerate(frames)])


def lowered(frames: np.ndarray, rows: int) -> np.ndarray:
    """Return frames whose content has gone down, out of the image."""
    return np.concatenate([np.repeat(frames[:, :1], rows, axis=1), frames[:, :-rows]], axis=1)


def half(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first[: len(first) // 2], second[len(first) // 2 :]])


def beat(num_samples: int) -> np.ndarray:
    """Return five notes per second, which are too quick for the lips."""
    seconds = np.arange(num_samples) / SAMPLING_RATE
    return 0.3 * np.sin(2 * np.pi * 300 * seconds) * (np.sin(2 * np.pi * 5 * seconds) > 0)


# group -> filter -> what is done with a clip and another one
GROUPS: dict[str, dict[str, Callable[[Clip, Clip], Clip]]] = {
    "image": {
        "min_resolution": lambda clip, other: (clip[0][:, ::2, ::2], clip[1]),
        "min_sharpness": planted("blurred"),
        "min_motion": planted("still"),
        "max_motion": lambda clip, other: (moving(clip[0]), clip[1]),
        "max_cuts": lambda clip, other: (half(clip[0], other[0]), clip[1]),
        "max_text": planted("text"),
    },
    "face": {
        "max_faces": planted("two faces"),
        "min_face_frames": lambda clip, other: (half(clip[0], clip[0][:, ::-1]), clip[1]),
        "min_mouth": lambda clip, other: (lowered(clip[0], 36), clip[1]),
        "min_lips": lambda clip, other: (clip[0], beat(len(clip[1]))),
        "max_lag_s": planted("late lips"),
    },
    "audio": {
        "min_loudness": lambda clip, other: (clip[0], clip[1] / 100),
        "max_silence": lambda clip, other: (clip[0], np.where(np.arange(len(clip[1])) < 12000, clip[1], 0)),
        "max_clipping": planted("clipped"),
        "min_snr": planted("noise"),
        "min_speech": planted("music"),
        "max_other": planted("music"),
    },
}


def measure(clip: Clip, detector: FaceDetector) -> dict:
    frames, waveform = clip
    rate = Fraction(RATE)
    found = {"resolution": min(frames.shape[1:3])} | measure_frames(frames, rate) | measure_audio(waveform)
    return found | measure_face(frames, rate, waveform.astype(np.float32), detector)


def tile(clip: Clip, lines: tuple[str, ...], drawn: str, detector: FaceDetector) -> Image.Image:
    """Return frames of a clip, or its audio, or its lips with its audio, above lines of text."""
    image = Image.new("RGB", (SIDE * NUM_FRAMES, SIDE + CAPTION), "white")
    if drawn == "frames":
        for number, index in enumerate(np.linspace(0, len(clip[0]) - 1, NUM_FRAMES).round().astype(int)):
            image.paste(Image.fromarray(clip[0][index]).resize((SIDE, SIDE), NEAREST), (number * SIDE, 0))
    else:
        draw = ImageDraw.Draw(image)
        draw.rectangle((0, 0, image.width - 1, SIDE - 1), fill="#eef2f6")
        curves = lips_and_loudness(clip, detector) if drawn == "lips" else waveform_edges(clip[1], image.width)
        for curve, colour in zip(curves, ("#1f6fb2", "#c2491d" if drawn == "lips" else "#1f6fb2")):
            points = zip(np.linspace(0, image.width - 1, len(curve)), (1 - curve) * (SIDE - 9) + 4)
            draw.line([(float(x), float(y)) for x, y in points], fill=colour, width=2)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for number, line in enumerate(lines):
        draw.text((2, SIDE + 3 + 17 * number), line, fill="black", font=font)
    return image


def waveform_edges(waveform: np.ndarray, width: int) -> list[np.ndarray]:
    """Return the waveform as one line that goes up and down between the edges of each column."""
    columns = np.array_split(waveform, width // 2)
    return [np.array([edge for column in columns for edge in (column.max(), column.min())]).clip(-1, 1) / 2 + 0.5]


def lips_and_loudness(clip: Clip, detector: FaceDetector) -> list[np.ndarray]:
    openings = np.nan_to_num(mouth_openings(find_landmarks(clip[0], detector)))
    loudness = frame_loudness(clip[1], len(clip[0]), RATE, SAMPLING_RATE)
    return [(curve - curve.min()) / max(np.ptp(curve), 1e-6) for curve in (openings, loudness)]


def tiles(group: str, clip: Clip, other: Clip, detector: FaceDetector) -> Iterator[Image.Image]:
    kind = {"image": "frames", "audio": "audio"}
    yield tile(clip, ("a good clip", ""), kind.get(group, "frames"), detector)
    for name, spoil in GROUPS[group].items():
        spoilt = spoil(clip, other)
        found, each = measure(spoilt, detector), filter_by(name)
        value, drawn = found[each.measure], kind.get(group, "lips" if name in ("min_lips", "max_lag_s") else "frames")
        print(f"{name} {each.threshold:g}: {value}")
        if not each.leaves_out(found, each.threshold):
            raise ValueError(f"`{name}` would keep the clip that is to show what it leaves out.")
        sign = "<" if each.is_least else ">"
        lines = f"{name}: {each.reason}", f"{each.size(value):.3g} {sign} {each.threshold:g}"
        yield tile(spoilt, lines, drawn, detector)
    if group == "face":
        yield tile(clip, ("lips (blue) and loudness (red)", "of the good clip"), "lips", detector)


def filter_by(name: str) -> Filter:
    return next(each for each in FILTERS if each.name == name)


def main(args: argparse.Namespace) -> int:
    paths = sorted(Path(args.corpus).glob("*.mp4"))
    if len(paths) < 2:
        raise FileNotFoundError(f"`{args.corpus}` needs two clips (.mp4) or more, got {len(paths)}.")
    clips = [read_video(path, RATE, SAMPLING_RATE) for path in paths[args.clip : args.clip + 2]]
    clip, other = ((each.frames, each.waveform[0]) for each in clips)
    detector = choose_detector(None, None, no_faces=False)
    for group in GROUPS:
        found = list(tiles(group, clip, other, detector))
        width, height = found[0].width + GAP, found[0].height + GAP
        num_rows = -(-len(found) // NUM_COLUMNS)
        sheet = Image.new("RGB", (NUM_COLUMNS * width + GAP, num_rows * height + GAP), "white")
        for number, image in enumerate(found):
            row, column = divmod(number, NUM_COLUMNS)
            sheet.paste(image, (GAP + column * width, GAP + row * height))
        path = Path(args.output_dir) / f"filters_{group}.jpg"
        sheet.save(path, quality=85)
        print(f"{path}: {path.stat().st_size / 1024:.0f} kB")
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="folder of clips with drawn heads")
    parser.add_argument("--output_dir", required=True, help="where filters_GROUP.jpg are written")
    parser.add_argument("--clip", type=int, default=0, help="number of the clip that is shown")
    sys.exit(run(main, parser.parse_args()))
