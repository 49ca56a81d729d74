# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Random numbers that belong to a clip and not to a process: the same on one machine and on a hundred."""

import hashlib
from collections.abc import Sequence

import torch


def make_generator(seed: int, *names: str | int) -> torch.Generator:
    """Return a CPU generator that depends on nothing but `seed` and `names`.

    Each purpose has a name of its own, such as (key, visit, "noise"): turning an option on draws nothing away from
    the others, and neither the number of processes nor the order of clips changes what a clip meets.
    """
    digest = hashlib.blake2b("/".join(map(str, (seed, *names))).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def draw_normal(shape: tuple[int, ...], visits: Sequence[tuple[str, int]], seed: int, purpose: str) -> torch.Tensor:
    """Return standard normal numbers (B, *shape) on CPU, each visit's from its own generator."""
    return torch.stack([torch.randn(shape, generator=make_generator(seed, *visit, purpose)) for visit in visits])
