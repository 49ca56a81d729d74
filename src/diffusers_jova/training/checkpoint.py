# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that appear whole or not at all, from which a run goes on bit for bit.

    checkpoint-N/
        transformer/, pytorch_lora_weights.safetensors     the weights, one or both; see `weights`
        optimizer.bin, random_states_R.pkl, ...            accelerate's own
        training_state.json, ema.safetensors, config.yaml  step, learning rate, moving average, settings

The order of the data needs no state: it is a function of the seed and the step.
"""

import json
import logging
import os
import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch.nn as nn
from accelerate import Accelerator
from diffusers import ModelMixin
from diffusers.training_utils import EMAModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..files import (
    clear_leftovers,
    partial_folder,
    reading,
    reading_folder,
    remove_folder,
    whole_folder,
    write_error,
)
from .adapters import LORA_FILE
from .config import TrainingConfig
from .flags import read_yaml, to_dict, write_yaml
from .weights import load_weights, save_weights


logger = logging.getLogger(__name__)

ADVICE = "go on from an earlier checkpoint, with --resume_from_checkpoint checkpoint-N"
STATE_FILE = "training_state.json"
EMA_FILE = "ema.safetensors"
CONFIG_FILE = "config.yaml"

# Settings that a resumed run may change without ceasing to be the same run.
FREE_SETTINGS = {
    *("output_dir", "resume_from_checkpoint", "dry_run", "ignore_memory_estimate", "num_processes", "report_to"),
    *("checkpointing_steps", "checkpoints_total_limit", "validation_prompts", "validation_steps", "validation_seed"),
    *("logging_steps", "dataloader_num_workers", "gradient_checkpointing", "lora_name"),
    "num_proof_samples",
}


def checkpoint_step(path: Path) -> int | None:
    """Return N of a folder checkpoint-N; None for anything else."""
    match = re.fullmatch(r"checkpoint-(\d+)", path.name)
    return int(match[1]) if match and path.is_dir() else None


def list_checkpoints(output_dir: str | os.PathLike) -> list[Path]:
    """Return the whole checkpoints of a run, oldest first."""
    paths = Path(output_dir).glob("checkpoint-*")
    return sorted((path for path in paths if checkpoint_step(path) is not None), key=checkpoint_step)


def find_checkpoint(output_dir: str | os.PathLike, resume_from_checkpoint: str | None) -> Path | None:
    """Return the checkpoint to go on from; None to start at step 0.

    Raises:
        FileNotFoundError: If there is no checkpoint of that name; the message lists those that there are.
        ValueError: If the folder already has checkpoints and nothing says to go on from them, or another run's result.
    """
    checkpoints = list_checkpoints(output_dir)
    names = ", ".join(path.name for path in checkpoints) or "none"
    if resume_from_checkpoint is None:
        if checkpoints:
            raise ValueError(
                f"`{output_dir}` already holds {names}: go on with --resume_from_checkpoint latest, or choose another "
                "`output_dir`."
            )
        _refuse_finished(output_dir)
        return None
    if resume_from_checkpoint == "latest":
        if not checkpoints:
            _refuse_finished(output_dir)
        return checkpoints[-1] if checkpoints else None
    for path in (Path(output_dir) / resume_from_checkpoint, Path(resume_from_checkpoint)):
        if checkpoint_step(path) is not None:
            return path
    raise FileNotFoundError(f"There is no checkpoint `{resume_from_checkpoint}`. `{output_dir}` holds: {names}.")


def _refuse_finished(output_dir: str | os.PathLike) -> None:
    """Raise ValueError if the folder holds the result of another run, which would be written over."""
    for name in (LORA_FILE, "transformer"):
        if (Path(output_dir) / name).exists():
            raise ValueError(
                f"`{output_dir}` already holds the result of another run, `{name}`, which would be lost: choose "
                "another `output_dir`, or remove it first."
            )


class Checkpoints:
    """Writes the checkpoints of one run, and reads them.

    Args:
        accelerator: After its `prepare`; this object registers hooks with it, until `close`.
        transformer: The unwrapped model, with or without LoRA layers.
        lr_scheduler: Its state goes along.
        ema: Likewise, if there is one.
        config: Settings of the run.
        data_digest: What the order of the data depends on, beside the settings.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        transformer: ModelMixin,
        lr_scheduler: Any,
        ema: EMAModel | None,
        config: TrainingConfig,
        data_digest: str = "",
    ):
        self.accelerator, self.transformer, self.config = accelerator, transformer, config
        self.lr_scheduler, self.ema, self.data_digest = lr_scheduler, ema, data_digest
        self.output_dir = Path(config.output_dir)
        self.hooks = (
            accelerator.register_save_state_pre_hook(self._save_weights),
            accelerator.register_load_state_pre_hook(self._load_weights),
        )

    def close(self) -> None:
        """Let go of the model, which the accelerator's hooks would keep in memory."""
        for hook in self.hooks:
            hook.remove()

    def save(self, step: int) -> Path:
        """Write checkpoint-`step` and remove the oldest beyond the limit. Called by all processes.

        Raises:
            OSError: If it cannot be written, for example on a full disk; earlier checkpoints are untouched.
        """
        path = self.output_dir / f"checkpoint-{step}"
        is_main = self.accelerator.is_main_process
        try:
            with whole_folder(path, overwrite=True) if is_main else nullcontext(partial_folder(path)) as partial:
                self.accelerator.wait_for_everyone()  # the folder is there, and empty
                self.accelerator.save_state(str(partial))
                self._on_main(lambda: self._save_state(partial, step))
            self.accelerator.wait_for_everyone()  # it has its name
        except (OSError, RuntimeError, SafetensorError) as error:  # torch and safetensors wrap the disk's errors
            if isinstance(error.__cause__, Exception):  # `whole_folder` has put it in words, which are others here
                error = error.__cause__
            kept = ", ".join(checkpoint.name for checkpoint in list_checkpoints(self.output_dir)) or "none"
            again = "start the same command with --resume_from_checkpoint latest"
            raise write_error(path, error, f"The earlier checkpoints ({kept}) are whole", again) from error
        logger.info(f"Wrote `{path}`.")
        self._on_main(self._prune)
        return path

    def load(self, path: Path) -> int:
        """Take up the run where `path` left it and return its step. Called by all processes.

        Raises:
            ValueError: If the checkpoint is damaged or of another model.
        """
        self.accelerator.wait_for_everyone()
        with reading(path / STATE_FILE, ADVICE):
            state = json.loads((path / STATE_FILE).read_text(encoding="utf-8"))
            step, ema, digest = int(state["step"]), state["ema"], state["data_digest"]
            optimization_step = 0 if ema is None else int(ema["optimization_step"])
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        if self.ema is not None and ema is None:
            raise ValueError(f"`{path}` was written without `use_ema`: go on without it.")
        with reading_folder(path, ADVICE):
            self.accelerator.load_state(str(path))
        if self.ema is not None:
            self._load_average(path / EMA_FILE)
            self.ema.optimization_step = optimization_step
        self._compare_settings(path, digest)
        return step

    def _load_average(self, path: Path) -> None:
        with reading(path, ADVICE):
            averages = load_file(path)
            averages = [averages[str(i)] for i in range(len(averages))]
        if [a.shape for a in averages] != [parameter.shape for parameter in self.ema.shadow_params]:
            raise ValueError(f"`{path}` is of another model: resume with the settings of the run that wrote it.")
        self.ema.shadow_params = [a.to(old.device) for a, old in zip(averages, self.ema.shadow_params)]

    def _compare_settings(self, path: Path, data_digest: str) -> None:
        """Warn of what makes the rest of the run another run."""
        before = read_yaml(path / CONFIG_FILE, type(self.config))
        after = to_dict(self.config)
        # a setting that is younger than the checkpoint had its default
        before = {item.name: item.default for item in fields(self.config)} | before
        changed = [name for name in after if name not in FREE_SETTINGS and before[name] != after[name]]
        if data_digest != self.data_digest:
            changed.append("the clips in the cache")
        if changed and self.accelerator.is_main_process:
            logger.warning(f"This is no longer the run that wrote `{path}`: changed are {', '.join(changed)}.")

    def _save_weights(self, models: list[nn.Module], weights: list[dict], folder: str) -> None:
        """Write the weights as diffusers reads them. Sharded ones are left to accelerate, which passes none here."""
        if not weights:
            return
        if self.accelerator.is_main_process:
            save_weights(self.transformer, self.config, folder)
        weights.clear()

    def _load_weights(self, models: list[nn.Module], folder: str) -> None:
        if not models:
            return
        models.clear()
        load_weights(self.transformer, self.config, folder)

    def _save_state(self, folder: Path, step: int) -> None:
        ema = None if self.ema is None else {"optimization_step": self.ema.optimization_step}
        state = {
            "step": step,
            "num_processes": self.accelerator.num_processes,
            "lr_scheduler": self.lr_scheduler.state_dict(),
            "ema": ema,
            "data_digest": self.data_digest,
        }
        (folder / STATE_FILE).write_text(json.dumps(state, indent=2), encoding="utf-8")
        if self.ema is not None:
            averages = {str(i): tensor.contiguous() for i, tensor in enumerate(self.ema.shadow_params)}
            save_file(averages, folder / EMA_FILE)
        write_yaml(self.config, folder / CONFIG_FILE)

    def _prune(self) -> None:
        if self.config.checkpoints_total_limit is not None:
            for path in list_checkpoints(self.output_dir)[: -self.config.checkpoints_total_limit]:
                remove_folder(path)

    def _on_main(self, work: Callable[[], Any]) -> None:
        """Let the main process work while the others wait."""
        if self.accelerator.is_main_process:
            work()
        self.accelerator.wait_for_everyone()


def clean_up(output_dir: str | os.PathLike) -> None:
    """Remove what a killed run left half written or half removed."""
    clear_leftovers(output_dir, "checkpoint-*")
    clear_leftovers(Path(output_dir) / "validation", "step-*")
