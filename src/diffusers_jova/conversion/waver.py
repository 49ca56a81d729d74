# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Waver checkpoints to `JoVATransformer3DModel` and back.

No Waver checkpoint is public, so the Waver layout is ours: key_maps/waver.yaml. A file holds one branch, video or
audio, without saying which in its names; its channels tell.
"""

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from diffusers_jova.models.transformer_jova import PRESETS, JoVATransformer3DModel

from ..presets import AUDIO_MODES
from .checkpoint import Checkpoint
from .errors import ConversionError
from .key_mapping import KEEP, KeyMap, load_key_map
from .plan import Plan, complete_branches, meta_model, shapes_of
from .report import Report, Shape
from .streaming import Write, in_file_order


BRANCHES = {"video": {"branch": "video", "head": ""}, "audio": {"branch": "audio", "head": "audio_"}}
AUDIO_SETTINGS = ("audio_in_channels", "audio_out_channels", "audio_latent_rate")
CONFIG_NAMES = tuple(inspect.signature(JoVATransformer3DModel.__init__).parameters)[1:]
MASK_CHANNELS = 4  # in_channels = 2 * out_channels + 4: noisy, reference image, mask
WAVER = "waver"  # the built-in key map, and the stem of the files


def to_jova(
    checkpoint: Checkpoint,
    *,
    branch: str | None = None,
    audio_checkpoint: Checkpoint | None = None,
    audio_mode: str | None = None,
    preset: str | None = None,
    config: Mapping[str, Any] | None = None,
    key_map: str | Path = WAVER,
    seed: int = 0,
) -> Plan:
    """Return the plan of a JoVA transformer whose video branch is `checkpoint`.

    Its audio branch is `audio_checkpoint`; without one it starts from the video branch (see `models.branches`). An
    audio branch alone gives a model of that alone.

    Args:
        checkpoint: one branch in the Waver layout, or a JoVA transformer.
        branch: "video" or "audio": which branch `checkpoint` is (its channels tell too), or which to take.
        audio_checkpoint: an audio branch in either layout.
        audio_mode: "16k" or "44k", the audio VAE. None: the audio branch's own, the preset's, the input's, else 44k.
        preset: a name of `PRESETS` that the checkpoint must fit.
        config: overrules what was read from the shapes.
        key_map: a YAML file, or the name of a built-in map.
        seed: of the drawn tensors.

    Raises:
        ConversionError: If the config cannot be read, or contradicts what was asked for. Tensors that do not fit
            are in the plan's report.
    """
    table = load_key_map(key_map)
    writes, unmatched, left_out = read_branches(checkpoint, table, branch)
    checkpoints = [checkpoint]
    if audio_checkpoint is not None:
        if "audio" in writes:
            raise ConversionError(f"{checkpoint.path.name} has an audio branch already: leave out --audio_checkpoint.")
        audio_writes, audio_unmatched, audio_left_out = read_branches(audio_checkpoint, table, "audio")
        writes |= audio_writes
        unmatched |= audio_unmatched
        left_out += audio_left_out
        checkpoints.append(audio_checkpoint)

    # 1. The model that the tensors make
    branches, produced = tuple(writes), {write.name: write for group in writes.values() for write in group}
    shapes = {name: write.shape for name, write in produced.items()}
    settings = read_config(shapes, branches, [own_config(one) for one in checkpoints], audio_mode, preset, config)
    model = build(settings)

    # 2. What is written: what came, its copies, and new tensors
    report, plan = complete_branches(model, produced, unmatched, left_out, "audio" not in branches, seed)
    report.note_inputs(checkpoints)
    inputs = [file for one in checkpoints for file in one.files]
    files = {"config.json": model.to_json_string()}
    return Plan(report, plan, inputs, metadata={"key_map": table.version}, files=files)


def to_waver(
    checkpoint: Checkpoint,
    *,
    branch: str | None = None,
    preset: str | None = None,
    config: Mapping[str, Any] | None = None,
    key_map: str | Path = WAVER,
) -> Plan:
    """Return the plan of a Waver checkpoint with one branch of a JoVA transformer; the inverse of `to_jova`.

    Args:
        checkpoint: a JoVA transformer.
        branch: "video" or "audio"; None takes the video branch if there is one.
        preset, config, key_map: as for `to_jova`.

    Raises:
        ConversionError: If it is not a JoVA transformer, or does not have that branch.
    """
    table = load_key_map(key_map)
    names = jova_names(checkpoint)
    if names is None:
        raise ConversionError(
            f"{checkpoint.path.name} is not a JoVA transformer: no name begins with video_embedder or audio_embedder. "
            "Is it in the Waver layout already?"
        )
    branch = branch or next(iter(names))
    if branch not in names:
        raise ConversionError(f"{checkpoint.path.name} has no {branch} branch, only {', '.join(names)}.")
    shapes = checkpoint.shapes
    model = build(read_config(shapes, tuple(names), [own_config(checkpoint)], None, preset, config))
    absent = {"video": "audio_in_channels", "audio": "in_channels"}[branch]
    expected = shapes_of(build({**model.config, absent: None}))

    taken = {name: shapes[name] for name in names[branch]}
    others = [name for other, group in names.items() if other != branch for name in group]
    unmatched = {name: shape for name, shape in shapes.items() if name not in taken and name not in others}
    fitting = {name: checkpoint.infos[name] for name in taken if expected.get(name) == taken[name]}
    writes, unmapped = table.bind(**BRANCHES[branch]).inverse.match(fitting)
    report = Report.compare(taken, expected, unmatched | {name: shapes[name] for name in unmapped}, (), others)
    report.note_inputs([checkpoint])
    metadata = {"key_map": table.version, "branch": branch, "config": json.dumps(json.loads(model.to_json_string()))}
    return Plan(report, in_file_order(writes), checkpoint.files, weights_name=WAVER, metadata=metadata)


CONVERTERS = {"jova": to_jova, "waver": to_waver}


def build(settings: Mapping[str, Any]) -> JoVATransformer3DModel:
    """Return the model of a config, without weights."""
    settings = {name: value for name, value in settings.items() if name in CONFIG_NAMES}
    try:
        return meta_model(JoVATransformer3DModel, settings)
    except (ValueError, TypeError) as error:
        raise ConversionError(f"No model can be made from this config: {error}") from error


def own_config(checkpoint: Checkpoint) -> dict[str, Any]:
    return checkpoint.config_of(JoVATransformer3DModel.__name__)


# 1. Which tensor belongs to which branch


def jova_names(names: Iterable[str]) -> dict[str, list[str]] | None:
    """Return the names of each branch that is there, or None if these are not JoVA's names.

    The heads of the video branch are called the same in both layouts, and decide nothing.
    """
    found, renamed = {}, False
    names = {name: name for name in names}
    for branch, values in BRANCHES.items():
        writes, _ = load_key_map(WAVER).bind(**values).inverse.match(names)
        if writes:
            found[branch] = [write.origin[0] for write in writes]
            renamed |= any(write.origin != (write.name,) for write in writes)
    return found if renamed else None


def read_branches(
    checkpoint: Checkpoint, table: KeyMap, branch: str | None
) -> tuple[dict[str, list[Write]], dict[str, Shape], list[str]]:
    """Return each branch under JoVA's names, the tensors that no rule takes, and those not asked for."""
    names = jova_names(checkpoint)
    ours = checkpoint.config.get("_class_name") == JoVATransformer3DModel.__name__
    if names is not None and (ours or table.version == load_key_map(WAVER).version):
        if branch is not None and branch not in names:
            raise ConversionError(f"{checkpoint.path.name} has no {branch} branch, only {', '.join(names)}.")
        taken = {one: group for one, group in names.items() if branch in (None, one)}
        left_out = [name for one, group in names.items() if one not in taken for name in group]
        known = {name for group in names.values() for name in group}
        unmatched = {name: shape for name, shape in checkpoint.shapes.items() if name not in known}
        as_it_is = KeyMap(table.version, (KEEP,))
        writes = {
            one: as_it_is.match({name: checkpoint.infos[name] for name in group})[0] for one, group in taken.items()
        }
        return writes, unmatched, left_out

    channels = branch_of_channels(table.bind(**BRANCHES["video"]).match(checkpoint.infos)[0])
    if branch is not None and channels not in (None, branch):
        raise ConversionError(
            f"{checkpoint.path.name} is {channels} by its channels and position tables, not {branch}: an audio branch "
            "has as many channels out as in, and no table of rows and columns."
        )
    branch = branch or channels or "video"
    writes, unmatched = table.bind(**BRANCHES[branch]).match(checkpoint.infos)
    return {branch: writes}, {name: checkpoint.infos[name].shape for name in unmatched}, []


def branch_of_channels(writes: list[Write]) -> str | None:
    """Return which branch the tensors make, read as a video branch; None if its ends are not there."""
    found = {write.name: write for write in writes}
    if "video_embedder.pos_embed.height" in found:
        return "video"
    ends = found.get("video_embedder.proj_in.weight"), found.get("proj_out.weight")
    if None in ends:
        return None
    return "audio" if ends[0].shape[-1] == ends[1].shape[0] else "video"


# 2. The config


def read_config(
    shapes: Mapping[str, Shape],
    branches: tuple[str, ...],
    own: list[dict[str, Any]],
    audio_mode: str | None,
    preset: str | None,
    config: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return the arguments of `JoVATransformer3DModel`.

    What the shapes say is overruled by the config that came with the input (its mistakes show in the report), that by
    the preset, and that by `config`.

    Args:
        shapes: by JoVA's names.
        branches: which of them are there.
        own: configs of the checkpoint and of the audio checkpoint, {} where there is none.

    Raises:
        ConversionError: For an unknown preset or entry, one that contradicts the shapes, or what cannot be read.
    """
    config = dict(config or {})
    if unknown := [name for name in config if name not in CONFIG_NAMES and not name.startswith("_")]:
        raise ConversionError(f"--config has unknown entries: {', '.join(unknown)}. Known: {', '.join(CONFIG_NAMES)}.")
    if preset is not None and preset not in PRESETS:
        raise ConversionError(f"--preset must be one of {', '.join(PRESETS)}, got {preset!r}.")
    chosen = PRESETS[preset] if preset else {}
    read = shape_config(shapes, branches)
    differ = [name for name in chosen if read.get(name, chosen[name]) != chosen[name]]
    if wrong := [f"{name} is {chosen[name]} in the preset and {read[name]} here" for name in differ]:
        raise ConversionError(
            f"The preset {preset} does not fit the checkpoint: {', '.join(wrong)}. Leave --preset out to read the "
            "config from the shapes."
        )
    main = {name: value for name, value in own[0].items() if name not in AUDIO_SETTINGS and value is not None}
    settings = {**read, **main, **chosen}
    settings |= audio_settings(read, [*own, chosen], audio_mode)
    if "video" not in branches:
        settings["in_channels"] = None
    if audio_mode and config.get("audio_in_channels", settings["audio_in_channels"]) != settings["audio_in_channels"]:
        raise ConversionError(f"--audio_mode {audio_mode} contradicts `audio_in_channels` of --config.")
    settings |= config
    needed = ["num_attention_heads", "attention_head_dim", "num_layers", "num_single_layers"]
    needed += ["in_channels", "out_channels", "patch_size"] * ("video" in branches)
    if unread := [name for name in needed if name not in settings]:
        examples = ", ".join(list(shapes)[:3]) or "none"
        raise ConversionError(
            f"Cannot read {', '.join(unread)} from the shapes: {len(shapes)} tensors were recognised ({examples}). "
            "If tensors are missing, take a complete file; if the layout is another one, write a --key_map; otherwise "
            "give them in --config."
        )
    return settings


def audio_settings(read: dict[str, Any], known: list[dict[str, Any]], audio_mode: str | None) -> dict[str, Any]:
    """Return the channels and the rate of the audio latents; `known` configs, the last one first to be asked."""
    wanted = AUDIO_MODES[audio_mode or "44k"].transformer
    for config in known:
        if audio_mode is None and config.get("audio_in_channels") is not None:
            wanted = {name: config[name] for name in AUDIO_SETTINGS if name in config}
    channels = read.get("audio_in_channels", wanted["audio_in_channels"])
    if channels == wanted["audio_in_channels"]:
        return {**wanted, **{name: read[name] for name in AUDIO_SETTINGS if name in read}}
    if audio_mode is not None:
        raise ConversionError(
            f"--audio_mode {audio_mode} means {wanted['audio_in_channels']} channels, the audio branch has {channels}."
        )
    modes = [mode for mode in AUDIO_MODES.values() if mode.autoencoder["latent_channels"] == channels]
    return {**(modes[0].transformer if modes else {}), **{name: read[name] for name in AUDIO_SETTINGS if name in read}}


def shape_config(shapes: Mapping[str, Shape], branches: tuple[str, ...]) -> dict[str, Any]:
    """Return what the shapes tell of the config; what they do not is left out."""
    main = branches[0]
    embedder = f"{main}_embedder"

    def size(name: str, axis: int) -> int | None:
        return shapes[name][axis] if len(shapes.get(name, ())) > axis else None

    def first(pattern: str) -> int | None:
        return next((shape[0] for name, shape in shapes.items() if re.fullmatch(pattern, name)), None)

    dim = size(f"{embedder}.proj_in.weight", 0)
    head_dim = first(rf"\w*transformer_blocks\.\d+\.{main}\.norm_q\.weight")
    ffn_dim = first(rf"\w*transformer_blocks\.\d+\.{main}\.ff\.net\.0\.proj\.weight")
    tables = [size(f"{embedder}.pos_embed.{axis}", 0) for axis in ("temporal", "height", "width")]
    found = {
        "attention_head_dim": head_dim,
        "num_attention_heads": dim // head_dim if dim and head_dim else None,
        "num_layers": depth(shapes, "transformer_blocks"),
        "num_single_layers": depth(shapes, "single_transformer_blocks"),
        "ffn_ratio": ffn_dim / dim if dim and ffn_dim else None,
        "pos_embed_size": tables if None not in tables else None,
    }
    if main == "video":
        found |= video_channels(size(f"{embedder}.proj_in.weight", 1), size("proj_out.weight", 0))
    if "audio" in branches:
        channels, out_channels = size("audio_embedder.proj_in.weight", 1), size("audio_proj_out.weight", 0)
        found["audio_in_channels"] = channels
        found["audio_out_channels"] = out_channels if out_channels != channels else None
    found = {name: value for name, value in found.items() if value is not None}
    texts = {
        "text_embed_dim": size(f"{embedder}.text_embedder.linear.weight", 1),
        "text_embed_dim_2": size(f"{embedder}.text_embedder_2.linear.weight", 1),
    }
    return found | texts if any(texts.values()) else found  # None is a value here: no such text encoder


def depth(shapes: Iterable[str], stage: str) -> int | None:
    """Return the number of blocks of a stage; None without any, which more likely means half a file."""
    indices = [int(name.split(".")[1]) for name in shapes if re.match(rf"{stage}\.\d+\.", name)]
    return max(indices) + 1 if indices else None


def video_channels(in_features: int | None, out_features: int | None) -> dict[str, Any]:
    """Return channels and patch of a video branch, p latents per token: (2 c + 4) p features in, c p out."""
    volume = (in_features - 2 * out_features) // MASK_CHANNELS if in_features and out_features else 0
    side = math.isqrt(max(volume, 0))
    if volume <= 0 or side * side != volume or out_features % volume or in_features % volume:
        return {}
    return {
        "patch_size": [1, side, side],
        "in_channels": in_features // volume,
        "out_channels": out_features // volume,
    }
