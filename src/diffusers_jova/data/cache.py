# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The training cache on disk: what preprocessing writes and training reads. All of it is our own format, version 1.

    fingerprint.json             which models and settings made the cache
    data.json                    which data it holds, see `inventory`
    report.json                  what the last run said about the clips, and its command; see `summary`
    index.jsonl                  one row per sample: `datasets.load_dataset("json", data_files="cache/index.jsonl")`
    samples/{key}.safetensors    the tensors of one sample; its row is in the file's metadata
    shared.safetensors           what all samples share: the unconditional prompt, a black frame per size (or grey)

Every file appears whole or not at all, and the same input gives the same bytes. Beside the row, a file's metadata
hold a hash of its row and tensors, which every reading compares; files without one are read unchecked.

    C latent channels, F latent frames, H W latent rows and columns, A audio latents, T tokens, d their width

| tensor of a sample | shape | meaning |
|---|---|---|
| `video_moments` | (2C, F, H, W) | mean and logvar of the clip, raw: before `latents_mean` and `latents_std` |
| `image_moments` | (2C, 1, H, W) | likewise of the reference image, the first frame, encoded alone |
| `audio_moments` | (2C, A) | mean and logvar of the audio, likewise raw |
| `prompt_embeds`, `prompt_embeds_2` | (T1, d1), (T2, d2) | the three lines in either text encoder, unpadded |
| `prompt_embeds.101`, `prompt_embeds_2.101`, ... | (T, d) | with lines left out, see `variant_suffix` |
| `mouth_boxes` | (num_frames, 4) | float32 x1, y1, x2, y2, half-open, in pixels of the cached size; NaN: none to see |

| tensor of `shared.safetensors` | shape |
|---|---|
| `unconditional.prompt_embeds`, `unconditional.prompt_embeds_2` | (T, d) |
| `black.{height}x{width}` | (2C, 1, H, W), moments of a black frame |

Two settings in fingerprint.json change what is there. Where the transformer's `condition_fill` is "grey", the
reference image is encoded together with grey frames behind it, `image_moments` (2C, F, H, W), and for the black frame
stands `grey.{height}x{width}`, the moments (2C, F, H, W) of grey frames alone, as many as the longest clip of the size
has; where it is "noisy", no such frame is needed, and none is there. Where `prompt_format` is "plain", the texts are
the video caption alone.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import xxhash
from safetensors import safe_open
from safetensors.torch import save_file

from ..files import DamagedError, reading, reading_folder, sample_weights, sync, whole_file
from ..headers import read_json
from ..pipeline_folder import read_pipeline_folder


VERSION = 1
KINDS = ("both", "video", "audio")
CONTENT_HASH = "content_xxh3_128"  # beside the row's own names, in the file only
TEXTS = ("video_caption", "audio_caption", "transcript")  # in the order of the prompt's lines

# The parts of a pipeline that make the cache. The transformer is not among them.
COMPONENTS = ("vae", "audio_vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
# Nothing in the cache depends on these: moments are raw, and the rest says how a model was saved.
IGNORED_CONFIG = ("latents_mean", "latents_std", "scaling_factor", "_name_or_path", "dtype", "torch_dtype")
IGNORED_CONFIG_SUFFIX = "_version"

# "model-00001-of-00002.safetensors", but not the variant "model.fp16.safetensors"
WEIGHTS_NAME = re.compile(r"[\w-]+\.safetensors")
# What caches were made with that were made before there was such a setting.
IMPLIED_SETTINGS = {"crop": "centre", "prompt_format": "labelled", "condition_fill": "black"}


# --- files ---


def _write_json_lines(path: Path, rows: list[Mapping[str, Any]], writer: str) -> None:
    with whole_file(path, writer) as partial:
        partial.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


# --- samples and their index ---


def sample_path(cache_dir: str | os.PathLike, key: str) -> Path:
    """Return where the sample `key` lies."""
    return Path(cache_dir) / "samples" / f"{key}.safetensors"


def sample_paths(cache_dir: str | os.PathLike) -> list[Path]:
    """Return where all samples lie, sorted by key."""
    paths = (Path(cache_dir) / "samples").glob("*.safetensors")
    return sorted(path for path in paths if not path.name.startswith("."))


def write_sample(cache_dir: str | os.PathLike, row: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> Path:
    """Write a sample, replacing an older one, and return its path. The index does not know it yet: `write_index`.

    Args:
        row: the sample's line of the index: "key", "kind" (one of "both", "video", "audio") and others.
        tensors: by the names of the table above; what is absent has no tensor.
    """
    if row["kind"] not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}, got {row['kind']!r}.")
    path = sample_path(cache_dir, row["key"])
    write_tensors(path, tensors, row)
    return path


def read_sample(cache_dir: str | os.PathLike, key: str, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Return the tensors of the sample `key`, in the dtypes in which they were computed.

    Raises:
        FileNotFoundError: if there is no such sample.
        ValueError: if its file is damaged or its content is not what was written; the message names it.
    """
    return read_tensors(sample_path(cache_dir, key), device)


def read_row(path: str | os.PathLike) -> dict[str, Any]:
    """Return the row in the metadata of a file by `write_sample` or `write_tensors`, without reading its tensors."""
    with readable(path), safe_open(path, framework="pt") as file:
        row = _row_of(file)
        row.pop(CONTENT_HASH, None)
        return row


def write_tensors(
    path: str | os.PathLike, tensors: Mapping[str, torch.Tensor], row: Mapping[str, Any], writer: str = ""
) -> None:
    """Write tensors and a row of metadata; the folder is made. `writer` as in `whole_file`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    row = {**row, CONTENT_HASH: _content_hash(row, tensors)}
    with whole_file(path, writer) as partial:  # one entry of metadata: safetensors writes several in random order
        save_file(tensors, partial, metadata={"row": json.dumps(row, ensure_ascii=False)})


def read_tensors(path: str | os.PathLike, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Return the tensors of a file, with the errors of `read_sample`."""
    with readable(path):
        with safe_open(path, framework="pt") as file:
            row, tensors = _row_of(file), {name: file.get_tensor(name) for name in file.keys()}
        expected = row.pop(CONTENT_HASH, None)
        if expected is not None and expected != _content_hash(row, tensors):
            raise ValueError("its content is not what was written")
    return {name: tensor.to(device) for name, tensor in tensors.items()}


def _row_of(file) -> dict[str, Any]:
    row = json.loads((file.metadata() or {}).get("row", "{}"))
    if not isinstance(row, dict):
        raise ValueError("its row is not a JSON object")
    return row


def _content_hash(row: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]) -> str:
    """Return a hash of the row and of all names, dtypes, shapes and bytes of the tensors."""
    facts = [(name, str(tensor.dtype), list(tensor.shape)) for name, tensor in sorted(tensors.items())]
    digest = xxhash.xxh3_128(json.dumps([row, facts], sort_keys=True).encode())
    for name, _, _ in facts:
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def readable(path: str | os.PathLike) -> Iterator[None]:
    """Say which file of the cache it was, and what to do, if it is missing or damaged; see `files.reading`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file `{path}`: run {command_that_made(path)}.")
    with reading(path, f"run {command_that_made(path)} again, which makes it anew"):
        yield


def command_that_made(path: str | os.PathLike) -> str:
    """Return the command in the report of the cache in which `path` lies; without a report the verb's name."""
    for folder in Path(path).parents[:2]:
        try:
            return f"`{json.loads((folder / 'report.json').read_text(encoding='utf-8'))['command']}`"
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return "`diffusers-jova preprocess`"


def write_index(cache_dir: str | os.PathLike, writer: str = "") -> list[dict[str, Any]]:
    """Write index.jsonl from the rows in all samples, and return them sorted by key.

    Several machines, each its own `writer`, may do so: the last one to finish writes the complete index.
    """
    cache_dir = Path(cache_dir)
    rows: dict[Path, dict[str, Any]] = {}
    while True:
        paths = sample_paths(cache_dir)
        try:
            rows = {path: rows.get(path) or read_row(path) for path in paths}
        except FileNotFoundError:  # another machine has removed it
            continue
        sync(cache_dir / "samples")  # a power cut must not leave an index of samples that are not there
        _write_json_lines(cache_dir / "index.jsonl", list(rows.values()), writer)
        sync(cache_dir)
        if paths == sample_paths(cache_dir):  # none came or went in the meantime
            return list(rows.values())


def _with_shared_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a row whose keys are the same objects in all rows: half of the memory of an index of millions."""
    return {sys.intern(name): value for name, value in pairs}


def read_index(cache_dir: str | os.PathLike) -> list[dict[str, Any]]:
    """Return the rows of index.jsonl.

    Raises:
        FileNotFoundError: if the folder is not a finished cache.
        ValueError: if the index is damaged or empty; the message names the file and the line.
    """
    path = Path(cache_dir) / "index.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"`{cache_dir}` is not a finished cache, since it has no index.jsonl: run `diffusers-jova preprocess`."
        )
    rows = []
    if not path.stat().st_size:
        raise ValueError(f"`{path}` is empty: no clip was cached.")
    for number, line in enumerate(path.read_bytes().rstrip(b"\n").split(b"\n"), start=1):
        with reading(f"{path}, line {number}", "run `diffusers-jova preprocess` again"):
            row = json.loads(line, object_pairs_hook=_with_shared_names)
            if not isinstance(row["key"], str) or row["kind"] not in KINDS:
                raise ValueError("it is not the row of a sample")
            rows.append(row)
    return rows


def variant_suffix(row: Mapping[str, Any], kept: tuple[bool, ...]) -> str | None:
    """Return what to append to "prompt_embeds" for a prompt of which only some lines are kept.

    Lines that are empty anyway do not count: with no transcript, "110" is the whole prompt.

    Args:
        row: of the index, with the three texts.
        kept: whether the video caption, the audio caption and the transcript stay.

    Returns:
        "" for the whole prompt, ".101" and the like for a part of it, None where nothing is left: that is the
        unconditional prompt of `read_shared`.
    """
    given = [bool((row.get(name) or "").strip()) for name in TEXTS]
    left = [is_given and is_kept for is_given, is_kept in zip(given, kept, strict=True)]
    if left == given:
        return "" if any(given) else None
    return "." + "".join(str(int(is_left)) for is_left in left) if any(left) else None


# --- what all samples share ---


def write_shared(cache_dir: str | os.PathLike, tensors: Mapping[str, torch.Tensor], writer: str = "") -> None:
    """Write shared.safetensors, with the names of the table above. `writer` as in `whole_file`."""
    write_tensors(Path(cache_dir) / "shared.safetensors", tensors, {}, writer)


def read_shared(cache_dir: str | os.PathLike, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Return the tensors of shared.safetensors."""
    return read_tensors(Path(cache_dir) / "shared.safetensors", device)


# --- fingerprints ---


def model_fingerprint(model_dir: str | os.PathLike) -> dict[str, dict[str, str]]:
    """Return, for each part of the pipeline that makes the cache, its class and hashes of its config and weights.

    Cheap for large models: of each tensor its name, shape, dtype and up to three pieces of 16 KiB are hashed.
    Not part of it: `latents_mean` and `latents_std`, since the cache holds raw moments.

    Raises:
        FileNotFoundError: if `model_dir` is not the folder of a pipeline, or a part has no safetensors file.
        ValueError: if a file is damaged; the message names it.
    """
    folder = read_pipeline_folder(model_dir)
    parts = {name: folder.parts[name] for name in COMPONENTS if name in folder.parts}
    with reading_folder(folder.path):
        return {name: {"class": class_} | _hash_component(folder.path / name) for name, class_ in parts.items()}


def write_fingerprint(cache_dir: str | os.PathLike, fingerprint: Mapping[str, Any], writer: str = "") -> None:
    """Write fingerprint.json: `fingerprint` has "models" and "settings", the version is added."""
    with whole_file(Path(cache_dir) / "fingerprint.json", writer) as partial:
        content = json.dumps({"version": VERSION, **fingerprint}, indent=2, sort_keys=True)
        partial.write_text(content + "\n", encoding="utf-8")


def read_fingerprint(cache_dir: str | os.PathLike) -> dict[str, Any]:
    """Return {"version", "models", "settings"} of a cache.

    Raises:
        FileNotFoundError: if the folder holds no cache.
        ValueError: if the file is damaged.
    """
    path = Path(cache_dir) / "fingerprint.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"`{cache_dir}` is not a cache, since it has no fingerprint.json: run `diffusers-jova preprocess`."
        )
    fingerprint = read_json(path)
    for name in ("models", "settings"):
        if not isinstance(fingerprint.get(name, {}), dict):
            raise DamagedError(
                f"`{path}` must have an object, {{...}}, as `{name}`, got {fingerprint[name]!r}: "
                "copy the cache again, or make it anew in another folder."
            )
    return fingerprint


def cache_setting(cache_dir: str | os.PathLike, name: str) -> Any:
    """Return what a cache was made with, by the setting's name in fingerprint.json.

    Raises:
        FileNotFoundError, ValueError: see `read_fingerprint`.
    """
    return {**IMPLIED_SETTINGS, **read_fingerprint(cache_dir).get("settings", {})}[name]


def check_fingerprint(cache_dir: str | os.PathLike, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the cache's fingerprint if it agrees with `expected`.

    Args:
        expected: {"models": ...} or {"models": ..., "settings": ...}; what is not in it is not compared.

    Raises:
        FileNotFoundError: if the folder holds no cache.
        ValueError: if the cache was made by other models, with other settings or in another format: the message says
            what differs.
    """
    found, expected = read_fingerprint(cache_dir), {"version": VERSION, **json.loads(json.dumps(expected))}
    known = {name: value for name, value in IMPLIED_SETTINGS.items() if name in expected.get("settings", {})}
    settings = {**known, **found.get("settings", {})}
    differing = _differences({**found, "settings": settings}, expected)
    if differing:
        what = "models" if any(name.startswith("models") for name in differing) else "settings"
        hint = "" if what == "models" else " (what is not given is the cache's own)"
        raise ValueError(
            f"The cache `{cache_dir}` was made with other {what}; it differs in {', '.join(differing)}. "
            f"Use the model and settings that made it{hint} or another cache folder."
        )
    return found


def _differences(found: Any, expected: Any, name: str = "") -> list[str]:
    """Return where `found` is not as `expected`: ["models.vae.weights", "settings.num_frames (17, now 25)"]."""
    if name in ("", "models", "settings") or (name.startswith("models.") and found and expected):
        if isinstance(found, dict) and isinstance(expected, dict):
            keys = expected if name == "" else sorted({*found, *expected})
            inner = [_differences(found.get(k), expected.get(k), f"{name}.{k}".lstrip(".")) for k in keys]
            return [difference for differences in inner for difference in differences]
    if found == expected:
        return []
    if name.startswith("models"):
        return [f"{name} ({'added' if found is None else 'missing'})" if None in (found, expected) else name]
    return [f"{name} ({found}, now {expected})"]


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a component, sorted; not those of a variant like "fp16"."""
    return sorted(path for path in folder.glob("*.safetensors") if WEIGHTS_NAME.fullmatch(path.name))


def _hash_component(folder: Path) -> dict[str, str]:
    config_path = folder / "config.json"
    if not config_path.is_file():  # a tokenizer: all its files are small
        paths = sorted(path for path in folder.glob("*") if path.is_file() and path.suffix != ".md")
        if not paths:
            raise FileNotFoundError(f"The pipeline's part `{folder}` has no files.")
        return {"files": _hash(part for path in paths for part in (path.name.encode(), path.read_bytes()))}
    config = {
        name: value
        for name, value in read_json(config_path).items()
        if name not in IGNORED_CONFIG and not name.endswith(IGNORED_CONFIG_SUFFIX)
    }
    weights = weight_files(folder)
    if not weights:
        raise FileNotFoundError(f"The pipeline's part `{folder}` has no .safetensors file.")
    return {
        "config": _hash([json.dumps(config, sort_keys=True).encode()]),
        "weights": _hash(part for path in weights for part in sample_weights(path)),
    }


def _hash(parts) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]
