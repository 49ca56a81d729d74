# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a step has found out so far, so that a run that was stopped goes on where it was."""

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from ..files import whole_file, write_error
from ..remote import RemotePath


class Journal:
    """Results by key, a line each in a file that only grows; a line that was not written to its end does not count.

    Args:
        path: of the file; what is in it is known from the start.

    Raises:
        OSError: if it cannot be read or written, for example on a full disk.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.results: dict[str, Any] = {}
        self._file: TextIO | None = None
        size = 0
        if self.path.is_file():
            with open(self.path, "rb") as file:
                for line in file:
                    try:
                        key, result = json.loads(line)
                    except (ValueError, TypeError):
                        break
                    self.results[key] = result
                    size += len(line)
            os.truncate(self.path, size)

    def __enter__(self) -> "Journal":
        self._file = open(self.path, "a", encoding="utf-8")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):  # of a line that could not be written, which `add` has said
            self._file.close()

    def add(self, key: str, result: Any) -> None:
        """Note a result: what JSON can hold.

        Raises:
            OSError: if it cannot be written; the message names the file, says why and what to do.
        """
        try:
            self._file.write(json.dumps([key, result], ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error, kept="What was found out before is kept") from error
        self.results[key] = result

    def keep(self, keys: set[str]) -> None:
        """Forget all other results: those of files that have changed or are gone, and of other settings."""
        kept = {key: result for key, result in self.results.items() if key in keys}
        if len(kept) < len(self.results):
            with whole_file(self.path) as partial, open(partial, "w", encoding="utf-8") as file:
                file.writelines(json.dumps([key, result], ensure_ascii=False) + "\n" for key, result in kept.items())
            self.results = kept


def key_of(path: Path | RemotePath, *settings: Any) -> str:
    """Return a key for what is done with a file: another one when the file or the settings change.

    The content is known by size and time of change, elsewhere by what a store says of it: hashing a day of films would
    take as long as reading them.
    """
    if isinstance(path, RemotePath):
        content = [path.url, path.version(), *settings]
    else:
        status = path.stat()
        content = [os.path.realpath(path), status.st_size, status.st_mtime_ns, *settings]
    return hashlib.sha256(json.dumps(content, default=str).encode("utf-8", "surrogateescape")).hexdigest()[:32]
