# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the road from a Wan to a talking model reached, stage by stage, beside another model and the recordings."""

from pathlib import Path
from typing import Any

from ..files import whole_file
from ..models.branches import join_branches
from ..pipelines.pipeline_jova import JoVAPipeline
from ..training.initialization import load_branch, read_config
from .assemble import SETTINGS
from .directions import NOISE_SEED, captioned
from .measuring import Measures, generate, held_out_plans, measure, record


HEADER = (
    "| clips | number | word error rate | 95 % interval | lips: r at lag −1…1 | shuffled | face found |\n"
    "|---|---|---|---|---|---|---|"
)


def load_stage(model: Path, video: Path | None, audio: Path | None) -> JoVAPipeline:
    """Return a converted Wan with the weights of a stage, at the settings and with the prompts of jova-nano.

    Args:
        model: folder that `convert-wan` wrote.
        video, audio: folders of transformers, each for its branch; None: without this branch.
    """
    folders = {"video": video, "audio": audio}
    branches = {name: load_branch(folder, name) for name, folder in folders.items() if folder is not None}
    transformer = next(iter(branches.values()))
    if len(branches) == 2:
        transformer = join_branches(branches["video"], branches["audio"], read_config(model / "transformer"))
    pipe = JoVAPipeline.from_pretrained(model, transformer=transformer.eval(), **SETTINGS)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stages(model: Path, audio: Path, joint: Path) -> dict[str, tuple[JoVAPipeline, dict[str, Any]]]:
    """Return pipelines of the road's stages, and what to ask of them beside the prompts."""
    return {
        "the Wan, video alone": (load_stage(model, model / "transformer", None), {"modalities": ("video",)}),
        "after stage 1, audio alone": (load_stage(model, None, audio), {"modalities": ("audio",)}),
        "after stage 2": (load_stage(model, joint, joint), {}),
    }


def row(name: str, m: Measures) -> str:
    """Return one line of the table; what a modality that is not there would tell is "–"."""
    words = lips = ("–", "–")
    face = "–"
    if m.heard is not None:
        low, high = m.word_error_interval
        words = (f"{m.word_error_rate:.3f}", f"{low:.3f}–{high:.3f}")
    if m.gaps is not None:
        face = f"{100 * m.faces_found:.1f} %"
    if m.heard is not None and m.gaps is not None:
        lips = (f"{m.lips_in_time:.2f}", f"{m.shuffled:.2f}")
    return f"| {' | '.join((name, str(len(m.transcripts)), *words, *lips, face))} |"


def write_wan_report(
    model: Path,
    audio: Path,
    joint: Path,
    beside: Path,
    output_dir: Path,
    num_clips: int = 100,
    num_inference_steps: int | None = None,
    seed: int = 0,
) -> Path:
    """Measure the road's stages on held-out clips with full captions, write wan_report.md and return it.

    Args:
        model: folder that `convert-wan` wrote.
        audio, joint: transformers' folders of the two stages.
        beside: folder of a pipeline to measure with the same prompts and noise.
        num_clips: held-out clips of the corpus.
        num_inference_steps: instead of jova-nano's.
        seed: of the corpus.
    """
    plans = held_out_plans(num_clips, seed)
    requests = [captioned(plan) for plan in plans]
    other = JoVAPipeline.from_pretrained(beside)
    other.set_progress_bar_config(disable=True)
    steps = {} if num_inference_steps is None else {"num_inference_steps": num_inference_steps}
    lines = [HEADER, row("real recordings", measure(record(plans)))]
    for name, (pipe, settings) in (stages(model, audio, joint) | {beside.name: (other, {})}).items():
        lines.append(row(name, measure(generate(pipe, requests, NOISE_SEED, **settings, **steps))))
    path = output_dir / "wan_report.md"
    output_dir.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
