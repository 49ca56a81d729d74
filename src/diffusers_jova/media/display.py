# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A decoded video frame -> what a viewer sees: upright, square pixels, standard range, no combing."""
# H W rows and columns as they are shown

import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import av.filter
import av.sidedata.sidedata
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Interpolation

from ..images import BACKGROUND as IMAGE_BACKGROUND
from .hdr import is_hdr, to_sdr


BACKGROUND = np.array(IMAGE_BACKGROUND, np.uint16)


# Pixels this much wider or narrower than square are rounding of an encoder; beyond the second limit, an error of one.
MIN_STRETCH, MAX_STRETCH = Fraction(1, 100), 4

# Larger frames than those of 8K are made that large, in which no model sees a difference: a frame of 16000x8400 takes
# 400 MB as it is.
MAX_AREA = 8192 * 4320


@dataclass(frozen=True)
class Display:
    """How the frames of a file are shown; the first one decides for all.

    Attributes:
        height, width: that stored frames are brought to, with square pixels.
        transpose, flip_rows, flip_columns: what makes them upright, in this order.
    """

    height: int
    width: int
    transpose: bool
    flip_rows: bool
    flip_columns: bool

    @property
    def shown_size(self) -> tuple[int, int]:
        """Height and width of what is shown."""
        return (self.width, self.height) if self.transpose else (self.height, self.width)

    @classmethod
    def of(cls, frame: av.VideoFrame, aspect: Fraction | None) -> "Display":
        """Return how a frame is shown.

        Args:
            frame: the file's first.
            aspect: width of a pixel by its height, as the file says; None where it does not.
        """
        aspect = aspect or Fraction(1)
        is_stretched = abs(aspect - 1) > MIN_STRETCH and 1 / Fraction(MAX_STRETCH) <= aspect <= MAX_STRETCH
        width = max(round(frame.width * aspect), 1) if is_stretched else frame.width
        scale = min(math.sqrt(MAX_AREA / (frame.height * width)), 1)
        return cls(round(frame.height * scale), round(width * scale), *_orientation(frame))

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """Return `(H, W, 3)` uint8 in memory of its own. A frame of another size than the first gets the first's."""
        size = {}
        if (frame.height, frame.width) != (self.height, self.width):
            size = {"height": self.height, "width": self.width, "interpolation": Interpolation.BICUBIC}
        if is_hdr(frame):
            array = to_sdr(frame, **size)
        elif any(component.is_alpha for component in frame.format.components):
            array = _pixels(frame, "rgba", size)
            alpha = array[..., 3:].astype(np.uint16)
            array = ((array[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)
        else:
            array = _pixels(frame, "rgb24", size)
        if self.transpose:
            array = array.transpose(1, 0, 2)
        return array[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def _pixels(frame: av.VideoFrame, format: str, size: dict) -> np.ndarray:
    """Return the frame as `(H, W, 3 or 4)` uint8, a view of the memory that it was converted to."""
    frame = frame.reformat(
        format=format, src_color_range=frame.color_range, dst_color_range=ColorRange.JPEG, threads=1, **size
    )
    plane, num_channels = frame.planes[0], len(format.rstrip("24"))
    array = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
    return array[:, : num_channels * frame.width].reshape(frame.height, frame.width, num_channels)


def deinterlace(
    timed_frames: Iterable[tuple[Fraction, Fraction, av.VideoFrame]],
) -> Iterator[tuple[Fraction, Fraction, av.VideoFrame]]:
    """Yield as many frames at the same times, from the first interlaced one on without combing, by FFmpeg's bwdif.

    Each is the first of its two fields, completed; frames that are marked as progressive stay as they are.
    """
    graph, geometry, count = None, None, 0
    waiting: deque[tuple[Fraction, Fraction]] = deque()
    for time, length, frame in timed_frames:
        if graph is not None and geometry != (frame.width, frame.height, frame.format.name):
            yield from _pull(graph, waiting, flush=True)
            graph = None
        if graph is None and not frame.interlaced_frame:
            yield time, length, frame
            continue
        if graph is None:
            graph, geometry, count = _bwdif(frame), (frame.width, frame.height, frame.format.name), 0
        frame.pts, count = count, count + 1  # the filter wants an order, the times are ours
        waiting.append((time, length))
        graph.vpush(frame)
        yield from _pull(graph, waiting)
    if graph is not None:
        yield from _pull(graph, waiting, flush=True)


def _bwdif(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000), name="source"
    )
    graph.link_nodes(
        source, graph.add("bwdif", mode="send_frame", deint="interlaced"), graph.add("buffersink")
    ).configure()
    return graph


def _pull(graph: av.filter.Graph, waiting: deque, flush: bool = False) -> Iterator:
    if flush:
        graph.vpush(None)
    while waiting:
        try:
            frame = graph.vpull()
        except (av.BlockingIOError, av.EOFError):  # it wants the next frame first
            return
        yield *waiting.popleft(), frame


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether rows and columns change places, then whether rows, then whether columns are turned round.

    The display matrix takes a stored point (x, y) to (a x + c y, b x + d y); rows of it are (a, b, .) and (c, d, .).
    It is taken for the nearest of the eight that keep pixels on the grid.
    """
    # not `frame.side_data`, which makes a circle: frames, which may be large, would stay until Python looks for those
    side_data = av.sidedata.sidedata.SideDataContainer(frame)
    if SideDataType.DISPLAYMATRIX not in side_data:
        return False, False, False
    matrix = np.frombuffer(side_data[SideDataType.DISPLAYMATRIX], np.int32)[:9].reshape(3, 3).astype(np.int64)
    (a, b), (c, d) = matrix[:2, :2]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, bool(d < 0), bool(a < 0)
    return True, bool(b < 0), bool(c < 0)
