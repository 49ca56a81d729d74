# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips of one pipeline for several people: one at a time, none with the settings or the LoRA of another."""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError

from .. import media
from ..cli.memory import check_memory
from ..cli.pipeline import device_of, load_loras, loras_of, prepare_pipeline, write_output
from ..pipelines.pipeline_jova import JoVAPipeline
from .calls import ClipCall, arguments_of


SUFFIX = ".safetensors"
IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")  # Pillow also runs programs, for EPS


@dataclass(frozen=True)
class MadeClip:
    """A clip, and how it was made.

    Attributes:
        path: The clip, as `generate` writes it.
        audio: Its audio as a wav; None for a clip without.
        command, python: What makes it again; see `ClipCall`.
        mark: What the file says of its origin.
        words: What is said or seen in it, for people to find it.
    """

    path: Path
    audio: Path | None
    command: str
    python: str
    mark: str
    words: str


class Stopped(Exception):
    """Somebody asked for a clip to be stopped."""


class ClipMaker:
    """Makes clips with one pipeline.

    Args:
        args: `model`, `device`, `dtype`, `cpu_offload` and `ignore_memory_estimate`, as `generate` has them.
        lora_dir: A folder with LoRAs to choose from; None for none.

    Raises:
        ValueError, OSError: If there is no such pipeline or folder, or it cannot be read.
        MemoryError: If the card has no room for a clip.
    """

    def __init__(self, args: argparse.Namespace, lora_dir: Path | None = None):
        if lora_dir is not None and not lora_dir.is_dir():
            raise NotADirectoryError(f"There is no folder `{lora_dir}`: correct --lora_dir, or leave it out.")
        base = _base(args)
        args = ClipCall(tuple(base), Path("clip.mp4")).args  # all that a clip of the checkpoint's own settings has
        device = device_of(args)
        check_memory(args, device, ())
        self.model, self.lora_dir = args.model, lora_dir
        self.pipe = prepare_pipeline(args, device, [])
        self.base = base if self.pipe.audio_sampling_rate else [*base, "--modalities", "video"]
        self._lock = threading.Lock()

    def loras(self) -> list[str]:
        """Return the names of the LoRAs that are there to choose from: files, and folders as trainings write them."""
        if self.lora_dir is None:
            return []
        entries = sorted(self.lora_dir.iterdir())
        return [entry.name for entry in entries if entry.suffix == SUFFIX or any(entry.glob(f"*{SUFFIX}"))]

    def make(
        self,
        values: Mapping[str, Any],
        output: Path,
        on_step: Callable[[int, int], None] = lambda step, num_steps: None,
        is_stopped: Callable[[], bool] = lambda: False,
    ) -> MadeClip:
        """Make a clip, after those that others are waiting for.

        Args:
            values: By the names of `calls.FLAGS`; `lora` is one of `loras`.
            output: An .mp4; its folder exists.
            on_step: Called after each step with its number, from 1, and how many there are.
            is_stopped: Whether the steps that are left are to be skipped; asked before and after each step.

        Raises:
            Stopped: If it was stopped; nothing is written.
            ValueError, OSError: As the pipeline says what is wrong with `values`.
        """
        call = ClipCall((*self.base, *arguments_of(self._with_lora_path(values))), output)

        def after_step(pipe: JoVAPipeline, step: int, timestep: torch.Tensor, tensors: dict) -> dict:
            on_step(step + 1, pipe.num_timesteps)
            pipe._interrupt = is_stopped()
            return {}

        if call.args.image is not None:
            check_image_format(call.args.image)
        settings, loras, seed = call.settings, loras_of(call.args), call.args.seed
        with self._lock:
            if is_stopped():
                raise Stopped
            with loras_on(self.pipe, loras):
                generator = torch.Generator().manual_seed(seed)
                made = self.pipe(**settings, generator=generator, output_type="np", callback_on_step_end=after_step)
            if self.pipe.interrupt:
                raise Stopped
        write_output(output, made)
        audio = None
        if made.audio is not None:
            audio = media.write_wav(output.with_suffix(".wav"), made.audio[0], made.audio_sampling_rate)
        words = values.get("transcript") or values.get("prompt") or output.stem
        return MadeClip(output, audio, call.as_command(), call.as_python(), read_mark(output), words)

    def _with_lora_path(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values with the path of the LoRA instead of its name."""
        name = values.get("lora")
        if not name:
            return dict(values) | {"lora": None, "lora_scale": None}
        if name not in self.loras():
            raise ValueError(f"There is no LoRA {name!r} to choose: load the page anew to see which there are.")
        return dict(values) | {"lora": str(self.lora_dir / name)}


def _base(args: argparse.Namespace) -> list[str]:
    """Return the arguments that all clips have in common."""
    base = ["--model", args.model]
    for name in ("device", "dtype"):
        base += [f"--{name}", getattr(args, name)] if getattr(args, name) else []
    return base + [f"--{name}" for name in ("cpu_offload", "ignore_memory_estimate") if getattr(args, name)]


@contextmanager
def loras_on(pipe: JoVAPipeline, loras: list[tuple[str, float]]) -> Iterator[None]:
    """Give the pipeline these LoRAs as long as the block lasts; its base is bit-identical afterwards."""
    try:
        load_loras(pipe, loras)
        yield
    finally:
        if loras:
            pipe.unload_lora_weights()


def check_image_format(path: Path) -> None:
    """Raise a ValueError for a file that is not an image of one of `IMAGE_FORMATS`, whatever it is called."""
    try:
        Image.open(path, formats=IMAGE_FORMATS).close()
    except UnidentifiedImageError:
        raise ValueError(
            f"`{path}` is not an image that can be read: give one of these kinds, {', '.join(IMAGE_FORMATS)}."
        ) from None


def read_mark(path: Path) -> str:
    """Return what a clip's file says of its origin, in its comment; "" for nothing."""
    with media.open_input(path) as container:
        return container.metadata.get("comment", "")
