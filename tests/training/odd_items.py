# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What damaged files do to the process that reads them. Other processes import this, so it imports next to nothing."""

import os
import signal


def halve(item):
    """Return half of a number; "crash", "hang" and "damage" do what damaged files do."""
    if item == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if item == "hang":
        signal.pause()
    if item == "damage":
        raise ValueError("damaged\nfile")
    if item == "disk":
        raise OSError("not mounted")
    return item / 2


def crash():
    os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does where memory runs out
