# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What takes so long, or does such harm, that workers are lost meanwhile. Workers of a cluster import this."""

import multiprocessing
import os
import signal
import time

from odd_items import halve

from diffusers_jova.dataset.measures import Measurer
from diffusers_jova.dataset.split import Splitter


class SlowSplitter(Splitter):
    """Splits like its parent, a little later."""

    def __call__(self, film):
        time.sleep(1.5)
        return super().__call__(film)


class SlowMeasurer(Measurer):
    """Measures like its parent, a little later."""

    def __call__(self, source):
        time.sleep(1.5)
        return super().__call__(source)


def halve_or_kill(item):
    """Return half of a number; "worker" kills the process that has asked for it, "crash" the one that does it."""
    if item == "worker":
        os.kill(multiprocessing.parent_process().pid, signal.SIGKILL)
        time.sleep(60)
    return halve(item)
