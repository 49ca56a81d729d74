# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Images of a report: where the clips' values lie, and frames of a clip beside each other."""

import io
import os
import warnings
from collections.abc import Mapping, Sequence
from itertools import compress, count
from typing import Any

import numpy as np
from PIL import Image

from ..media import iter_frames
from ..media.reading import read_timeline
from ..text import printable
from .document import Picture


NUM_FRAMES = 6  # on a strip
FRAME_HEIGHT = 112  # pixels
JPEG_QUALITY = 75
LONGEST_NAME = 40  # characters beside a plot
GREY = "#808080"  # of axes and texts: seen on white and on black
BLUE, ORANGE = "#4c8bd6", "#e07b28"


def plot_values(
    title: str,
    label: str,
    values: Mapping[str, Sequence[float]],
    means: Mapping[str, tuple[float | None, Sequence[float] | None]],
) -> Picture:
    """Return a plot of one column: a line of dots, one per clip, for each set, with mean and interval.

    Args:
        title: what the image shows, for those who do not see it.
        label: of the axis.
        values: of the clips of each set.
        means: mean and interval of each set, where there are any.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: dict[Any, Any] = {
        "svg.hashsalt": "diffusers-jova",  # the same report gives the same file
        "svg.fonttype": "none",
        "font.size": 9,
        **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), GREY),
    }
    with rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # of matplotlib's font: the reader's own is used
        figure = Figure(figsize=(7, 0.9 + 0.4 * len(values)), layout="constrained")
        axes = figure.subplots()
        for row, (name, numbers) in enumerate(values.items()):
            heights = row + 0.5 * (np.arange(len(numbers)) % 5 - 2) / 5  # dots of one value stay apart
            axes.scatter(numbers, heights, s=28, color=BLUE, alpha=0.6, linewidths=0)
            mean, interval = means[name]
            if mean is not None and interval is not None:
                axes.plot(interval, [row, row], color=ORANGE, linewidth=3)
            if mean is not None:
                axes.plot([mean], [row], marker="D", markersize=7, color=ORANGE)
        # a dollar sign begins a formula, and names are none
        axes.set_yticks(range(len(values)), [printable(name[:LONGEST_NAME]).replace("$", r"\$") for name in values])
        axes.set(xlabel=label, ylim=(len(values) - 0.5, -0.5))
        axes.grid(axis="x", alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return Picture(buffer.getvalue(), "image/svg+xml", title)


def picture_strip(path: str | os.PathLike, num_frames: int, alt: str, caption: str) -> Picture | None:
    """Return frames of a clip beside each other, spread evenly over it, with their times; None without video.

    Args:
        num_frames: of the clip.

    Raises:
        ValueError, OSError: if it cannot be read.
    """
    timeline = read_timeline(path)
    if timeline.video is None or not num_frames:
        return None
    wanted = {round(index) for index in np.linspace(0, num_frames - 1, min(NUM_FRAMES, num_frames))}
    selected = (index in wanted for index in count())
    frames = [_small(frame) for frame in compress(iter_frames(path), selected)]
    if not frames:
        return None
    strip = Image.fromarray(np.concatenate(frames, axis=1))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=JPEG_QUALITY, optimize=True)
    times = [f"{float(index / timeline.frame_rate):.2f} s" for index in sorted(wanted)[: len(frames)]]
    return Picture(buffer.getvalue(), "image/jpeg", alt, caption, times)


def _small(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    size = (max(1, round(width * FRAME_HEIGHT / height)), FRAME_HEIGHT)
    return np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.LANCZOS))
