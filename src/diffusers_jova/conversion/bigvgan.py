# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN checkpoints (NVIDIA's `bigvgan_generator.pt`, MMAudio's `best_netG.pt`) to `BigVGANVocoder` and back.

The names are the same; weight norm is folded into plain weights, and the anti-aliasing filters, which are computed,
are left out.
Licences of the weights: NVIDIA's MIT; `best_netG.pt` as MMAudio distributes it CC-BY-NC 4.0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from diffusers_jova.models.vocoder_bigvgan import BigVGANVocoder, lowpass_filter

from .mmaudio import load_exactly, strip_prefix


FILTERS = (".upsample.filter", ".downsample.lowpass.filter")
# (gain, direction) as torch's two generations of weight norm name them
WEIGHT_NORMS = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))


def merge_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    """Return g * v / |v| in float32, |v| over all axes but the first (arXiv:1602.07868, equation 2)."""
    direction = direction.float()
    return direction * (gain.float() / direction.norm(dim=(1, 2), keepdim=True))


def to_diffusers(state_dict: Mapping[str, Any], **config: Any) -> dict[str, Tensor]:
    """Return a BigVGAN generator's weights as `BigVGANVocoder` stores them: plain weights, no filters.

    Args:
        state_dict: with `weight_g` and `weight_v`, with `parametrizations.weight.original0` and `1`, or plain; under a
            prefix such as `vocoder.` or none; or NVIDIA's file, {"generator": state_dict}.
        config: the model's config may be passed, as to every converter; nothing here depends on it.

    Raises:
        ValueError: it does not hold exactly one generator, or half of a weight-norm pair is missing.
    """
    if isinstance(state_dict.get("generator"), Mapping):
        state_dict = state_dict["generator"]
    state_dict = strip_prefix(state_dict, "conv_pre.bias")
    converted = {name: tensor for name, tensor in state_dict.items() if not name.endswith(FILTERS)}
    for gain, direction in WEIGHT_NORMS:
        layers = {
            name.removesuffix(ending)
            for name in converted
            for ending in (gain, direction)
            if name.endswith("." + ending)
        }
        for layer in sorted(layers):
            missing = [layer + ending for ending in (gain, direction) if layer + ending not in converted]
            if missing:
                raise ValueError(f"Half of a weight-norm pair is missing: {missing[0]}. Is the file complete?")
            pair = converted.pop(layer + gain), converted.pop(layer + direction)
            converted[layer + "weight"] = merge_weight_norm(*pair)
    return converted


def to_original(state_dict: Mapping[str, Tensor], filters: bool = True, **config: Any) -> dict[str, Tensor]:
    """Return `BigVGANVocoder` weights in the original's plain layout (weight norm removed), inverting `to_diffusers`.

    Args:
        filters: add the anti-aliasing filters, which the original stores and requires.
        config: as for `to_diffusers`.
    """
    original = dict(state_dict)
    if filters:
        activations = [name.removesuffix(".act.alpha") for name in state_dict if name.endswith(".act.alpha")]
        original.update({name + ending: lowpass_filter() for name in activations for ending in FILTERS})
    return original


def load_vocoder(state_dict: Mapping[str, Any], config: Mapping[str, Any]) -> BigVGANVocoder:
    """Return the vocoder of a BigVGAN checkpoint, float32, in eval mode.

    Args:
        state_dict: as for `to_diffusers`; the widths are read from its shapes.
        config: NVIDIA's config.json. Its training settings are ignored; without `sampling_rate` ours is None
            (80 bands and 256 samples per frame are a 16 kHz model as well as a 22.05 kHz one: no guess).

    Raises:
        ValueError: a config without `upsample_rates` and the like, one that contradicts the weights, residual blocks
            of type "2", or missing, unexpected or misshapen weights.
    """
    state_dict = to_diffusers(state_dict)
    return load_exactly(BigVGANVocoder(**vocoder_config(state_dict, config)), state_dict)


def vocoder_config(state_dict: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `BigVGANVocoder`: the structure of NVIDIA's `config`, the widths of the shapes.

    Raises:
        ValueError: as `load_vocoder`, for the config.
    """
    if str(config.get("resblock", "1")) != "1":
        raise ValueError(f'`config["resblock"]` must be "1", got {config["resblock"]!r}: type 2 is not implemented.')
    structure = ("upsample_rates", "upsample_kernel_sizes", "resblock_kernel_sizes", "resblock_dilation_sizes")
    missing = [name for name in structure + ("activation", "snake_logscale") if name not in config]
    if missing:
        raise ValueError(f"`config` lacks {', '.join(missing)}. Pass the config.json that came with the checkpoint.")
    weight = state_dict.get("conv_pre.weight")
    if weight is None:
        raise ValueError("The weights lack conv_pre.weight. Is the file complete?")
    widths = {"upsample_initial_channel": weight.shape[0], "num_mels": weight.shape[1]}
    for name, width in widths.items():
        if config.get(name, width) != width:
            raise ValueError(
                f"`config[{name!r}]` is {config[name]}, but conv_pre.weight has shape {tuple(weight.shape)}. "
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
