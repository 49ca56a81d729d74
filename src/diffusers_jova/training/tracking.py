# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a run tells while it goes: metrics.jsonl always, a tracker, and lines on the terminal with the time left."""

import io
import json
import logging
import time
from collections import defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from PIL import Image

from ..files import whole_file
from ..pipelines.pipeline_output import JoVAPipelineOutput
from .config import TASKS, TrainingConfig
from .flags import to_dict
from .step import StepOutput
from .tasks import is_asked


logger = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
NUM_SIGMA_BINS = 4
LONGEST_SILENCE_S = 30.0  # a step after that tells its line whatever `logging_steps` says
NUM_TIMED_STEPS = 50  # whose mean gives the speed and the time left
SIGMA_OF = {"video": "video", "mouth": "video", "audio": "audio"}  # whose noise level a loss belongs to


def bin_by_sigma(losses: torch.Tensor, sigmas: torch.Tensor, num_bins: int = NUM_SIGMA_BINS) -> dict[str, float]:
    """Return the mean loss in each bin of noise levels that has a sample: {"0.25-0.50": 0.7, ...}.

    Args:
        losses, sigmas: (N,), noise levels in [0, 1].
    """
    bins = (sigmas * num_bins).long().clamp(max=num_bins - 1)
    means = {}
    for index in range(num_bins):
        chosen = losses[bins == index]
        if len(chosen):
            means[f"{index / num_bins:.2f}-{(index + 1) / num_bins:.2f}"] = chosen.mean().item()
    return means


def split_by_task(losses: dict[str, torch.Tensor], tasks: list[str]) -> dict[str, float]:
    """Return the mean loss of each task that has a sample: {"loss/task_a2v": 3.1, "loss/video/task_a2v": 0.7, ...}.

    Args:
        losses: (N,) of each name, and their "total".
        tasks: Of each sample.
    """
    means = {}
    asked = {"total": [True] * len(tasks), **is_asked(tasks)}
    for task in TASKS:
        for name in losses:
            chosen = torch.tensor([one == task and is_in for one, is_in in zip(tasks, asked[name])])
            if chosen.any():
                key = f"loss/task_{task}" if name == "total" else f"loss/{name}/task_{task}"
                means[key] = losses[name][chosen].mean().item()
    return means


class TrainingLog:
    """Collects the losses of a step from all batches and processes, and writes them.

    Args:
        accelerator: Its trackers are started here.
        config: Settings of the run.
        first_step: Steps done before; lines of later ones, which a killed run left in metrics.jsonl, are dropped, and
            TensorBoard shows its later points no more.
    """

    def __init__(self, accelerator: Accelerator, config: TrainingConfig, first_step: int = 0):
        self.accelerator, self.config = accelerator, config
        self.path = Path(config.output_dir) / METRICS_FILE
        self.columns: dict[str, list[torch.Tensor]] = defaultdict(list)
        self.started_s = self.told_s = time.monotonic()
        self.laps_s: deque[float] = deque(maxlen=NUM_TIMED_STEPS)
        if accelerator.is_main_process:
            self._drop_lines_after(first_step)
        if config.report_to != "none":
            settings = {name: value if isinstance(value, int | float | str) else str(value)
                        for name, value in to_dict(config).items()}  # fmt: skip
            purge = {"tensorboard": {"purge_step": first_step + 1}}
            accelerator.init_trackers("diffusers-jova", config=settings, init_kwargs=purge)

    def add(self, output: StepOutput) -> None:
        """Take the losses (B,) of one batch."""
        for name, loss in output.losses.items():
            self.columns[f"loss {name}"].append(loss)
        for name, sigmas in output.sigmas.items():
            self.columns[f"sigma {name}"].append(sigmas)
        tasks = [TASKS.index(task) for task in output.tasks]
        self.columns["task"].append(torch.tensor(tasks, device=output.loss.device))

    def write(self, step: int, learning_rate: float, norms: dict[str, float], grad_norm: float) -> dict[str, Any]:
        """Write the line of an optimizer step, which is `step` from 1, and return it. Called by all processes."""
        columns = {name: self.accelerator.gather(torch.cat(parts)) for name, parts in self.columns.items()}
        self.columns.clear()
        losses = {name.split()[1]: x.cpu() for name, x in columns.items() if name.startswith("loss")}
        sigmas = {name.split()[1]: x.cpu() for name, x in columns.items() if name.startswith("sigma")}
        tasks = [TASKS[index] for index in columns["task"].tolist()]
        metrics = {"loss": losses["total"].mean().item()}
        for name, asked in is_asked(tasks).items():
            if name in losses and any(asked):  # a given modality has no loss, and a mean with it would say nothing
                chosen = torch.tensor(asked)
                loss, levels = losses[name][chosen], sigmas[SIGMA_OF[name]][chosen]
                metrics[f"loss/{name}"] = loss.mean().item()
                binned = bin_by_sigma(loss, levels)
                metrics |= {f"loss/{name}/sigma_{where}": mean for where, mean in binned.items()}
        if set(self.config.tasks) != {"t2av"}:
            metrics |= split_by_task(losses, tasks)
        metrics |= {"grad_norm": grad_norm} | {f"grad_norm/{modality}": norm for modality, norm in norms.items()}
        metrics |= {"learning_rate": learning_rate, "clips": len(losses["total"])}
        metrics |= {"num_processes": self.accelerator.num_processes, "seconds": round(self._lap_s(), 3)}
        if self.config.report_to != "none":
            self.accelerator.log(metrics, step=step)
        if self.accelerator.is_main_process:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **metrics}) + "\n")
            silent_s = self.started_s - self.told_s
            if step % self.config.logging_steps == 0 or silent_s >= LONGEST_SILENCE_S:
                parts = " ".join(
                    f"{name} {metrics[f'loss/{name}']:.4f}" for name in SIGMA_OF if f"loss/{name}" in metrics
                )
                logger.info(
                    f"step {step}/{self.config.max_train_steps} loss {metrics['loss']:.4f} ({parts}) "
                    f"grad {grad_norm:.3f} lr {learning_rate:.2e} {metrics['seconds']:.2f} s{self._pace(step)}"
                )
                self.told_s = self.started_s
        return metrics

    def add_clip(self, step: int, name: str, path: Path, output: JoVAPipelineOutput) -> None:
        """Hand a clip made in validation to the tracker: video and audio."""
        for tracker in self.accelerator.trackers:
            if tracker.name == "tensorboard":
                add_clip_to_tensorboard(tracker.writer, step, name, output)
            elif tracker.name == "wandb":
                import wandb

                media = wandb.Video(str(path)) if path.suffix == ".mp4" else wandb.Audio(str(path))
                tracker.log({name: media}, step=step)

    def close(self) -> None:
        self.accelerator.end_training()

    def _lap_s(self) -> float:
        before, self.started_s = self.started_s, time.monotonic()
        self.laps_s.append(self.started_s - before)
        return self.laps_s[-1]

    def _pace(self, step: int) -> str:
        """Return ", 2.1 steps/s, 5 min left" from the mean of the last steps, checkpoints and validations included."""
        left = self.config.max_train_steps - step
        mean_s = sum(self.laps_s) / len(self.laps_s)
        if left == 0 or mean_s == 0:
            return ""
        speed = f"{1 / mean_s:.2f} steps/s" if mean_s < 1 else f"{mean_s:.1f} s/step"
        return f", {speed}, {format_duration(left * mean_s)} left"

    def _drop_lines_after(self, step: int) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8").split("\n"):
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line + "\n")
            except (json.JSONDecodeError, KeyError):  # cut off in the middle
                continue
        with whole_file(self.path) as partial:
            partial.write_text("".join(kept), encoding="utf-8")


def format_duration(seconds: float) -> str:
    """Return seconds for people: "40 s", "5 min", "3 h 20 min", "2 d 4 h"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{round(seconds)} s"
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    if hours < 48:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{hours // 24} d {hours % 24} h"


def add_clip_to_tensorboard(writer: Any, step: int, name: str, output: JoVAPipelineOutput) -> None:
    """Write frames as an animated GIF, which is what TensorBoard's videos are, and audio.

    `SummaryWriter.add_video` does the same with moviepy, which nobody should need for it.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary

    if output.frames is not None:
        images = [Image.fromarray((frame * 255).round().astype("uint8")) for frame in np.asarray(output.frames[0])]
        buffer = io.BytesIO()
        images[0].save(
            buffer, "GIF", save_all=True, append_images=images[1:], duration=1000 / output.frame_rate, loop=0
        )
        width, height = images[0].size
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
        writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=image)]), step)
    if output.audio is not None:
        writer.add_audio(f"{name}/audio", torch.as_tensor(output.audio[0]), step, output.audio_sampling_rate)
    writer.flush()
