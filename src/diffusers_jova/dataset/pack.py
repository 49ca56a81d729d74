# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips -> shards of WebDataset: tars of a thousand clips, in which a clip and what is said of it have one name.

A folder of half a million small files is slow to list and to copy on any disk; five hundred tars are not. Python's own
tarfile writes them; the package webdataset would add nothing to that, and its strength, reading shards in a row while
training, is not used here, where a cache is what is trained from.
"""

import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..data.clips import Source
from ..data.probe import probe
from ..data.windows import sample_key
from ..files import check_output, lock_folder, whole_file
from ..media import read_audio, write_wav
from ..progress import progress
from ..remote import writes_to_any_place
from ..workers import Failure, Workers
from .cutting import cut
from .journal import Journal, key_of
from .rows import read_clips, row_of
from .summary import StepSummary


VERSION = 1  # of how clips are cut: another one writes all shards again


@dataclass(frozen=True)
class PackConfig:
    """What to do. Fields have the names of the flags of `diffusers-jova pack`.

    Attributes:
        data: rows of a step, a folder of clips, or whatever `preprocess` reads.
        output_dir: folder of the tars.
        shard_size: clips in a tar.
        crf: H.264 quality of clips that are cut out of films, see `write_video`; whole files are taken as they are.
        num_workers: processes that cut clips; 0: none but this one, which a damaged film may crash.
    """

    data: str
    output_dir: str
    shard_size: int = 1000
    crf: int = 18
    num_workers: int = 1


class Packed(NamedTuple):
    """A clip in a tar: the suffix and the bytes of its file, and its seconds."""

    suffix: str
    content: bytes
    duration_s: float


@dataclass(frozen=True)
class Packer:
    """How clips become files; calling it does it, also in another process."""

    crf: int

    def __call__(self, source: Source) -> Packed:
        """Return a clip as a file of its own.

        Raises:
            ValueError: if it cannot be read.
        """
        with source.file() as path, tempfile.TemporaryDirectory() as folder:
            if source.start_s is None and source.crop is None:
                return Packed(path.suffix, path.read_bytes(), float(probe(path).duration_s))
            if probe(path).has_video:
                target = Path(folder) / "clip.mp4"
                cut(source, path, target, crf=self.crf)
            else:
                target, duration_s = Path(folder) / "clip.wav", source.end_s - source.start_s
                write_wav(target, *read_audio(path, start_s=source.start_s, duration_s=duration_s))
            return Packed(target.suffix, target.read_bytes(), float(source.end_s - source.start_s))


@writes_to_any_place
def pack(config: PackConfig) -> StepSummary:
    """Write the clips in `config.data` into tars, and return what became of them.

    Tars that are there and hold the same clips are not written again.

    Raises:
        ValueError, FileNotFoundError: for settings or data that cannot be used.
        InUseError: if another run is at work in the folder.
        OSError: if the disk is full; the tars that were written are whole, and are not written again.
    """
    if config.shard_size < 1:
        raise ValueError(f"`--shard_size` must be 1 or more clips, got {config.shard_size}.")
    check_output(config.output_dir, {"the clips": config.data if os.path.isdir(config.data) else None})
    summary, folder = StepSummary("pack", "clips"), Path(config.output_dir)
    with lock_folder(folder), Journal(folder / "shards.jsonl") as journal:
        clips, keys = summary.usable(read_clips(config.data)), dict[str, str]()
        firsts = range(0, len(clips), config.shard_size)
        for number, first in enumerate(progress(firsts, "pack", len(firsts))):
            path, shard = folder / f"{number:06d}.tar", clips[first : first + config.shard_size]
            keys[path.name] = _key_of_shard(path.name, shard, config)
            if keys[path.name] not in journal.results or not path.is_file():
                _write_shard(path, shard, keys[path.name], config, journal, summary)
            done = journal.results.get(keys[path.name], {"clips": 0, "seconds": 0.0})
            summary.num_kept, summary.kept_s = summary.num_kept + done["clips"], summary.kept_s + done["seconds"]
        journal.keep(set(keys.values()))
        for path in folder.glob("[0-9]*.tar"):
            if path.name not in keys:  # of an earlier run with more clips
                path.unlink()
        summary.write(folder)
    return summary


def _key_of_shard(name: str, clips: Sequence[Source], config: PackConfig) -> str:
    """Return a key for a tar: another one when the clips in it, or what is said of them, change."""
    content = [
        key_of(clip.path, clip.start_s, clip.end_s, clip.crop, dict(clip.row), dict(clip.texts)) for clip in clips
    ]
    return hashlib.sha256(json.dumps([VERSION, name, config.crf, *content]).encode()).hexdigest()[:32]


def _write_shard(
    path: Path, clips: Sequence[Source], key: str, config: PackConfig, journal: Journal, summary: StepSummary
) -> None:
    count, length_s, is_final = 0, 0.0, True
    with whole_file(path) as partial, tarfile.open(partial, "w") as tar:
        with Workers(config.num_workers) as workers:
            for clip, packed in workers.map(Packer(config.crf), clips):
                if isinstance(packed, Failure):
                    summary.skip(clip.name, packed)
                    is_final = is_final and packed.is_lasting
                    continue
                for suffix, content in ((packed.suffix, packed.content), (".json", _said_of(clip, packed.suffix))):
                    member = tarfile.TarInfo(f"{sample_key(clip.name)}{suffix}")
                    member.size = len(content)  # and no time: the same clips make the same bytes
                    tar.addfile(member, io.BytesIO(content))
                count, length_s = count + 1, length_s + packed.duration_s
    if is_final:  # else the next run tries again
        journal.add(key, {"clips": count, "seconds": round(length_s, 6)})


def _said_of(clip: Source, suffix: str) -> bytes:
    row: dict[str, Any] = row_of(clip.with_caption(suffix != ".wav"), ".")
    row = {name: value for name, value in row.items() if name not in ("file_name", "start", "end", "crop")}
    return json.dumps({"source": clip.name} | row, ensure_ascii=False).encode()
