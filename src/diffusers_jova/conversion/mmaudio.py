# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MMAudio's autoencoder checkpoints (`v1-16.pth`, `v1-44.pth` and repacks) to `AutoencoderMMAudio` and back.

The names are the same on both sides; what changes are the numbers. MMAudio stores raw weights and folds the
magnitude-preserving normalisation into them once, after loading; our files hold the folded ones. Folding twice would
be wrong (every layer shrinks by up to 1 %), so already folded files are recognised. The published MMAudio weights are
CC-BY-NC 4.0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from diffusers_jova.models.autoencoder_mmaudio import AutoencoderMMAudio

from ..presets import AUDIO_MODES


EPS = 1e-4


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


def is_convolution(name: str) -> bool:
    return name.endswith(".weight")


def is_folded(state_dict: Mapping[str, Tensor]) -> bool:
    """Return whether the convolutions are folded already: every row of every weight has norm 1 (0.99 to 1.001)."""
    norms = [row_norms(tensor.float()) for name, tensor in state_dict.items() if is_convolution(name)]
    return all(bool(((norm >= 0.99) & (norm <= 1.001)).all()) for norm in norms)


def to_diffusers(state_dict: Mapping[str, Tensor], **config: Any) -> dict[str, Tensor]:
    """Return MMAudio's autoencoder weights as `AutoencoderMMAudio` stores them: flat names, folded.

    Args:
        state_dict: raw (as released; folded here in float32) or folded (returned as it is); under a prefix such as
            `vae.` or none. What lies beside the prefix (mel front end, vocoder) is left out.
        config: the model's config may be passed, as to every converter; nothing here depends on it.

    Raises:
        ValueError: it does not hold exactly one MMAudio autoencoder.
    """
    state_dict = strip_prefix(state_dict, "encoder.conv_in.weight")
    state_dict = {
        name: tensor for name, tensor in state_dict.items() if not name.startswith(("mel_converter.", "vocoder."))
    }
    if is_folded(state_dict):
        return state_dict
    return {name: fold(tensor) if is_convolution(name) else tensor for name, tensor in state_dict.items()}


def to_original(state_dict: Mapping[str, Tensor], folded: bool = True, **config: Any) -> dict[str, Tensor]:
    """Return `AutoencoderMMAudio` weights under MMAudio's names, the inverse of `to_diffusers`.

    Args:
        folded: True keeps the numbers (bit-exact round trip). False gives raw weights for MMAudio's own loader, which
            folds them back to these within 1e-6.
        config: as for `to_diffusers`.
    """
    if folded:
        return dict(state_dict)
    return {name: unfold(tensor) if is_convolution(name) else tensor for name, tensor in state_dict.items()}


def load_autoencoder(state_dict: Mapping[str, Tensor], mode: str) -> AutoencoderMMAudio:
    """Return the autoencoder of an MMAudio checkpoint, float32, in eval mode.

    Args:
        state_dict: as for `to_diffusers`; the widths are read from its shapes.
        mode: "16k" or "44k"; sets the mel front end, which the weights do not tell.

    Raises:
        ValueError: unknown mode, a mode other than the weights', or missing, unexpected or misshapen weights.
    """
    state_dict = to_diffusers(state_dict)
    return load_exactly(AutoencoderMMAudio(**autoencoder_config(state_dict, mode)), state_dict)


def autoencoder_config(state_dict: Mapping[str, Tensor], mode: str) -> dict[str, Any]:
    """Return the arguments of `AutoencoderMMAudio`: the mel front end of `mode`, the widths of the weights' shapes.

    Raises:
        ValueError: unknown mode, or a mode other than the weights'.
    """
    modes = {name: known.autoencoder for name, known in AUDIO_MODES.items()}
    if mode not in modes:
        raise ValueError(f"`mode` must be one of {list(modes)}, got {mode!r}.")
    for name, axis, setting in (
        ("encoder.conv_in.weight", 1, "num_mels"),
        ("decoder.conv_in.weight", 1, "latent_channels"),
    ):
        shape = tuple(state_dict[name].shape) if name in state_dict else None
        if shape is not None and shape[axis] != modes[mode][setting]:
            raise ValueError(
                f"`mode={mode!r}` means {setting} {modes[mode][setting]}, but {name} has shape {shape}. Modes: "
                + ", ".join(f"{known!r} ({setting} {settings[setting]})" for known, settings in modes.items())
            )
    hidden_channels = state_dict["encoder.conv_in.weight"].shape[0]
    return {
        **modes[mode],
        "hidden_channels": hidden_channels,
        "channel_multipliers": [
            state_dict[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] // hidden_channels
            for level in range(count(state_dict, "encoder.down.{}.block.0.conv1.weight"))
        ],
        "layers_per_block": count(state_dict, "encoder.down.0.block.{}.conv1.weight"),
    }


def count(state_dict: Mapping[str, Tensor], name: str) -> int:
    """Return how many of name.format(0), name.format(1), ... there are, in one run."""
    number = 0
    while name.format(number) in state_dict:
        number += 1
    return number


def strip_prefix(state_dict: Mapping[str, Tensor], anchor: str) -> dict[str, Tensor]:
    """Return the entries that share the prefix of the one name ending in `anchor`, without that prefix."""
    prefixes = [name.removesuffix(anchor) for name in state_dict if name == anchor or name.endswith("." + anchor)]
    if len(prefixes) != 1:
        raise ValueError(
            f"Expected one weight named {anchor} (after any prefix), got {len(prefixes)} among {len(state_dict)} "
            f"entries: {', '.join(list(state_dict)[:5])}, ... Is this the right file?"
        )
    prefix = prefixes[0]
    return {name.removeprefix(prefix): tensor for name, tensor in state_dict.items() if name.startswith(prefix)}


def load_exactly(model: nn.Module, state_dict: Mapping[str, Tensor]) -> nn.Module:
    """Return `model` in eval mode with the weights of `state_dict`, which must fit name by name and shape by shape."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    given = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    problems = [f"missing: {name} {shape}" for name, shape in expected.items() if name not in given]
    problems += [f"unexpected: {name} {shape}" for name, shape in given.items() if name not in expected]
    problems += [
        f"{name}: shape {given[name]}, expected {shape}"
        for name, shape in expected.items()
        if name in given and given[name] != shape
    ]
    if problems:
        raise ValueError(
            f"The weights do not fit {type(model).__name__} ({len(problems)} problems):\n" + "\n".join(problems[:20])
        )
    model.load_state_dict(state_dict)
    return model.eval()
