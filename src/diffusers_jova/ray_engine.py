# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The machines of a Ray cluster as an engine: readers on its CPUs, models on its GPUs, results here, in order.

Ray's actors do the work; what this module adds is what Ray Data does not say or do: which item was done again and why,
an end to doing it again, batches of the same items as on one machine, and the end of a pool whose actors are lost. So
Ray itself never repeats anything (`max_restarts` and `max_task_retries` are 0): an actor that is lost is replaced, and
what it was at work on starts anew, at most `MAX_RETRIES` times.
"""

import importlib.util
import logging
import os
import pickle
import re
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from typing import Any

import torch

from .engines import ModelStep, foreign_part
from .workers import Failure, Workers


logger = logging.getLogger(__name__)

MAX_RETRIES = 3  # of an item or batch, and of starting each actor: our choice, as many as Ray gives a task
PATIENCE_S = 1800  # until an actor is given up that has no place: machines of a cloud take many minutes to come
SAY_AFTER_S = 30  # that one has no place
CONNECT_S = 10  # Ray itself tries a wrong address for more than 200 s, as measured


class RayEngine:
    """Actors on the machines of a cluster.

    Args:
        address: of the cluster, see `EngineConfig`.
        num_workers: readers, on the whole cluster; each takes a CPU.
        warn: is called with the name of an item that is done again since an actor was lost, and with a message.
        concurrency: copies of a model.
        num_gpus: that each takes, also a part of one; 0: a CPU instead.

    Raises:
        ImportError: if Ray is not installed.
        ValueError: if the address cannot be one.
    """

    def __init__(
        self,
        address: str | None,
        num_workers: int,
        warn: Callable[[str, str], None],
        concurrency: int = 1,
        num_gpus: float = 0,
    ):
        if importlib.util.find_spec("ray") is None:
            raise ImportError("`--engine ray` needs Ray, on all machines: pip install 'diffusers-jova[ray]'")
        self.address = check_address(address)
        self.num_workers, self.concurrency, self.num_gpus = num_workers, concurrency, num_gpus
        self.warn = warn
        self._connected_here = False

    def __enter__(self) -> "RayEngine":
        """Connect to the cluster.

        Raises:
            ConnectionError: if none answers.
        """
        import ray

        if not ray.is_initialized():
            if self.address not in (None, "auto", "local"):
                check_connection(self.address)
            try:
                ray.init(address=self.address, logging_level=logging.WARNING)
            except ConnectionError as error:
                raise ConnectionError(
                    f"There is no Ray cluster at `--address {self.address}`: {error} Start one with `ray start "
                    "--head`, or leave the flag out to start one of this machine alone for this run."
                ) from error
            self._connected_here = True
        return self

    def __exit__(self, *error) -> None:
        if self._connected_here:
            import ray

            ray.shutdown()

    def map(self, function: Callable, items: Iterable) -> Iterator[tuple[Any, Any]]:
        batches = (_Batch([item]) for item in items)
        with ExitStack() as stack:
            readers = self._readers(stack, function)
            for batch in _Schedule(batches, readers, None, self.num_workers * 2, self.warn):
                yield batch.items[0], batch.failures[0] or batch.results[0]

    def ask(self, step: ModelStep, items: Iterable, batch_size: int = 1) -> Iterator[tuple[Any, Failure | None, Any]]:
        with ExitStack() as stack:
            models = self._models(stack, step)
            read, readers = models.wait_for_first(), None
            if read is not None:  # after the models, so that these find a place first
                readers = self._readers(stack, read)
            limit = 2 * self.concurrency + ceil(2 * self.num_workers / batch_size)
            for batch in _Schedule(_batches(items, batch_size), readers, models, limit, self.warn):
                results = iter(batch.results)
                for item, problem in zip(batch.items, batch.failures):
                    yield item, problem, None if problem else next(results)

    def _readers(self, stack: ExitStack, function: Callable) -> "_Pool":
        return stack.enter_context(
            _Pool(
                _Reader, self.num_workers, {"num_cpus": 1}, _Surroundings(), _pickled(function, foreign_part(function))
            )
        )

    def _models(self, stack: ExitStack, step: ModelStep) -> "_Pool":
        resources = {"num_cpus": 0 if self.num_gpus else 1, "num_gpus": self.num_gpus}
        # the threads of this machine: their number may decide about the last bits of what a CPU computes
        arguments = _Surroundings(), _pickled(step, type(step).__name__), torch.get_num_threads()
        return stack.enter_context(_Pool(_Model, self.concurrency, resources, *arguments))


def check_address(address: str | None) -> str | None:
    """Return where the cluster is: "HOST:PORT", "auto", "local", or None.

    Raises:
        ValueError: if it is something else.
    """
    given = os.environ.get("RAY_ADDRESS") if address in (None, "auto") else None  # as Ray does
    address = given or address
    if address is not None and address not in ("auto", "local") and not re.fullmatch(r"[^/\s]+:\d{1,5}", address):
        raise ValueError(
            f"`--address` is HOST:PORT of the head of a Ray cluster, or `auto`, got {address!r}. Start this command "
            "on a machine of the cluster; Ray's clients from outside (ray://) are not supported."
        )
    return address


def check_connection(address: str) -> None:
    """Raise a ConnectionError if nothing listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except (OSError, OverflowError) as error:
        raise ConnectionError(
            f"There is no Ray cluster at `--address {address}`: {error}. `ray status` on the cluster's head says its "
            "address."
        ) from error


def _pickled(thing: Any, name: str) -> bytes:
    try:
        pickled = pickle.dumps(thing)
    except Exception:  # whatever pickling makes of a foreign object
        pickled = b"__main__"
    if b"__main__" in pickled:  # a script of this machine's
        raise ValueError(
            f"{name} cannot be sent to other machines: define it in a module that is installed on all of them."
        )
    return pickled


# --- on the machines of the cluster ---


@dataclass(frozen=True)
class _Surroundings:
    """Of the process that was started by hand: the folder that paths are relative to, and where modules are found."""

    folder: str = field(default_factory=os.getcwd)
    module_folders: tuple[str, ...] = field(default_factory=lambda: tuple(sys.path))

    def take(self) -> None:
        """Make them those of this process."""
        os.chdir(self.folder)
        sys.path += [folder for folder in self.module_folders if folder not in sys.path]


class _Reader:
    """Reads items in a child process of its own, which a damaged file may crash."""

    def __init__(self, surroundings: _Surroundings, function: bytes):
        surroundings.take()
        self.function, self.workers = function, Workers(1)

    def start(self) -> None:
        """Answer, as soon as there is a place to do so."""

    def read(self, item: Any) -> tuple[Failure | None, Any]:
        """Return why there is no content, and the content."""
        ((_, content),) = self.workers.map(_Unpickled(self.function), [item])
        return (content, None) if isinstance(content, Failure) else (None, content)


@dataclass(frozen=True)
class _Unpickled:
    """A function on its way to a child process, which alone imports what it needs."""

    function: bytes

    def __call__(self, item: Any) -> Any:
        return pickle.loads(self.function)(item)


class _Model:
    """Holds a model for as long as it lives."""

    def __init__(self, surroundings: _Surroundings, step: bytes, num_threads: int):
        surroundings.take()
        torch.set_num_threads(num_threads)
        self.step: ModelStep = pickle.loads(step)
        self.stack = ExitStack()

    def start(self) -> Callable | None:
        """Load the model, and return what reads for it."""
        self.model = self.stack.enter_context(self.step.load())
        return self.step.reader(self.model)

    def ask(self, items: Sequence[Any], *contents: Any) -> Sequence[Any]:
        return list(self.step(self.model, list(zip(items, contents))))


# --- here ---


@dataclass
class _Batch:
    """Items that go through the readers one by one, and through a model together.

    Attributes:
        contents: references to what was read; None: not yet.
        failures: why items could not be read.
        num_lost: how often actors were lost that were at work on it, by item.
    """

    items: list[Any]
    contents: list[Any] = field(default_factory=list)
    failures: list[Failure | None] = field(default_factory=list)
    results: Sequence[Any] = ()
    is_done: bool = False
    num_lost: int = 0

    def __post_init__(self) -> None:
        self.contents, self.failures = [None] * len(self.items), [None] * len(self.items)

    def give_up(self, reason: str) -> None:
        failure = Failure(f"its worker was lost {self.num_lost} times: {reason}")
        self.failures, self.is_done = [found or failure for found in self.failures], True

    def is_read(self) -> bool:
        return all(content is not None or found for content, found in zip(self.contents, self.failures))


def _batches(items: Iterable, size: int) -> Iterator[_Batch]:
    items = iter(items)
    while batch := list(islice(items, size)):
        yield _Batch(batch)


class _Pool:
    """Actors of a class. One that is lost is replaced by another, where there is a place for it.

    Args:
        kind: the class.
        size: how many.
        resources: that each takes of its machine.
        arguments: of the class.
    """

    def __init__(self, kind: type, size: int, resources: dict[str, float], *arguments: Any):
        import ray

        self.ray: Any = ray
        self.size, self.resources, self.name = size, resources, kind.__name__.strip("_").lower()
        # an actor of Ray's; "SPREAD": over all machines, so that the loss of one is that of few
        options = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD", **resources}
        self.kind, self.arguments = self.ray.remote(**options)(kind), arguments
        self.starting: dict[Any, Any] = {}
        self.idle: deque = deque()
        self.busy: dict[Any, tuple[Any, Any]] = {}  # reference -> actor, what it is at work on
        self.num_failed = 0
        self.waiting_since_s, self.has_said = time.monotonic(), False

    def __enter__(self) -> "_Pool":
        self.fill()
        return self

    def __exit__(self, *error) -> None:
        for actor in [*self.starting.values(), *self.idle, *(actor for actor, _ in self.busy.values())]:
            self.ray.kill(actor)

    def fill(self) -> None:
        for _ in range(self.size - len(self.starting) - len(self.idle) - len(self.busy)):
            actor = self.kind.remote(*self.arguments)
            self.starting[actor.start.remote()] = actor

    def references(self) -> list[Any]:
        return [*self.starting, *self.busy]

    def wait_for_first(self) -> Any:
        """Return what the first actor that is ready says of itself.

        Raises:
            RuntimeError: if there is no place for one, or none can start.
        """
        found = None
        while not self.idle:
            ready, _ = self.ray.wait(list(self.starting), timeout=1)
            for reference in ready:
                found = self.started(reference)
            self.check_waiting()
        return found

    def started(self, reference: Any) -> Any:
        """Take note that an actor is ready, or is not going to be, and return what it says of itself."""
        actor = self.starting.pop(reference)
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:  # of the model's: it would be the same elsewhere
            raise error.cause from error
        except self.ray.exceptions.RayError as error:
            self.num_failed += 1
            logger.warning("a %s of the cluster could not start: %s", self.name, lines_of(error)[-1])
            if self.num_failed > MAX_RETRIES * self.size:  # a machine may be lost on which all of them were starting
                raise RuntimeError(
                    f"A {self.name} could not be started on the cluster, {self.num_failed} times; the last time: "
                    f"{' '.join(lines_of(error))} All machines need the same diffusers-jova, Python and Ray."
                ) from error
            self.remove(actor)
            return None
        self.num_failed = 0
        self.idle.append(actor)
        return found

    def remove(self, actor: Any) -> None:
        """End an actor, if it is not lost already, and start another."""
        self.ray.kill(actor)
        self.fill()

    def waits(self) -> float:
        """Return for how many seconds no actor has been ready."""
        if self.idle or self.busy:
            self.waiting_since_s, self.has_said = time.monotonic(), False
        return time.monotonic() - self.waiting_since_s

    def check_waiting(self) -> None:
        """Say when no actor is ready, and give up in the end.

        Raises:
            RuntimeError: after `PATIENCE_S`.
        """
        waits_s = self.waits()
        if waits_s < SAY_AFTER_S or self.has_said and waits_s < PATIENCE_S:
            return
        free = {name: number for name, number in self.ray.available_resources().items() if name in ("CPU", "GPU")}
        message = f"no {self.name} of the cluster is at work yet: each needs {self.resources}, free are {free}"
        if waits_s >= PATIENCE_S:
            raise RuntimeError(
                f"After {PATIENCE_S} s {message}. Add machines, or lower `--gpus_per_worker` or `--num_workers`."
            )
        logger.warning("%s", message)
        self.has_said = True

    def make_room_for(self, other: "_Pool") -> None:
        """End an idle actor for good where actors of another kind have lost their CPUs, and all are in use."""
        if other.waits() < SAY_AFTER_S or not self.idle or self.size < 2:
            return
        needed = other.resources.get("num_cpus", 0)
        if needed and self.resources.get("num_cpus") and self.ray.available_resources().get("CPU", 0) < needed:
            self.size -= 1
            self.ray.kill(self.idle.pop())


class _Schedule:
    """Yields batches when all of their work is done, in order, and keeps all actors at work meanwhile.

    Args:
        batches: what there is to do.
        readers: read items; None if there is nothing to read.
        models: are asked about batches that are read; None: what was read are the results.
        limit: batches that are begun and not yielded at most, so that what is read waits in no heap.
        warn: see `RayEngine`.
    """

    def __init__(
        self,
        batches: Iterable[_Batch],
        readers: _Pool | None,
        models: _Pool | None,
        limit: int,
        warn: Callable[[str, str], None],
    ):
        import ray

        self.ray, self.batches, self.limit, self.warn = ray, iter(batches), limit, warn
        self.readers, self.models = readers, models
        self.pools = [pool for pool in (readers, models) if pool is not None]
        self.to_read: deque[tuple[_Batch, int]] = deque()
        self.to_ask: deque[_Batch] = deque()

    def __iter__(self) -> Iterator[_Batch]:
        begun: deque[_Batch] = deque()
        while True:
            for batch in islice(self.batches, self.limit - len(begun)):
                begun.append(batch)
                self._begin(batch)
            self._give_work()
            if not begun:
                return
            if begun[0].is_done:
                yield begun.popleft()
            else:
                self._wait()

    def _begin(self, batch: _Batch) -> None:
        if self.readers is None:
            self.to_ask.append(batch)
        else:
            self.to_read.extend((batch, index) for index in range(len(batch.items)))

    def _give_work(self) -> None:
        while self.readers is not None and self.to_read and self.readers.idle:
            batch, index = self.to_read.popleft()
            if not batch.is_done:
                actor = self.readers.idle.popleft()
                status, content = actor.read.options(num_returns=2).remote(batch.items[index])
                self.readers.busy[status] = actor, (batch, index, content)
        while self.models is not None and self.to_ask and self.models.idle:
            batch, actor = self.to_ask.popleft(), self.models.idle.popleft()
            readable = [i for i, found in enumerate(batch.failures) if not found]
            contents = [batch.contents[i] for i in readable]
            reference = actor.ask.remote([batch.items[i] for i in readable], *contents)
            self.models.busy[reference] = actor, batch

    def _wait(self) -> None:
        references = [reference for pool in self.pools for reference in pool.references()]
        ready, _ = self.ray.wait(references, timeout=1)
        for reference in ready:
            for pool in self.pools:
                if reference in pool.starting:
                    pool.started(reference)
                elif reference in pool.busy:
                    self._finished(pool, reference)
        for pool in self.pools:
            pool.check_waiting()
            for other in self.pools:
                if other is not pool:
                    pool.make_room_for(other)

    def _finished(self, pool: _Pool, reference: Any) -> None:
        actor, work = pool.busy.pop(reference)
        try:
            if pool is self.readers:
                self._was_read(reference, *work)
            else:
                work.results, work.is_done = self.ray.get(reference), True
                work.contents = []  # the store may forget them
            pool.idle.append(actor)
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) if isinstance(error, self.ray.exceptions.RayTaskError) else error
            if not isinstance(cause, self.ray.exceptions.RayError):
                raise (cause or error) from error
            if isinstance(cause, self.ray.exceptions.ObjectLostError):
                pool.idle.append(actor)
            else:
                pool.remove(actor)
            self._again(pool, work, lines_of(cause)[0])

    def _was_read(self, reference: Any, batch: _Batch, index: int, content: Any) -> None:
        batch.failures[index] = self.ray.get(reference)
        if batch.is_done:  # it was given up
            return
        if self.models is None:
            batch.results, batch.is_done = [self.ray.get(content)], True
            return
        batch.contents[index] = content
        if batch.is_read():
            if all(batch.failures):
                batch.is_done = True
            else:
                self.to_ask.append(batch)

    def _again(self, pool: _Pool, work: Any, reason: str) -> None:
        """Begin anew what an actor was at work on, or give it up."""
        batch, indices = (work[0], [work[1]]) if pool is self.readers else (work, range(len(work.items)))
        batch.num_lost += 1
        if batch.num_lost > MAX_RETRIES:
            batch.give_up(reason)
            return
        for index in indices:
            self.warn(name_of(batch.items[index]), f"was done again, since its worker was lost: {reason}")
        if self.readers is None:
            self.to_ask.appendleft(batch)
        else:
            for index in indices:
                batch.contents[index], batch.failures[index] = None, None
            self.to_read.extendleft((batch, index) for index in reversed(indices))


def name_of(item: Any) -> str:
    """Return the name of the clip that an item is, or is of; or of the file that it is."""
    return getattr(getattr(item, "source", None) or item, "name", None) or str(item)


def lines_of(error: Exception) -> list[str]:
    """Return the lines of what Ray says of an error, without its colours: the first says what, the others give advice
    or what was said on the other machine."""
    return re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip().splitlines() or [type(error).__name__]
