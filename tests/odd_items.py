# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What damaged files do to the process that reads them. Children import this: it imports only what they have."""

import os
import signal

from diffusers_jova.data.prepare import Preparation


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


class Crashing(Preparation):
    """Dies of the clip "crash", as a decoder may of a damaged file; raises for "bad"."""

    def __call__(self, window):
        if window.key == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        if window.key == "bad":
            raise IndexError("out of range")
        return super().__call__(window)
