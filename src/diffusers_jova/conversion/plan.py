# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What every verb makes before it writes anything: a report, the steps, and the folder's small files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from accelerate import init_empty_weights
from diffusers import ModelMixin
from torch import Tensor

from ..headers import parse_json
from .checkpoint import Checkpoint
from .key_mapping import Match, Rule
from .report import Report, Shape
from .streaming import Step, atomic_folder, check_output, human, plan_shards, write_weights


SAME = Rule(("<name*>",), ("<name*>",))
WEIGHTS_NAME = "diffusion_pytorch_model"


@dataclass
class Plan:
    """A conversion that has been checked on the headers alone.

    Args:
        steps: what makes the tensors, in the order in which they are read and written.
        inputs: the files they are made from; their sha256 goes into the output's metadata.
        weights_name: stem of the files to write.
        metadata: of the files to write.
        files: other files of the folder, such as config.json, with their text.
    """

    report: Report
    steps: list[Step]
    inputs: list[Path]
    weights_name: str = WEIGHTS_NAME
    metadata: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        return sum(step.nbytes for step in self.steps)

    def describe(self, max_shard_size: str | int = "5GB") -> str:
        """Return the report and the files that would be written, as text."""
        shards = plan_shards(self.steps, self.weights_name, max_shard_size)
        lines = [f"{file}: {len(shard.tensors)} tensors, {human(shard.nbytes)}" for file, shard in shards.items()]
        return "\n".join([str(self.report), f"to write, {human(self.nbytes)}:", *(f"  {line}" for line in lines)])

    def check(self, output: str | Path, overwrite: bool = False, allow_missing: Iterable[str] = ()) -> None:
        """Raise ConversionError unless all tensors are accounted for and `output` can be written."""
        self.report.check(allow_missing)
        if output is not None:
            check_output(Path(output), self.nbytes, overwrite, self.inputs)

    def write(self, output: str | Path, max_shard_size: str | int = "5GB", overwrite: bool = False) -> None:
        """Write the folder `output`, whole or not at all. See `streaming.write_weights` and `atomic_folder`."""
        with atomic_folder(output, self.nbytes, overwrite, self.inputs) as folder:
            write_weights(
                folder,
                self.steps,
                self.weights_name,
                metadata=self.metadata,
                inputs=self.inputs,
                max_shard_size=max_shard_size,
            )
            for name, text in self.files.items():
                (folder / name).write_text(text)


def meta_model(model_class: type[ModelMixin], config: Mapping) -> ModelMixin:
    """Return a model without weights."""
    with init_empty_weights():
        return model_class(**config)


def shapes_of(model: ModelMixin) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


@dataclass(frozen=True)
class Piece:
    """What one match of a key map makes of a checkpoint's tensors.

    Args:
        tensors: what it makes, without data.
        names: under which names each of them is wanted; none for one that is not.
    """

    checkpoint: Checkpoint
    match: Match
    tensors: tuple[Tensor, ...]
    names: tuple[list[str], ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint, match: Match) -> Piece:
        tensors = match.rule([checkpoint.infos[name].meta() for name in match.sources])
        return cls(checkpoint, match, tuple(tensors), tuple([target] for target in match.targets))

    @classmethod
    def renamed(cls, checkpoint: Checkpoint, source: str, target: str) -> Piece:
        """Return the piece that gives one tensor another name."""
        return cls.of(checkpoint, Match(SAME, (source,), (target,)))

    @property
    def place(self) -> tuple[str, int]:
        """Where its first source lies, to read the disk in order."""
        infos = [self.checkpoint.infos[name] for name in self.match.sources]
        return min(((str(info.path), info.offset) for info in infos), default=("", 0))

    def outputs(self) -> Iterator[tuple[str, Tensor]]:
        for tensor, names in zip(self.tensors, self.names, strict=True):
            for name in names:
                yield name, tensor

    def under(self, names: Mapping[str, list[str]]) -> Piece:
        """Return the piece with its tensors under other names, given by the present ones."""
        renamed = tuple([new for old in group for new in names.get(old, [])] for group in self.names)
        return replace(self, names=renamed)

    def step(self) -> Step:
        return Step(dict(self.outputs()), self.make)

    def make(self) -> list[Tensor]:
        tensors = self.match.rule([self.checkpoint[name] for name in self.match.sources])
        return [tensor for tensor, names in zip(tensors, self.names, strict=True) for _ in names]


def steps_of(pieces: Iterable[Piece]) -> list[Step]:
    """Return the steps of `pieces`, in the order of their files."""
    return [piece.step() for piece in sorted(pieces, key=lambda piece: piece.place)]


def note_sources(report: Report, checkpoints: Iterable[Checkpoint]) -> None:
    """Add to a report what the tensors of its checkpoints are: their dtypes, and what was not taken for weights."""
    for checkpoint in checkpoints:
        for name, info in checkpoint.infos.items():
            report.dtypes.setdefault(str(info.dtype).removeprefix("torch."), []).append(name)
        if checkpoint.ignored:
            examples = ", ".join(checkpoint.ignored[:3])
            report.notes.append(
                f"{len(checkpoint.ignored)} tensors of {checkpoint.path.name} ignored: {examples}, ..."
            )


def source_config(checkpoint: Checkpoint, class_name: str) -> dict:
    """Return the config that came with a checkpoint of ours, in its folder or its metadata; {} for others."""
    try:
        from_metadata = parse_json(checkpoint.metadata.get("config", "{}"), "the metadata's config")
    except ValueError:
        from_metadata = {}  # another trainer's entry of that name
    for config in (checkpoint.config, from_metadata):
        if config.get("_class_name") == class_name:
            return {name: value for name, value in config.items() if not name.startswith("_")}
    return {}
