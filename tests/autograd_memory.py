# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much memory autograd keeps for the gradient."""

from collections.abc import Callable

import torch


def bytes_kept_for_the_gradient(model: torch.nn.Module, run: Callable[[], object]) -> int:
    """Return the bytes that `run()`, with `model`, leaves for the gradient, without the model's own parameters."""
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no other storage gets this place
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = run()  # noqa: F841  # the graph lives as long as this does
    return sum(storage.nbytes() for storage in kept.values())
