# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of transformers: where they lie, whether they fit into the memory, and loading them."""

import gc
import importlib.util
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from ...files import reading_folder, reason
from ...headers import read_header, read_json
from ...machine import free_memory
from ...workers import Failure
from .settings import AnnotationConfig


logger = logging.getLogger(__name__)

GIB = 2**30
BYTES = {"F64": 8, "F32": 4, "BF16": 2, "F16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
QUANTIZED_BYTES = {"nf4": 0.5 + 4 / 64, "int8": 1 + 4 / 1024}  # per weight, with bitsandbytes' scales
LOADED_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # and nothing with code in it

SEED = 0

Input = TypeVar("Input")
Output = TypeVar("Output")


@dataclass(frozen=True)
class Place:
    """Where a model is put, and in which number format."""

    device: str
    dtype: torch.dtype
    quantization: str | None = None

    @classmethod
    def of(cls, config: AnnotationConfig) -> "Place":
        """Return what a config asks for; what it leaves open is a GPU in bfloat16 if there is one."""
        device = config.device or config.default_device()
        dtype = config.dtype or ("float32" if device == "cpu" else "bfloat16")
        return cls(device, getattr(torch, dtype), config.quantization)


def find_checkpoint(name: str) -> Path:
    """Return the folder of a checkpoint: itself, or the files of one on the Hub, which are downloaded once.

    Raises:
        FileNotFoundError: if there is neither.
    """
    if os.path.isdir(name):
        if not (Path(name) / "config.json").is_file():
            raise FileNotFoundError(f"`{name}` has no config.json: give the folder of a checkpoint of transformers.")
        return Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise FileNotFoundError(f"There is no folder `{name}`; on the Hub, names have an owner: `owner/{name}`.")
    try:
        return Path(snapshot_download(name, allow_patterns=LOADED_FILES))
    except LocalEntryNotFoundError as error:
        raise FileNotFoundError(
            f"There is no folder `{name}`, and the Hub cannot be asked: connect to it, or download the checkpoint "
            f"elsewhere (`hf download {name}`) and give its folder."
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        raise FileNotFoundError(
            f"There is no folder `{name}`, and the Hub says: {' '.join(str(error).split())}"
        ) from error


def read_config(folder: Path) -> dict[str, Any]:
    """Return the config.json of a checkpoint, as it stands there."""
    return read_json(folder / "config.json")


def load_model(model_class: Any, folder: Path, place: Place, **kwargs: Any) -> torch.nn.Module:
    """Return a model of transformers, ready to be asked.

    Args:
        model_class: with a method `from_pretrained`.
        kwargs: for it.

    Raises:
        ImportError: if a package is missing that quantises.
        MemoryError: if the weights are larger than the memory that is free.
        ValueError: if the folder does not hold such a model, or not all of it.
    """
    check_memory(folder, place)
    if place.quantization is not None:
        kwargs["quantization_config"] = quantization_config(place)
    with reading_folder(folder):
        model, loading = model_class.from_pretrained(
            folder,
            dtype=place.dtype,
            device_map=place.device,
            local_files_only=True,
            output_loading_info=True,
            **kwargs,
        )
    if missing := sorted(loading["missing_keys"]):
        raise ValueError(
            f"`{folder}` has no weights for {len(missing)} of the model's tensors, such as `{missing[0]}`: it is not "
            f"a complete checkpoint of {type(model).__name__}."
        )
    return model.eval()


def quantization_config(place: Place) -> Any:
    """Return how transformers quantises with bitsandbytes: nf4 as QLoRA does, or LLM.int8()."""
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("`--quantization` needs bitsandbytes: pip install bitsandbytes")
    if place.quantization == "nf4":
        return BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=place.dtype)
    return BitsAndBytesConfig(load_in_8bit=True)


def check_memory(folder: Path, place: Place) -> None:
    """Raise MemoryError if a checkpoint's weights do not fit into what is free; "auto" may use several devices."""
    if place.device == "auto":
        return
    needed, free = weight_bytes(folder, place), free_memory(torch.device(place.device))
    logger.info("%s: %.1f GiB of weights, %.1f GiB are free", folder.name, needed / GIB, free / GIB)
    if needed > free:
        raise MemoryError(
            f"The weights of `{folder}` take {needed / GIB:.1f} GiB, and {free / GIB:.1f} GiB are free on "
            f"{place.device}: choose --dtype bfloat16, --quantization nf4, --device auto or a smaller checkpoint."
        )


def weight_bytes(folder: Path, place: Place) -> int:
    """Return how much memory a checkpoint's weights take; one that is quantised already is loaded as it is."""
    as_stored = "quantization_config" in read_config(folder)
    per_weight = QUANTIZED_BYTES.get(place.quantization or "", place.dtype.itemsize)
    total = 0.0
    for path in folder.glob("*.safetensors"):
        for entry in read_header(path)[0].values():
            number = torch.Size(entry["shape"]).numel()
            total += number * (BYTES.get(entry["dtype"], 4) if as_stored else per_weight)
    return int(total)


def in_halves(ask: Callable[[Sequence[Input]], Sequence[Output]], inputs: Sequence[Input]) -> list[Output | Failure]:
    """Return `ask(inputs)`; where that takes too much memory or one cannot be used, its halves, down to single inputs.

    Returns:
        One output per input, or why there is none.
    """
    try:
        return list(ask(inputs))
    except (torch.OutOfMemoryError, MemoryError, ValueError) as error:
        if len(inputs) == 1:
            is_unusable = isinstance(error, ValueError)
            return [Failure(reason(error) if is_unusable else "it takes more memory than is free", is_unusable)]
    empty_cache()  # now that the error is forgotten, and with it what the attempt held
    half = len(inputs) // 2
    return in_halves(ask, inputs[:half]) + in_halves(ask, inputs[half:])


def empty_cache() -> None:
    """Give the memory of a GPU back that nothing uses any more."""
    if torch.accelerator.is_available():
        gc.collect()
        torch.accelerator.empty_cache()


@contextmanager
def drawing_from_seed(device: torch.device) -> Iterator[None]:
    """Draw the same numbers in the block each time, and leave those that are drawn elsewhere as they would be."""
    is_cpu = device.type == "cpu"
    with torch.random.fork_rng([] if is_cpu else [device], device_type="cuda" if is_cpu else device.type):
        torch.manual_seed(SEED)
        yield
