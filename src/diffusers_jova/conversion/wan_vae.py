# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The Wan 2.1 VAE (`Wan2.1_VAE.pth`) to `AutoencoderKLWan` by diffusers' own mapping of names, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from diffusers import AutoencoderKLWan

from .. import compat
from .checkpoint import Checkpoint
from .errors import ConversionError
from .key_mapping import KeyMap
from .plan import Plan, meta_model, shapes_of
from .report import Report
from .streaming import in_file_order


WAN_CHANNELS = 16
ANCHORS = {"wan": "encoder.conv1.weight", "diffusers": "encoder.conv_in.weight"}
MAX_BLOCKS = 32  # of the encoder or decoder, in the original's flat numbering


def to_diffusers(checkpoint: Checkpoint) -> Plan:
    """Return the plan of the `AutoencoderKLWan` of an original Wan 2.1 checkpoint.

    Raises:
        ConversionError: If it is not one.
    """
    model = meta_model(AutoencoderKLWan, read_config(checkpoint, "wan", "conv2.weight"))
    to_diffusers = compat.load("convert_wan_vae_to_diffusers")
    names = {original: ours for ours, original in to_diffusers({n: n for n in checkpoint}).items()}
    plan = make_plan(checkpoint, names, names, model)
    plan.files["config.json"] = model.to_json_string()
    return plan


def to_original(checkpoint: Checkpoint) -> Plan:
    """Return the plan of an `AutoencoderKLWan` under the original's names, the inverse of `to_diffusers`.

    Raises:
        ConversionError: If it is not one.
    """
    own = checkpoint.config_of(AutoencoderKLWan.__name__)
    model = meta_model(AutoencoderKLWan, own or read_config(checkpoint, "diffusers", "post_quant_conv.weight"))
    originals = original_names(model.state_dict())
    plan = make_plan(checkpoint, {name: name for name in checkpoint}, originals, model)
    plan.weights_name = "Wan2.1_VAE"
    return plan


def make_plan(checkpoint: Checkpoint, names: dict[str, str], targets: dict[str, str], model: AutoencoderKLWan) -> Plan:
    """Return the plan that puts each tensor under its name in `targets`.

    Args:
        names: the names of `AutoencoderKLWan`, by the checkpoint's; `model` says which shapes they must have.
    """
    report = Report.compare({names[name]: shape for name, shape in checkpoint.shapes.items()}, shapes_of(model), {})
    report.note_inputs([checkpoint])
    matched = set(report.matched)
    table = KeyMap.of_names("diffusers-wan-vae", {name: targets[name] for name in names if names[name] in matched})
    writes, _ = table.match(checkpoint.infos)
    return Plan(report, in_file_order(writes), checkpoint.files, metadata={"key_map": table.version})


def read_config(checkpoint: Checkpoint, layout: str, latent_name: str) -> dict:
    """Return the config, from the shapes; the statistics of Wan 2.1 go with its 16 channels only."""
    anchor, shapes = ANCHORS[layout], checkpoint.shapes
    for name in (anchor, latent_name):
        if name not in shapes:
            examples = ", ".join(list(shapes)[:3])
            raise ConversionError(
                f"{checkpoint.path.name} is not a complete Wan 2.1 VAE in the {layout} layout: it has no {name}, only "
                f"{examples}, ..."
            )
    config: dict[str, Any] = {"base_dim": shapes[anchor][0], "z_dim": shapes[latent_name][0]}
    if config["z_dim"] != WAN_CHANNELS:
        config |= {"latents_mean": [0.0] * config["z_dim"], "latents_std": [1.0] * config["z_dim"]}
    return config


def original_names(names: Iterable[str]) -> dict[str, str]:
    """Return the original's name of each name of `AutoencoderKLWan`, by running diffusers' mapping on candidates."""
    conv = ["weight", "bias"]
    residual = [f"residual.{k}.gamma" for k in (0, 3)] + [f"residual.{k}.{kind}" for k in (2, 6) for kind in conv]
    block = residual + [f"{part}.{kind}" for part in ("shortcut", "resample.1", "time_conv") for kind in conv]
    attention = ["norm.gamma"] + [f"{part}.{kind}" for part in ("to_qkv", "proj") for kind in conv]
    ends = ["head.0.gamma"] + [f"{part}.{kind}" for part in ("conv1", "head.2") for kind in conv]
    candidates = [f"{part}.{kind}" for part in ("conv1", "conv2") for kind in conv]
    for coder, blocks in (("encoder", "downsamples"), ("decoder", "upsamples")):
        inside = ends + [f"middle.{k}.{name}" for k in (0, 2) for name in residual]
        inside += [f"middle.1.{name}" for name in attention]
        inside += [f"{blocks}.{k}.{name}" for k in range(MAX_BLOCKS) for name in block]
        candidates += [f"{coder}.{name}" for name in inside]
    wanted = set(names)
    mapped = compat.load("convert_wan_vae_to_diffusers")({name: name for name in candidates})
    return {ours: original for ours, original in mapped.items() if ours in wanted}
