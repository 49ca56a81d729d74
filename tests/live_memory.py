# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much memory the tensors take that are alive at the same time."""

from collections.abc import Callable

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of what operations made and still lives; on any device, meta included.

    Attributes:
        peak: The most at any time.
    """

    def __init__(self):
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        outputs = function(*args, **(kwargs or {}))
        inputs = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if torch.is_tensor(x)}
        for output in tree_leaves(outputs):
            if torch.is_tensor(output) and output.untyped_storage()._cdata not in inputs:  # no view
                storage = output.untyped_storage()
                self.live[storage._cdata] = (StorageWeakRef(storage), storage.nbytes())
        self.live = {key: entry for key, entry in self.live.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self.live.values()))
        return outputs


@torch.no_grad()
def peak_of(run: Callable[[], object]) -> int:
    """Return the largest number of bytes that live at the same time in `run()`, of what it makes itself."""
    with LiveMemory() as memory:
        run()
    return memory.peak
