# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A step's function over all films or clips: what was done before is not done again, and what fails has its reason."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..data.clips import Source
from ..engines import Engine
from ..progress import progress
from ..workers import Failure
from .journal import Journal, key_of
from .summary import StepSummary


class StepFunction(Protocol):
    """What a step does with a film or a clip. It is sent to worker processes, so it must be picklable."""

    def settings(self, source: Source, /) -> list[Any]:
        """Return what decides about the result, besides the file."""

    def __call__(self, source: Source, /) -> Any:
        """Return the result, which JSON can hold.

        Raises:
            ValueError: if the file is the reason why there is none.
        """


def apply(
    function: StepFunction,
    sources: Sequence[Source],
    journal_path: str | os.PathLike,
    engine: Engine,
    summary: StepSummary,
    forget: bool = True,
) -> Mapping[str, Any]:
    """Return the results by the names of the sources; what has none is skipped in the summary, with the reason.

    Args:
        journal_path: where results are kept: what is there is not done again.
        engine: where the work is done.
        forget: whether to drop results of files that have changed or are gone, and of other settings.

    Raises:
        OSError: if results cannot be kept, for example on a full disk; those that were kept are used again.
    """
    keys = {}
    for source in sources:
        try:
            keys[source.name] = key_of(source.path, *function.settings(source))
        except OSError as error:  # it was there a moment ago
            summary.skip(source.name, f"it cannot be read: {error.strerror}")
    with Journal(journal_path) as journal:
        todo = [s for s in sources if s.name in keys and keys[s.name] not in journal.results]
        for source, found in progress(engine.map(function, todo), summary.step, len(todo)):
            if not isinstance(found, Failure):
                journal.add(keys[source.name], {"found": found})
            elif found.is_lasting:
                journal.add(keys[source.name], {"problem": found})
            else:  # a crash, a lost drive: the next run tries again
                summary.skip(source.name, found)
        if forget:
            journal.keep(set(keys.values()))
        results = {name: journal.results[key] for name, key in keys.items() if key in journal.results}
    for name, result in results.items():
        if "problem" in result:
            summary.skip(name, result["problem"])
    return {name: result["found"] for name, result in results.items() if "found" in result}
