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

from ..files import whole_folder
from ..headers import read_json
from ..models import TRANSFORMERS as OUR_TRANSFORMERS
from ..models import VOCODERS, AutoencoderMMAudio
from ..pipeline_folder import INDEX, config_name, find_model, is_pipeline_folder, read_pipeline_folder
from ..vocabulary import all_words
from .checkpoint import open_checkpoint
from .errors import ConversionError
from .parts import PARTS, REQUIRED, TOKENIZERS
from .streaming import check_output


# part -> the classes it may have, and the library whose name stands in model_index.json
OURS, DIFFUSERS, TRANSFORMERS = "diffusers_jova", "diffusers", "transformers"
CLASSES: dict[str, dict[str, str]] = {
    "transformer": {cls.__name__: OURS for cls in OUR_TRANSFORMERS},
    "vae": {"AutoencoderKLWan": DIFFUSERS},
    "audio_vae": {AutoencoderMMAudio.__name__: OURS, "MMAudioVAE": DIFFUSERS},
    "vocoder": {cls.__name__: OURS for cls in VOCODERS} | {"MMAudioVocoder": DIFFUSERS},
    "text_encoder": {"T5EncoderModel": TRANSFORMERS, "UMT5EncoderModel": TRANSFORMERS},
    "text_encoder_2": {"Qwen2Model": TRANSFORMERS},
    "scheduler": {"FlowMatchEulerDiscreteScheduler": DIFFUSERS, "UniPCMultistepScheduler": DIFFUSERS},
}
# a whole model in a part's folder whose encoder is the class that we load from it
ENCODERS = {
    "T5ForConditionalGeneration": "T5EncoderModel",
    "UMT5ForConditionalGeneration": "UMT5EncoderModel",
    "Qwen2ForCausalLM": "Qwen2Model",
}
PIPELINE = "JoVAPipeline"
UMT5_WIDTH = 4096  # of UMT5-XXL's states, and of T5-XXL's
SHIFT = 5.0  # of the sigmas at 480p, where no scheduler is given


def assemble(
    parts: Mapping[str, str | Path], output: str | Path, overwrite: bool = False, dry_run: bool = False
) -> str:
    """Copy parts into one folder that `JoVAPipeline.from_pretrained` loads; return what was (or would be) put there.

    Args:
        parts: folders by the names in `PARTS`, or pipelines (folders, or names such as "jova-nano") that have such
            a part; `transformer` and `vae` are needed. Without a scheduler, a `FlowMatchEulerDiscreteScheduler` of
            shift 5 is written. Size, length, guidance scales and known words come from the pipeline of the
            transformer, if any.
        dry_run: only check.

    Raises:
        ConversionError: With all misfits, or the first part that is not what it should be.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise ConversionError(f"Unknown parts {', '.join(unknown)}; known are {', '.join(PARTS)}.")
    folders = {name: find_part(name, path) for name, path in parts.items() if path is not None}
    if absent := [name for name in REQUIRED if name not in folders]:
        raise ConversionError(f"A pipeline needs {' and '.join(f'--{name}' for name in absent)}.")
    configs = {name: read_config(name, path) for name, path in folders.items()}
    options = call_defaults(folders["transformer"])
    known = all_words(options.get("known_words"))
    classes = {name: part_class(name, config) for name, config in configs.items()}
    if problems := misfits(configs):
        raise ConversionError("The parts do not fit:\n  " + "\n  ".join(problems))
    for name in folders:
        if name in CLASSES and name != "scheduler":
            open_checkpoint(folders[name], strip=False)  # raises if shards are missing or truncated

    files = {(name, file.relative_to(path)): file for name, path in folders.items() for file in weights_of(path)}
    num_bytes = sum(file.stat().st_size for file in files.values())
    if not dry_run:
        check_output(Path(output), num_bytes, overwrite, files.values())
        with whole_folder(output, overwrite) as folder:
            for (name, relative), file in tqdm(files.items(), unit="file", desc="copy"):
                target = folder / name / relative
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            if "scheduler" not in folders:
                FlowMatchEulerDiscreteScheduler(shift=SHIFT).save_pretrained(folder / "scheduler")
            index = model_index(classes) | options
            (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")
    lines = [f"{name}: {'.'.join(found)} from {folders[name]}" for name, found in classes.items()]
    defaults = [f"{name}={value}" for name, value in options.items() if name != "known_words"]
    lines += [f"defaults: {', '.join(defaults)}"] * bool(defaults)
    lines += [f"known words: {len(known)}"] * bool(known)
    return "\n".join(lines)


def find_part(name: str, path: str | Path) -> Path:
    """Return the folder of a part: `path` itself, or the part's folder in the pipeline that `path` names."""
    folder = Path(find_model(path))
    return folder / name if is_pipeline_folder(folder) else folder


def call_defaults(transformer: Path) -> dict[str, Any]:
    """Return what the pipeline around a transformer's folder makes by default, such as its height; {} without one."""
    folder = transformer.resolve().parent
    if not is_pipeline_folder(folder):
        return {}
    try:
        found = read_pipeline_folder(folder)
    except ValueError as error:
        raise ConversionError(str(error)) from None
    return found.call_defaults if found.index.get("_class_name") == PIPELINE else {}


def read_config(name: str, path: Path) -> dict[str, Any]:
    """Return the config of a part's folder."""
    file = path / config_name(name)
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
    found = config.get("_class_name") or encoder_class(config)
    if found not in CLASSES[name]:
        raise ConversionError(f"--{name} must be {' or '.join(CLASSES[name])}, got {found}.")
    return CLASSES[name][found], found


def encoder_class(config: Mapping[str, Any]) -> str | None:
    """Return the class that we load from the folder of a text encoder, by its config; None where it names none."""
    found = next(iter(config.get("architectures") or []), None)
    return ENCODERS.get(found, found)


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
    transformer = configs["transformer"]
    problems = [] if transformer.get("in_channels") is None else video_misfits(transformer, configs["vae"])
    problems += audio_misfits(transformer, configs.get("audio_vae"), configs.get("vocoder"))
    for suffix, width in (("", "d_model"), ("_2", "hidden_size")):
        encoder, tokenizer = configs.get(f"text_encoder{suffix}"), configs.get(f"tokenizer{suffix}")
        if (encoder is None) != (tokenizer is None):
            problems.append(f"text_encoder{suffix} and tokenizer{suffix} go together: one of them is not given")
        if encoder is None:
            continue
        dim = transformer.get(f"text_embed_dim{suffix}")
        if dim is None:
            problems.append(f"text_encoder{suffix} is given, but transformer.text_embed_dim{suffix} is null")
        if dim == UMT5_WIDTH and "text_len" in transformer and encoder_class(encoder) == "T5EncoderModel":
            problems.append(
                "text_encoder is a T5, as wide as Wan's but not the same: a transformer made from Wan reads UMT5-XXL"
            )
        wanted = (f"transformer.text_embed_dim{suffix}", dim)
        problems += differ("text width", wanted, (f"text_encoder{suffix}", encoder.get(width)))
    return problems


def video_misfits(transformer: dict[str, Any], vae: dict[str, Any]) -> list[str]:
    z_dim, compression = vae.get("z_dim"), transformer.get("vae_temporal_compression")
    problems = differ("latent channels", ("transformer.out_channels", transformer.get("out_channels")), ("vae", z_dim))
    if isinstance(z_dim, int) and isinstance(compression, int):
        # the noisy latents, the reference image's, and its mask: one channel per frame of a latent frame
        wanted = (f"two times vae plus {compression} of the mask", 2 * z_dim + compression)
        if transformer.get("condition_fill") == "noisy":
            wanted = ("vae", z_dim)
        problems += differ("latent channels", ("transformer.in_channels", transformer["in_channels"]), wanted)
    given = ("vae", vae.get("scale_factor_temporal"))
    return problems + differ("frames per latent", ("transformer", compression), given)


def audio_misfits(
    transformer: dict[str, Any], audio: dict[str, Any] | None, vocoder: dict[str, Any] | None
) -> list[str]:
    problems = []
    if (audio is None) != (vocoder is None):
        problems.append("audio_vae and vocoder go together: one of them is not given")
    if audio is None:
        return problems
    if transformer.get("audio_in_channels") is None:
        problems.append("audio_vae is given, but transformer has no audio branch")
    channels = ("transformer.audio_in_channels", transformer.get("audio_in_channels"))
    problems += differ("audio latent channels", channels, ("audio_vae", audio.get("latent_channels")))
    mel = log_mel(audio)
    if all(isinstance(mel[what], int) and mel[what] for what in ("sampling rate", "samples per mel frame")):
        latent_rate = ("transformer.audio_latent_rate", transformer.get("audio_latent_rate"))
        given = ("audio_vae", mel["sampling rate"] / mel["samples per mel frame"] / 2)
        problems += differ("audio latents per second", latent_rate, given)
    if vocoder is not None:
        other = log_mel(vocoder)
        for what in mel:
            problems += differ(what, ("audio_vae", mel[what]), ("vocoder", other[what]))
    return problems


def log_mel(config: dict[str, Any]) -> dict[str, Any]:
    """Return what the config of an audio VAE or a vocoder says of its log-mel; None where it says nothing."""
    rate = config.get("sampling_rate", config.get("sample_rate"))
    upsample_rates = config.get("upsample_rates")  # a BigVGAN's; their product is the hop
    highest = config["fmax"] or (rate and rate / 2) if "fmax" in config else None
    return {
        "sampling rate": rate,
        "mel bands": config.get("num_mels", config.get("mel_bins")),
        "samples per mel frame": math.prod(upsample_rates) if upsample_rates else config.get("hop_length"),
        "samples per window": config.get("n_fft"),
        "lowest frequency": config.get("fmin"),
        "highest frequency": highest,
        # diffusers' MMAudioVAE knows natural logarithms only, and does not say so
        "base of the logarithm": "e" if config.get("_class_name") == "MMAudioVAE" else config.get("log_base"),
    }


def differ(what: str, left: tuple[str, Any], right: tuple[str, Any]) -> list[str]:
    """Return the misfit of two values in words, none where they are equal or one says nothing."""
    (part, value), (other, other_value) = left, right
    if value is None or other_value is None or value == other_value:
        return []
    numbers = isinstance(value, int | float) and isinstance(other_value, int | float)
    if numbers and math.isclose(value, other_value, rel_tol=1e-4):
        return []
    return [f"{what}: {part} has {value}, {other} has {other_value}"]
