# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Reading checkpoints one tensor at a time: headers first, data on demand, nothing executed."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..headers import parse_json, read_header, read_json
from .errors import ConversionError


SAFETENSORS_DTYPES = {
    "BOOL": torch.bool, "U8": torch.uint8, "I8": torch.int8, "U16": torch.uint16, "I16": torch.int16,
    "U32": torch.uint32, "I32": torch.int32, "U64": torch.uint64, "I64": torch.int64, "F16": torch.float16,
    "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "C64": torch.complex64,
    "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "F8_E8M0": torch.float8_e8m0fnu,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz, "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
}  # fmt: skip
INDEX_SUFFIX = ".safetensors.index.json"
TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
# Components that trainers put before a model's own names, and entries of their files that are not weights
WRAPPERS = {"module", "_orig_mod", "model", "net", "network", "state_dict", "transformer", "diffusion_model", "dit"}
WRAPPERS |= {"ema", "ema_model", "model_ema", "ema_state_dict", "online_model", "averaged_model", "generator"}
NOT_WEIGHTS = {"optimizer", "optimizers", "optimizer_states", "scheduler", "lr_scheduler", "lr_schedulers", "scaler"}
NOT_WEIGHTS |= {"callbacks", "loops", "rng_state", "rng_states"}
COUNTERS = {"n_averaged", "num_updates", "decay", "initted", "step", "global_step", "epoch"}


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor lies in a file, and what it is."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    path: Path
    offset: int  # bytes from the start of the file
    stride: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes from the first to the last element."""
        if 0 in self.shape:
            return 0
        return self.dtype.itemsize * (
            1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        )

    def meta(self) -> Tensor:
        return torch.empty(self.shape, dtype=self.dtype, device="meta")

    def read(self) -> Tensor:
        """Return the tensor, contiguous, in memory of its own."""
        buffer = torch.empty(self.nbytes, dtype=torch.uint8)
        view = buffer.numpy().data
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offset)
            while len(view):
                count = file.readinto(view)
                if not count:
                    raise ConversionError(
                        f"{self.path.name} ends before its tensors do: it has changed or is truncated."
                    )
                view = view[count:]
        return buffer.view(self.dtype).as_strided(self.shape, self.stride).contiguous()


@dataclass(frozen=True)
class Checkpoint(Mapping):
    """The tensors of one file or folder by name; each is read from disk when it is asked for.

    Args:
        infos: what is known without reading data, after the removal of prefixes such as `module.`.
        metadata: of a safetensors file.
        config: config.json beside the weights, or {}.
        ignored: names that are not weights: optimizer states, counters, copies under another prefix.
    """

    path: Path
    infos: dict[str, TensorInfo]
    metadata: dict[str, str]
    config: dict[str, Any]
    ignored: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> Tensor:
        return self.infos[name].read()

    def __iter__(self) -> Iterator[str]:
        return iter(self.infos)

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: info.shape for name, info in self.infos.items()}

    @property
    def files(self) -> list[Path]:
        return sorted({info.path for info in self.infos.values()})

    def config_of(self, class_name: str) -> dict[str, Any]:
        """Return the config that came with it, in its folder or its metadata, if it is of that class; else {}."""
        try:
            from_metadata = parse_json(self.metadata.get("config", "{}"), "the metadata's config")
        except ValueError:
            from_metadata = {}  # another trainer's entry of that name
        for config in (self.config, from_metadata):
            if config.get("_class_name") == class_name:
                return {name: value for name, value in config.items() if not name.startswith("_")}
        return {}


def open_checkpoint(path: str | Path, prefix: str | None = None, strip: bool = True) -> Checkpoint:
    """Return the checkpoint at `path`, with all headers read and checked.

    Args:
        path: a .safetensors, .pt, .pth, .bin or .ckpt file, an index of shards, or a folder that has one of them.
        prefix: takes the tensors that begin with it, and ignores the others.
        strip: whether to remove `module.`, `model.`, `ema.` and the like from the front of the names.

    Raises:
        ConversionError: What is missing, truncated, given twice, or would have to be executed.
    """
    path = Path(path)
    file = find_weights(path) if path.is_dir() else path
    if not file.is_file():
        raise ConversionError(f"{path} does not exist.")
    metadata: dict[str, str] = {}
    if file.name.endswith(INDEX_SUFFIX):
        infos, metadata = read_shards(file)
    elif file.suffix == ".safetensors":
        infos, metadata = read_safetensors_header(file)
    elif file.suffix in TORCH_SUFFIXES:
        infos = read_torch_header(file)
    else:
        raise ConversionError(f"{file.name} must end in .safetensors, {INDEX_SUFFIX} or {', '.join(TORCH_SUFFIXES)}.")
    ignored: list[str] = []
    if prefix is not None:
        ignored = [name for name in infos if not name.startswith(prefix)]
        if len(ignored) == len(infos):
            raise ConversionError(
                f"No tensor of {path.name} begins with {prefix!r}; one is {next(iter(infos), None)}."
            )
        infos = {name.removeprefix(prefix): info for name, info in infos.items() if name.startswith(prefix)}
    if strip:
        infos, others = strip_prefixes(infos)
        ignored += others
    if not infos:
        raise ConversionError(f"{path.name} has no tensors.")
    return Checkpoint(path, infos, metadata, read_config(file.parent / "config.json"), tuple(ignored))


def read_config(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`, or {} without such a file."""
    try:
        return read_json(path) if path.is_file() else {}
    except ValueError as error:
        raise ConversionError(str(error)) from None


def find_weights(folder: Path) -> Path:
    """Return the one file of `folder` to open: an index of shards, else safetensors, else a torch file."""
    patterns = ("diffusion_pytorch_model" + INDEX_SUFFIX, "diffusion_pytorch_model.safetensors", "*" + INDEX_SUFFIX)
    patterns += ("*.safetensors", *(f"*{suffix}" for suffix in TORCH_SUFFIXES))
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(file.name for file in found[:5])
            raise ConversionError(
                f"{folder} has {len(found)} {pattern} files ({names}) and nothing says which to take or that they "
                f"belong together: pass one of them, or add the missing *{INDEX_SUFFIX}."
            )
    names = ", ".join(sorted(file.name for file in folder.iterdir())[:5]) or "nothing"
    raise ConversionError(f"{folder} has no .safetensors, {', '.join(TORCH_SUFFIXES)} file; it has {names}.")


def read_safetensors_header(path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Return the tensors and the metadata of a safetensors file.

    Raises:
        ConversionError: If it is truncated or not such a file, names a tensor twice, or has a dtype of no torch.
    """
    try:
        header, metadata, start = read_header(path)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    return {name: _tensor_info(name, entry, path, start) for name, entry in header.items()}, metadata


def _tensor_info(name: str, entry: dict[str, Any], path: Path, start: int) -> TensorInfo:
    if entry["dtype"] not in SAFETENSORS_DTYPES:
        raise ConversionError(f"{path.name}: {name} has the dtype {entry['dtype']}, which is not supported.")
    shape = tuple(entry["shape"])
    offset = start + entry["data_offsets"][0]
    return TensorInfo(shape, SAFETENSORS_DTYPES[entry["dtype"]], path, offset, contiguous_stride(shape))


def contiguous_stride(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def read_shards(index: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Return the tensors of all shards that an index names, and the first shard's metadata.

    Raises:
        ConversionError: For a shard that is missing, a tensor that is absent, or one that is in two shards.
    """
    try:
        weight_map = read_json(index)["weight_map"]
        shards = sorted(set(weight_map.values()))
        outside = [shard for shard in shards if Path(shard).name != shard]
    except ValueError as error:
        raise ConversionError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{index.name} is not an index: it needs a `weight_map` of names to files.") from error
    if outside:
        raise ConversionError(f"{index.name} names a file outside its folder: {outside[0]}.")
    if missing := [shard for shard in shards if not (index.parent / shard).is_file()]:
        raise ConversionError(f"{len(missing)} of {len(shards)} shards are missing: {', '.join(missing)}.")
    infos: dict[str, TensorInfo] = {}
    metadata: dict[str, str] = {}
    for shard in shards:
        found, found_metadata = read_safetensors_header(index.parent / shard)
        metadata = metadata or found_metadata
        if twice := sorted(set(found) & set(infos)):
            raise ConversionError(f"The tensor {twice[0]} is there twice, in {infos[twice[0]].path.name} and {shard}.")
        infos.update(found)
    if absent := [name for name, shard in weight_map.items() if name not in infos or infos[name].path.name != shard]:
        raise ConversionError(
            f"{index.name} names {len(absent)} tensors that are not where it says: {', '.join(absent[:5])}."
        )
    return infos, metadata


def read_torch_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors of a `torch.save` file, nested dicts flattened with dots; no code in it is run.

    Raises:
        ConversionError: If it is truncated, holds code, or was written before torch 1.6.
    """
    try:
        content = torch.load(path, weights_only=True, map_location="meta")
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[-1] if not zipfile.is_zipfile(path) else _blocked(str(error))
        raise ConversionError(
            f"{path.name} is refused: it holds code or objects beside tensors ({reason}). Nothing of it was run. Ask "
            "for a safetensors file, or save its state_dict alone where you trust it."
        ) from None
    except (RuntimeError, EOFError, KeyError, ValueError, OSError) as error:  # RuntimeError: a RecursionError, too
        raise ConversionError(f"{path.name} is truncated or not a torch file: {str(error)[:120]}") from None
    try:
        tensors = list(flatten(content))
    except RecursionError:
        raise ConversionError(f"{path.name} is nested too deep to be meant: it is damaged.") from None
    infos = {}
    for name, tensor in tensors:
        offset = getattr(tensor.untyped_storage(), "_checkpoint_offset", None)
        if offset is None or tensor.layout != torch.strided or tensor.is_quantized:
            raise ConversionError(
                f"{path.name}: {name} cannot be read in place (a sparse or quantised tensor, or a file from before "
                "torch 1.6). Load it and save its tensors as safetensors."
            )
        offset += tensor.storage_offset() * tensor.itemsize
        infos[name] = TensorInfo(tuple(tensor.shape), tensor.dtype, path, offset, tensor.stride())
    return infos


def _blocked(message: str) -> str:
    """Return what torch's unpickler stopped at, from its long message."""
    return next((line.strip() for line in message.splitlines() if "GLOBAL" in line), "unknown objects")[:120]


def flatten(content: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix[:-1], content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from flatten(value, f"{prefix}{key}.")


def strip_prefixes(infos: dict[str, TensorInfo]) -> tuple[dict[str, TensorInfo], list[str]]:
    """Return the weights without the prefixes of trainers, and the names that are not weights.

    Raises:
        ConversionError: If two sets of weights, such as `model.` and `ema.`, become one.
    """
    stripped: dict[str, TensorInfo] = {}
    origin: dict[str, str] = {}
    ignored = []
    for name, info in infos.items():
        parts = name.split(".")
        while len(parts) > 1 and parts[0] in WRAPPERS:
            parts.pop(0)
        if parts[0] in NOT_WEIGHTS or (parts[-1] in COUNTERS and info.shape in ((), (1,))):
            ignored.append(name)
            continue
        short = ".".join(parts)
        if short in stripped:
            prefixes = " or ".join(repr(full.removesuffix(short)) for full in (origin[short], name))
            raise ConversionError(
                f"{short} is there twice, as {origin[short]} and as {name}. Say which set of weights to take: "
                f"--prefix {prefixes}."
            )
        stripped[short], origin[short] = info, name
    return stripped, ignored


def below_prefix(tensors: Mapping[str, Any], anchor: str) -> dict[str, Any]:
    """Return the tensors that share the prefix of the one whose name ends in `anchor`, without that prefix.

    Raises:
        ConversionError: If there is none, or several.
    """
    prefixes = [name.removesuffix(anchor) for name in tensors if name == anchor or name.endswith("." + anchor)]
    if len(prefixes) != 1:
        raise ConversionError(
            f"Expected one weight named {anchor} (after any prefix), got {len(prefixes)} among {len(tensors)} "
            f"entries: {', '.join(list(tensors)[:5])}, ... Is this the right file?"
        )
    prefix = prefixes[0]
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
