# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much moves in a clip, and how sharp its frames are, by scikit-image's functions; no network."""
# F frames, H W rows and columns

from fractions import Fraction

import numpy as np
from PIL import Image
from skimage.measure import blur_effect
from skimage.registration import optical_flow_ilk

from ..faces import to_grey
from .likeness import evenly_spaced
from .measurement import Measurement, Status


FLOW_SIDE = 64  # pixels of the longer side: larger moves are followed, and noise counts less
FLOW_RADIUS = 7  # pixels of the window that moves as one; a Gaussian one, or plain walls seem to fly
FLOW_STEPS = 4  # in which the flow is improved, at each scale
MAX_PAIRS = 12  # of frames that follow each other, evenly spaced
NUM_SHARP_FRAMES = 8


def measure_motion(frames: np.ndarray, frame_rate: float | Fraction) -> Measurement:
    """Return `motion`, the mean length of the optical flow, in percent of the longer side per second.

    Unlike MS it is alike for every size and frame rate. Status `short` for fewer than two frames.

    Args:
        frames: (F, H, W, 3) uint8.
    """
    if len(frames) < 2:
        return Measurement(Status.SHORT)
    lengths = []
    for first in evenly_spaced(len(frames) - 1, MAX_PAIRS):
        before, after = (small_grey(frames[index]) for index in (first, first + 1))
        down, right = optical_flow_ilk(before, after, radius=FLOW_RADIUS, num_warp=FLOW_STEPS, gaussian=True)
        lengths.append(float(np.hypot(down, right).mean()))
    return Measurement(Status.OK, {"motion": 100 * float(np.mean(lengths)) * float(frame_rate) / FLOW_SIDE})


def small_grey(frame: np.ndarray) -> np.ndarray:
    """Return a frame (H, W, 3) uint8 as grey in [0, 1], its longer side `FLOW_SIDE` pixels."""
    height, width = frame.shape[:2]
    scale = FLOW_SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    image = Image.fromarray(to_grey(np.asarray(frame))).resize(size, Image.Resampling.BOX)
    return np.asarray(image, np.float32) / 255


def measure_sharpness(frames: np.ndarray) -> Measurement:
    """Return `sharpness`, 0 (blurred) to 1: one less Crete's blur metric, the mean over up to eight frames.

    Args:
        frames: (F, H, W, 3) uint8.
    """
    chosen = evenly_spaced(len(frames), NUM_SHARP_FRAMES)
    blurs = [blur_effect(to_grey(np.asarray(frames[index])) / 255) for index in chosen]
    return Measurement(Status.OK, {"sharpness": 1 - float(np.mean(blurs))})
