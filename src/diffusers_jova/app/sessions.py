# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Who has the page open: the clips and files of each, in a folder of their own that goes with them."""

import os
import tempfile
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path

from .clips import MadeClip


@dataclass
class Session:
    """One page that somebody has open.

    Attributes:
        folder: For its clips.
        clips: The finished ones, oldest first.
    """

    folder: Path
    clips: list[MadeClip] = field(default_factory=list)

    @property
    def stop_file(self) -> Path:
        """Where a file asks, by being there, for the clip that is being made to be stopped.

        A file, since on ZeroGPU another process makes the clip.
        """
        return self.folder / "stop"

    def next_path(self) -> Path:
        """Return where the next clip goes."""
        return self.folder / f"clip_{len(self.clips) + 1}.mp4"


class Sessions:
    """All pages that are open, by what Gradio calls them.

    Args:
        folder: Below which each has its own.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._sessions: dict[Hashable, Session] = {}

    def of(self, name: Hashable) -> Session:
        """Return the session of that name, a new one if there is none."""
        if name not in self._sessions:  # a browser sends the name: no path is made of it
            self._sessions[name] = Session(Path(tempfile.mkdtemp(dir=self.folder)))
        return self._sessions[name]

    def forget(self, name: Hashable) -> None:
        """Remove a session with its files; a clip that is being made for it is stopped."""
        session = self._sessions.pop(name, None)
        if session is None:
            return
        session.stop_file.touch()
        for path in (path for clip in session.clips for path in (clip.path, clip.audio) if path is not None):
            path.unlink(missing_ok=True)


def temporary_folder() -> tempfile.TemporaryDirectory:
    """Return the folder for uploads and clips, which goes when the process ends. Gradio uses it if imported later."""
    folder = tempfile.TemporaryDirectory(prefix="diffusers-jova-app-", ignore_cleanup_errors=True)
    for name in ("uploads", "clips"):
        Path(folder.name, name).mkdir()
    os.environ["GRADIO_TEMP_DIR"] = str(Path(folder.name, "uploads"))
    return folder
