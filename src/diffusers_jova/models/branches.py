# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The two branches of a transformer: how the audio branch starts from the video branch, and how two are joined."""

import inspect
import json
import logging
import re
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device
from torch import Tensor

from .transformer_jova import JoVAStream, JoVATransformer3DModel


logger = logging.getLogger(__name__)

Shape = tuple[int, ...]
CONFIG_NAMES = tuple(inspect.signature(JoVATransformer3DModel.__init__).parameters)[1:]
OTHER_BRANCH = {"video": "audio", "audio": "video"}
# what the config says about one branch; the rest is the same for both
BRANCH_KEYS = {"video": ("in_channels", "out_channels"), "audio": ("audio_in_channels", "audio_out_channels")}
VIDEO_TO_AUDIO = [
    (re.compile(r"^video_embedder\."), "audio_embedder."),
    (re.compile(r"^(norm_out|proj_out)\."), r"audio_\1."),
    (re.compile(r"^((?:single_)?transformer_blocks\.\d+)\.video(_text)?\."), r"\1.audio\2."),
]


def branch_config(config: dict[str, Any], branch: str) -> dict[str, Any]:
    """Return the config of one branch alone.

    Raises:
        ValueError: If the model has no such branch.
    """
    own, other = (BRANCH_KEYS[name][0] for name in (branch, OTHER_BRANCH[branch]))
    if config[own] is None:
        raise ValueError(f"The transformer has no {branch} branch (`{own}` is None in its config).")
    return {**config, other: None}


def copy_to_audio(
    video: JoVATransformer3DModel, config: dict[str, Any], seed: int = 0
) -> tuple[JoVATransformer3DModel, list[str]]:
    """Return an audio branch that starts as a copy of a video branch (section 3.2.1), and the names that are new.

    Args:
        video: Model with a video branch.
        config: Of the audio branch, of the same width and depth.
        seed: Of what cannot be copied because its shape differs: the linear layers to and from the latents.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        audio = JoVATransformer3DModel.from_config(config)
    copies = {audio_name(name): tensor for name, tensor in video.state_dict().items()}
    state_dict, new = audio.state_dict(), []
    for name, tensor in state_dict.items():
        if name in copies and copies[name].shape == tensor.shape:
            state_dict[name] = copies[name].clone()
        else:
            state_dict[name] = tensor.to(video.dtype)
            new.append(name)
    audio.load_state_dict(state_dict, assign=True)
    return audio, new


def audio_name(name: str) -> str | None:
    """Return the audio branch's counterpart of a parameter of the video branch; None where there is none."""
    for pattern, replacement in VIDEO_TO_AUDIO:
        if pattern.match(name):
            return pattern.sub(replacement, name)
    return None


def join_branches(
    video: JoVATransformer3DModel, audio: JoVATransformer3DModel, config: dict[str, Any]
) -> JoVATransformer3DModel:
    """Return the joint model of two branches; their tensors are taken over, not copied.

    Args:
        video, audio: Models of one branch each.
        config: For what belongs to neither branch alone, such as `attention_fusion`.

    Raises:
        ValueError: If the branches differ in what they must share, such as width and depth.
    """
    config = dict(config)
    for branch, model in (("video", video), ("audio", audio)):
        config |= {key: model.config[key] for key in BRANCH_KEYS[branch]}
    branch_keys = {key for keys in BRANCH_KEYS.values() for key in keys}
    own = branch_keys | {"attention_fusion"}
    shared = [key for key in config if key not in own and not key.startswith("_")]
    for model, name in ((video, "video"), (audio, "audio")):
        differing = [key for key in shared if as_plain(model.config[key]) != as_plain(config[key])]
        if differing:
            listed = ", ".join(f"{key} ({model.config[key]}, not {config[key]})" for key in differing)
            raise ValueError(f"The {name} branch does not fit the model: it differs in {listed}.")

    with init_empty_weights():
        transformer = JoVATransformer3DModel.from_config(config)
    tensors = {**video.state_dict(), **audio.state_dict()}
    new = []
    for name, parameter in list(transformer.named_parameters()):
        if name not in tensors:  # the linear layers between the modalities start at zero
            new.append(name)
            tensors[name] = torch.zeros(parameter.shape, dtype=video.dtype)
        set_module_tensor_to_device(transformer, name, "cpu", tensors[name], dtype=tensors[name].dtype)
    if new:
        logger.info(f"New in the joint model, at zero: {', '.join(new)}.")
    return transformer


def as_plain(value: Any) -> Any:
    """Return lists for tuples, as JSON does."""
    return json.loads(json.dumps(value))


def copies_that_fit(counterparts: Mapping[str, str], given: Mapping[str, Shape], expected: Mapping[str, Shape]):
    """Return those pairs of `counterparts` that have the same shape; a bias only together with its weight."""
    fits = {audio: video for audio, video in counterparts.items() if given.get(video) == expected[audio]}
    weights = {audio: audio.rpartition(".")[0] + ".weight" for audio in fits}
    return {audio: video for audio, video in fits.items() if weights[audio] in fits or weights[audio] not in expected}


class FreshWeights:
    """Draws tensors as a new `JoVATransformer3DModel` draws them, a part of the model at a time.

    What lies outside the blocks comes from the model without blocks, built after `torch.manual_seed(seed)`; a stream
    of a block is built alone, after a seed that its path changes.
    """

    def __init__(self, config: Mapping[str, Any], seed: int):
        self.config, self.seed = config, seed
        self.path: str | None = None
        self.part: dict[str, Tensor] = {}

    def draw(self, name: str, dtype: torch.dtype) -> Tensor:
        stream = re.match(r"\w*transformer_blocks\.\d+\.\w+\.", name)
        path = stream[0] if stream else ""
        if path != self.path:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.seed + zlib.crc32(path.encode()) if path else self.seed)
                part = self.stream(path) if path else self.model_without_blocks()
            self.path, self.part = path, part.state_dict()
        return self.part[name.removeprefix(path)].to(dtype, copy=True)

    def model_without_blocks(self) -> JoVATransformer3DModel:
        settings = {name: value for name, value in self.config.items() if name in CONFIG_NAMES}
        return JoVATransformer3DModel(**{**settings, "num_layers": 0, "num_single_layers": 0})

    def stream(self, path: str) -> JoVAStream:
        config = self.config
        dim = config["num_attention_heads"] * config["attention_head_dim"]
        cross = config["attention_fusion"] == "cross_linear" and not path.endswith("_text.")
        return JoVAStream(
            dim, config["num_attention_heads"], config["attention_head_dim"], config["ffn_ratio"], config["eps"], cross
        )
