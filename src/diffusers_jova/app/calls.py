# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the fields of the page hold -> a call of `generate`, as it runs, as a command and as Python.

There is one reader of settings, the parser of `generate`: the page's clip is made of what it reads, and so are both
copies.
"""

import argparse
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from ..cli.dispatch import PROGRAM, make_parser
from ..cli.generate import directions_of, settings_of
from ..cli.pipeline import NUMBERS, TEXTS, check_device, default_dtype, given, loras_of
from ..pipelines.inputs import MODALITIES


FILES = ("image", "audio", "video")
FLAGS = (*TEXTS, *FILES, "keep", "retake", "lora", "lora_scale", "seed", *NUMBERS)  # that the page may set


def arguments_of(values: Mapping[str, Any]) -> list[str]:
    """Return the arguments of `generate` that say what `values` hold.

    Args:
        values: By the names of `FLAGS`; None, an empty list or a blank text stands for what is not given.
    """
    arguments = []
    for name in FLAGS:
        value = values.get(name)
        words = [str(word) for word in (value if isinstance(value, list | tuple) else [value]) if word is not None]
        if len(words) == 1 and words[0].startswith("-"):
            arguments.append(f"--{name}={words[0]}")  # on its own it would be taken for a flag
        elif any(word.strip() for word in words):
            arguments += [f"--{name}", *words]
    return arguments


@dataclass(frozen=True)
class ClipCall:
    """One call of `generate`.

    Attributes:
        arguments: All but --output.
        output: The clip.
    """

    arguments: tuple[str, ...]
    output: Path

    @cached_property
    def args(self) -> argparse.Namespace:
        """The arguments as `generate` reads them.

        Raises:
            ValueError: If it does not take them.
        """
        parser = make_parser("generate", None)
        # its own would end the server
        parser.error = _refuse  # type: ignore[method-assign]
        return parser.parse_args([*self.arguments, "--output", str(self.output)])

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What is given of the pipeline's call, but for the noise and the type of the output.

        Raises:
            ValueError: If what is given of the clip cannot be read, or does not go together.
        """
        return settings_of(self.args, given(self.args, *TEXTS), directions_of(self.args))

    @property
    def files(self) -> dict[Path, str]:
        """The files that the call reads, each with its name, by which the copies call it: its folder is not theirs."""
        return {path: path.name for path in given(self.args, *FILES).values()}

    def as_command(self) -> str:
        """Return the command that makes the clip, with a flag on each line, for a shell where the files are."""
        names = {str(path): name for path, name in self.files.items()}
        words = [names.get(word, word) for word in self.arguments]
        lines = [f"{PROGRAM} generate", *_flags([*words, "--output", self.output.name])]
        return " \\\n    ".join(lines)

    def as_python(self) -> str:
        """Return the Python that makes the clip, to be run where the files are."""
        args = self.args
        device = check_device(args.device)
        writer = "write_video(OUTPUT, output.frames[0], output.frame_rate"
        if "audio" in args.modalities:
            writer += ", output.audio[0], output.audio_sampling_rate"
        names = [f"lora_{i}" for i in range(len(args.lora))]
        loads = [f"pipe.load_lora_weights({lora!r}, adapter_name={name!r})" for lora, name in zip(args.lora, names)]
        if loads:
            loads.append(f"pipe.set_adapters({names!r}, {[scale for _, scale in loras_of(args)]!r})")
        placed = f"enable_model_cpu_offload(device={device!r})" if args.cpu_offload else f"to({device!r})"
        lines = [
            "import torch",
            "from diffusers_jova import JoVAPipeline, write_video",
            "",
            f"pipe = JoVAPipeline.from_pretrained({args.model!r}, dtype=torch.{args.dtype or default_dtype(device)})",
            *loads,
            f"pipe.{placed}",
            "output = pipe(",
            *(f"    {name}={self._literal(value)}," for name, value in self.settings.items() if value != MODALITIES),
            f"    generator=torch.Generator().manual_seed({args.seed}),",
            '    output_type="np",',
            ")",
            writer.replace("OUTPUT", repr(self.output.name)) + ")",
        ]
        return "\n".join(lines) + "\n"

    def _literal(self, value: Any) -> str:
        return repr(self.files.get(value, value) if isinstance(value, Path) else value)


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"{message}.")


def _flags(words: Iterable[str]) -> list[str]:
    """Return each flag with its values, quoted for a shell."""
    flags: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            flags.append([])
        flags[-1].append(word)
    return [shlex.join(flag) for flag in flags]
