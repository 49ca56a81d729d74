# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN checkpoints (NVIDIA's `bigvgan_generator.pt`, MMAudio's `best_netG.pt`) to `BigVGANVocoder` and back.

The names are the same; weight norm is folded into plain weights, and the anti-aliasing filters, which are computed,
are left out.
Licences of the weights: NVIDIA's MIT; `best_netG.pt` as MMAudio distributes it CC-BY-NC 4.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from diffusers_jova.models.vocoder_bigvgan import BigVGANVocoder, lowpass_filter

from ..presets import AUDIO_MODES
from .checkpoint import Checkpoint, below_prefix
from .errors import ConversionError
from .key_mapping import KEEP, KeyMap, Rule
from .plan import Plan, meta_model, shapes_of
from .report import Report, Shape
from .streaming import Write


FILTERS = (".upsample.filter", ".downsample.lowpass.filter")
VOCODERS = {name: mode.vocoder for name, mode in AUDIO_MODES.items()}


def merge_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    """Return g * v / |v| in float32, |v| over all axes but the first (arXiv:1602.07868, equation 2)."""
    direction = direction.float()
    return direction * (gain.float() / direction.norm(dim=(1, 2), keepdim=True))


KEY_MAP = KeyMap(
    "bigvgan-1",
    (
        # gain and direction, as torch's two generations of weight norm name them
        Rule(("<layer*>.weight_g", "<layer*>.weight_v"), ("<layer*>.weight",), function=merge_weight_norm),
        Rule(
            (
                "<layer*>.parametrizations.weight.original0",
                "<layer*>.parametrizations.weight.original1",
            ),
            ("<layer*>.weight",),
            function=merge_weight_norm,
        ),
        *(Rule((f"<activation*>{ending}",)) for ending in FILTERS),
        KEEP,
    ),
)


def convert(
    checkpoint: Checkpoint, to: str = "jova", audio_mode: str | None = None, config: Mapping[str, Any] | None = None
) -> Plan:
    """Return the plan of a BigVGAN generator in another layout.

    Args:
        checkpoint: NVIDIA's or MMAudio's file with any kind of weight norm, under a prefix such as `vocoder.` or none;
            or a `BigVGANVocoder`.
        to: "jova" (`BigVGANVocoder`), or "bigvgan" (the original's names, weight norm removed).
        audio_mode: "16k" or "44k": one of MMAudio's two vocoders.
        config: NVIDIA's config.json; None takes the one beside the file, else goes by `audio_mode` or the mel bands.
            Its training settings are ignored; without `sampling_rate` ours is None (80 bands and 256 samples per
            frame are a 16 kHz model as well as a 22.05 kHz one: no guess).

    Raises:
        ConversionError: If it is not such a generator, or the config does not fit it.
    """
    try:
        writes = plain_weights(checkpoint.infos)
        shapes = {write.name: write.shape for write in writes}
        config = config or checkpoint.config or None
        bands = shapes["conv_pre.weight"][1] if "conv_pre.weight" in shapes else None
        guessed = [mode for mode, known in VOCODERS.items() if audio_mode == mode or known["num_mels"] == bands]
        mode = audio_mode or next(iter(guessed), None)
        if config is None and mode is None:
            raise ConversionError(
                "the mel bands are neither 16k's (80) nor 44k's (128): pass --audio_mode or --config."
            )
        model = meta_model(BigVGANVocoder, read_config(shapes, config or VOCODERS[mode]))
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{checkpoint.path.name}: {error}") from error
    report = Report.compare(shapes, shapes_of(model), {})
    report.note_inputs([checkpoint])
    if config is None and audio_mode is None:
        report.notes.append(f"taken for MMAudio's {mode} vocoder by its mel bands; if it is another, pass --config")

    plan = Plan(report, writes, checkpoint.files, metadata={"key_map": KEY_MAP.version})
    if to == "jova":
        return replace(plan, files={"config.json": model.to_json_string()})
    settings = {name: value for name, value in model.config.items() if not name.startswith("_")}
    text = json.dumps({"resblock": "1", **settings}, indent=2) + "\n"
    writes = [*writes, *filters(shapes)]
    return replace(plan, writes=writes, weights_name="bigvgan_generator", files={"config.json": text})


def plain_weights(tensors: Mapping[str, Any]) -> list[Write]:
    """Return a generator's weights as `BigVGANVocoder` stores them: plain, without filters.

    Raises:
        ConversionError: If it does not hold exactly one generator, or half of a weight-norm pair is missing.
    """
    writes, halves = KEY_MAP.match(below_prefix(tensors, "conv_pre.bias"))
    if halves:
        raise ConversionError(
            f"Half of a weight-norm pair is missing: there is {halves[0]} alone. Is the file complete?"
        )
    # what was folded comes last, by name: so it stands in all files that were written so far
    plain, folded = (
        [write for write in writes if (write.how == "computed") == computed] for computed in (False, True)
    )
    return plain + sorted(folded, key=lambda write: write.name)


def filters(names: Mapping[str, Shape]) -> list[Write]:
    """Return the anti-aliasing filters, which the original stores and requires."""
    activations = [name.removesuffix(".act.alpha") for name in names if name.endswith(".act.alpha")]
    like = lowpass_filter().to("meta")
    return [
        Write(name + ending, make=lowpass_filter, how="computed", like=like)
        for name in activations
        for ending in FILTERS
    ]


def read_config(shapes: Mapping[str, Shape], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `BigVGANVocoder`: the structure of NVIDIA's `config`, the widths of the shapes.

    Raises:
        ConversionError: For a config without `upsample_rates` and the like, one that contradicts the weights, or
            residual blocks of type "2".
    """
    if str(config.get("resblock", "1")) != "1":
        raise ConversionError(
            f'`config["resblock"]` must be "1", got {config["resblock"]!r}: type 2 is not implemented.'
        )
    structure = ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes")
    missing = [name for name in structure + ("activation", "snake_logscale") if name not in config]
    if missing:
        raise ConversionError(
            f"`config` lacks {', '.join(missing)}. Pass the config.json that came with the checkpoint."
        )
    shape = shapes.get("conv_pre.weight")
    if shape is None:
        raise ConversionError("The weights lack conv_pre.weight. Is the file complete?")
    widths = {"upsample_initial_channel": shape[0], "num_mels": shape[1]}
    for name, width in widths.items():
        if config.get(name, width) != width:
            raise ConversionError(
                f"`config[{name!r}]` is {config[name]}, but conv_pre.weight has shape {shape}. "
                "Pass the config.json that came with the checkpoint."
            )
    return {
        "sampling_rate": config.get("sampling_rate"),
        **widths,
        **{name: config[name] for name in structure},
        "activation": config["activation"],
        "snake_logscale": config["snake_logscale"],
        "use_tanh_at_final": config.get("use_tanh_at_final", True),
        "use_bias_at_final": config.get("use_bias_at_final", True),
    }
