# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A base and its caches, as little of them as training reads, for a machine with a card that they are carried to.

They are plain folders: `base`, whose components are configs alone but for the transformer in float16, and a cache in
float16 for each name. Their files lie in numbered parts, none larger than what is carried at a time.
"""

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from safetensors.torch import save_file

from ..data import cache
from ..files import whole_folder
from ..headers import read_json
from ..pipeline_folder import INDEX, read_pipeline_folder
from ..training.initialization import read_config, transformer_class


BASE = "base"
LABEL = "carried.json"  # in each part
MIB = 2**20
READ_IN_TRAINING = ("transformer", "vae", "audio_vae")


def write_carried(
    base: Path, caches: Mapping[str, Path], output_dir: Path, part_mb: float = 48.0, max_clips: int | None = None
) -> list[Path]:
    """Write the parts output_dir/1, output_dir/2 and so on, all of them or none, and return their folders.

    Args:
        base: folder of the pipeline that made the caches.
        caches: folders by the names that they get.
        part_mb: largest size of a part, in MiB.
        max_clips: of each cache, the first ones; None takes all.

    Raises:
        ValueError: If a cache was made by another model, or a part can hold less than one file.
    """
    for folder in caches.values():
        cache.check_fingerprint(folder, {"models": cache.model_fingerprint(base)})
    with whole_folder(output_dir, overwrite=True) as partial:
        whole = partial / "whole"
        write_base(base, whole / BASE, part_mb)
        models = cache.model_fingerprint(whole / BASE)
        for name, folder in caches.items():
            write_cache(folder, whole / name, models, max_clips)
        number = _share_out(whole, partial, int(part_mb * MIB))
        shutil.rmtree(whole)
    return [output_dir / str(k + 1) for k in range(number)]


def write_base(base: Path, output_dir: Path, part_mb: float) -> None:
    """Write what training reads of a pipeline: the transformer in float16, and the configs of both VAEs.

    These get weights of no tensors, since a cache belongs to the files that made it.
    """
    folder = read_pipeline_folder(base)
    output_dir.mkdir(parents=True)
    index = {
        name: value for name, value in folder.index.items() if name in READ_IN_TRAINING or name not in folder.parts
    }
    (output_dir / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")
    save_half(base / "transformer", output_dir / "transformer", part_mb)
    for name in ("vae", "audio_vae"):
        (output_dir / name).mkdir()
        shutil.copy(folder.config_path(name), output_dir / name)
        save_file({}, output_dir / name / "diffusion_pytorch_model.safetensors")


def save_half(source: Path, output_dir: Path, shard_mb: float) -> None:
    """Write a transformer in float16, in files of at most `shard_mb` MiB."""
    transformer = transformer_class(read_config(source)).from_pretrained(source)
    # diffusers counts the tensors alone: a tenth is for the names before them
    transformer.half().save_pretrained(output_dir, max_shard_size=int(0.9 * shard_mb * MIB))


def write_cache(source: Path, output_dir: Path, models: Mapping, max_clips: int | None = None) -> None:
    """Write a cache with its numbers in float16, as one that `models` made."""
    for row in cache.read_index(source)[:max_clips]:
        tensors = cache.read_sample(source, row["key"])
        half = {name: tensor.half() for name, tensor in tensors.items() if name != "mouth_boxes"}  # these are pixels
        cache.write_sample(output_dir, row, tensors | half)
    cache.write_shared(output_dir, {name: tensor.half() for name, tensor in cache.read_shared(source).items()})
    cache.write_fingerprint(output_dir, {**cache.read_fingerprint(source), "models": models})


def _share_out(whole: Path, output_dir: Path, limit: int) -> int:
    """Move all files into numbered folders of at most `limit` bytes, and return how many folders there are."""
    number, filled = 1, 0
    for path in sorted(path for path in whole.rglob("*") if path.is_file()):
        size = path.stat().st_size
        if size > limit:
            raise ValueError(
                f"A part of {limit / MIB:.3g} MiB cannot hold `{path.relative_to(whole)}`, which has "
                f"{size / MIB:.3g} MiB: allow larger parts."
            )
        if filled + size > limit:
            number, filled = number + 1, 0
        filled += size
        target = output_dir / str(number) / path.relative_to(whole)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, target)
    for k in range(number):
        label = {"part": k + 1, "of": number}
        (output_dir / str(k + 1) / LABEL).write_text(json.dumps(label), encoding="utf-8")
    return number


def join_carried(parts: Iterable[Path], output_dir: Path) -> None:
    """Put the parts together again: a base, and finished caches.

    Raises:
        ValueError: If a part is missing.
    """
    folders = {}
    for part in parts:
        label = read_json(part / LABEL)
        folders[label["part"]] = part
        number = label["of"]
    missing = sorted(set(range(1, number + 1)) - folders.keys())
    if missing:
        raise ValueError(f"Of {number} parts, {', '.join(map(str, missing))} are missing: carry all of them.")
    for folder in folders.values():
        shutil.copytree(folder, output_dir, dirs_exist_ok=True)
    for folder in output_dir.iterdir():
        if (folder / "samples").is_dir():
            cache.write_index(folder)
