# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether a transformer may look at the values of its inputs, for which the host waits until the device has them."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch


_CHECKS_VALUES = ContextVar("checks_values", default=True)


@contextmanager
def without_value_checks() -> Iterator[None]:
    """Let `forward` not look at the values of its inputs within the block.

    For inputs that are known to be right, step after step, such as those that the pipeline makes.
    """
    token = _CHECKS_VALUES.set(False)
    try:
        yield
    finally:
        _CHECKS_VALUES.reset(token)


def checks_values() -> bool:
    """Whether `forward` may look at the values of its inputs: no graph can, see also `without_value_checks`."""
    return not torch.compiler.is_compiling() and _CHECKS_VALUES.get()
