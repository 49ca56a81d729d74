# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The edge of every program here: what can be foreseen ends in one line, `error: ...`, and an exit status.

DIFFUSERS_JOVA_DEBUG=1 shows the traceback of everything; a mistake of our own shows its traceback always.
"""

import logging
import os
import pickle
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from safetensors import SafetensorError

from .files import DISK_ERRORS
from .text import printable, printable_lines


DEBUG = "DIFFUSERS_JOVA_DEBUG"
UNUSABLE = 2  # as argparse says of wrong arguments
INTERRUPTED = 130  # as shells say of a program that Ctrl-C ended
OUTPUT_CLOSED = 141  # likewise of one whose reader, such as `head`, went away

# Bad input and the machine's limits. `reading` turns what libraries raise for damaged files into a ValueError.
FORESEEABLE = (ValueError, OSError, ImportError, MemoryError, SafetensorError, pickle.UnpicklingError)


def run(main: Callable[[Any], int | None], args: Any = None) -> int:
    """Return the exit status of a program: what `main(args)` returns, 0 for None, and 2 after an error.

    0 is done, also in part; 1 says that nothing came of it, as after a traceback, where it is Python's own; 2 is for
    wrong input and for what is missing: a file, a package, memory, space on the disk.

    Args:
        main: Does the work.
        args: Its argument.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that is not valid Unicode is shown with escapes
            stream.reconfigure(errors="backslashreplace")
    try:
        result = main(args) or 0
        sys.stdout.flush()
        return result
    except KeyboardInterrupt:
        if os.environ.get(DEBUG):
            raise
        print("error: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _output_is_closed():
            return OUTPUT_CLOSED
        if os.environ.get(DEBUG) or not is_foreseeable(error):
            raise
        print("error:", describe(error), file=sys.stderr)
        return UNUSABLE


def is_foreseeable(error: Exception) -> bool:
    """Whether an error comes from the input or the machine, and not from a mistake in the program."""
    return isinstance(error, FORESEEABLE) or type(error).__name__ == "OutOfMemoryError"  # torch's, not imported here


def describe(error: Exception) -> str:
    """Return what went wrong, and what to do, as one line that a terminal can show."""
    text = printable(" ".join(str(error).split()))
    if isinstance(error, MemoryError) and not text:
        text = "there is not enough memory: free some, or choose smaller sizes"
    code = getattr(error, "errno", None)
    if isinstance(error, FileNotFoundError) and text.startswith(f"[Errno {code}]") and error.filename:
        text = printable(f"there is no file or folder `{error.filename}`: correct the path")
    if code in DISK_ERRORS and isinstance(error, OSError) and text.startswith(f"[Errno {code}]"):
        text += f": {DISK_ERRORS[code][1]}"
    return text or type(error).__name__


def _output_is_closed() -> bool:
    """Whether the reader of the standard output has gone; what is left to write there then goes nowhere."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), select.POLLOUT)
        is_closed = any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError):  # no such thing on Windows, or no real output
        return False
    if is_closed:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return is_closed


def say(text: object) -> None:
    """Print `text`, which may hold names of others, with its line feeds."""
    print(printable_lines(text), flush=True)


class PrintableFormatter(logging.Formatter):
    """Formats records as lines that a terminal can show."""

    def format(self, record: logging.LogRecord) -> str:
        return printable_lines(super().format(record))


def start_logging(format: str = "%(message)s") -> None:
    """Let log records go to the standard error output, if nothing else was set up."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(format))
    logging.basicConfig(handlers=[handler])


@contextmanager
def logging_progress(format: str = "%(message)s") -> Iterator[None]:
    """Let the log say how far the work is, and it alone: transformers has bars of its own for loading."""
    from transformers.utils import logging as transformers_logging  # late: it takes seconds

    start_logging(format)
    logger = logging.getLogger(__package__)
    level, had_bars = logger.level, transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if had_bars:
            transformers_logging.enable_progress_bar()
