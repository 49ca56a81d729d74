# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the folder of a pipeline says about the pipeline in it, without loading it; and checkpoints by their names."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .files import reading
from .headers import read_header, read_json
from .presets import MEL_FRAMES_PER_LATENT


PACKAGE = Path(__file__).parent
SHIPPED = (PACKAGE / "checkpoints", PACKAGE.parents[1] / "checkpoints")  # of an installed wheel, of a checkout
NAMES = ("jova-mini", "jova-nano")  # of checkpoints that may be there, the newest first
INDEX = "model_index.json"
# of a part that is not a model; models have a config.json
CONFIG_NAMES = {"scheduler": "scheduler_config.json"}
CONFIG_NAMES |= dict.fromkeys(("tokenizer", "tokenizer_2"), "tokenizer_config.json")
ALLOWED = "Give a folder that `save_pretrained` wrote, or jova-nano, which comes with the package."


def find_model(name: str | os.PathLike) -> str:
    """Return the folder of a checkpoint that comes with the package, such as "jova-nano"; any other name as it is.

    A folder of that name where the user is goes first, as everywhere in diffusers.
    """
    name = os.fspath(name)
    if not os.path.isdir(name) and os.path.basename(name) == name:
        for folder in SHIPPED:
            if is_pipeline_folder(folder / name):
                return str(folder / name)
    return name


def newest_model() -> str:
    """Return the name of the newest checkpoint that comes with the package; the oldest name if none does."""
    there = (name for name in NAMES if any(is_pipeline_folder(folder / name) for folder in SHIPPED))
    return next(there, NAMES[-1])


def is_pipeline_folder(folder: str | os.PathLike) -> bool:
    """Whether `folder` has the model_index.json that makes it the folder of a pipeline."""
    return (Path(folder) / INDEX).is_file()


@dataclass(frozen=True)
class PipelineFolder:
    """What the folder of a pipeline says; its parts' configs are read when they are asked for.

    Attributes:
        path: of the folder.
        index: the content of its model_index.json.
    """

    path: Path
    index: Mapping[str, Any]

    @property
    def parts(self) -> dict[str, str]:
        """The class of each part that the pipeline has, by the part's name."""
        return {name: value[1] for name, value in self.index.items() if _is_part(value) and value[1] is not None}

    @property
    def call_defaults(self) -> dict[str, Any]:
        """What a call of the pipeline makes by default: "height", "width", "num_frames", "frame_rate" and others."""
        index = self.index.items()
        return {name: value for name, value in index if not name.startswith("_") and not _is_part(value)}

    def refuse_wan(self) -> None:
        """Raise a ValueError, with the way on, for the folder of a Wan's own pipeline."""
        if str(name := self.index.get("_class_name")).startswith("Wan"):
            raise ValueError(
                f"`{self.path}` is a {name}, not a JoVAPipeline. Make one of it: `diffusers-jova convert-wan --to "
                f"jova --input {self.path} --audio_vae DIR --vocoder DIR --output jova-wan`."
            )

    def config_path(self, part: str) -> Path:
        """Return where the config of a part lies."""
        return self.path / part / config_name(part)

    def config(self, part: str) -> dict[str, Any]:
        """Return the config of a part as its file has it; {} for a part that is not there.

        Raises:
            ValueError: If the file is damaged.
        """
        return read_json(self.config_path(part)) if (self.path / part).is_dir() else {}

    def _number(self, part: str, name: str, default: float | None = None) -> Any:
        """Return a number of a part's config."""
        value = self.config(part).get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            path = self.config_path(part)
            raise ValueError(f"`{path}` must have a positive number as `{name}`, got {value!r}: copy it again.")
        return value

    def num_parameters(self, part: str) -> int:
        """Return how many numbers the weights of a part have, by the headers of its safetensors files.

        Files of a variant, such as `model.fp16.safetensors`, are left out: they hold the same weights.
        """
        files = [path for path in (self.path / part).glob("*.safetensors") if "." not in path.stem]
        return sum(math.prod(entry["shape"]) for path in files for entry in read_header(path)[0].values())

    @property
    def vae_scale_factor_spatial(self) -> int:
        """Pixels per latent row and column."""
        return self._number("vae", "scale_factor_spatial", 8)

    @property
    def vae_scale_factor_temporal(self) -> int:
        """Frames per latent frame."""
        return self._number("vae", "scale_factor_temporal", 4)

    @property
    def size_multiple(self) -> int:
        """The number of pixels that the height and the width of a video must be a multiple of."""
        with reading(self.config_path("transformer")):
            _, *patch = self.config("transformer").get("patch_size", (1, 2, 2))
            return self.vae_scale_factor_spatial * math.lcm(*patch)

    @property
    def sampling_rate(self) -> int | None:
        """Samples per second; None without an audio VAE."""
        if "audio_vae" not in self.parts:
            return None
        is_ours = "sampling_rate" in self.config("audio_vae")
        return self._number("audio_vae", "sampling_rate" if is_ours else "sample_rate")  # diffusers' MMAudioVAE

    @property
    def samples_per_latent(self) -> int | None:
        """Audio samples per audio latent; None without an audio VAE."""
        return MEL_FRAMES_PER_LATENT * self._number("audio_vae", "hop_length") if "audio_vae" in self.parts else None

    @property
    def audio_latent_rate(self) -> float | None:
        """Audio latents per second, as the transformer has it; None without an audio VAE."""
        if self.sampling_rate is None or self.samples_per_latent is None:
            return None
        return self._number("transformer", "audio_latent_rate", self.sampling_rate / self.samples_per_latent)


def _is_part(value: Any) -> bool:
    """Whether an entry of model_index.json is a part, [library, class], nulls where the pipeline has none."""
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str | None) for item in value)


def read_pipeline_folder(model: str | os.PathLike) -> PipelineFolder:
    """Return what the folder of a pipeline says.

    Args:
        model: the folder, or the name of a checkpoint that comes with the package.

    Raises:
        FileNotFoundError: If there is no such folder, or it is not the folder of a pipeline.
        ValueError: If its model_index.json is damaged.
    """
    folder = Path(find_model(model))
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder `{folder}`. {ALLOWED}")
    if not is_pipeline_folder(folder):
        raise FileNotFoundError(f"`{folder}` is not the folder of a pipeline: it has no {INDEX}. {ALLOWED}")
    return PipelineFolder(folder, read_json(folder / INDEX))


def config_name(part: str) -> str:
    """Return how the config of a pipeline's part is called in its folder."""
    return CONFIG_NAMES.get(part, "config.json")
