# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much memory is free, on a GPU and in a container."""

import re
from pathlib import Path

import psutil
import torch


def free_memory(device: torch.device) -> int:
    """Return the bytes that a process may still take on `device`; on CPU also by the limits of its container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return min([psutil.virtual_memory().available, *container_limits()])


def container_limits(root: Path = Path("/sys/fs/cgroup")) -> list[int]:
    """Return what the control group leaves free, where it sets a limit. Files that it holds in memory can go."""
    try:
        limit = int((root / "memory.max").read_text())
        used = int((root / "memory.current").read_text())
        cached = re.search(r"^file (\d+)$", (root / "memory.stat").read_text(), re.MULTILINE)
    except (OSError, ValueError):  # no control group, or "max": no limit
        return []
    return [max(limit - used + (int(cached[1]) if cached else 0), 0)]
