# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Child processes that read other people's files: a file that crashes or hangs its reader costs itself alone."""

import multiprocessing.connection
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from typing import Any, TypeVar

import torch


TIMEOUT_S = 3600  # far more than the largest file takes
PRELOAD = "diffusers_jova.data.prepare"  # imported once, not once per child
PID = os.getpid()

Item = TypeVar("Item")


class Failure(str):
    """Why an item gave no result.

    Attributes:
        is_lasting: whether the item itself is the reason, so that it would fail again.
    """

    is_lasting: bool

    def __new__(cls, reason: str, is_lasting: bool = False):
        failure = super().__new__(cls, reason)
        failure.is_lasting = is_lasting
        return failure

    def __getnewargs__(self):
        return str(self), self.is_lasting


class Workers:
    """Processes that call a function on items, one after another; it and the items can be pickled.

    Args:
        num_workers: how many; 0: none but this one, which a crash ends.
        timeout_s: the longest that one item may take, where there are processes.

    Raises:
        RuntimeError: at the first item, if no process can be started.
    """

    def __init__(self, num_workers: int, timeout_s: float = TIMEOUT_S):
        self.num_workers, self.timeout_s = num_workers, timeout_s
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error) -> None:
        self._end()

    def accept(self, function: Callable) -> bool:
        """Return whether `function` reaches the processes: classes of a notebook or in a function do not."""
        try:
            return self.num_workers == 0 or self._submit(callable, function).result(self.timeout_s)
        except RuntimeError:
            if self._pool is None:  # not one could be started
                raise
            self._end()
            return False
        except Exception:  # whatever pickling makes of a foreign object
            return False

    def map(self, function: Callable[[Item], Any], items: Iterable[Item]) -> Iterator[tuple[Item, Any]]:
        """Yield each item, in order, with what `function` returns for it, or with a `Failure`."""
        if self.num_workers == 0:
            for item in items:
                yield item, _try(function, item)
            return
        waiting = deque(items)
        running: deque[tuple[Any, Future]] = deque()
        while waiting or running:
            try:
                while waiting and len(running) < 2 * self.num_workers:
                    running.append((waiting[0], self._submit(_try, function, waiting[0])))
                    waiting.popleft()
                result = running[0][1].result(self.timeout_s)
            except BrokenProcessPool:  # one of those under way crashed its process: try each alone, to find out which
                self._end()
                while running:
                    item, _ = running.popleft()
                    yield item, self._try_alone(function, item)
            except FutureTimeoutError:
                self._end()
                item, _ = running.popleft()
                waiting.extendleft(other for other, _ in reversed(running))
                running.clear()
                yield item, self._too_long()
            else:
                yield running.popleft()[0], result

    def _try_alone(self, function: Callable, item: Any) -> Any:
        with Workers(1, self.timeout_s) as worker:
            try:
                return worker._submit(_try, function, item).result(self.timeout_s)
            except BrokenProcessPool:
                return Failure("reading it crashed the process")
            except FutureTimeoutError:
                return self._too_long()

    def _too_long(self) -> Failure:
        return Failure(f"reading it took more than {self.timeout_s:g} s")

    def _submit(self, function: Callable, *args: Any) -> Future:
        pool = self._started()
        try:
            return pool.submit(function, *args)
        except OSError as error:  # a process crashed while another was being started: its pipes are closed already
            raise BrokenProcessPool(str(error)) from error

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            pool = _make_pool(self.num_workers)
            try:
                pool.submit(os.getpid).result()
            except (BrokenProcessPool, OSError) as error:
                raise RuntimeError(
                    "The processes that read clips cannot be started. A script that calls `preprocess` must do so "
                    'under `if __name__ == "__main__":`; otherwise pass `num_workers=0`, with which a clip that '
                    "crashes its reader ends the run."
                ) from error
            self._pool = pool
        return self._pool

    def _end(self) -> None:
        """End the processes, whatever they are doing."""
        if self._pool is not None:
            for process in list((self._pool._processes or {}).values()):
                process.kill()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


def _try(function: Callable[[Item], Any], item: Item) -> Any:
    try:
        return function(item)
    except Exception as error:  # whatever a damaged clip makes a decoder do, the others go on
        reason = " ".join(str(error).split()) or type(error).__name__
        return Failure(reason, is_lasting=isinstance(error, ValueError))


def _make_pool(num_workers: int) -> ProcessPoolExecutor:
    # a process that was forked cannot use its parent's server
    method = (
        "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() and os.getpid() == PID else "spawn"
    )
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload([PRELOAD])
    return ProcessPoolExecutor(num_workers, context, initializer=_start_worker)


def _start_worker() -> None:
    torch.set_num_threads(1)
    with suppress(OSError):  # Linux: where memory runs out, a child goes and not the run
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    parent = multiprocessing.parent_process()

    def end_with_parent() -> None:  # also when that was killed and could not say goodbye
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()
