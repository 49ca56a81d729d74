# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The parts of unfinished samples, one file per phase; what all samples share; and samples assembled from their parts.

Every part says from which version of its window it was made, so a run that was killed is taken up where it stopped.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ..progress import progress
from . import cache
from .model_facts import EMBEDS_OF, PHASES
from .run import Run
from .windows import Window


logger = logging.getLogger(__name__)


# --- cached files ---


def read_row_or_none(path: Path) -> dict[str, Any] | None:
    """Return the row of a cached file; None where there is none, or a damaged one, which is made anew."""
    try:
        return cache.read_row(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s", error)
        return None


def is_whole(path: Path) -> bool:
    """Whether a cached file is as it was written; a damaged one is reported, and made anew."""
    try:
        cache.read_tensors(path)
        return True
    except FileNotFoundError:
        return False
    except ValueError:
        logger.warning("`%s` is damaged, and is made anew", path)
        return False


def _tensor_names(path: Path) -> set[str]:
    if not is_whole(path):
        return set()
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


# --- the parts of a sample ---


def has_part(run: Run, window: Window, phase: str) -> bool:
    """Whether a phase has done this very window."""
    row = read_row_or_none(run.part_path(window.key, phase))
    return row is not None and row["digest"] == window.digest


def write_part(run: Run, window: Window, phase: str, tensors: Mapping[str, torch.Tensor]) -> None:
    cache.write_tensors(run.part_path(window.key, phase), tensors, {"digest": window.digest})


def assemble(run: Run, windows: list[Window]) -> None:
    """Make the parts of each window one sample."""
    for window in progress(windows, "assemble", len(windows)):
        paths = [run.part_path(window.key, phase) for phase in PHASES]
        tensors: dict[str, torch.Tensor] = {}
        for path in paths:
            if path.is_file():
                tensors |= cache.read_tensors(path)
        tensors.pop("waveform", None)
        cache.write_sample(run.cache_dir, cache.read_row(run.part_path(window.key, "video")), tensors)
        for path in paths:
            path.unlink(missing_ok=True)


def remove_parts(run: Run, windows: list[Window]) -> None:
    """Delete what a killed run may have left of these windows, and the folder if it is empty."""
    for key in [*(window.key for window in windows), "shared"]:
        for phase in PHASES:
            run.part_path(key, phase).unlink(missing_ok=True)
    try:
        (run.cache_dir / "parts").rmdir()
    except OSError:  # another shard is at work
        pass


# --- what all samples share ---


def missing_shared(run: Run, phase: str) -> list[str]:
    """Return the names of the shared tensors of a phase, if not all of them are in a file yet."""
    there = _tensor_names(run.cache_dir / "shared.safetensors") | _tensor_names(run.part_path("shared", phase))
    names = _shared_names(run, phase)
    return [] if there.issuperset(names) else names


def write_shared_part(run: Run, phase: str, tensors: Mapping[str, torch.Tensor]) -> None:
    if tensors:
        cache.write_tensors(run.part_path("shared", phase), tensors, {}, run.writer)


def write_shared(run: Run) -> None:
    """Make the shared tensors of all phases one file."""
    names = {name for phase in PHASES for name in _shared_names(run, phase)}
    if not _tensor_names(run.cache_dir / "shared.safetensors").issuperset(names):
        parts = [run.part_path("shared", phase) for phase in PHASES if _shared_names(run, phase)]
        tensors = {name: tensor for path in parts for name, tensor in cache.read_tensors(path).items()}
        cache.write_shared(run.cache_dir, tensors, run.writer)


def _shared_names(run: Run, phase: str) -> list[str]:
    if phase not in run.facts.phases or phase == "audio":
        return []
    if phase == "video" and run.facts.condition_fill == "noisy":
        return []  # frames that are not given hold their own noise
    if phase == "video":
        return sorted({f"{run.facts.condition_fill}.{bucket.height}x{bucket.width}" for bucket in run.buckets})
    return [f"unconditional.{EMBEDS_OF[phase]}"]
