# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Weights drawn from their own names, and the golden numbers that the original networks gave with them.

The rule is in golden/README.md. A network that lacks a layer, or names it otherwise, cannot meet the numbers.
"""

import gzip
import json
import re
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch


GOLDEN = Path(__file__).with_name("golden")


def golden(name: str) -> dict[str, np.ndarray]:
    """Return the arrays of `golden/<name>.npz`."""
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@lru_cache(1)
def rules() -> dict:
    return json.loads((GOLDEN / "weights_rule.json").read_text())


def keys_of(name: str) -> dict[str, dict]:
    """Return shape and dtype of each weight of an original network."""
    path = GOLDEN / f"keys_{name}.json.gz"
    return json.loads(gzip.decompress(path.read_bytes()))["keys"]


def name_seeded_weights(name: str, keys: dict[str, dict] | None = None, rule: str | None = None) -> dict:
    """Return the state dict of an original network, but for its constants, checked against the checksum of its makers.

    Args:
        keys: instead of those in `golden/`, unchecked.
    """
    settings = rules()["networks"][rule or name]
    weights, checksum = {}, 0
    for key, entry in (keys or keys_of(name)).items():
        seed_name = key.removeprefix(settings["strip_prefix"])
        if "int" in entry["dtype"] or re.search(rules()["constant_regex"], seed_name):
            continue
        value = _drawn(seed_name, entry["shape"], settings["gains_first_match"])
        checksum = zlib.crc32(value.tobytes(), checksum)
        weights[key] = torch.from_numpy(value)
    if keys is None:
        assert len(weights) == settings["n_filled"]
        assert checksum == settings["crc32_of_filled_tensors_in_key_order"]
    return weights


def _drawn(key: str, shape: list[int], gains: list) -> np.ndarray:
    x = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    last = key.rsplit(".", 1)[-1]
    if last == "running_var":
        x = np.abs(x) + 0.5
    elif last == "running_mean":
        x = 0.1 * x
    elif len(shape) >= 2:
        gain = next(gain for pattern, gain in gains if re.search(pattern, key))
        x *= gain / np.sqrt(np.prod(shape[1:]))
    else:
        x = 0.1 * x if last.endswith("bias") else 0.5 + 0.1 * x
    return np.asarray(x, np.float32)


def noise(seed: int, num_samples: int, block: int, amplitude: float = 0.1) -> np.ndarray:
    """Return noise whose loudness changes every `block` samples."""
    generator = np.random.default_rng(seed)
    envelope = np.repeat(generator.uniform(0.05, 1.0, num_samples // block), block)
    return (amplitude * envelope * generator.standard_normal(num_samples)).astype(np.float32)


def blocks(small: np.ndarray, size: int, height: int, width: int) -> np.ndarray:
    return small.repeat(size, axis=0).repeat(size, axis=1)[:height, :width]


def jitter(image: np.ndarray, seed: int, amount: int) -> np.ndarray:
    offsets = np.random.default_rng(seed).integers(-amount, amount + 1, image.shape)
    return np.clip(image.astype(int) + offsets, 0, 255).astype(np.uint8)


def checksum(array: np.ndarray) -> int:
    """Return what a golden file's `crc_*` of an input should be: a drift of numpy's generators shows here first."""
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def assert_equals(got, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    """Compare to a part of the largest value, as golden/README.md says."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    assert got.shape == wanted.shape
    difference = np.abs(got - wanted).max()
    assert difference <= tolerance * np.abs(wanted).max(), f"off by {difference:.3g} of {np.abs(wanted).max():.3g}"
