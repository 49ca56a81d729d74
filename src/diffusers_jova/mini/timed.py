# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The stages of jova-mini's training within a time: each measures its own speed and takes the steps that fit."""

import json
import math
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from ..files import remove_folder, whole_folder
from ..headers import read_json_lines
from ..training.checkpoint import checkpoint_step, find_checkpoint
from ..training.config import TrainingConfig
from ..training.tracking import METRICS_FILE
from ..training.train import train
from .carried import BASE, save_half


NUM_TRIED, NUM_WARM_UP = 24, 8  # steps that measure the speed, and those of them that do not count
MARGIN = 0.94  # of the time that is planned; checkpoints and slower moments need the rest
WRITING_S = 10.0  # for the result
NUM_AVERAGED = 50  # steps at the beginning and at the end, whose losses are told
NUM_CHECKPOINTS = 4  # of a stage
SHARD_MB = 15.0  # of the result's files
LOSSES = ("loss", "loss/video", "loss/mouth", "loss/audio")


def check_device(smoke: bool = False) -> None:
    """Raise ValueError where there is no GPU, unless the code is to be tried only."""
    if not smoke and not torch.cuda.is_available():
        raise ValueError(
            "There is no GPU here, and on a CPU this takes hours, for which there is training/mini/train.sh. --smoke "
            "tries all of it in two steps a stage."
        )


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: of its folder.
        settings: of `TrainingConfig`, folders and steps left out.
        share: of the time, in proportion to those of the others.
        cache: name of the cache that it learns from.
        starts_from: settings that name a transformer, with the stage whose result that is.
    """

    name: str
    settings: Mapping[str, Any]
    share: float
    cache: str
    starts_from: Mapping[str, str]


class Clock:
    """What is left of some seconds that begin now."""

    def __init__(self, seconds: float):
        self.end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        return self.end - time.monotonic()

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return self.left_s <= 0


def train_in_time(
    whole: Path,
    output_dir: Path,
    stages_dir: Path,
    stages: Sequence[Stage],
    clock: Clock,
    num_steps: int | None = None,
) -> dict[str, Any]:
    """Train the stages one after the other, write the last one's transformer and metrics.json, and return the latter.

    Args:
        whole: folder that `join_carried` filled.
        output_dir: gets all or nothing of `transformer`, in float16 in files of at most `SHARD_MB`, and metrics.json.
        stages_dir: for what the stages write; one whose result is there is kept, one with a checkpoint goes on.
        clock: over the whole time.
        num_steps: of each stage; None takes those that fit into its share of the time.

    Raises:
        ValueError: If the time is over before the last stage begins.
    """
    metrics: dict[str, Any] = {"torch": torch.__version__, "date": f"{datetime.now(UTC):%Y-%m-%d}"}
    metrics["device"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    metrics["stages"] = {}
    for index, stage in enumerate(stages):
        share = stage.share / sum(later.share for later in stages[index:])
        own = Clock(share * (clock.left_s - WRITING_S))
        metrics["stages"][stage.name] = train_stage(whole, stages_dir, stage, own, num_steps)
    with whole_folder(output_dir, overwrite=True) as partial:
        save_half(stages_dir / stages[-1].name / "transformer", partial / "transformer", SHARD_MB)
        (partial / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def train_stage(
    whole: Path, stages_dir: Path, stage: Stage, clock: Clock, num_steps: int | None = None
) -> dict[str, Any]:
    """Train a stage, unless its result is there, until it has its steps or its time is over; return its figures."""
    folder = stages_dir / stage.name
    settings = dict(stage.settings) | {"model": str(whole / BASE), "cache_dir": str(whole / stage.cache)}
    settings |= {name: str(stages_dir / other) for name, other in stage.starts_from.items()}
    if (folder / "transformer").is_dir():
        return summarise(folder)
    checkpoint = find_checkpoint(folder, "latest")
    done = checkpoint_step(checkpoint) or 0 if checkpoint else 0
    steps = done + (num_steps or count_steps(settings, stages_dir / f".{stage.name}-tried", clock))
    settings |= {"output_dir": str(folder), "max_train_steps": steps, "resume_from_checkpoint": "latest"}
    settings |= {"checkpointing_steps": math.ceil(steps / NUM_CHECKPOINTS), "checkpoints_total_limit": 1}
    config = TrainingConfig(**settings)
    train(config, clock.is_over)
    return {"planned_steps": steps, "train_batch_size": config.train_batch_size} | summarise(folder)


def count_steps(settings: Mapping[str, Any], folder: Path, clock: Clock) -> int:
    """Return how many steps fit into the time that is left, by the speed of a few that are thrown away.

    Args:
        settings: of the stage, without its output folder and its steps.
        folder: for the steps that are tried; it is removed.

    Raises:
        ValueError: If no time is left.
    """
    if folder.exists():  # of a run that was killed
        remove_folder(folder)
    began = time.monotonic()
    few = {"output_dir": str(folder), "max_train_steps": NUM_TRIED, "checkpointing_steps": NUM_TRIED}
    train(TrainingConfig(**{**settings, **few}), clock.is_over)
    took_s = time.monotonic() - began
    laps = [row["seconds"] for _, row in read_json_lines(folder / METRICS_FILE)]
    remove_folder(folder)
    if clock.is_over() or len(laps) <= NUM_WARM_UP:
        raise ValueError(
            f"The time of this stage was over after {len(laps)} of the {NUM_TRIED} steps that measure its speed: "
            "allow more minutes, or give it a larger share of them."
        )
    step_s = statistics.fmean(laps[NUM_WARM_UP:])
    starting_s = took_s - len(laps) * step_s  # what the stage itself needs once more, before and after its steps
    return max(int(MARGIN * (clock.left_s - starting_s) / step_s), 1)


def summarise(folder: Path) -> dict[str, Any]:
    """Return what a run's metrics say: steps, clips seen, seconds, steps per second, losses at beginning and end."""
    rows = [row for _, row in read_json_lines(folder / METRICS_FILE)]
    seconds = sum(row["seconds"] for row in rows)
    figures = {"steps": rows[-1]["step"], "clips": sum(row["clips"] for row in rows), "seconds": round(seconds, 1)}
    figures["steps_per_s"] = round(len(rows) / max(seconds, 1e-3), 3)
    for when, some in (("first", rows[:NUM_AVERAGED]), ("last", rows[-NUM_AVERAGED:])):
        for name in LOSSES:
            values = [row[name] for row in some if name in row]
            if values:
                figures[f"{name.replace('/', '_')}_{when}"] = round(statistics.fmean(values), 4)
    return figures
