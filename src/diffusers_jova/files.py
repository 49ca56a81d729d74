# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear whole or not at all, that one run at a time writes, and never over what it reads.

What is given its final name has been flushed to the disk, so that a power cut leaves the old or the new, not a half.
"""

import errno
import itertools
import json
import os
import re
import shutil
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from pickle import UnpicklingError

from filelock import BaseFileLock, FileLock, Timeout
from safetensors import SafetensorError

from .headers import read_header, read_json


LONGEST_NAME = 200  # bytes: file systems allow 255, and the names of temporary files are a little longer
PIECE = 16 * 1024  # bytes: of each tensor its first, middle and last piece count as its content
LONGEST_REASON = 300  # characters of a library's message
NO_SPACE = 1 << 20  # bytes: with less than this free, an error that does not say why is a full disk

# errno -> what happened, what to do
DISK_ERRORS = {
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("your quota on this disk is used up", "delete some of your files there, or ask for a larger quota"),
    errno.EFBIG: ("a file cannot be that large there", "choose another disk, or raise the limit (`ulimit -f`)"),
    errno.EROFS: ("the disk is mounted read-only", "choose another place, or mount it writable"),
    errno.EACCES: ("permission denied", "correct the permissions of its folder, or choose another place"),
    errno.EPERM: ("permission denied", "correct the permissions of its folder, or choose another place"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EMFILE: ("too many files are open", "raise the limit (`ulimit -n`)"),
    errno.ENFILE: ("too many files are open on this machine", "close other programs"),
    errno.EIO: ("the disk reports a fault of its own", "check it, or choose another disk"),
}


class InUseError(OSError):
    """Another process is at work in a folder."""


class DamagedError(ValueError):
    """A file is not what it should be; the message names it."""


# --- whole or not at all ---


@contextmanager
def whole_file(path: str | os.PathLike, writer: str | None = None) -> Iterator[Path]:
    """Give a temporary name with the suffix of `path`, which becomes `path` when the block succeeds.

    Args:
        path: The file; its folder exists.
        writer: In a folder that this run has locked, "" or what tells the run apart from others that may write the
            same file. The temporary name is then the same each time, so that what a killed run left behind is written
            over. None takes a locked place of its own beside `path`, and clears those that killed runs left.

    Raises:
        OSError: If writing failed; the message names `path`, says why, what to do, and that nothing is lost.
    """
    path = Path(path)
    partial = path.with_name(f".{path.stem}{writer and '.'}{writer}.partial{path.suffix}")
    with _explained(path), nullcontext(partial) if writer is not None else workplace(path) as partial:
        try:
            yield partial
            sync(partial)
            os.replace(partial, path)
            if writer is None:  # in a locked folder, many files come: who has locked it calls `sync` once
                sync(path.parent)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: str | os.PathLike, overwrite: bool = False) -> Iterator[Path]:
    """Give an empty folder, which becomes `path` when the block succeeds.

    Other processes of this run may fill it too, under the name `partial_folder(path)`, as long as the block lasts.

    Args:
        path: The folder; those around it are made.
        overwrite: Whether to replace a folder that is there, which stays until the new one is whole.

    Raises:
        InUseError: If another process is writing the same folder.
        FileExistsError: If it is there and `overwrite` is False.
        OSError: As by `whole_file`.
    """
    path = Path(os.path.realpath(path))
    with _explained(path), workplace(path, shared=False) as partial:
        _refuse_existing(path, overwrite)
        partial.mkdir()
        yield partial
        _sync_tree(partial)
        _refuse_existing(path, overwrite)
        if path.exists():
            os.replace(path, _replaced(partial))
        os.replace(partial, path)
        sync(path.parent)


def partial_folder(path: str | os.PathLike) -> Path:
    """Return the name under which `whole_folder` fills the folder `path`."""
    path = Path(os.path.realpath(path))
    return next(_places(path)) / path.name


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"`{path}` exists already: remove it, or choose another place.")


@contextmanager
def workplace(path: Path, shared: bool = True) -> Iterator[Path]:
    """Give the name `path.name` in an empty folder beside `path`, which is locked, and removed when the block ends.

    Args:
        shared: Whether several processes may write `path` at a time, each in a place of its own; the last one wins.
    """
    places = _places(path)
    for place in places:
        try:
            lock = _lock(place, "run")
            break
        except InUseError as error:
            if not shared:
                raise InUseError(str(error).replace(str(place), str(path))) from None
    try:
        _clear(place, path)
        yield place / path.name
    finally:
        _clear(place, path)
        _unlock(lock)
        for other in itertools.takewhile(Path.exists, places):  # of killed runs that worked beside others
            with suppress(OSError):
                lock = _lock(other, "run")
                _clear(other, path)
                _unlock(lock)


def _places(path: Path) -> Iterator[Path]:
    """Yield the folders in which `path` is made: the first one, and those beside it for further processes."""
    name = path.name
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = blake2b(os.fsencode(name), digest_size=8).hexdigest()
    return (path.with_name(f".{name}.partial{number or ''}") for number in itertools.count())


def _replaced(partial: Path) -> Path:
    """Return where the old folder waits while the new one is given its name."""
    return partial.with_name(".replaced")


def _clear(place: Path, path: Path) -> None:
    """Remove what lies in `place`; an old folder whose run was killed while replacing it comes back."""
    replaced = _replaced(place / path.name)
    if replaced.exists() and not path.exists():
        os.replace(replaced, path)
    for entry in place.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry, ignore_errors=True)
        elif entry.suffix not in LOCK_SUFFIXES:
            entry.unlink(missing_ok=True)


def remove_folder(path: Path) -> None:
    """Remove a folder so that a killed process leaves no half of it under its name."""
    doomed = path.with_name(f".{path.name}.removed")
    shutil.rmtree(doomed, ignore_errors=True)
    os.replace(path, doomed)
    shutil.rmtree(doomed)


def clear_leftovers(folder: str | os.PathLike, pattern: str = "*") -> None:
    """Remove from `folder`, which this run has locked, what killed runs left of folders with names like `pattern`.

    One that was being replaced when its run was killed comes back.
    """
    for place in Path(folder).glob(f".{pattern}.partial"):
        _clear(place, place.with_name(place.name.removeprefix(".").removesuffix(".partial")))
        shutil.rmtree(place, ignore_errors=True)
    for doomed in Path(folder).glob(f".{pattern}.removed"):
        shutil.rmtree(doomed, ignore_errors=True)


def sync(path: str | os.PathLike) -> None:
    """Wait until a file, or the list of names in a folder, is on the disk."""
    if os.name == "nt" and os.path.isdir(path):  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        sync(path)


# --- errors of the disk ---


def write_error(
    path: str | os.PathLike,
    error: Exception,
    kept: str = "What was written before is whole",
    again: str = "start the same command again",
) -> OSError:
    """Return the error that says why `path` cannot be written, what to do, and what is safe.

    Args:
        error: Of the operating system, or of a library that wraps such an error in its own.
        kept: What is not lost.
        again: How to go on.
    """
    code = _errno_of(error, Path(path))
    what, advice = DISK_ERRORS.get(code, (str(error) or type(error).__name__, "correct that"))
    explained = OSError(f"Cannot write `{path}`: {what}. {kept}: {advice}, and {again}.")
    explained.errno = code
    return explained


def _errno_of(error: Exception, path: Path) -> int | None:
    if isinstance(error, OSError) and error.errno:
        return error.errno
    if match := re.search(r"(?:os error|code:) (\d+)", str(error)):  # the way of Rust's libraries
        return int(match[1])
    folder = next(folder for folder in path.absolute().parents if folder.exists())
    return errno.ENOSPC if shutil.disk_usage(folder).free < NO_SPACE else None


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (InUseError, FileExistsError):
        raise
    except (OSError, SafetensorError) as error:  # safetensors wraps the errors of the disk in its own
        raise write_error(path, error) from error


# --- damaged files ---


@contextmanager
def reading(path: str | os.PathLike, advice: str = "copy or download it again") -> Iterator[None]:
    """Say which file it was, whatever goes wrong in a block that does nothing but read `path` and look at it.

    Libraries raise nearly anything for a file that is cut short, is of another kind or holds other types.

    Raises:
        DamagedError: For all of it but the operating system's errors, which name the file themselves.
    """
    try:
        yield
    except (MemoryError, DamagedError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename:  # it says itself which file it was
            raise
        raise DamagedError(f"`{path}` is damaged ({reason(error)}): {advice}.") from error


@contextmanager
def reading_folder(folder: str | os.PathLike, advice: str = "copy or download it again") -> Iterator[None]:
    """As `reading`, for a folder of models: when loading fails, look which of its files is damaged."""
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError":  # torch's
            raise
        for path in sorted(Path(folder).rglob("*")):
            check_file(path, advice)
        if isinstance(error, OSError | ValueError):
            raise
        raise DamagedError(f"`{folder}` cannot be loaded ({reason(error)}): {advice}.") from error


def check_file(path: Path, advice: str = "copy or download it again") -> None:
    """Raise DamagedError if `path`, of a model's folder, is not what its name says; no code in it is run."""
    if path.is_dir():
        if path.suffix in (".safetensors", ".json"):
            raise DamagedError(f"`{path}` is a folder, and should be a file: {advice}.")
        return
    with reading(path, advice):
        if path.suffix == ".safetensors":
            read_header(path)
        elif path.suffix in (".bin", ".pt", ".pth"):
            import torch  # late: whoever has such files has it already

            torch.load(path, weights_only=True, map_location="cpu")
    if path.suffix == ".json":
        read_json(path)


def reason(error: Exception) -> str:
    """Return an error's kind and the beginning of its message, on one line."""
    if isinstance(error, UnpicklingError):
        return "it holds more than weights, such as code, which was not run"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    text = " ".join(str(error).split())
    kind = type(error).__name__
    known = isinstance(error, ValueError | SafetensorError)  # what they say needs no name in front
    return (text if known and text else f"{kind}: {text}" if text else kind)[:LONGEST_REASON]


# --- one run at a time ---

LOCK_SUFFIXES = (".lock", ".owner")


@contextmanager
def lock_folder(folder: str | os.PathLike, name: str = "run") -> Iterator[None]:
    """Keep other processes out of `folder` until the block ends, or this process does, however it ends.

    The folder is made, and removed again if it stays empty. The lock is the operating system's (`flock`), on network
    drives that have it too; where there is none, a file that names its process stands for it.

    Args:
        name: Of the lock: runs that may work side by side take different ones.

    Raises:
        InUseError: If another process has the lock; the message says which one.
    """
    folder = Path(folder)
    lock = _lock(folder, name)
    try:
        yield
    finally:
        _unlock(lock)


def lock_holder(folder: str | os.PathLike, name: str = "run") -> str | None:
    """Return which process has a lock of `folder`, in words; None if nobody has. What a killed one left is removed."""
    path = Path(folder) / f".{name}.lock"
    if not path.exists():
        return None
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        return _owner(path)
    _remove_lock_files(path)
    lock.release()
    return None


def _lock(folder: Path, name: str) -> BaseFileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # one per process and file, counted: a process does not lock itself out
        lock = FileLock(folder / f".{name}.lock", blocking=False, is_singleton=True, thread_local=False)
        lock.acquire()
    except Timeout:
        raise InUseError(
            f"another run ({_owner(folder / f'.{name}.lock')}) is at work in `{folder}`: wait until it has ended, or "
            "choose another folder."
        ) from None
    except OSError as error:
        raise write_error(folder, error) from error
    started = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    owner = f"pid {os.getpid()} on {socket.gethostname()}, since {started}"
    with suppress(OSError):  # a full disk: the lock holds, only nobody can say whose it is
        (folder / f".{name}.owner").write_text(owner, encoding="utf-8")
    return lock


def _unlock(lock: BaseFileLock) -> None:
    path = Path(lock.lock_file)
    if lock.lock_counter == 1:  # removed while it is held: whoever opens it now sees that it has no name any more
        _remove_lock_files(path)
    lock.release()
    with suppress(OSError):  # somebody's files lie there, as a rule
        path.parent.rmdir()


def _remove_lock_files(path: Path) -> None:
    path.with_suffix(".owner").unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _owner(lock_file: Path) -> str:
    try:
        return lock_file.with_suffix(".owner").read_text(encoding="utf-8") or "it does not say which"
    except OSError:
        return "it does not say which"


# --- outputs are not inputs ---


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URL that fsspec reads, such as s3://bucket/films, and not a path of this machine."""
    text = os.fspath(path)
    return isinstance(text, str) and not text.startswith("file://") and bool(re.match(r"[a-z][a-z0-9+.-]+://", text))


def is_same_place(a: str | os.PathLike, b: str | os.PathLike) -> bool:
    """Whether two paths lead to one file or folder, through links and however they are spelled."""
    if os.path.realpath(a) == os.path.realpath(b):
        return True
    return os.path.exists(a) and os.path.exists(b) and os.path.samefile(a, b)


def check_output(output: str | os.PathLike, inputs: Mapping[str, str | os.PathLike | None]) -> None:
    """Raise ValueError if writing `output` could destroy an input: if it is one, lies in one, or holds one.

    Links and other spellings of a path are seen through. An input that is None or not on this disk is left out.

    Args:
        output: File or folder to write.
        inputs: By what they are, in words: {"the model": "nano/"}.
    """
    target = Path(os.path.realpath(output))
    for what, path in inputs.items():
        if path is None or not os.path.exists(path):
            continue
        source = Path(os.path.realpath(path))
        relation = None
        if is_same_place(source, target):
            relation = "is"
        elif source in target.parents:
            relation = "lies in"
        elif target in source.parents:
            relation = "holds"
        if relation is not None:
            raise ValueError(
                f"The output `{output}` {relation} {what}, `{path}`, which this run reads and would damage: choose "
                "another output."
            )


def sample_weights(path: Path) -> Iterator[bytes]:
    """Yield the names, shapes and dtypes of the tensors in a safetensors file, and pieces of their content."""
    try:
        with reading(path), path.open("rb") as file:
            (header_size,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(header_size))
            for name, entry in sorted(header.items()):
                if name == "__metadata__":
                    continue
                begin, end = (8 + header_size + offset for offset in entry["data_offsets"])
                yield json.dumps([name, entry["dtype"], entry["shape"]]).encode()
                for offset in sorted({begin, max((begin + end - PIECE) // 2, begin), max(end - PIECE, begin)}):
                    file.seek(offset)
                    yield file.read(min(PIECE, end - offset))
    except MemoryError:  # a length of the header that the file does not have
        raise DamagedError(f"`{path}` is not a complete safetensors file: copy or download it again.") from None
