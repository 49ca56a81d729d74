# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A decoded video frame -> what a viewer sees: upright, and with square pixels."""
# H W rows and columns as they are shown

from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import ColorRange, Interpolation


# Pixels this much wider or narrower than square are rounding of an encoder; beyond the second limit, an error of one.
MIN_STRETCH, MAX_STRETCH = Fraction(1, 100), 4


@dataclass(frozen=True)
class Display:
    """How the frames of a file are shown; the first one decides for all.

    Attributes:
        height, width: of the stored pixels, after they were made square.
        transpose, flip_rows, flip_columns: what makes them upright, in this order.
        is_stretched: whether the stored pixels are not square.
    """

    height: int
    width: int
    transpose: bool
    flip_rows: bool
    flip_columns: bool
    is_stretched: bool = False

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
        return cls(frame.height, width, *_orientation(frame), is_stretched)

    def to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        """Return `(H, W, 3)` uint8, a view of memory of its own."""
        size = {}
        if (frame.height, frame.width) != (self.height, self.width):
            size = {"height": self.height, "width": self.width, "interpolation": Interpolation.BICUBIC}
        frame = frame.reformat(
            format="rgb24", src_color_range=frame.color_range, dst_color_range=ColorRange.JPEG, threads=1, **size
        )
        plane = frame.planes[0]
        array = np.frombuffer(plane, np.uint8).reshape(frame.height, plane.line_size)
        array = array[:, : 3 * frame.width].reshape(frame.height, frame.width, 3)
        if self.transpose:
            array = array.transpose(1, 0, 2)
        return array[:: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]


def _orientation(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """Return whether rows and columns change places, then whether rows, then whether columns are turned round.

    The display matrix takes a stored point (x, y) to (a x + c y, b x + d y); rows of it are (a, b, .) and (c, d, .).
    It is taken for the nearest of the eight that keep pixels on the grid.
    """
    if SideDataType.DISPLAYMATRIX not in frame.side_data:
        return False, False, False
    matrix = np.frombuffer(frame.side_data[SideDataType.DISPLAYMATRIX], np.int32)[:9].reshape(3, 3).astype(np.int64)
    (a, b), (c, d) = matrix[:2, :2]
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return False, bool(d < 0), bool(a < 0)
    return True, bool(b < 0), bool(c < 0)
