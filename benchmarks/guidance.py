# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure what the two guidance scales do to words, lips and faces, and draw it:

    python benchmarks/guidance.py
    python benchmarks/guidance.py --video_scales 1 5 10 --audio_scales 1 5 10 --num_clips 40 --drawing guidance.svg

What is measured is in --data after each pair of scales: a run that was stopped goes on there, and one that has it all
only draws.

Every cell makes the same held-out clips of the small model's corpus with the same noise. Words: the part of them that
pocketsphinx, which knows the ten digits, hears wrong. Lips: r between the gap of the lips and the loudness, at the
best lag of -1, 0, 1 frames. Faces: the part of the frames in which dlib finds one.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

from diffusers_jova import JoVAPipeline
from diffusers_jova.command import run
from diffusers_jova.files import reading, whole_file
from diffusers_jova.nano.directions import NOISE_SEED, captioned
from diffusers_jova.nano.measuring import generate, held_out_plans, measure
from diffusers_jova.pipeline_folder import read_pipeline_folder


# title, what has the fullest colour, what has none
PANELS = {"words": ("words wrong", 0.0, 0.2), "lips": ("lips: r", 0.9, 0.5), "faces": ("face found", 1.0, 0.85)}
CELL, MARGIN, TITLE = 56, 64, 58
STYLE = """\
<style>
text { font: 13px sans-serif; fill: #222; text-anchor: middle; dominant-baseline: middle }
.title { font-weight: bold } .good { fill: #2f7fc1 } .own { fill: none; stroke: #222; stroke-width: 2 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .good { fill: #3d8fd6 } .own { stroke: #ddd } }
</style>
"""


def measure_cell(pipe: JoVAPipeline, plans, scale: float, audio_scale: float, steps: int) -> dict[str, float]:
    """Return the measures of the clips that two scales make."""
    settings = {"guidance_scale": scale, "audio_guidance_scale": audio_scale, "num_inference_steps": steps}
    found = measure(generate(pipe, [captioned(plan) for plan in plans], NOISE_SEED, **settings))
    return {"words": found.word_error_rate, "lips": found.lips_in_time, "faces": found.faces_found}


def own_scales(model: str) -> tuple[float, float]:
    """Return the scales that a checkpoint brings itself."""
    defaults = read_pipeline_folder(model).call_defaults
    scale, audio_scale = defaults["guidance_scale"], defaults["audio_guidance_scale"]
    return scale, scale if audio_scale is None else audio_scale


def draw(cells: dict[tuple[float, float], dict[str, float]], own: tuple[float, float], path: Path) -> None:
    """Draw a heat map of each measure: the fuller the colour, the better; the scales of `own` have a frame."""
    rows, columns = (sorted({key[axis] for key in cells}) for axis in (0, 1))
    width = MARGIN + CELL * len(columns)
    pieces = []
    for number, (name, (title, best, worst)) in enumerate(PANELS.items()):
        left = number * (width + 24) + MARGIN
        pieces.append(f'<text class="title" x="{left + CELL * len(columns) / 2}" y="14">{title}</text>')
        pieces.append(f'<text x="{left + CELL * len(columns) / 2}" y="{TITLE - 24}">audio_guidance_scale</text>')
        for k, column in enumerate(columns):
            pieces.append(f'<text x="{left + CELL * (k + 0.5)}" y="{TITLE - 8}">{column:g}</text>')
        for i, row in enumerate(rows):
            y = TITLE + CELL * (i + 0.5)
            pieces.append(f'<text x="{left - 14}" y="{y}">{row:g}</text>')
            for k, column in enumerate(columns):
                value = cells[row, column][name]
                goodness = min(max((value - worst) / (best - worst), 0.0), 1.0)
                x, top = left + CELL * k, TITLE + CELL * i
                pieces.append(
                    f'<rect class="good" x="{x}" y="{top}" width="{CELL - 2}" height="{CELL - 2}" '
                    f'fill-opacity="{0.75 * goodness:.2f}"/>'
                )
                pieces.append(f'<text x="{x + CELL / 2 - 1}" y="{y}">{value:.2f}</text>')
                if (row, column) == own:
                    pieces.append(f'<rect class="own" x="{x}" y="{top}" width="{CELL - 2}" height="{CELL - 2}"/>')
    middle = TITLE + CELL * len(rows) / 2
    pieces.append(f'<text transform="rotate(-90 20 {middle})" x="20" y="{middle}">guidance_scale</text>')
    size = f"{len(PANELS) * (width + 24)} {TITLE + CELL * len(rows) + 4}"
    with whole_file(path, "") as partial:
        body = "\n".join(pieces)
        partial.write_text(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" role="img">\n{STYLE}{body}\n</svg>\n',
            encoding="utf-8",
        )


def load_cells(path: Path, settings: dict) -> dict[tuple[float, float], dict[str, float]]:
    """Return what a file of measurements holds, by its two scales; nothing if there is no file.

    Raises:
        ValueError: If other clips were measured there.
    """
    if not path.is_file():
        return {}
    with reading(path, "remove it, and measure again"):
        data = json.loads(path.read_text(encoding="utf-8"))
        cells = {tuple(cell.pop("scales")): cell for cell in data.pop("cells")}
    if data != settings:
        raise ValueError(f"{path} was measured with {data}, and this run asks for {settings}: choose another --data.")
    return cells


def save_cells(path: Path, settings: dict, cells: dict[tuple[float, float], dict[str, float]]) -> None:
    """Write the measurements, a line for each pair of scales."""
    head = json.dumps(settings)[1:-1]
    lines = ",\n".join(json.dumps({"scales": scales} | found) for scales, found in cells.items())
    with whole_file(path) as partial:
        partial.write_text(f'{{{head}, "cells": [\n{lines}\n]}}\n', encoding="utf-8")


def main(args: argparse.Namespace) -> None:
    settings = {name: getattr(args, name) for name in ("model", "num_clips", "num_inference_steps")}
    settings["seed"] = NOISE_SEED
    cells = load_cells(args.data, settings)
    scales = list(itertools.product(args.video_scales, args.audio_scales))
    if not cells.keys() >= set(scales):
        pipe = JoVAPipeline.from_pretrained(args.model)
        pipe.set_progress_bar_config(disable=True)
        plans = held_out_plans(args.num_clips)
    print("| guidance_scale | audio_guidance_scale | words wrong | lips: r | face found |")
    print("|---|---|---|---|---|")
    for scale, audio_scale in scales:
        if (scale, audio_scale) not in cells:
            cells[scale, audio_scale] = measure_cell(pipe, plans, scale, audio_scale, args.num_inference_steps)
            save_cells(args.data, settings, cells)
        numbers = (f"{cells[scale, audio_scale][name]:.3f}" for name in PANELS)
        print("| " + " | ".join([f"{scale:g}", f"{audio_scale:g}", *numbers]) + " |", flush=True)
    if args.drawing:
        draw({pair: cells[pair] for pair in scales}, own_scales(args.model), args.drawing)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--model", default="jova-nano", help="the pipeline")
    parser.add_argument("--video_scales", type=float, nargs="+", default=[1.0, 3.0, 6.0, 10.0], help="the rows")
    parser.add_argument("--audio_scales", type=float, nargs="+", default=[1.0, 3.5, 6.0, 10.0], help="the columns")
    parser.add_argument("--num_clips", type=int, default=24, help="held-out clips in each cell")
    parser.add_argument("--num_inference_steps", type=int, default=20, help="denoising steps")
    parser.add_argument("--data", type=Path, default="guidance.json", help="a file that keeps what is measured")
    parser.add_argument("--drawing", type=Path, help="an .svg file to draw the heat maps in")
    sys.exit(run(main, parser.parse_args()))
