# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What ComfyUI offers to its nodes: folders of models, a device, progress, the button that stops.

Nothing here imports ComfyUI: its modules are there when it runs our nodes, and elsewhere the nodes run without.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


def module(name: str) -> ModuleType | None:
    """Return a module of ComfyUI, None where the nodes run outside of it."""
    return sys.modules.get(name)


def find(kind: str, name: str) -> str:
    """Return where a file or folder called `name` lies in ComfyUI's own folders; a name that is not there as it is.

    Args:
        kind: As ComfyUI calls its folders: "diffusers" for pipelines, "loras".
        name: Relative to one of them.
    """
    folders = module("folder_paths")
    places = folders.get_folder_paths(kind) if folders is not None and name else []
    return next((str(path) for place in places if (path := Path(place) / name).exists()), name)


def default_device() -> str | None:
    """Return the device that ComfyUI works on; None outside of it."""
    management = module("comfy.model_management")
    return str(management.get_torch_device()) if management is not None else None


def make_room() -> None:
    """Let ComfyUI take its own models off the GPU: it does not know of ours, and would keep theirs there."""
    management = module("comfy.model_management")
    if management is not None:
        management.unload_all_models()
        management.soft_empty_cache()


@contextmanager
def following_steps() -> Iterator[Callable[..., dict[str, Any]]]:
    """Give a `callback_on_step_end` that moves ComfyUI's progress bar, and ends the loop when the user stops the run.

    Raises:
        InterruptProcessingException: ComfyUI's own, after the block, when the user has stopped the run.
    """
    utils, management = module("comfy.utils"), module("comfy.model_management")
    progress_bar = utils.ProgressBar(1) if utils is not None else None

    def callback(pipe, step, timestep, tensors) -> dict[str, Any]:
        if progress_bar is not None:
            progress_bar.update_absolute(step + 1, pipe.num_timesteps)
        if management is not None and management.processing_interrupted():
            pipe._interrupt = True  # the call then ends as usual, and lets go of the device
        return {}

    yield callback
    if management is not None:
        management.throw_exception_if_processing_interrupted()
