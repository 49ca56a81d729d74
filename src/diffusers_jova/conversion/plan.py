# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What every verb makes before it writes anything: a report, the tensors to write, and the folder's small files."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from accelerate import init_empty_weights
from diffusers import ModelMixin

from ..files import whole_folder
from ..models.branches import NewTensors, copied_tensors, joining_tensors
from ..models.two_branches import TwoBranchMixin
from .report import Report, Shape
from .streaming import Write, check_output, human, in_file_order, plan_shards, write_weights


WEIGHTS_NAME = "diffusion_pytorch_model"


@dataclass
class Plan:
    """A conversion that has been checked on the headers alone.

    Args:
        writes: the tensors, in the order in which they are read and written.
        inputs: the files they are made from; their sha256 goes into the output's metadata.
        weights_name: stem of the files to write.
        metadata: of the files to write.
        files: other files of the folder, such as config.json, with their text.
        subfolder: of the folder, in which the weights are written.
        copies: files to copy, by their place in the folder.
    """

    report: Report
    writes: list[Write]
    inputs: list[Path]
    weights_name: str = WEIGHTS_NAME
    metadata: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    subfolder: str = ""
    copies: dict[str, Path] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        copied = sum(path.stat().st_size for path in self.copies.values())
        return copied + sum(write.meta.nbytes for write in self.writes)

    def describe(self, max_shard_size: str | int = "5GB", list_tensors: bool = False) -> str:
        """Return the report and the files that would be written, as text; `list_tensors` adds a line per tensor."""
        shards = plan_shards(self.writes, self.weights_name, max_shard_size)
        made = ", ".join(f"{count} {how}" for how, count in Counter(write.how for write in self.writes).items())
        lines = [str(self.report), f"to write, {human(self.nbytes)}: {made}"]
        for file, shard in shards.items():
            lines.append(f"  {file}: {len(shard.tensors)} tensors, {human(shard.nbytes)}")
        lines += [f"  {name}: a copy of {path}" for name, path in self.copies.items()]
        return "\n".join(lines + [f"  {write}" for write in self.writes] * list_tensors)

    def check(self, output: str | Path, overwrite: bool = False, allow_missing: Iterable[str] = ()) -> None:
        """Raise ConversionError unless all tensors are accounted for and `output` can be written."""
        self.report.check(allow_missing)
        if output is not None:
            check_output(Path(output), self.nbytes, overwrite, [*self.inputs, *self.copies.values()])

    def write(self, output: str | Path, max_shard_size: str | int = "5GB", overwrite: bool = False) -> None:
        """Write the folder `output`, whole or not at all. See `streaming.write_weights` and `check_output`."""
        check_output(Path(output), self.nbytes, overwrite, [*self.inputs, *self.copies.values()])
        with whole_folder(output, overwrite) as folder:
            (folder / self.subfolder).mkdir(exist_ok=True)
            write_weights(
                folder / self.subfolder,
                self.writes,
                self.weights_name,
                metadata=self.metadata,
                inputs=self.inputs,
                max_shard_size=max_shard_size,
            )
            for name, text in self.files.items():
                (folder / name).write_text(text)
            for name, path in self.copies.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / name)


def meta_model(model_class: type[ModelMixin], config: Mapping) -> ModelMixin:
    """Return a model without weights."""
    with init_empty_weights():
        return model_class(**config)


def shapes_of(model: ModelMixin) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def complete_branches(
    model: TwoBranchMixin,
    given: Mapping[str, Write],
    unmatched: Mapping[str, Shape],
    left_out: Iterable[str] = (),
    copy_audio: bool = False,
    seed: int = 0,
) -> tuple[Report, list[Write]]:
    """Return the report and the writes that make a two-branch model whole; see `models.branches`.

    Args:
        model: without weights; its class gives the names.
        given: what a checkpoint makes, under the model's names; the shapes need not fit.
        unmatched: tensors of the checkpoint that no rule took.
        left_out: names that were not asked for.
        copy_audio: whether the audio branch starts from the video branch; else what it lacks is missing.
        seed: of new tensors.
    """
    expected, shapes = shapes_of(model), {name: write.shape for name, write in given.items()}
    model_class = type(model)
    joining = joining_tensors(model_class, model.config)
    counterparts = {name: model_class.video_name(name) for name in expected}
    copies: dict[str, str] = {}
    fresh = list(joining)
    if copy_audio:
        fresh += [name for name, video in counterparts.items() if video is not None]
        copies = copied_tensors(model_class, shapes, expected)
    report = Report.compare(shapes | {name: expected[name] for name in copies}, expected, unmatched, fresh, left_out)

    names = {name: [name] for name in report.matched}
    for audio, video in copies.items():
        names.setdefault(video, []).append(audio)
    writes = [replace(write, name=name) for write in given.values() for name in names.get(write.name, [])]
    writes = in_file_order(writes)
    new_tensors = NewTensors(model_class, model.config, seed)
    dtypes = {name: write.meta.dtype for name, write in given.items()}
    common = Counter(dtypes.values()).most_common(1)[0][0]
    for name in (*report.initialised, *report.missing, *report.mismatched):
        like = torch.empty(expected[name], dtype=dtypes.get(counterparts[name], common), device="meta")
        if name in joining:
            writes.append(Write(name, make=partial(torch.zeros, like.shape, dtype=like.dtype), how="zero", like=like))
        else:
            writes.append(Write(name, make=partial(new_tensors.draw, name, like.dtype), how="new", like=like))
    return report, writes
