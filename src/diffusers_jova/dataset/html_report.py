# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A page to look at and listen to: the histogram of each filter, and the clips nearest to its threshold."""

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..data.clips import Source
from ..evaluation.document import Block, Heading, Paragraph, Picture, Table, Video, Videos, to_html
from ..files import whole_file
from ..media.reading import read_timeline
from .cutting import cut
from .filters import FILTERS, Filter
from .measures import MeasuredClip


PAGE = "report.html"
NUM_CLIPS = 3  # on each side of a threshold
PREVIEW_SIDE = 160  # pixels of the shorter side
PREVIEW_RATE = Fraction(25)  # frames per second at most
PREVIEW_S = Fraction(10)  # seconds at most
PLOT_WIDTH, PLOT_HEIGHT = 640, 120


def write_html(
    folder: str | os.PathLike, clips: Sequence[MeasuredClip], thresholds: Mapping[str, float | None]
) -> None:
    """Write report.html, one file that carries its clips in itself.

    Args:
        folder: of the rows.
        clips: all, also those that are left out.
        thresholds: by the names of the filters.

    Raises:
        OSError: if it cannot be written.
    """
    previews: dict[str, Video | None] = {}
    kept = sum(not clip.reasons for clip in clips)
    blocks: list[Block] = [Paragraph(f"{kept} of {len(clips)} clips stay. Below, each filter with its threshold.")]
    reasons = sorted({reason for clip in clips for reason in clip.reasons})
    counts = [(reason, str(sum(reason in clip.reasons for clip in clips))) for reason in reasons]
    blocks += [Table(("reason", "clips"), counts)] if counts else []
    for each in FILTERS:
        blocks += _filter(each, clips, thresholds[each.name], previews)
    with whole_file(Path(folder) / PAGE) as partial:
        partial.write_text(to_html("Clips and filters", blocks), encoding="utf-8")


def _filter(
    each: Filter,
    clips: Sequence[MeasuredClip],
    threshold: float | None,
    previews: dict[str, Video | None],
) -> Iterator[Block]:
    values = [
        (abs(clip.measures[each.measure]), clip) for clip in clips if clip.measures.get(each.measure) is not None
    ]
    if not values:
        return
    yield Heading(f"{each.name}: {each.reason}")
    at = "off" if threshold is None else f"at {'least' if each.is_least else 'most'} {threshold:g}"
    yield Paragraph(f"{each.unit}; {at}; {len(values)} clips have a value.")
    yield _plot(each, [value for value, _ in values], threshold)
    if threshold is None:
        return
    values.sort(key=lambda item: (abs(item[0] - threshold), item[1].source.name))
    for title, side in (("Left out", True), ("Stay", False)):
        near = [item for item in values if each.leaves_out(item[1].measures, threshold) == side][:NUM_CLIPS]
        shown = [_captioned(clip, value, previews) for value, clip in near]
        if found := [video for video in shown if video is not None]:
            yield Paragraph(f"{title}, nearest first:")
            yield Videos(found)


def _captioned(clip: MeasuredClip, value: float, previews: dict[str, Video | None]) -> Video | None:
    name = clip.source.name
    if name not in previews:
        previews[name] = _preview(clip.source)
    made = previews[name]
    return None if made is None else Video(made.data, f"{value:.4g}: {name}")


def _preview(source: Source) -> Video | None:
    """Return a small copy of a clip that any browser plays; None where it cannot be read any more."""
    try:
        with source.file() as path, tempfile.TemporaryDirectory() as folder:
            if read_timeline(path).video is None:
                return None
            target = Path(folder) / "clip.mp4"
            cut(source, path, target, longest_s=PREVIEW_S, max_frame_rate=PREVIEW_RATE, side=PREVIEW_SIDE, crf=28)
            return Video(target.read_bytes(), "")
    except (ValueError, OSError):
        return None


def _plot(each: Filter, values: Sequence[float], threshold: float | None) -> Picture:
    """Return the histogram of a measure as an image, with its threshold as a line."""
    bins = list(histogram(values))
    low, high = bins[0][0], bins[-1][1]
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    scale, top = PLOT_WIDTH / max(high - low, 1e-9), max(count for _, _, count in bins)
    parts = [
        f'<rect x="{(a - low) * scale:.1f}" y="{PLOT_HEIGHT * (1 - n / top):.1f}" '
        f'width="{max((b - a) * scale - 1, 1):.1f}" height="{PLOT_HEIGHT * n / top:.1f}" fill="#4c8bd6"/>'
        for a, b, n in bins
    ]
    if threshold is not None:
        x = (threshold - low) * scale
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{PLOT_HEIGHT}" stroke="#e07b28" stroke-width="3"/>')
    style = 'font-family="sans-serif" font-size="12" fill="#808080"'
    parts.append(f'<text x="0" y="{PLOT_HEIGHT + 16}" {style}>{low:.4g}</text>')
    parts.append(f'<text x="{PLOT_WIDTH}" y="{PLOT_HEIGHT + 16}" text-anchor="end" {style}>{high:.4g}</text>')
    size = f'viewBox="-2 -2 {PLOT_WIDTH + 4} {PLOT_HEIGHT + 22}"'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{"".join(parts)}</svg>'
    return Picture(drawing.encode(), "image/svg+xml", f"Histogram of {each.measure} over {len(values)} clips")


def histogram(values: Sequence[float], num_bins: int = 20) -> Iterator[tuple[float, float, int]]:
    """Yield (from, to, number of values), of bins of one width from the 1st to the 99th percentile and beyond."""
    if not values:
        return
    low, high = np.percentile(values, (1, 99))
    edges = np.linspace(low, high, num_bins + 1) if high > low else np.array([low, low + 1])
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
    yield from zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist())
