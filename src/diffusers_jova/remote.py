# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files that fsspec reaches, on s3://, gs://, hf:// or in a tar: they are read as copies, and written whole.

FFmpeg opens a film many times and seeks in it, for its frames, its audio and each of its clips, and every process
does: a copy on this machine is read as any other film is, with the same result, and costs one download. A process
holds one at a time. What a step writes lies in a folder of this machine until it is whole, since a journal that grows
line by line is nothing that an object store has.
"""

import hashlib
import json
import os
import posixpath
import tempfile
import threading
from atexit import register
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

from .files import is_remote, lock_folder, whole_file, workplace, write_error
from .shards import parse_shard


# Stores in which a file appears when all of it is there; elsewhere it gets its name afterwards.
WHOLE_BY_THEMSELVES = {"s3", "s3a", "gs", "gcs", "hf", "az", "abfs", "abfss", "adl", "oss"}
STATE = ".remote.json"  # in the copy of an output folder: what was there when it was last up to date
Result = TypeVar("Result")
LAST = ("metadata.jsonl", "index.jsonl", "report.json")  # what names the other files is written after them


@dataclass(frozen=True, order=True)
class RemotePath:
    """A file or folder by its URL, with as much of `pathlib.Path` as reading clips needs.

    Args:
        url: as fsspec reads it, "s3://bucket/films/a.mp4" or "tar://a.mp4::/shards/000.tar".
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> "RemotePath":
        head, chained, rest = self.url.partition("::")
        scheme, _, path = head.partition("://")
        return RemotePath(f"{scheme}://{posixpath.normpath(posixpath.join(path, name))}{chained}{rest}")

    @property
    def name(self) -> str:
        return posixpath.basename(self.url.partition("::")[0].rstrip("/"))

    @property
    def suffix(self) -> str:
        return posixpath.splitext(self.name)[1]

    @property
    def parent(self) -> "RemotePath":
        return self / ".."

    @property
    def is_member(self) -> bool:
        """Whether it lies in another file, such as a tar."""
        return "::" in self.url

    def is_file(self) -> bool:
        with self._reached() as (system, path):
            return system.isfile(path)

    def read_text(self, encoding: str = "utf-8") -> str:
        with self._reached() as (system, path):
            content = system.cat_file(path)
        return content.decode(encoding)

    def version(self) -> str:
        """Return what tells this content from another one, by what the store says of it."""
        with self._reached() as (system, path):
            return system.ukey(path)

    def files(self) -> dict[str, "RemotePath"]:
        """Return the files below a folder that are not hidden, by their path relative to it.

        Raises:
            FileNotFoundError: if there is no such folder.
        """
        with self._reached() as (system, root):
            found = [path.strip("/") for path in system.find(root)]
            if not found and not system.exists(root):
                raise FileNotFoundError(f"There is no folder or file `{self.url}`.")
            root = root.strip("/")  # there it may begin at a root, as on sftp://, or not, as on s3://
        names = sorted(path.removeprefix(root).strip("/") for path in found if path != root)
        return {name: self / name for name in names if not any(p.startswith(".") for p in name.split("/"))}

    def remove(self) -> None:
        with self._reached() as (system, path):
            system.rm_file(path)

    def put(self, local: Path) -> None:
        """Write the content of a file of this machine: all of it appears, or nothing."""
        with self._reached() as (system, path):
            if self.url.partition("://")[0] in WHOLE_BY_THEMSELVES:
                system.put_file(str(local), path)
                return
            partial = posixpath.join(posixpath.dirname(path), f".{posixpath.basename(path)}.partial")
            system.makedirs(posixpath.dirname(path), exist_ok=True)
            system.put_file(str(local), partial)
            system.mv(partial, path)

    def get(self, local: Path) -> None:
        """Write its content to a file of this machine."""
        with self._reached() as (system, path):
            system.get_file(path, str(local))

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """Give its file system and its path there, and say what went wrong in words of our own.

        Raises:
            ImportError: if the package for such URLs is not installed.
            OSError: whatever else the store or the network say, which may pass.
        """
        import fsspec  # a dependency of torch

        try:
            yield fsspec.core.url_to_fs(self.url)
        except (OSError, MemoryError):
            raise
        except ImportError as error:
            raise ImportError(f"`{self.url}` needs a package that is not installed: {error} (pip install).") from error
        except Exception as error:  # each store has errors of its own
            reason = " ".join(str(error).split()) or type(error).__name__
            raise OSError(f"`{self.url}` cannot be reached now ({reason}): correct that, and start again.") from error


def place_of(path: str | os.PathLike | RemotePath) -> Path | RemotePath:
    """Return a path as what it is: of this machine, or of one that fsspec reaches."""
    if isinstance(path, RemotePath):
        return path
    text = os.fspath(path)
    return RemotePath(text) if is_remote(text) else Path(text.removeprefix("file://"))


def members_of(tar: Path | RemotePath) -> dict[str, RemotePath]:
    """Return the files in a tar, by their path there.

    Raises:
        ValueError: if it is not a tar, or is cut short.
    """
    import tarfile

    url = tar.url if isinstance(tar, RemotePath) else os.path.realpath(tar)
    root = RemotePath(f"tar://::{url}")
    try:
        with root._reached() as (system, _):
            names = sorted(system.find(""))
    except OSError as error:
        if isinstance(error.__cause__, tarfile.TarError):
            raise ValueError(f"it is not a whole tar ({error.__cause__})") from error
        raise
    return {name: RemotePath(f"tar://{name}::{url}") for name in names if not posixpath.basename(name).startswith(".")}


# --- reading: copies on this machine ---


class _Copies:
    """The copies that this process holds: those in use, and the last one, of which more clips may be wanted."""

    def __init__(self) -> None:
        self._paths: dict[tuple[RemotePath, str], Path] = {}
        self._users: Counter[tuple[RemotePath, str]] = Counter()
        self._last: tuple[RemotePath, str] | None = None
        self._stack = ExitStack()
        self._folder: Path | None = None
        self._lock = threading.Lock()

    @contextmanager
    def copy(self, remote: RemotePath) -> Iterator[Path]:
        key = remote, remote.version()
        with self._lock:
            path = self._paths.get(key) or self._fetch(key)
            self._users[key] += 1
            self._last = key
        try:
            yield path
        finally:
            with self._lock:
                self._users[key] -= 1
                self._drop(besides=self._last)

    def _fetch(self, key: tuple[RemotePath, str]) -> Path:
        if self._folder is None:  # it is locked, so that others remove it once this process is gone, however it went
            place = workplace(Path(tempfile.gettempdir()) / "diffusers-jova-copies")
            self._folder = self._stack.enter_context(place)
            self._folder.mkdir()
            register(self._stack.close)
        self._drop()
        name = hashlib.sha256(json.dumps([key[0].url, key[1]]).encode()).hexdigest()[:32]
        path = self._folder / f"{name}{key[0].suffix[:16]}"
        try:
            key[0].get(path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        self._paths[key] = path
        return path

    def _drop(self, besides: tuple[RemotePath, str] | None = None) -> None:
        for key in [key for key in self._paths if not self._users[key] and key != besides]:
            self._paths.pop(key).unlink(missing_ok=True)


_copies = _Copies()


@contextmanager
def local_file(path: Path | RemotePath) -> Iterator[Path]:
    """Give a path of this machine at which a file can be read: its own, or that of a copy.

    Raises:
        ImportError, OSError: if it cannot be had.
    """
    if isinstance(path, RemotePath):
        with _copies.copy(path) as copy:
            yield copy
    else:
        yield path


# --- writing: a folder on this machine ---


_open_copies: dict[Path, RemotePath] = {}


def is_copy(folder: str | os.PathLike) -> bool:
    """Whether an output folder is the copy of a remote one, beside which no file of this machine lies."""
    return Path(folder) in _open_copies


@contextmanager
def local_folder(folder: str | os.PathLike) -> Iterator[Path]:
    """Give a folder of this machine for an output folder: itself, or a copy of a remote one.

    The copy stays in `diffusers-jova` of `XDG_CACHE_HOME` or `~/.cache`. It begins with what is there, and when the
    block ends, also by an error, what has changed is written there, file by file, each of them whole. After a lost
    connection the same command goes on from the copy.

    Raises:
        InUseError: if another run of this machine writes there.
        ImportError, OSError: if the remote folder cannot be read or written.
    """
    place = place_of(folder)
    if not isinstance(place, RemotePath):
        yield place
        return
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "diffusers-jova"
    copy = home / hashlib.sha256(place.url.rstrip("/").encode()).hexdigest()[:16]
    with lock_folder(copy, "copy"):
        state = _read_state(copy)
        _download(place, copy, state)
        _open_copies[copy] = place
        try:
            yield copy
        finally:
            del _open_copies[copy]
            _upload(place, copy, state)


def writes_to_any_place(step: Callable[..., Result]) -> Callable[..., Result]:
    """Let the `output_dir` of a step's settings be a remote folder, see `local_folder`."""

    @wraps(step)
    def run(config: Any, *args: Any, **options: Any) -> Result:
        if not is_remote(config.output_dir):
            return step(config, *args, **options)
        inside = f"{config.output_dir.rstrip('/')}/"
        if inside.startswith(f"{str(config.data).rstrip('/')}/"):
            raise ValueError(f"The output `{config.output_dir}` is or lies in `{config.data}`: choose another output.")
        if parse_shard(getattr(config, "shard", "0/1"))[1] > 1:
            raise ValueError(f"`--shard` wants an output folder that all machines see, not `{config.output_dir}`.")
        with local_folder(config.output_dir) as folder:
            return step(replace(config, output_dir=str(folder)), *args, **options)

    return run


def _download(place: RemotePath, copy: Path, state: dict[str, list]) -> None:
    """Get what is not in the copy, or was changed by others since."""
    try:
        files = place.files()
    except FileNotFoundError:
        files = {}
    for name, remote in files.items():
        version, local = remote.version(), copy / name
        if local.is_file() and state.get(name, [None])[0] in (None, version):
            continue
        local.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(local) as partial:
            remote.get(partial)
        state[name] = [version, *_stamp(local)]
    _write_state(copy, state)


def _upload(place: RemotePath, copy: Path, state: dict[str, list]) -> None:
    """Write what has changed in the copy, and remove what has left it."""
    names = sorted(_names_in(copy), key=lambda name: (name in LAST, name))
    try:
        for name in names:
            if state.get(name, [None])[1:] != _stamp(copy / name):
                stamp = _stamp(copy / name)
                (place / name).put(copy / name)
                state[name] = [(place / name).version(), *stamp]
        for name in sorted(set(state) - set(names)):
            (place / name).remove()
            del state[name]
    except (OSError, ImportError) as error:
        raise write_error(place.url, error, kept=f"All of it is kept in `{copy}`") from error
    finally:
        _write_state(copy, state)


def _names_in(copy: Path) -> Sequence[str]:
    names = (path.relative_to(copy).as_posix() for path in copy.rglob("*") if path.is_file())
    return [name for name in names if not any(part.startswith(".") for part in name.split("/"))]


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_state(copy: Path) -> dict[str, list]:
    try:
        return json.loads((copy / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_state(copy: Path, state: dict[str, list]) -> None:
    with whole_file(copy / STATE) as partial:
        partial.write_text(json.dumps(state), encoding="utf-8")
