# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Parts -> one pipeline folder with a model_index.json, if they fit each other."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import transformers
from diffusers import FlowMatchEulerDiscreteScheduler, __version__
from tqdm import tqdm

from ..headers import read_json
from .checkpoint import open_checkpoint
from .key_mapping import ConversionError
from .streaming import atomic_folder


# part -> the classes it may have, and the library whose name stands in model_index.json
OURS, DIFFUSERS, TRANSFORMERS = "diffusers_jova", "diffusers", "transformers"
CLASSES: dict[str, dict[str, str]] = {
    "transformer": {"JoVATransformer3DModel": OURS},
    "vae": {"AutoencoderKLWan": DIFFUSERS},
    "audio_vae": {"AutoencoderMMAudio": OURS, "MMAudioVAE": DIFFUSERS},
    "vocoder": {"BigVGANVocoder": OURS, "MMAudioVocoder": DIFFUSERS},
    "text_encoder": {"T5EncoderModel": TRANSFORMERS, "UMT5EncoderModel": TRANSFORMERS},
    "text_encoder_2": {"Qwen2Model": TRANSFORMERS},
    "scheduler": {"FlowMatchEulerDiscreteScheduler": DIFFUSERS},
}
TOKENIZERS = ("tokenizer", "tokenizer_2")
PARTS = (*CLASSES, *TOKENIZERS)
REQUIRED = ("transformer", "vae")
# a whole model in a part's folder whose encoder is the class that we load from it
ENCODERS = {
    "T5ForConditionalGeneration": "T5EncoderModel",
    "UMT5ForConditionalGeneration": "UMT5EncoderModel",
    "Qwen2ForCausalLM": "Qwen2Model",
}
CONFIG_FILES = {"scheduler": "scheduler_config.json", **dict.fromkeys(TOKENIZERS, "tokenizer_config.json")}
PIPELINE = "JoVAPipeline"
SHIFT = 5.0  # of the sigmas at 480p, where no scheduler is given


def assemble(
    parts: Mapping[str, str | Path], output: str | Path, overwrite: bool = False, dry_run: bool = False
) -> str:
    """Copy parts into one folder that `JoVAPipeline.from_pretrained` loads; return what was (or would be) put there.

    Args:
        parts: folders by the names in `PARTS`; `transformer` and `vae` are needed. Without a scheduler, a
            `FlowMatchEulerDiscreteScheduler` of shift 5 is written.
        dry_run: only check.

    Raises:
        ConversionError: With all misfits, or the first part that is not what it should be.
    """
    parts = {name: Path(path) for name, path in parts.items() if path is not None}
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ConversionError(f"Unknown parts {', '.join(unknown)}; known are {', '.join(PARTS)}.")
    if absent := [name for name in REQUIRED if name not in parts]:
        raise ConversionError(f"A pipeline needs {' and '.join(f'--{name}' for name in absent)}.")
    configs = {name: read_config(name, path) for name, path in parts.items()}
    classes = {name: part_class(name, config) for name, config in configs.items()}
    if problems := misfits(configs):
        raise ConversionError("The parts do not fit:\n  " + "\n  ".join(problems))
    for name in parts:
        if name in CLASSES and name != "scheduler":
            open_checkpoint(parts[name], strip=False)  # raises if shards are missing or truncated

    files = {(name, file.relative_to(path)): file for name, path in parts.items() for file in weights_of(path)}
    num_bytes = sum(file.stat().st_size for file in files.values())
    if not dry_run:
        with atomic_folder(output, num_bytes, overwrite, files.values()) as folder:
            for (name, relative), file in tqdm(files.items(), unit="file", desc="copy"):
                target = folder / name / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            if "scheduler" not in parts:
                FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(folder / "scheduler")
            (folder / "model_index.json").write_text(json.dumps(model_index(classes), indent=2) + "\n")
    return "\n".join(f"{name}: {'.'.join(found)} from {parts[name]}" for name, found in classes.items())


def read_config(name: str, path: Path) -> dict[str, Any]:
    """Return the config of a part's folder."""
    file = path / CONFIG_FILES.get(name, "config.json")
    try:
        return read_json(file)
    except (OSError, ValueError) as error:
        raise ConversionError(
            f"--{name} {path} is not such a folder: {file.name} cannot be read ({error})."
        ) from error


def part_class(name: str, config: dict[str, Any]) -> tuple[str, str]:
    """Return library and class of a part."""
    if name in TOKENIZERS:
        found = config.get("tokenizer_class")
        if not hasattr(transformers, str(found)):
            raise ConversionError(f"--{name} names the class {found}, which transformers does not have.")
        return TRANSFORMERS, found
    found = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
    found = ENCODERS.get(found, found)
    if found not in CLASSES[name]:
        raise ConversionError(f"--{name} must be {' or '.join(CLASSES[name])}, got {found}.")
    return CLASSES[name][found], found


def weights_of(path: Path) -> list[Path]:
    """Return the files of a part, without hidden ones such as caches."""
    files = (file for file in sorted(path.rglob("*")) if file.is_file())
    return [file for file in files if not any(part.startswith(".") for part in file.relative_to(path).parts)]


def model_index(classes: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """Return model_index.json: library and class of each part, null for one that is not there."""
    found = {"scheduler": (DIFFUSERS, FlowMatchEulerDiscreteScheduler.__name__), **classes}
    index = {"_class_name": PIPELINE, "_diffusers_version": __version__}
    return index | {name: list(found.get(name, (None, None))) for name in sorted(PARTS)}


def misfits(configs: Mapping[str, dict[str, Any]]) -> list[str]:
    """Return, in words, which part does not fit which."""
    transformer, vae = configs["transformer"], configs["vae"]
    audio, vocoder = configs.get("audio_vae"), configs.get("vocoder")
    problems = []

    def same(what: str, left: tuple[str, Any], right: tuple[str, Any]) -> None:
        (part, value), (other, other_value) = left, right
        if value is None or other_value is None:
            return
        if not math.isclose(value, other_value, rel_tol=1e-4):
            problems.append(f"{what}: {part} has {value}, {other} has {other_value}")

    if transformer.get("in_channels") is not None:
        z_dim = vae["z_dim"]
        same("latent channels", ("transformer.out_channels", transformer["out_channels"]), ("vae", z_dim))
        wanted = ("two times vae plus 4 of the mask", 2 * z_dim + 4)
        same("latent channels", ("transformer.in_channels", transformer["in_channels"]), wanted)
        compression = ("transformer", transformer["vae_temporal_compression"])
        same("frames per latent", compression, ("vae", vae.get("scale_factor_temporal")))
    if (audio is None) != (vocoder is None):
        problems.append("audio_vae and vocoder go together: one of them is not given")
    if audio is not None:
        rate = audio.get("sampling_rate", audio.get("sample_rate"))
        mels = audio.get("num_mels", audio.get("mel_bins"))
        if transformer.get("audio_in_channels") is None:
            problems.append("audio_vae is given, but transformer has no audio branch")
        channels = ("transformer.audio_in_channels", transformer.get("audio_in_channels"))
        same("audio latent channels", channels, ("audio_vae", audio["latent_channels"]))
        latent_rate = ("transformer.audio_latent_rate", transformer.get("audio_latent_rate"))
        same("audio latents per second", latent_rate, ("audio_vae", rate / audio["hop_length"] / 2))
    if audio is not None and vocoder is not None:
        same("sampling rate", ("audio_vae", rate), ("vocoder", vocoder.get("sampling_rate")))
        same("mel bands", ("audio_vae", mels), ("vocoder", vocoder["num_mels"]))
        hop = ("vocoder", math.prod(vocoder["upsample_rates"]))
        same("samples per mel frame", ("audio_vae", audio["hop_length"]), hop)
    for suffix, width in (("", "d_model"), ("_2", "hidden_size")):
        encoder, tokenizer = configs.get(f"text_encoder{suffix}"), configs.get(f"tokenizer{suffix}")
        if (encoder is None) != (tokenizer is None):
            problems.append(f"text_encoder{suffix} and tokenizer{suffix} go together: one of them is not given")
        if encoder is None:
            continue
        dim = transformer.get(f"text_embed_dim{suffix}")
        if dim is None:
            problems.append(f"text_encoder{suffix} is given, but transformer.text_embed_dim{suffix} is null")
        same("text width", (f"transformer.text_embed_dim{suffix}", dim), (f"text_encoder{suffix}", encoder.get(width)))
    return problems
