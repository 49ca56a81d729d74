# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much memory is free, on a GPU and in a container, and what a device can keep weights in."""

import re
from pathlib import Path

import psutil
import torch


def free_memory(device: torch.device) -> int:
    """Return the bytes that a process may still take on `device`; on CPU also by the limits of its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *container_limits()])


def check_storage(dtype: torch.dtype, device: torch.device | str) -> None:
    """Raise a ValueError where a device cannot keep weights in `dtype` and compute with them in another one.

    It is tried with one number, since what a device can do depends on its kind and on how torch was built.
    """
    try:
        torch.zeros(1, device=device).to(dtype).float()
    except (RuntimeError, TypeError) as error:  # a NotImplementedError is a RuntimeError
        raise ValueError(
            f"`{device}` cannot keep weights in {dtype} ({str(error).splitlines()[0]}). Leave out layerwise casting "
            "(--layerwise_casting), or use another device; what saves memory without it, such as group offload "
            "(--group_offload), is in docs/speed_and_memory.md."
        ) from error


def container_limits(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what the control group leaves free, where it sets a limit. Files that it holds in memory can go."""
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        cached = re.search(r"^file (\d+)$", (root / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no control group, or "max": no limit
        return []
    return [max(limit - used + (int(cached[1]) if cached else 0), 0)]
