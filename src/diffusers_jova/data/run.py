# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the phases of one run share: its settings, the model, the detector, the cache's folder and the summary."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from ..faces import FaceDetector, choose_detector
from ..shards import parse_shard
from . import cache
from .model_facts import ModelFacts, read_model_facts
from .settings import PreprocessingConfig, cache_settings, parse_buckets, resolve
from .summary import Summary
from .windows import Bucket


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """What the phases of one run share.

    Attributes:
        config: with nothing left open, see `settings.resolve`.
        facts: what the model's folder says.
        models: the fingerprint of the models in it.
        detector: finds faces; None: none are looked for.
        shard: index from 0 and count of the parts that the clips are divided into.
        summary: what became of the clips; the phases write into it.
    """

    config: PreprocessingConfig
    facts: ModelFacts
    models: Mapping[str, Any]
    detector: FaceDetector | None
    shard: tuple[int, int]
    summary: Summary = field(default_factory=Summary)

    @cached_property
    def buckets(self) -> tuple[Bucket, ...]:
        return parse_buckets(self.config, self.facts)

    @property
    def frame_rate(self) -> Fraction:
        return Fraction(self.config.frame_rate)

    @property
    def device(self) -> torch.device:
        return torch.device(self.config.device)

    @property
    def dtype(self) -> torch.dtype:
        return getattr(torch, self.config.dtype)

    @property
    def cache_dir(self) -> Path:
        return Path(self.config.output_dir)

    @property
    def writer(self) -> str:
        """The name of this run among those that write into the cache at the same time."""
        return "-".join(str(number) for number in self.shard)

    @cached_property
    def fingerprint(self) -> dict[str, Any]:
        """What decides about the cache's content, besides the clips."""
        return {
            "models": self.models,
            "settings": cache_settings(self.config, self.detector, self.facts.condition_fill),
        }

    def part_path(self, key: str, phase: str) -> Path:
        return self.cache_dir / "parts" / f"{key}.{phase}.safetensors"

    def preview_path(self, key: str) -> Path:
        return self.cache_dir / "previews" / f"{key}.png"


def prepare_run(config: PreprocessingConfig, detector: FaceDetector | None = None) -> Run:
    """Return the run that `config` asks for: nothing in it is left open, and nothing is written yet.

    Args:
        config: what to do.
        detector: finds faces; None for dlib's.

    Raises:
        ValueError, FileNotFoundError: for settings that cannot be used, a cache that other models made, a folder that
            is not that of a pipeline, or a missing landmark file.
    """
    facts, shard = read_model_facts(config.model), parse_shard(config.shard)
    if config.num_workers < 0:
        raise ValueError(f"`--num_workers` must be 0 or more, got {config.num_workers}.")
    models = cache.model_fingerprint(facts.folder)
    config, from_cache = resolve(config, facts, models, detector is not None)
    detector = choose_detector(detector, config.landmarks, no_faces=config.no_mouth)
    return Run(config, facts, models, detector, shard, Summary(from_cache=from_cache))


def check_cache(run: Run) -> None:
    """Say which settings are the cache's own.

    Raises:
        ValueError: if the cache was made with other models or settings, or nobody knows with which.
    """
    if (run.cache_dir / "fingerprint.json").is_file():
        cache.check_fingerprint(run.cache_dir, run.fingerprint)
        if run.summary.from_cache:
            logger.info("settings taken from the cache: %s", ", ".join(run.summary.from_cache))
    elif next(run.cache_dir.glob("samples/*.safetensors"), None):
        raise ValueError(
            f"The cache `{run.cache_dir}` has samples but no fingerprint.json, so it is not known what made them: "
            "choose another --output_dir."
        )


def open_cache(run: Run) -> None:
    """Make the folders of the cache and write what makes it."""
    for folder in ("samples", "parts"):
        (run.cache_dir / folder).mkdir(parents=True, exist_ok=True)
    cache.write_fingerprint(run.cache_dir, run.fingerprint, run.writer)
