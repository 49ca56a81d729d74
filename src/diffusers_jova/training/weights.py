# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The weights that a run writes, as its result and in its checkpoints, and what it reads of them to go on.

A run of whole weights writes `transformer/`; one of a LoRA `pytorch_lora_weights.safetensors`; one that trains the
audio branch beside a video branch that stays writes `transformer/`, whose video is the base's bit for bit, and beside
it the video's LoRA, if it has one. Each loads in diffusers as it is.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from accelerate import init_empty_weights
from safetensors import safe_open
from safetensors.torch import load_file

from ..files import reading, whole_folder
from ..models.transformer_jova import JoVATransformer3DModel
from .adapters import LORA_FILE, load_lora, save_lora
from .config import LoraTrainingConfig, TrainingConfig
from .initialization import transformer_folders


StateDict = dict[str, torch.Tensor]


def save_weights(
    transformer: JoVATransformer3DModel,
    config: TrainingConfig,
    folder: str | os.PathLike,
    state_dict: StateDict | None = None,
) -> list[Path]:
    """Write what a run makes of the weights to `folder`, each part whole or not at all, and return the parts.

    Args:
        transformer: For its class and config, and where its LoRA layers are.
        state_dict: The weights, gathered from all processes; None takes the transformer's own.
    """
    state_dict = transformer.state_dict() if state_dict is None else state_dict
    written = []
    if not isinstance(config, LoraTrainingConfig):
        own = dict(without_lora(state_dict)) | (kept_weights(transformer, config) if config.keeps_video else {})
        written.append(save_transformer(transformer, own, Path(folder) / "transformer"))
    if has_lora(transformer):
        written.append(save_lora(transformer, folder, state_dict))
    return written


def load_weights(transformer: JoVATransformer3DModel, config: TrainingConfig, folder: str | os.PathLike) -> None:
    """Put what `save_weights` wrote to `folder` into a transformer with the same LoRA layers, if any.

    Raises:
        ValueError: If they are of another model.
    """
    if has_lora(transformer):
        load_lora(transformer, Path(folder) / LORA_FILE)
    if isinstance(config, LoraTrainingConfig):
        return
    saved: StateDict = {}
    for path in sorted((Path(folder) / "transformer").glob("*.safetensors")):
        saved |= load_file(path)
    in_model = transformer.state_dict(keep_vars=True)
    names = {own_name(name): name for name in in_model if "lora_" not in name}
    layers = {name: tensor for name, tensor in in_model.items() if "lora_" in name}
    transformer.load_state_dict({names.get(name, name): tensor for name, tensor in saved.items()} | layers)


def save_transformer(transformer: JoVATransformer3DModel, state_dict: StateDict, folder: Path) -> Path:
    """Write weights as a transformer of this one's class and config, whole or not at all, and return the folder."""
    with init_empty_weights():
        whole = type(transformer).from_config(transformer.config)
    whole.load_state_dict(state_dict, assign=True)
    with whole_folder(folder, overwrite=True) as partial:
        whole.save_pretrained(partial)
    return folder


def kept_weights(transformer: JoVATransformer3DModel, config: TrainingConfig) -> StateDict:
    """Return what does not learn, as the files of the base hold it: in memory it may be rounded to 16 bits."""
    frozen = {own_name(name) for name, parameter in transformer.named_parameters() if not parameter.requires_grad}
    kept: StateDict = {}
    for path in sorted(transformer_folders(config)["video"].glob("*.safetensors")):
        with reading(path), safe_open(path, framework="pt") as file:
            kept |= {name: file.get_tensor(name) for name in frozen.intersection(file.keys())}
    return kept


def has_lora(transformer: JoVATransformer3DModel) -> bool:
    return bool(getattr(transformer, "peft_config", None))


def own_name(name: str) -> str:
    """Return the name that a parameter has without LoRA layers around its layer."""
    return name.replace(".base_layer.", ".")


def without_lora(state_dict: StateDict) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the transformer's own weights, under their own names."""
    return ((own_name(name), tensor) for name, tensor in state_dict.items() if "lora_" not in name)
