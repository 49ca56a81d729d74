# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whether a clip fits on the card, said before weights are read."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from .. import compat
from ..live_memory import GIB
from ..machine import free_memory
from ..pipeline_folder import PipelineFolder, read_pipeline_folder
from ..pipelines.memory import TEXT_ENCODERS, CallMemory, CallOutline, Clip, Holding
from .pipeline import HOLDING, check_model, default_dtype, given


CLIP_DEFAULTS: dict[str, Any] = {
    "height": 480,
    "width": 832,
    "num_frames": 121,
    "frame_rate": 24.0,
}  # `JoVAPipeline`'s

# from the plainest on, as on the page "Speed and memory"; none of them changes the clip but the tiles, at their seams
OFFLOADS = {"cpu_offload", "group_offload"}
WAYS = (
    (),
    ("modulation_cache",),
    ("cpu_offload",),
    ("cpu_offload", "modulation_cache"),
    ("group_offload", "modulation_cache"),
    ("group_offload", "modulation_cache", "vae_tiling"),
)


def check_memory(args: argparse.Namespace, device: str, without: Collection[str]) -> None:
    """Raise MemoryError for a clip that the card has no room for, with what would fit.

    A pipeline on the Hub is not looked at: its files come when it is loaded. Nor is main memory, where `device` is the
    CPU.

    Args:
        args: With the clip's size and length; None stands for the checkpoint's own.
        without: Components that are not loaded.
    """
    model = check_model(args.model)
    is_known = Path(model).is_dir() and compat.has("FakeTensorMode")
    if device == "cpu" or args.ignore_memory_estimate or not is_known:
        return
    folder = read_pipeline_folder(model)
    clip, dtype = clip_of(args, folder), getattr(torch, args.dtype or default_dtype(device))
    outline = CallOutline(folder, clip, dtype, batch_size=2 if args.batch_guidance else 1)
    flags = {name for name in HOLDING if getattr(args, name)}
    memory, needed = needs(outline, flags, without)
    free = free_memory(torch.device(device))
    if needed > free:
        raise MemoryError(
            f"This clip needs about {needed / GIB:.1f} GiB of {device}, and {free / GIB:.1f} GiB are free: "
            f"{describe(memory, clip)}. {what_fits(outline, flags, without, free)}A smaller --height and --width and "
            "fewer --num_frames need less at work; docs/speed_and_memory.md has more ways. --ignore_memory_estimate "
            "tries it all the same."
        )


def needs(outline: CallOutline, flags: set[str], without: Collection[str]) -> tuple[CallMemory, int]:
    """Return the memory of the components, and what a card needs of it with these flags of `HOLDING`."""
    memory = outline.memory(Holding(**dict.fromkeys(flags - {"cpu_offload"}, True))).without(*without)
    if "cpu_offload" in flags:
        return memory, memory.offloaded_peak
    return memory, memory.group_offloaded_peak if "group_offload" in flags else memory.peak


def clip_of(args: argparse.Namespace, folder: PipelineFolder) -> Clip:
    """Return what is made at a time: the clip, or one window of it."""
    numbers = CLIP_DEFAULTS | {name: folder.call_defaults.get(name, value) for name, value in CLIP_DEFAULTS.items()}
    numbers |= given(args, *numbers)
    if args.window_num_frames is not None:
        numbers["num_frames"] = args.window_num_frames
    return Clip(**numbers)


def describe(memory: CallMemory, clip: Clip) -> str:
    """Return what takes the most."""
    sizes = sorted(memory.weights.items(), key=lambda item: -item[1])
    weights = ", ".join(f"{name} {size / GIB:.1f}" for name, size in sizes if size >= 0.05 * memory.peak)
    work = max(memory.activations.values(), default=0) / GIB
    return f"weights of {weights}, and {work:.1f} at work on {clip.num_frames} frames of {clip.height} x {clip.width}"


def what_fits(outline: CallOutline, flags: set[str], without: Collection[str], free: int) -> str:
    """Return the plainest flags with which the clip fits, as a sentence; nothing where there are none.

    Args:
        flags: Those that were given.
        without: Components that are not loaded.
    """
    fitting: dict[tuple[str, ...], str] = {}  # texts may be encoded before, where a plainer way fits then
    has_texts = any(name in outline.weights and name not in without for name in TEXT_ENCODERS)
    for away in ((), TEXT_ENCODERS) if has_texts else ((),):
        for way in WAYS:
            both = (flags - OFFLOADS if OFFLOADS & {*way} else flags) | {*way}  # one way of offloading only
            size = needs(outline, both, (*without, *away))[1]
            if size <= free:
                words = [f"--{name}" for name in HOLDING if name in both]
                words = ["`encode` before, and --prompt_embeds", *words] if away else words
                fitting.setdefault(way, f"{' '.join(words)} ({size / GIB:.1f} GiB)")
                break
    return f"What would fit: {', or '.join(fitting.values())}. " if fitting else ""
