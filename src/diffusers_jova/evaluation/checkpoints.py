# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Published weight files -> networks: no code of theirs is run, and no weight is missing or left over."""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy._core import multiarray
from safetensors import SafetensorError
from safetensors.torch import load_file


# What trainers leave in checkpoints beside tensors: numbers and arrays of numpy's, of a loss or of the data's order.
_NUMPY = [getattr(multiarray, name) for name in ("scalar", "_reconstruct")]
_NUMBERS = [
    *_NUMPY,
    *((function, f"numpy.core.multiarray.{function.__name__}") for function in _NUMPY),  # the names from numpy 1
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "u1", "?")),
]
_WRAPPERS = ("state_dict", "model_state_dict", "model", "params")  # where trainers put the state dict
_NAMES_SHOWN = 5

Network = TypeVar("Network", bound=torch.nn.Module)


def read_checkpoint(path: str | os.PathLike) -> dict:
    """Return what a weight file holds, on the CPU: `.safetensors`, or a file of `torch.save`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or holds more than tensors and plain values; code in it is never run.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no weight file `{path}`.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals(_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"Cannot read the weight file `{path}`, which may be damaged or hold more than weights: {error}. "
            "Fetch it again, or save its state dict as .safetensors."
        ) from error


def state_dict_of(checkpoint: Mapping, prefix: str = "module.") -> dict[str, torch.Tensor]:
    """Return the tensors of a checkpoint by name: out of the dict that a trainer wrapped them in, without `prefix`."""
    for wrapper in _WRAPPERS:
        if isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
            break
    return {name.removeprefix(prefix): value for name, value in checkpoint.items() if torch.is_tensor(value)}


def read_state_dict(path: str | os.PathLike) -> dict[str, torch.Tensor]:
    """Return the tensors of a weight file by name, as the `load_` function of its network takes them."""
    return state_dict_of(read_checkpoint(path))


def load_weights(network: Network, state_dict: Mapping[str, torch.Tensor], name: str, computed: str = "") -> Network:
    """Return `network` with the weights, in evaluation mode and without gradients.

    Counters of batches may be missing: files from before PyTorch 0.4.1 have none.

    Args:
        name: of the network, for the message.
        computed: a regular expression of more names that may be missing, since the network computes them itself.

    Raises:
        ValueError: if names or shapes differ from the network's; the message lists them.
    """
    own = network.state_dict()
    optional = re.compile(rf"num_batches_tracked$|{computed}" if computed else "num_batches_tracked$")
    missing = [key for key in own if key not in state_dict and not optional.search(key)]
    unexpected = [key for key in state_dict if key not in own]
    shapes = [
        f"{key} {tuple(state_dict[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in state_dict and state_dict[key].shape != own[key].shape
    ]
    problems = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
    if any(problems.values()):
        found = "; ".join(f"{len(keys)} {kind}: {_shortened(keys)}" for kind, keys in problems.items() if keys)
        raise ValueError(f"These are not the weights of {name}. {found}.")
    network.load_state_dict(state_dict, strict=False)
    return network.eval().requires_grad_(False)


def _shortened(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMES_SHOWN]) + (", ..." if len(keys) > _NAMES_SHOWN else "")
