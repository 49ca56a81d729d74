# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How far a phase is: a bar in a terminal, and where there is none a line in the log now and then."""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm


logger = logging.getLogger(__name__)

LOG_EVERY_S = 30

Item = TypeVar("Item")


def progress(items: Iterable[Item], phase: str, total: int) -> Iterator[Item]:
    """Yield `items`, of which there are `total`, and say how far the work on them is."""
    bar = tqdm(items, phase, total, disable=None)
    if not bar.disable:
        yield from bar
        return
    if total:
        logger.info("%s: %d to do", phase, total)
    started_s = last_s = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item  # the work on it is done when the next one is asked for
        now_s = time.monotonic()
        if now_s - last_s >= LOG_EVERY_S and done < total:
            left_s = (now_s - started_s) / done * (total - done)
            logger.info("%s: %d of %d, about %s left", phase, done, total, tqdm.format_interval(left_s))
            last_s = now_s
    if total:
        logger.info("%s: done in %s", phase, tqdm.format_interval(time.monotonic() - started_s))
