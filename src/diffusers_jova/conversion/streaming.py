# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Write converted checkpoints one tensor at a time, into a folder that is there whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from .checkpoint import SAFETENSORS_DTYPES
from .errors import ConversionError


DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
WRITEBACK_BYTES = 1 << 26  # how much may wait in memory before the disk is told to begin
SPARE_BYTES = 1 << 24  # for headers, index and config
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def same(tensor: Tensor) -> Tensor:
    return tensor


@dataclass(frozen=True)
class Write:
    """One tensor of the output: its name, what it is made of, and how.

    Args:
        name: in the output.
        sources: what it is made of: a checkpoint's tensors that were not read yet, or tensors.
        make: returns the tensor, given those of `sources`; it has to work on the meta device, too.
        how: the word for the report: copied, reordered, computed, zero or new.
        origin: the names of `sources` in the input.
        like: the tensor without data, where there are no sources to tell.
    """

    name: str
    sources: tuple[Any, ...] = ()
    make: Callable[..., Tensor] = same
    how: str = "copied"
    origin: tuple[str, ...] = ()
    like: Tensor | None = None

    @cached_property
    def meta(self) -> Tensor:
        """The tensor, without data."""
        return self.make(*(source.meta() for source in self.sources)) if self.sources else self.like

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.meta.shape)

    def __str__(self) -> str:
        return f"{self.name}: {self.how}" + f" from {', '.join(self.origin)}" * bool(self.origin)


def in_file_order(writes: Iterable[Write]) -> list[Write]:
    """Return `writes` in the order in which their sources lie on the disk."""
    return sorted(writes, key=lambda write: min((str(info.path), info.offset) for info in write.sources))


def parse_size(size: str | int) -> int:
    """Return the bytes of "5GB", "200MB" or a plain number."""
    text = str(size).upper().strip()
    number, factor = (text[:-2], UNITS[text[-2:]]) if text[-2:] in UNITS else (text, 1)
    try:
        count = int(float(number) * factor)
    except ValueError:
        count = 0
    if count <= 0:
        raise ConversionError(f"`--max_shard_size` must be like 5GB, 200MB or a number of bytes, got {size!r}.")
    return count


class Shard:
    """A safetensors file whose header is known before any data is, and whose tensors come in any order."""

    def __init__(self, tensors: dict[str, Tensor]):
        # Sorted as the safetensors library sorts: wide elements first, so that every tensor is aligned.
        self.tensors = dict(sorted(tensors.items(), key=lambda item: -item[1].itemsize))
        self.nbytes = sum(tensor.nbytes for tensor in tensors.values())

    def header(self, metadata: dict[str, str]) -> bytes:
        entries: dict = {"__metadata__": metadata}
        end = 0
        for name, tensor in self.tensors.items():
            begin, end = end, end + tensor.nbytes
            dtype, shape = DTYPE_NAMES[tensor.dtype], list(tensor.shape)
            entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        header = json.dumps(entries, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        return len(header).to_bytes(8, "little") + header

    def offsets(self, start: int) -> dict[str, int]:
        offsets = {}
        for name, tensor in self.tensors.items():
            offsets[name] = start
            start += tensor.nbytes
        return offsets


def plan_shards(writes: Iterable[Write], weights_name: str, max_shard_size: str | int) -> dict[str, Shard]:
    """Return the files to write: `weights_name.safetensors`, or `weights_name-00001-of-0000n.safetensors` and so on.

    Raises:
        ConversionError: If a tensor is there twice.
    """
    limit = parse_size(max_shard_size)
    shards: list[dict[str, Tensor]] = [{}]
    seen: set[str] = set()
    size = 0
    for write in writes:
        if write.name in seen:
            raise ConversionError(f"The tensor {write.name} would be written twice.")
        seen.add(write.name)
        if shards[-1] and size + write.meta.nbytes > limit:
            shards.append({})
            size = 0
        shards[-1][write.name] = write.meta
        size += write.meta.nbytes
    if len(shards) == 1:
        return {f"{weights_name}.safetensors": Shard(shards[0])}
    return {
        f"{weights_name}-{k:05d}-of-{len(shards):05d}.safetensors": Shard(tensors)
        for k, tensors in enumerate(shards, start=1)
    }


def write_weights(
    folder: Path,
    writes: list[Write],
    weights_name: str,
    *,
    metadata: dict[str, str],
    inputs: Iterable[Path],
    max_shard_size: str | int,
) -> None:
    """Write tensors into `folder`; in memory are only one of them and what it is made of.

    Args:
        weights_name: stem of the files; several get an index beside them.
        metadata: goes into every file, with `inputs`, the sha256 of the input files.
        inputs: files to hash. They are hashed while they are converted, so that the disk reads them once.

    Raises:
        ConversionError: For NaN or Inf in a tensor; all are converted first, to name all of them.
    """
    inputs = list(inputs)
    shards = plan_shards(writes, weights_name, max_shard_size)
    metadata = {"format": "pt", **metadata, "inputs": json.dumps({path.name: "0" * 64 for path in inputs})}
    headers = {file: shard.header(metadata) for file, shard in shards.items()}
    places = {
        name: (file, offset)
        for file, shard in shards.items()
        for name, offset in shard.offsets(len(headers[file])).items()
    }
    total = sum(shard.nbytes for shard in shards.values())
    bad, pending = [], 0
    stop = threading.Event()
    with (
        ThreadPoolExecutor(1) as pool,
        tqdm(total=total, unit="B", unit_scale=True, desc=weights_name, mininterval=1) as bar,
    ):
        hashes = pool.submit(lambda: {path.name: sha256(path, stop) for path in inputs})
        try:
            for write, tensor in make_tensors(writes):
                if problem := nonfinite(tensor):
                    bad.append(f"{write.name} ({problem})")
                file, offset = places[write.name]
                data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
                pending = write_at(folder / file, data, offset, pending)
                bar.update(tensor.nbytes)
            if bad:
                names = ", ".join(bad[:10]) + (f" and {len(bad) - 10} more" if len(bad) > 10 else "")
                raise ConversionError(f"{len(bad)} tensors are not finite: {names}. Take another copy of the file.")
            metadata["inputs"] = json.dumps(hashes.result())
        finally:
            stop.set()
    for file, shard in shards.items():
        write_at(folder / file, shard.header(metadata), 0)
    if len(shards) > 1:
        weight_map = {name: file for name, (file, _) in places.items()}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / f"{weights_name}.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_tensors(writes: Iterable[Write]) -> Iterator[tuple[Write, Tensor]]:
    """Yield each write with its tensor; sources that several in a row are made of are read once."""
    for sources, group in groupby(writes, key=lambda write: write.sources):
        tensors = [source.read() for source in sources]
        for write in group:
            yield write, write.make(*tensors)


def write_at(path: Path, data: bytes | memoryview, offset: int, pending: int = 0) -> int:
    """Write `data` into a file at `offset`; return how many bytes wait in memory, `pending` before.

    Beyond 64 MiB the disk is told to begin, so that it works beside the conversion and not after it.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    try:
        view = memoryview(data)
        while len(view):
            count = os.pwrite(descriptor, view, offset)
            view, offset, pending = view[count:], offset + count, pending + count
        if pending > WRITEBACK_BYTES and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # Linux starts to write, and does not wait
            pending = 0
    finally:
        os.close(descriptor)
    return pending


def sha256(path: Path, stop: threading.Event) -> str:
    """Return the hexadecimal digest of a file; of what it has read so far, once `stop` is set."""
    digest, buffer = hashlib.sha256(), bytearray(1 << 22)
    with open(path, "rb", buffering=0) as file:
        while (count := file.readinto(buffer)) and not stop.is_set():
            digest.update(memoryview(buffer)[:count])
    return digest.hexdigest()


def nonfinite(tensor: Tensor) -> str | None:
    """Return "2 NaN, 1 Inf" or so, or None for a tensor that is finite or not of floating-point numbers."""
    if not tensor.is_floating_point() or tensor.dtype == torch.float8_e8m0fnu:
        return None
    if tensor.itemsize > 1 and tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32)).isfinite():
        return None  # a sum is fast, and finite only if all its terms are
    tensor = tensor.float() if tensor.itemsize == 1 else tensor
    counts = {"NaN": int(tensor.isnan().sum()), "Inf": int(tensor.isinf().sum())}
    return ", ".join(f"{count} {what}" for what, count in counts.items() if count) or None


def check_output(output: Path, num_bytes: int, overwrite: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise ConversionError if the folder `output` cannot be written.

    It must not exist unless `overwrite`, nor hold one of `inputs`, and the disk must have `num_bytes` free.
    """
    output = Path(os.path.realpath(output))
    if output.exists() and not overwrite:
        raise ConversionError(f"{output} exists already. Pass --overwrite to replace it, or take another --output.")
    if output.exists() and not output.is_dir():
        raise ConversionError(f"{output} is a file; --output must be a folder.")
    for path in (*inputs, Path.cwd()):
        path = Path(os.path.realpath(path))
        if output.exists() and output in (path, *path.parents):
            raise ConversionError(f"Replacing {output} would remove {path}, which is in use. Take another --output.")
    parent = next(parent for parent in output.parents if parent.exists())
    free = shutil.disk_usage(parent).free
    if num_bytes + SPARE_BYTES > free:
        raise ConversionError(
            f"No space for {output.name}: it needs {human(num_bytes)}, the disk of {parent} has {human(free)} free."
        )


def human(num_bytes: int) -> str:
    unit = next((unit for unit in reversed(UNITS) if num_bytes >= UNITS[unit]), "KB")
    return f"{num_bytes / UNITS[unit]:.1f} {unit}"
