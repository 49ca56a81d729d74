# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How a metric is put together: networks that pass over clips one after the other, and what their findings say.

A `Network` is loaded once, makes its `Pass`es over all clips, and goes before the next one comes. What a pass finds in
a clip is kept in a cache. A `Plan` says which passes a metric needs by one protocol, and turns their findings into the
clip's values, or into one value of a set. To add a metric, add it to `metrics.METRICS` and its plan to `plans`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .clips import Subject
from .measurement import Measurement, Status
from .metrics import Metric
from .prompt_file import Prompt


Findings = Mapping[str, Measurement]  # of one clip, by the name of the pass
REFERENCE = "@reference"  # behind the name of a pass over the prompt's reference audio


@dataclass(frozen=True)
class Network:
    """What is in memory while its passes run: one network, or anything else that measures.

    Attributes:
        load: from the folder of weights and a device to what the passes take.
        files: names in the folder of weights, as in `weight_files`.
        packages: that must be installed.
    """

    name: str
    load: Callable[[Path, str], Any] = lambda weights, device: None
    files: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pass:
    """One network over one clip.

    Attributes:
        run: from the network, the clip and the findings of `after` to a measurement; it may raise ValueError.
        reads: of the clip "frames", "audio", "image", and fields of its prompt: what the findings depend on.
        settings: what else they depend on, in plain values.
        version: of the code; another one does not take findings from the cache.
        after: passes whose findings it needs.
        files: of weights, beside the network's.
        on_reference: whether it also passes over the prompt's reference audio.
    """

    name: str
    network: Network
    run: Callable[[Any, Subject, Findings], Measurement]
    reads: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    after: tuple["Pass", ...] = ()
    files: tuple[str, ...] = ()
    on_reference: bool = False


def the_only(prompt: Prompt, findings: Findings) -> Measurement:
    """Return the last pass's finding as it is: what most plans combine."""
    return list(findings.values())[-1]


@dataclass(frozen=True)
class Plan:
    """A metric by one protocol.

    Attributes:
        passes: whose findings `combine` takes; the passes before them come by themselves.
        combine: from a clip's prompt and findings to its measurement; cheap, and never from the cache.
        of_set: for a metric that has values only of a set: from the measurements of its clips that are `ok` to values
            by column. It raises ValueError where there are too few.
        mean_of_sets: whether the value over all sets is the mean of the sets' values.
        average: how a column's values become one, in words; with `pooled`, that is what it prints.
        pooled: from the measurements that are `ok` to a value by column, instead of the mean over clips.
        remarks: from the measurements that are `ok` to what a reader has to know beside the value.
    """

    metric: Metric
    variant: str
    passes: tuple[Pass, ...]
    combine: Callable[[Prompt, Findings], Measurement] = the_only
    of_set: Callable[[Sequence[Measurement]], dict[str, float]] | None = None
    mean_of_sets: bool = False
    average: str = "mean over clips"
    pooled: Callable[[Sequence[Measurement]], dict[str, float]] | None = None
    remarks: Callable[[Sequence[Measurement]], list[str]] = lambda measurements: []

    @cached_property
    def all_passes(self) -> tuple[Pass, ...]:
        """The passes and those before them, in an order in which they can run, each once."""
        found: dict[str, Pass] = {}

        def add(each: Pass) -> None:
            for before in each.after:
                add(before)
            found.setdefault(each.name, each)

        for each in self.passes:
            add(each)
        return tuple(found.values())

    @property
    def files(self) -> tuple[str, ...]:
        """The files of weights that it needs."""
        return tuple(dict.fromkeys(name for each in self.all_passes for name in (*each.network.files, *each.files)))

    @property
    def packages(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for each in self.all_passes for name in each.network.packages))


def first_problem(findings: Sequence[Measurement]) -> Measurement | None:
    """Return the first finding that is not `ok`, without its features."""
    bad = next((finding for finding in findings if finding.status != Status.OK), None)
    return None if bad is None else replace(bad, features={})


def features(**arrays: Any) -> Measurement:
    """Return a finding that is nothing but arrays for what follows."""
    return Measurement(Status.OK, features={name: np.asarray(array) for name, array in arrays.items()})
