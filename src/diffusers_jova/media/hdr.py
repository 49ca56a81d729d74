# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""High dynamic range (PQ and HLG) -> what a standard display shows.

swscale can do it, but cuts everything off at white and takes a third of the light from saturated colours in HLG.
"""
# H W rows and columns

from functools import cache

import av
import numpy as np
from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc


WHITE_NITS = 203.0  # what is white in standard range, ITU-R BT.2408
WHITE_HLG = 0.75  # the HLG signal of it
DISPLAY_GAMMA = 2.4  # ITU-R BT.1886

# Signals up to here stay as they are; what is brighter, also far above white, shares the rest of the range.
KNEE = 0.94

STRIP_ROWS = 64  # rows that are in floating point at a time

UNSPECIFIED = 2  # ITU-T H.273

# Linear light in the primaries of the file -> in those of BT.709 (ITU-R BT.2087, and SMPTE EG 432-1 for P3 at D65).
TO_BT709 = {
    ColorPrimaries.BT2020: ((1.6605, -0.5876, -0.0728), (-0.1246, 1.1329, -0.0083), (-0.0182, -0.1006, 1.1187)),
    ColorPrimaries.SMPTE432: ((1.2249, -0.2247, 0.0), (-0.0420, 1.0419, 0.0), (-0.0197, -0.0786, 1.0979)),
}


def is_hdr(frame: av.VideoFrame) -> bool:
    return frame.color_trc in (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67)


def to_sdr(frame: av.VideoFrame, **size: int) -> np.ndarray:
    """Return a frame in PQ or HLG as `(H, W, 3)` uint8 in BT.709, resized by swscale if `size` says so.

    Light relative to white goes from the file's primaries to those of BT.709, and to the signal of a display with a
    gamma of 2.4. PQ is light on a display already. HLG is light before the camera: its system gamma, 1.2 on a display
    of 1000 nits, is 1 on one of 334 (ITU-R BT.2100), and a standard display is near that. Above the knee, the three
    colours are made darker by the same factor, so that highlights keep their hue.
    """
    matrix = Colorspace.BT2020 if frame.colorspace == UNSPECIFIED else None
    frame_16 = frame.reformat(
        format="rgb48le",
        src_colorspace=matrix,
        src_color_range=frame.color_range,
        dst_color_range=ColorRange.JPEG,
        threads=1,
        **size,
    )
    height, width = frame_16.height, frame_16.width
    plane = frame_16.planes[0]
    pixels = np.frombuffer(plane, "<u2").reshape(height, plane.line_size // 2)[:, : 3 * width]
    light = _linear_light(int(frame.color_trc))
    primaries = ColorPrimaries.BT2020 if frame.color_primaries == UNSPECIFIED else frame.color_primaries
    to_bt709 = np.array(TO_BT709.get(primaries, np.eye(3)), np.float32)

    shown = np.empty((height, width, 3), np.uint8)
    for row in range(0, height, STRIP_ROWS):
        strip = light[pixels[row : row + STRIP_ROWS]].reshape(-1, width, 3) @ to_bt709.T
        strip = np.maximum(strip, 0) ** (1 / DISPLAY_GAMMA)
        peak = np.maximum(strip.max(axis=-1, keepdims=True), 1e-6)
        rolled = KNEE + (1 - KNEE) * (1 - np.exp(-np.maximum(peak - KNEE, 0) / (1 - KNEE)))
        strip *= np.where(peak > KNEE, rolled / peak, 1)
        shown[row : row + STRIP_ROWS] = np.rint(strip * 255)
    return shown


@cache
def _linear_light(transfer: int) -> np.ndarray:
    """Return the light, 1 for white, of each of the 65536 signals of PQ or HLG (ITU-R BT.2100)."""
    signal = np.linspace(0, 1, 1 << 16)
    if transfer == ColorTrc.SMPTE2084:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        power = signal ** (1 / m2)
        light = 10000 / WHITE_NITS * (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    else:
        light = _hlg_light(signal) / _hlg_light(np.array(WHITE_HLG))
    return light.astype(np.float32)


def _hlg_light(signal: np.ndarray) -> np.ndarray:
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    return np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
