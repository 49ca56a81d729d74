# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Memory counted on tensors, with content and without."""

import torch

from diffusers_jova import compat
from diffusers_jova.live_memory import LiveMemory


def test_live_memory_counts_what_is_there_at_a_time_with_content_and_without():
    def run():
        a = torch.zeros(1000)  # 4,000 bytes
        b = a + 1
        view = b[10:]  # shares b
        del a
        c = view * 2  # 3,960 bytes, while a is not there
        del b, view
        return [x + c.sum() for x in c.split(495)]  # two of 1,980, the sum and one before it is added

    def counted():
        with LiveMemory() as memory:
            kept = run()
            del kept
        return memory.peak, memory.now

    assert counted() == (8000, 0)
    with compat.load("FakeTensorMode")():
        assert counted() == (8000, 0)


def test_live_memory_leaves_out_what_was_there_before():
    layer = torch.nn.Linear(10, 10)
    with LiveMemory(layer.parameters()) as memory, torch.no_grad():
        layer(torch.zeros(1, 10))
        [layer.weight.T, layer.weight.mul_(2)]
    assert memory.peak == 80
