# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The two branches of a transformer: how the audio branch starts from the video branch, and how two are joined.

One rule for training and conversion, over the names that the model's class gives (`TwoBranchMixin.video_name`):

- The audio branch starts as a copy of the video branch (arXiv:2512.13677, section 3.2.1): each tensor whose
  counterpart in the video branch has the same shape is copied, biases as well as weights.
- The rest, the linear layers from and to the latents, is drawn as a new audio branch draws it.
- What neither branch has alone joins the two, and starts at zero.
"""

import json
import logging
import zlib
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device

from .two_branches import TwoBranchMixin


logger = logging.getLogger(__name__)

Shape = tuple[int, ...]
OTHER_BRANCH = {"video": "audio", "audio": "video"}
# what the config says about one branch; the rest is the same for both
BRANCH_KEYS = {"video": ("in_channels", "out_channels"), "audio": ("audio_in_channels", "audio_out_channels")}
DEPTHS = {"transformer_blocks": "num_layers", "single_transformer_blocks": "num_single_layers"}


def branch_config(config: Mapping[str, Any], branch: str) -> dict[str, Any]:
    """Return the config of one branch alone, without what a config says of itself (`_class_name` and the like).

    Raises:
        ValueError: If the model has no such branch.
    """
    own, other = (BRANCH_KEYS[name][0] for name in (branch, OTHER_BRANCH[branch]))
    if config[own] is None:
        raise ValueError(f"The transformer has no {branch} branch (`{own}` is None in its config).")
    return {**public(config), other: None}


def public(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without private entries: diffusers puts defaults where `_use_default_values` tells it to."""
    return {key: value for key, value in config.items() if not key.startswith("_")}


def shapes(model: TwoBranchMixin) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def copied_tensors(
    model_class: type[TwoBranchMixin], video: Mapping[str, Shape], audio: Mapping[str, Shape]
) -> dict[str, str]:
    """Return which tensors of a new audio branch are copied, each with the name of its source in the video branch.

    Args:
        model_class: Whose names they are.
        video: The shapes of the video branch's tensors, by name.
        audio: Those of the audio branch's. In both, tensors of the other branch do no harm.
    """
    sources = {name: model_class.video_name(name) for name in audio}
    return {name: source for name, source in sources.items() if source in video and video[source] == audio[name]}


def joining_tensors(model_class: type[TwoBranchMixin], config: Mapping[str, Any]) -> list[str]:
    """Return the names of the tensors that neither branch has alone; they start at zero."""
    if any(config[channels] is None for channels, _ in BRANCH_KEYS.values()):
        return []
    with init_empty_weights():
        joint, *alone = (
            model_class.from_config(settings).state_dict()
            for settings in (public(config), branch_config(config, "video"), branch_config(config, "audio"))
        )
    return [name for name in joint if not any(name in branch for branch in alone)]


class NewTensors:
    """Draws tensors as a new model of their branch alone draws them.

    What lies outside the blocks comes from the branch without blocks, built after `torch.manual_seed(seed)`; what lies
    in a block from the branch with one block, built after a seed that the place of the block changes. So drawing takes
    the memory of one block, and depends neither on what else is drawn nor on the other branch.

    Args:
        model_class: Of the model, which names its tensors.
        config: Of the model, of one branch or both.
    """

    def __init__(self, model_class: type[TwoBranchMixin], config: Mapping[str, Any], seed: int):
        self.model_class, self.config, self.seed = model_class, config, seed
        self.place: tuple[str, str] | None = None
        self.drawn: dict[str, torch.Tensor] = {}

    def draw(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """Return the tensor `name`, on the CPU, cast to `dtype` after it was drawn in float32."""
        branch = "video" if self.model_class.video_name(name) is None else "audio"
        stage, index, *_ = *name.split("."), "", ""
        block = f"{stage}.{index}." if stage in DEPTHS else ""
        if (branch, block) != self.place:
            self.place, self.drawn = (branch, block), self._draw_part(branch, stage, block)
        first = f"{stage}.0." if block else ""
        return self.drawn[first + name.removeprefix(block)].to(dtype, copy=True)

    def _draw_part(self, branch: str, stage: str, block: str) -> dict[str, torch.Tensor]:
        depths = {depth: int(name == stage) for name, depth in DEPTHS.items() if depth in self.config}
        seed = self.seed + zlib.crc32(f"{block}{branch}.".encode()) if block else self.seed
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return self.model_class.from_config(branch_config(self.config, branch) | depths).state_dict()


def copy_to_audio(video: TwoBranchMixin, config: Mapping[str, Any], seed: int = 0) -> tuple[TwoBranchMixin, list[str]]:
    """Return an audio branch that starts as a copy of a video branch, and the names of what is new in it.

    Args:
        video: Model with a video branch.
        config: Of the audio branch, of the same width and depth.
        seed: Of what cannot be copied because its shape differs: the linear layers to and from the latents.
    """
    model_class, tensors = type(video), video.state_dict()
    with init_empty_weights():
        audio = model_class.from_config(public(config))
    expected = shapes(audio)
    copies = copied_tensors(model_class, shapes(video), expected)
    new_tensors = NewTensors(model_class, config, seed)
    new = [name for name in expected if name not in copies]
    state_dict = {name: tensors[source].clone() for name, source in copies.items()}
    for name in new:
        counterpart = tensors.get(model_class.video_name(name))
        state_dict[name] = new_tensors.draw(name, video.dtype if counterpart is None else counterpart.dtype)
    audio.load_state_dict(state_dict, assign=True)
    return audio, new


def join_branches(video: TwoBranchMixin, audio: TwoBranchMixin, config: Mapping[str, Any]) -> TwoBranchMixin:
    """Return the joint model of two branches; their tensors are taken over, not copied.

    Args:
        video, audio: Models of one branch each.
        config: For what belongs to neither branch alone, such as `attention_fusion`.

    Raises:
        ValueError: If the branches differ in what they must share, such as width and depth.
    """
    config = public(config)
    for branch, model in (("video", video), ("audio", audio)):
        config |= {key: model.config[key] for key in BRANCH_KEYS[branch]}
    own = {key for keys in BRANCH_KEYS.values() for key in keys} | {"attention_fusion"}
    for model, name in ((video, "video"), (audio, "audio")):
        differing = [key for key in config if key not in own and as_plain(model.config[key]) != as_plain(config[key])]
        if differing:
            listed = ", ".join(f"{key} ({model.config[key]}, not {config[key]})" for key in differing)
            raise ValueError(f"The {name} branch does not fit the model: it differs in {listed}.")

    with init_empty_weights():
        transformer = type(video).from_config(config)
    tensors = {**video.state_dict(), **audio.state_dict()}
    new = []
    for name, parameter in list(transformer.named_parameters()):
        if name not in tensors:
            new.append(name)
            tensors[name] = torch.zeros(parameter.shape, dtype=video.dtype)
        set_module_tensor_to_device(transformer, name, "cpu", tensors[name], dtype=tensors[name].dtype)
    if new:
        logger.info(f"New in the joint model, at zero: {', '.join(new)}.")
    return transformer


def as_plain(value: Any) -> Any:
    """Return lists for tuples, as JSON does."""
    return json.loads(json.dumps(value))
