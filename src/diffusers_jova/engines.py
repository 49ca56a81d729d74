# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Where the work on many files is done: in processes of this machine, or on the machines of a Ray cluster."""

import logging
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, TypeVar

import torch

from .workers import Failure, Workers


logger = logging.getLogger(__name__)

ENGINES = ("local", "ray")

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """Where the work is done. Fields have the names of flags.

    Attributes:
        engine: one of `ENGINES`: processes of this machine, or the machines of a Ray cluster.
        address: of the Ray cluster, "HOST:PORT" or "auto"; None for what RAY_ADDRESS says, else a cluster that runs on
            this machine, else one that is started for this run.
    """

    engine: str = "local"
    address: str | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise ValueError(f"`--engine` must be one of {', '.join(ENGINES)}, got {self.engine!r}.")
        for name in ("address", "concurrency", "gpus_per_worker"):
            if self.engine != "ray" and getattr(self, name, None) is not None:
                raise ValueError(f"`--{name}` is for a Ray cluster: give `--engine ray` too, or leave it out.")
        if self.engine == "ray" and getattr(self, "num_workers", 1) < 1:
            raise ValueError("`--engine ray` needs processes that read files: give a `--num_workers` of 1 or more.")


@dataclass(frozen=True, kw_only=True)
class ModelEngineConfig(EngineConfig):
    """Where the work is done, if models take part in it. Fields have the names of flags.

    Attributes:
        device: of the models, such as "cuda"; None for a GPU if there is one.
        concurrency: copies of a model that work at a time, each on another part of the clips; None for 1.
        gpus_per_worker: GPUs of each, also a part of one, such as 0.25; None for 1 if the device is a GPU, else 0.
    """

    device: str | None = None
    concurrency: int | None = None
    gpus_per_worker: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.concurrency is not None and self.concurrency < 1:
            raise ValueError(f"`--concurrency` must be 1 or more, got {self.concurrency}.")
        gpus = self.gpus_per_worker
        if gpus is not None and (gpus < 0 or gpus > 1 and gpus != int(gpus)):
            raise ValueError(f"`--gpus_per_worker` must be 0, a part of 1, or a whole number, got {gpus:g}.")
        if gpus and self.device == "cpu":
            raise ValueError(f"`--gpus_per_worker {gpus:g}` does not go with `--device cpu`: leave out one of them.")

    def default_device(self) -> str:
        """Return where models are if `device` does not say it."""
        if self.gpus_per_worker:  # of other machines
            return "cuda"
        return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"

    def num_gpus(self) -> float:
        """Return how many GPUs, or what part of one, each copy of a model takes."""
        if self.gpus_per_worker is not None:
            return self.gpus_per_worker
        return 0 if (self.device or self.default_device()) == "cpu" else 1


class ModelStep(Protocol):
    """What a model does with items. It is sent to other machines, so it must be picklable."""

    def load(self) -> AbstractContextManager[Any]:
        """Give the model, and free its memory afterwards."""

    def reader(self, model: Any, /) -> Callable[[Any], Any] | None:
        """Return what reads an item in a child process, or None where items are all that the model needs."""

    def __call__(self, model: Any, batch: Sequence[tuple[Any, Any]], /) -> Sequence[Any]:
        """Return a result for each item and its content: what the reader returned, or None without a reader."""


class Engine(Protocol):
    """What does the work on items. Results come in the order of the items, whatever is done first."""

    def map(self, function: Callable[[Item], Any], items: Iterable[Item], /) -> Iterator[tuple[Item, Any]]:
        """Yield each item with what `function` returns for it in a child process, or with a `Failure`."""

    def ask(
        self, step: ModelStep, items: Iterable[Item], batch_size: int = 1
    ) -> Iterator[tuple[Item, Failure | None, Any]]:
        """Yield each item with why it could not be read, if so, and with its result.

        Args:
            step: the model, and what it does.
            items: `batch_size` of them, one after another, are a batch; those that cannot be read are missing in it.
        """


@dataclass(frozen=True)
class LocalEngine:
    """Child processes that read, and models in this process.

    Args:
        num_workers: see `Workers`.
    """

    num_workers: int

    def __enter__(self) -> "LocalEngine":
        return self

    def __exit__(self, *error) -> None:
        pass

    def map(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Generator[tuple[Item, Any], None, None]:
        items = list(items)
        with Workers(self.num_workers) as workers:
            if items and not workers.accept(function):
                logger.warning(
                    "%s cannot be sent to another process, so clips are read in this one, which a damaged clip may "
                    "crash: define it in a module.",
                    foreign_part(function),
                )
                workers = Workers(0)
            yield from workers.map(function, items)

    def ask(
        self, step: ModelStep, items: Iterable[Item], batch_size: int = 1
    ) -> Iterator[tuple[Item, Failure | None, Any]]:
        with step.load() as model:
            read = step.reader(model)
            shown: Generator = ((item, None) for item in items) if read is None else self.map(read, items)
            with closing(shown):
                while batch := list(islice(shown, batch_size)):
                    readable = [(item, content) for item, content in batch if not isinstance(content, Failure)]
                    results = iter(step(model, readable) if readable else ())
                    for item, content in batch:
                        problem = content if isinstance(content, Failure) else None
                        yield item, problem, None if problem else next(results)


def foreign_part(function: Callable) -> str:
    """Return the class that a reader may have from elsewhere: its face detector's, else its own."""
    return type(getattr(function, "detector", None) or function).__name__


def open_engine(
    config: EngineConfig, num_workers: int, warn: Callable[[str, str], None]
) -> AbstractContextManager[Engine]:
    """Give the engine that `config` asks for.

    Args:
        num_workers: processes that read files: of this machine, or of all the cluster.
        warn: is called with the name of an item that had to be done again, and with a message that says why.

    Raises:
        ImportError: if Ray is asked for and is not installed.
        ValueError: for an address that cannot be one.
        ConnectionError: if no cluster answers at the address.
    """
    if config.engine == "local":
        return LocalEngine(num_workers)
    from .ray_engine import RayEngine  # late: without it, nobody needs Ray

    if isinstance(config, ModelEngineConfig):
        return RayEngine(config.address, num_workers, warn, config.concurrency or 1, config.num_gpus())
    return RayEngine(config.address, num_workers, warn)
