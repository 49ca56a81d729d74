# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""File names of other people: finding files in folders and by names written another way."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from ..remote import RemotePath


def walk(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the files below `folder` that are not hidden, each with "" or with why it cannot be used.

    Folders that are links are followed, also out of `folder`, after all others; each folder is entered once, so loops
    end and a folder that is reached by its own name and by a link has its own name. A folder that cannot be listed is
    yielded like a file.
    """
    entered, folders = set(), [folder]
    links: list[Path] = []
    while folders or links:
        here = folders.pop() if folders else links.pop(0)
        try:
            status = os.stat(here)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            yield here, f"the folder cannot be read: {error.strerror}"
            continue
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith("."):
                continue
            if os.path.isdir(path) if entry.is_symlink() else entry.is_dir():
                (links if entry.is_symlink() else folders).append(path)
            elif os.path.isfile(path) if entry.is_symlink() else entry.is_file():
                yield path, ""
            elif entry.is_symlink():
                yield path, "it is a link to something that is not there"


class FileNames:
    """Names of files, found also when they are asked for in another Unicode form or with another case of the suffix.

    macOS writes "é" as two characters, other systems and most texts as one; to people it is the same name.
    """

    def __init__(self, files: Mapping[str, Path | RemotePath]):
        self.files, self._alike = files, defaultdict(list)
        for name in files:
            self._alike[_fold(name)].append(name)

    def find(self, name: str) -> str | None:
        """Return the file that `name` means: itself, else the only one that is equal to it in NFC, in NFKC, or in
        NFKC and with a suffix in lower case; None where there is none.

        Raises:
            ValueError: if several files are equal to it in one of these ways.
        """
        alike = self._alike.get(_fold(name), ())
        for form in (str, _nfc, _nfkc, _fold):
            found = [other for other in alike if form(other) == form(name)]
            if len(found) > 1:
                raise ValueError(f"its name may mean any of {', '.join(map(ascii, found))}: rename all but one")
            if found:
                return found[0]
        return None

    def find_path(self, name: str) -> Path | RemotePath | None:
        """Return the path of the file that `name` means, with the errors of `find`."""
        found = self.find(name)
        return None if found is None else self.files[found]


def _nfc(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _nfkc(name: str) -> str:
    return unicodedata.normalize("NFKC", name)


def _fold(name: str) -> str:
    stem, suffix = os.path.splitext(_nfkc(name))
    return stem + suffix.lower()


def encodable(name: str) -> str:
    """Return `name` as UTF-8 can hold it: bytes of a file's name that are not UTF-8 become "\\udce9" and the like."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")
