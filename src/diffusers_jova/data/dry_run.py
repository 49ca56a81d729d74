# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a run would do and how much memory it would take, without doing it."""

from pathlib import Path

import numpy as np
from safetensors import safe_open

from ..engines import open_engine
from ..pipeline_folder import read_pipeline_folder
from . import cache
from .model_facts import COMPONENTS_OF
from .plan import make_plan
from .run import Run, check_cache, prepare_run
from .settings import PreprocessingConfig
from .windows import Window


# Numbers in memory at a time, by measuring: per pixel and unit of width for a chunk of four frames, per mel frame and
# unit of width, per token and unit of width.
WAN_ENCODER_WORK, AUDIO_ENCODER_WORK, TEXT_ENCODER_WORK = 42, 64, 24


def dry_run(config: PreprocessingConfig) -> str:
    """Return, as a text, what a run would do and about how much memory each phase takes. Nothing is written."""
    run = prepare_run(config)
    check_cache(run)
    with open_engine(run.config, run.config.num_workers, run.summary.warn) as engine:
        windows = make_plan(run, engine).windows
    duration_s = float(sum(window.num_frames / run.frame_rate for window in windows))
    lines = [f"plan: {len(windows)} samples of {run.summary.num_sources} clips, {duration_s:.2f} s"]
    lines += [f"  skipped: {name}: {reason}" for name, reason in run.summary.skipped]
    lines.append(f"peak memory per phase, one after another, on {run.device} in {run.dtype}:")
    for phase in run.facts.phases:
        weights, work = phase_memory(run, phase, windows)
        names = ", ".join(COMPONENTS_OF[phase])
        lines.append(
            f"  {phase:<6} {(weights + work) / 2**20:10,.0f} MiB: {weights / 2**20:,.0f} weights ({names}), "
            f"about {work / 2**20:,.0f} activations"
        )
    frames = frame_memory(run, windows) / 2**20
    lines.append(f"  decoded frames, in main memory during the video phase: about {frames:,.0f} MiB")
    return "\n".join(lines)


def phase_memory(run: Run, phase: str, windows: list[Window]) -> tuple[int, int]:
    """Return the bytes of a phase's weights and, roughly, of its activations."""
    size, folder = run.dtype.itemsize, run.facts.folder
    weights = size * sum(_num_parameters(folder / name) for name in COMPONENTS_OF[phase])
    config = read_pipeline_folder(folder).config(COMPONENTS_OF[phase][-1])
    num_frames = max((window.num_frames for window in windows), default=0)
    if phase == "video":
        area = max(bucket.height * bucket.width for bucket in run.buckets)
        return weights, WAN_ENCODER_WORK * area * config.get("base_dim", 96) * size
    if phase == "audio":
        mel_frames = 2 * num_frames / run.frame_rate * run.facts.audio_latent_rate
        return weights, int(AUDIO_ENCODER_WORK * mel_frames * config.get("hidden_channels", 512) * size)
    width = config.get("d_model", config.get("hidden_size", 0))
    return weights, TEXT_ENCODER_WORK * run.config.max_sequence_length * width * size


def frame_memory(run: Run, windows: list[Window]) -> int:
    """Return the bytes of the clips that wait for the VAE, and of the frame that is read at its own size."""
    prepared = max((3 * w.num_frames * w.bucket.height * w.bucket.width for w in windows), default=0)
    # three as they were decoded, one in colour, one in grey, one on its way through Pillow
    read = max((10 * w.source_area for w in windows), default=0)
    num_workers = run.config.num_workers
    return (2 * num_workers + 1) * prepared + max(num_workers, 1) * read


def _num_parameters(folder: Path) -> int:
    """Return how many numbers the weights in a component's folder are."""
    total = 0
    for path in cache.weight_files(folder):
        with safe_open(path, framework="pt") as file:
            total += sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())
    return total
