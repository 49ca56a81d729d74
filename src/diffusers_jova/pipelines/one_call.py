# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A pipeline holds the state of its call, and so does its scheduler: it serves one call at a time."""

import functools
from collections.abc import Callable


def one_call_at_a_time(call: Callable) -> Callable:
    """Return a pipeline's method that raises a RuntimeError, with the way out, while another call of it is running."""

    @functools.wraps(call)
    def checked_call(self, *args, **kwargs):
        this_call = object()
        # a test and an assignment would let two threads through, this is atomic
        if self.__dict__.setdefault("_running_call", this_call) is not this_call:
            raise RuntimeError(
                "This pipeline is in the middle of a call and serves one call at a time. Wait for it, for example "
                "with a `threading.Lock` around the calls, or give each thread a pipeline of its own: "
                'docs/generate.md, "Several threads", says which components they can share.'
            )
        try:
            return call(self, *args, **kwargs)
        finally:
            del self._running_call

    return checked_call
