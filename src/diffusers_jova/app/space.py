# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The page as a Space of Hugging Face: the folder to upload, and what its app.py runs. ZeroGPU lends it a GPU."""

import argparse
from collections.abc import Callable
from pathlib import Path

import yaml

from .. import __version__
from ..files import whole_folder
from ..pipeline_folder import find_model


GRADIO = "6.31.0"  # that the page was tested with
GPU_S = 120  # that a clip may take on ZeroGPU, our choice
SOURCE = "https://github.com/diffusers-jova/diffusers-jova"

APP = '''\
"""A page to play with {model}, written by `diffusers-jova app --write_space`."""

try:
    import spaces  # noqa: F401 ZeroGPU wants to come before torch; other Spaces do not have it
except ImportError:
    pass

from diffusers_jova.app.space import launch_space


launch_space({model!r}, max_file_size_mb={max_file_size_mb!r})
'''

README = """\
---
{header}---

# {title}

Makes a video and its audio together, with {model} and [diffusers-jova]({source}). Clips say in their metadata that
they are AI-generated. Uploads and clips lie in a temporary folder, which goes with the Space; uploads go after two
hours.
"""


def write_space(folder: Path, model: str, max_file_size_mb: float) -> None:
    """Write README.md, app.py and requirements.txt of a Space, whole or not at all.

    Args:
        folder: Is made.
        model: A name on the Hub, or of a checkpoint that comes with the package: a Space sees no folder of yours.
        max_file_size_mb: Largest upload, in MB.

    Raises:
        ValueError: If the Space could not load the model.
        FileExistsError: If the folder is there.
    """
    is_shipped = find_model(model) != model
    if not is_shipped and (model.count("/") != 1 or model.startswith((".", "/", "~")) or Path(model).exists()):
        raise ValueError(
            f"A Space cannot load {model!r}: it needs a name on the Hub, OWNER/NAME, or jova-nano. Upload the "
            "pipeline's folder to the Hub first."
        )
    title = f"Play with {model.rpartition('/')[2]}"
    texts = {
        "README.md": README.format(header=header(model, title, is_shipped), title=title, model=model, source=SOURCE),
        "app.py": APP.format(model=model, max_file_size_mb=max_file_size_mb),
        "requirements.txt": f"{requirement()}\n",
    }
    with whole_folder(folder) as partial:
        for name, text in texts.items():
            (partial / name).write_text(text, encoding="utf-8")


def header(model: str, title: str, is_shipped: bool) -> str:
    """Return what the Hub reads at the top of the README: how the Space runs."""
    values = {
        "title": title,
        "emoji": "🗣️",
        "colorFrom": "blue",
        "colorTo": "green",
        "sdk": "gradio",
        "sdk_version": GRADIO,
        "python_version": "3.12",  # of the two that ZeroGPU has, the one that we run on
        "app_file": "app.py",
        "short_description": "A prompt in, a talking video with its audio out",
        "suggested_hardware": "zero-a10g",
        "tags": ["jova", "text-to-video", "talking-head"],
    }
    if not is_shipped:
        values |= {"models": [model], "preload_from_hub": [model]}
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def requirement() -> str:
    """Return what pip installs in the Space: this release, or the newest commit where this is none."""
    is_release = "dev" not in __version__
    return f"diffusers-jova[app]=={__version__}" if is_release else f"diffusers-jova[app] @ git+{SOURCE}"


def on_gpu(work: Callable) -> Callable:
    """Return `work` so that ZeroGPU lends it a GPU; elsewhere as it is.

    There it runs in a process of its own, which has all that this process had at first: its arguments and what it
    returns are pickled, and only a `gr.Error` keeps its words.
    """
    try:
        import spaces
    except ImportError:
        return work
    return spaces.GPU(work, duration=GPU_S)


def launch_space(model: str, max_file_size_mb: float) -> None:
    """Load the model, and serve the page until the Space ends.

    The model is loaded at once, and onto a GPU that ZeroGPU lends only later: that is how it wants it.
    """
    import torch

    from .clips import ClipMaker
    from .sessions import temporary_folder

    # ZeroGPU says of CUDA that it is there, but cannot say how much of its memory is free
    device = "cuda" if torch.cuda.is_available() else None
    args = argparse.Namespace(model=model, device=device, dtype=None, cpu_offload=False, ignore_memory_estimate=True)
    maker = ClipMaker(args)
    with temporary_folder() as folder:
        from .page import launch_options, make_page

        make_page(maker, Path(folder)).launch(**launch_options(max_file_size_mb))
