# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MMAudio's autoencoder checkpoints (`v1-16.pth`, `v1-44.pth` and repacks) to `AutoencoderMMAudio` and back.

The names are the same on both sides; what changes are the numbers. MMAudio stores raw weights and folds the
magnitude-preserving normalisation into them once, after loading; our files hold the folded ones. Folding twice would
be wrong (every layer shrinks by up to 1 %), so already folded files are recognised. The published MMAudio weights are
CC-BY-NC 4.0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from diffusers import MMAudioVAE, __version__
from diffusers.models.autoencoders.autoencoder_mmaudio import MMAudioMelSpectrogram
from torch import Tensor

from diffusers_jova.models.autoencoder_mmaudio import AutoencoderMMAudio

from ..presets import AUDIO_MODES
from .checkpoint import Checkpoint, below_prefix
from .errors import ConversionError
from .key_mapping import KeyMap, Rule
from .plan import Plan, meta_model, shapes_of
from .report import Report, Shape
from .streaming import Write


VERSION = "mmaudio-1"
ANCHOR = "encoder.conv_in.weight"
NOT_AUTOENCODER = ("mel_converter.", "vocoder.")
EPS = 1e-4
MODES = {name: mode.autoencoder for name, mode in AUDIO_MODES.items()}


def convert(checkpoint: Checkpoint, to: str = "jova", audio_mode: str | None = None, raw: bool = False) -> Plan:
    """Return the plan of an MMAudio autoencoder in another layout.

    Raw and folded weights have the same names; the numbers are read to tell them apart, also in a dry run.

    Args:
        checkpoint: MMAudio's file, raw or folded; an `AutoencoderMMAudio`, or diffusers' `MMAudioVAE`. What lies
            beside the autoencoder (mel front end, vocoder) is left out.
        to: "jova" (`AutoencoderMMAudio`), "mmaudio" (the original's names), or "upstream" (`MMAudioVAE`, 44k only).
        audio_mode: "16k" or "44k"; None asks the latent channels.
        raw: to "mmaudio": weights that MMAudio's loader folds, as released. False leaves the numbers alone.

    Raises:
        ConversionError: If it is not such an autoencoder, or of another mode.
    """
    try:
        names = below_prefix({name: name for name in checkpoint}, ANCHOR)
        names = {short: name for short, name in names.items() if not short.startswith(NOT_AUTOENCODER)}
        source = replace(checkpoint, infos={short: checkpoint.infos[name] for short, name in names.items()})
        mode = mode_of(source.shapes, audio_mode)
        settings = {**read_config(source.shapes, mode), **checkpoint.config_of(AutoencoderMMAudio.__name__)}
        model = meta_model(AutoencoderMMAudio, settings)
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{checkpoint.path.name}: {error}") from error
    left_out = [name for name in checkpoint if name not in names.values()]
    report = Report.compare(source.shapes, shapes_of(model), {}, left_out=left_out)
    report.note_inputs([source])
    folded = is_folded(source)
    report.notes.append(f"the weights are {'folded' if folded else 'raw'}")

    if to == "mmaudio":
        change = unfold if raw and folded else None
    else:
        change = None if folded else fold
    table = key_map(change, prefix="vae." if to == "upstream" else "")
    writes, _ = table.match({name: source.infos[name] for name in report.matched})
    plan = Plan(report, writes, checkpoint.files, metadata={"key_map": table.version})
    if to == "mmaudio":
        return replace(plan, weights_name=f"v1-{mode.removesuffix('k')}")
    if to == "jova":
        return replace(plan, files={"config.json": model.to_json_string()})
    return upstream(plan, model.config)


def key_map(change: Callable[[Tensor], Tensor] | None, prefix: str = "") -> KeyMap:
    """Return the map that applies `change` to the convolutions, if any, and puts `prefix` before all names."""
    convolution = Rule(("<layer*>.weight",), (prefix + "<layer*>.weight",), function=change)
    return KeyMap(VERSION, (convolution, Rule(("<name*>",), (prefix + "<name*>",))))


def fold(weight: Tensor) -> Tensor:
    """Return the effective float32 weight (O, I, K) of a raw magnitude-preserving convolution.

    W_o / (|W_o| / sqrt(n) + 1e-4) / sqrt(n) per output row, n = I * K   (EDM2, arXiv:2312.02696, equation 66)
    """
    weight = weight.float()
    norm, fan = row_norms(weight), weight[0].numel()
    return weight / (norm / math.sqrt(fan) + EPS)[:, None, None] / math.sqrt(fan)


def unfold(weight: Tensor) -> Tensor:
    """Return a float32 weight that `fold` takes to `weight`, its inverse: W_o * 1e-4 sqrt(n) / (1 - |W_o|)."""
    weight = weight.float()
    gap = (1 - row_norms(weight.double())).clamp(min=1e-7).float()
    return weight * (EPS * math.sqrt(weight[0].numel()) / gap)[:, None, None]


def row_norms(weight: Tensor) -> Tensor:
    return weight.flatten(1).norm(dim=1)


def is_folded(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether the convolutions are folded already: every row of every weight has norm 1 (0.99 to 1.001)."""
    norms = [row_norms(tensor.float()) for name, tensor in state_dict.items() if name.endswith(".weight")]
    return all(bool(((norm >= 0.99) & (norm <= 1.001)).all()) for norm in norms)


def mode_of(shapes: Mapping[str, Shape], audio_mode: str | None) -> str:
    """Return "16k" or "44k", by the latent channels unless it is given."""
    channels = shapes.get("decoder.conv_in.weight", (0, 0))[1]
    found = [mode for mode, settings in MODES.items() if settings["latent_channels"] == channels]
    if not (audio_mode or found):
        raise ConversionError(f"{channels} latent channels are neither 16k (20) nor 44k (40): pass --audio_mode.")
    return audio_mode or found[0]


def read_config(shapes: Mapping[str, Shape], mode: str) -> dict[str, Any]:
    """Return the arguments of `AutoencoderMMAudio`: the mel front end of `mode`, the widths of the shapes.

    Raises:
        ConversionError: For a mode other than the weights', or if it is not such an autoencoder.
    """
    for name, axis, setting in (
        (ANCHOR, 1, "num_mels"),
        ("decoder.conv_in.weight", 1, "latent_channels"),
    ):
        if name in shapes and shapes[name][axis] != MODES[mode][setting]:
            raise ConversionError(
                f"Mode {mode!r} means {setting} {MODES[mode][setting]}, but {name} has shape {shapes[name]}. Modes: "
                + ", ".join(f"{known!r} ({setting} {settings[setting]})" for known, settings in MODES.items())
            )
    hidden_channels = shapes[ANCHOR][0]
    return {
        **MODES[mode],
        "hidden_channels": hidden_channels,
        "channel_multipliers": [
            shapes[f"encoder.down.{level}.block.0.conv1.weight"][0] // hidden_channels
            for level in range(count(shapes, "encoder.down.{}.block.0.conv1.weight"))
        ],
        "layers_per_block": count(shapes, "encoder.down.0.block.{}.conv1.weight"),
    }


def count(shapes: Mapping[str, Shape], name: str) -> int:
    """Return how many of name.format(0), name.format(1), ... there are, in one run."""
    number = 0
    while name.format(number) in shapes:
        number += 1
    return number


def upstream(plan: Plan, config: Mapping[str, Any]) -> Plan:
    """Return the plan with what diffusers' `MMAudioVAE` has beside the weights: mel buffers and its own config."""
    if config["log_base"] != "e" or config["fmin"] != 0:
        raise ConversionError("diffusers' MMAudioVAE has the natural logarithm built in: it cannot be the 16k model.")
    mel = MMAudioMelSpectrogram(config["sampling_rate"], config["n_fft"], config["num_mels"], config["hop_length"])
    buffers = {f"mel_converter.{name}": tensor for name, tensor in mel.state_dict().items()}
    writes = [
        Write(name, make=lambda tensor=tensor: tensor, how="computed", like=tensor.to("meta"))
        for name, tensor in buffers.items()
    ]
    same = ("latent_channels", "hidden_channels", "channel_multipliers", "layers_per_block", "n_fft", "hop_length")
    settings = {name: config[name] for name in same}
    settings |= {"mel_bins": config["num_mels"], "sample_rate": config["sampling_rate"]}
    text = {"_class_name": MMAudioVAE.__name__, "_diffusers_version": __version__, **settings}
    return replace(plan, writes=[*plan.writes, *writes], files={"config.json": json.dumps(text, indent=2) + "\n"})
