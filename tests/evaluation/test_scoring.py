# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""From the findings of passes to the values of a clip."""

from pathlib import Path

import pytest

from diffusers_jova.evaluation.clips import ClipFile
from diffusers_jova.evaluation.measurement import Measurement, Status
from diffusers_jova.evaluation.metrics import metric_named
from diffusers_jova.evaluation.passes import Network, Pass, Plan
from diffusers_jova.evaluation.prompt_file import Prompt
from diffusers_jova.evaluation.scoring import Item, measurements_of


@pytest.mark.parametrize("order", [("eyes", "ears", "mouth"), ("mouth", "ears", "eyes")])
def test_a_metric_takes_the_finding_of_its_own_last_pass(order):
    network = Network("none")
    eyes, ears = (Pass(name, network, lambda *_: None, ()) for name in ("eyes", "ears"))
    mouth = Pass("mouth", network, lambda *_: None, (), after=(eyes,))
    found = {name: Measurement(Status.OK, {name: 1.0}) for name in order}
    item = Item(Prompt("a"), ClipFile(Path("a.mp4"), None), findings=found)
    for plan in (Plan(metric_named("MS"), "verse", (mouth,)), Plan(metric_named("AudioBox"), "audiobox", (ears,))):
        (measured,) = measurements_of(plan, [item])
        assert measured is found[plan.passes[-1].name]
