# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which triangle, and which strand of hair, is in front at each pixel: a depth buffer in numpy.

Colours come afterwards, once for each pixel that is seen: so what lies behind costs next to nothing, and light is
computed from normals that change smoothly over the triangles.
"""
# S pixels a side, V vertices, T triangles, C candidates (pixel and triangle), N points, P pixels

from dataclasses import dataclass

import numpy as np


FRONT = np.float32(16)  # depths lie between -FRONT and FRONT, in decimetres
LEVELS = 2**30  # that the depth buffer tells apart


@dataclass(frozen=True)
class Surface:
    """What is in front at the pixels where there is anything.

    Attributes:
        pixels: (P,), their numbers row by row.
        triangles: (P,), which one is seen.
        corners: (P, 3), how much of each corner of it is at the pixel's centre.
        depths: (P,), greater is nearer.
    """

    pixels: np.ndarray
    triangles: np.ndarray
    corners: np.ndarray
    depths: np.ndarray

    def interpolate(self, triangles: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return values of the vertices, (V, ...), at the pixels, (P, ...).

        Args:
            triangles: (T, 3), of the whole mesh.
        """
        first, second, third = (values[triangles[self.triangles, corner]] for corner in range(3))
        weights = self.corners.reshape(-1, 3, *(1,) * (values.ndim - 1))
        return weights[:, 0] * first + weights[:, 1] * second + weights[:, 2] * third

    def chosen(self, which: np.ndarray) -> "Surface":
        return Surface(*(values[which] for values in vars(self).values()))


def rasterize(points: np.ndarray, triangles: np.ndarray, size: int) -> Surface:
    """Return what is seen of a mesh, in an image of `size` x `size` pixels.

    Args:
        points: (V, 3) float32: column and row in pixels, and the depth, greater is nearer.
        triangles: (T, 3); those that turn their back, clockwise on the screen, are not drawn.
    """
    a, b, c = (points[triangles[:, corner]] for corner in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    low = np.ceil(np.minimum(np.minimum(a, b), c)[:, :2] - 0.5).clip(0, size).astype(np.int32)
    high = np.floor(np.maximum(np.maximum(a, b), c)[:, :2] - 0.5).clip(-1, size - 1).astype(np.int32)
    shape = (high - low + 1).clip(0)
    drawn = np.flatnonzero((area < -1e-6) & (shape[:, 0] * shape[:, 1] > 0))
    low, shape = low[drawn], shape[drawn]
    counts = shape[:, 0] * shape[:, 1]
    # planes over the screen: the weights of the corners b and c, and the depth, are linear in column and row
    a, b, c, inverse = a[drawn], b[drawn], c[drawn], 1 / area[drawn]
    of_b = np.stack([(c[:, 1] - a[:, 1]) * inverse, (a[:, 0] - c[:, 0]) * inverse], 1)
    of_c = np.stack([(a[:, 1] - b[:, 1]) * inverse, (b[:, 0] - a[:, 0]) * inverse], 1)
    start = low + np.float32(0.5) - a[:, :2]
    plane = np.stack([(start * of_b).sum(1), (start * of_c).sum(1), *of_b.T, *of_c.T], 1).astype(np.float32)

    which = np.repeat(np.arange(len(drawn), dtype=np.int32), counts)
    inside = np.arange(counts.sum(), dtype=np.int32) - np.repeat(np.cumsum(counts) - counts, counts).astype(np.int32)
    width = shape[which, 0]
    rows = inside // width
    columns = inside - rows * width
    first_b, first_c, b_column, b_row, c_column, c_row = plane[which].T
    weight_b = first_b + b_column * columns + b_row * rows
    weight_c = first_c + c_column * columns + c_row * rows
    weight_a = 1 - weight_b - weight_c
    hit = np.flatnonzero((weight_a >= 0) & (weight_b >= 0) & (weight_c >= 0))
    which, weights = which[hit], np.stack([weight_a[hit], weight_b[hit], weight_c[hit]], 1)
    pixels = (low[which, 1] + rows[hit]) * size + low[which, 0] + columns[hit]
    depths = (weights * np.stack([a[:, 2], b[:, 2], c[:, 2]], 1)[which]).sum(1)
    seen = nearest(pixels, depths, size)
    return Surface(pixels[seen], drawn[which[seen]], weights[seen], depths[seen])


def nearest(pixels: np.ndarray, depths: np.ndarray, size: int) -> np.ndarray:
    """Return which candidates are in front, one for each pixel that has any, in the order of the pixels.

    Args:
        pixels: (C,), numbers below size².
        depths: (C,), greater is nearer.
    """
    level = ((depths + FRONT) * np.float32(LEVELS / (2 * FRONT))).astype(np.int64)
    keys = level << 32 | np.arange(len(pixels))
    best = np.full(size * size, -1, np.int64)
    np.maximum.at(best, pixels, keys)
    best = best[best >= 0]
    return best & 0xFFFFFFFF


def vertex_normals(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """Return the directions that the surface faces at its vertices, (V, 3), of length 1."""
    a, b, c = (vertices[triangles[:, corner]] for corner in range(3))
    faces = np.cross(b - a, c - a)
    corners = triangles.ravel()
    sums = [np.bincount(corners, np.repeat(faces[:, axis], 3), len(vertices)) for axis in range(3)]
    normals = np.stack(sums, 1).astype(np.float32)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
