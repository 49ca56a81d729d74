# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Where a run's transformer comes from: one branch or both, of one folder or two, the sound copied from the video."""

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights
from accelerate.utils import set_module_tensor_to_device

from ..files import DamagedError, reading_folder
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.transformer_jova import JoVATransformer3DModel
from ..pipeline_folder import read_pipeline_folder
from .config import TrainingConfig
from .step import LatentScales


logger = logging.getLogger(__name__)

OTHER_BRANCH = {"video": "audio", "audio": "video"}
# what the config says about one branch; the rest is the same for both
BRANCH_KEYS = {"video": ("in_channels", "out_channels"), "audio": ("audio_in_channels", "audio_out_channels")}
VIDEO_TO_AUDIO = [
    (re.compile(r"^video_embedder\."), "audio_embedder."),
    (re.compile(r"^(norm_out|proj_out)\."), r"audio_\1."),
    (re.compile(r"^((?:single_)?transformer_blocks\.\d+)\.video(_text)?\."), r"\1.audio\2."),
]


def load_transformer(config: TrainingConfig, dtype: torch.dtype = torch.float32) -> JoVATransformer3DModel:
    """Return the transformer that a run starts from, on CPU, in training mode.

    A single branch is loaded alone, from a folder of one branch or of both. Both branches come from `model`, or each
    from where `video_transformer` and `audio_transformer` say: the results of stage 1.

    Raises:
        FileNotFoundError: If a folder holds no transformer.
        ValueError: If a transformer lacks the branch asked for, or two do not fit together.
    """
    folders = transformer_folders(config)
    logger.info("Loading the transformer ...")
    if config.branch != "joint" and not config.init_audio_from_video:
        transformer = load_branch(folders[config.branch], config.branch, dtype)
    else:
        transformer = load_joint(folders, config, dtype)
    logger.info(f"Transformer: {describe_sources(folders, config)}")
    return transformer.train()


def transformer_folders(config: TrainingConfig) -> dict[str, Path]:
    """Return the folder from which each branch's weights come."""
    own = find_transformer(config.model)
    return {
        "video": find_transformer(config.video_transformer) if config.video_transformer else own,
        "audio": find_transformer(config.audio_transformer) if config.audio_transformer else own,
    }


def describe_sources(folders: dict[str, Path], config: TrainingConfig) -> str:
    audio = "a copy of the video branch" if config.init_audio_from_video else f"`{folders['audio']}`"
    sources = {"video": f"video branch of `{folders['video']}`", "audio": f"audio branch: {audio}"}
    return "; ".join(sources[name] for name in sources if config.branch in (name, "joint")) + "."


def find_transformer(folder: str | os.PathLike) -> Path:
    """Return the folder with the transformer's config.json: `folder` itself, or its subfolder `transformer`."""
    for candidate in (Path(folder) / "transformer", Path(folder)):
        if (candidate / "config.json").is_file():
            return candidate
    raise FileNotFoundError(f"`{folder}` holds no transformer: there is no config.json, nor transformer/config.json.")


def read_config(folder: Path) -> dict[str, Any]:
    """Return the transformer's config in a folder, defaults included."""
    with init_empty_weights(), reading_folder(folder):
        config = JoVATransformer3DModel.load_config(folder)
        if config.get("_class_name") != JoVATransformer3DModel.__name__:
            raise DamagedError(f"`{folder / 'config.json'}` is not the config of a {JoVATransformer3DModel.__name__}.")
        config = dict(JoVATransformer3DModel.from_config(config).config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def branch_config(config: dict[str, Any], branch: str) -> dict[str, Any]:
    """Return the config of one branch alone.

    Raises:
        ValueError: If the model has no such branch.
    """
    own, other = (BRANCH_KEYS[name][0] for name in (branch, OTHER_BRANCH[branch]))
    if config[own] is None:
        raise ValueError(f"The transformer has no {branch} branch (`{own}` is None in its config).")
    return {**config, other: None}


def load_branch(folder: Path, branch: str, dtype: torch.dtype = torch.float32) -> JoVATransformer3DModel:
    """Return one branch of the transformer in a folder; the other one's weights are not loaded.

    Raises:
        ValueError: If the folder has no such branch, or lacks weights of it.
    """
    try:
        config = branch_config(read_config(folder), branch)
    except ValueError as error:
        raise ValueError(f"`{folder}`: {error}") from None
    absent = BRANCH_KEYS[OTHER_BRANCH[branch]][0]
    with quiet_diffusers(), reading_folder(folder):  # it would list the other branch's weights
        transformer, info = JoVATransformer3DModel.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, **{absent: config[absent]}
        )
    if info["missing_keys"]:
        raise ValueError(f"`{folder}` lacks weights of its {branch} branch: {sorted(info['missing_keys'])[:5]}.")
    return transformer


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Silence diffusers' warnings in the block."""
    verbosity = diffusers.logging.get_verbosity()
    diffusers.logging.set_verbosity_error()
    try:
        yield
    finally:
        diffusers.logging.set_verbosity(verbosity)


def load_joint(
    folders: dict[str, Path], config: TrainingConfig, dtype: torch.dtype = torch.float32
) -> JoVATransformer3DModel:
    """Return both branches, or the audio branch alone where that starts as a copy of the video branch."""
    if not config.init_audio_from_video and folders["video"] == folders["audio"]:
        model_config = read_config(folders["video"])
        for branch in BRANCH_KEYS:
            branch_config(model_config, branch)
        with reading_folder(folders["video"]):
            return JoVATransformer3DModel.from_pretrained(folders["video"], dtype=dtype)
    video = load_branch(folders["video"], "video", dtype)
    # which channels the sound has, and what joins the two, is the model's own business
    model_config = read_config(find_transformer(config.model))
    if not config.init_audio_from_video:
        return join_branches(video, load_branch(folders["audio"], "audio", dtype), model_config)
    audio, new = copy_to_audio(video, branch_config(model_config, "audio"), config.seed)
    logger.info(f"The audio branch is a copy of the video branch; new are {', '.join(new)}.")
    return audio if config.branch == "audio" else join_branches(video, audio, model_config)


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


def read_scales(model: str | os.PathLike, transformer_config: dict[str, Any]) -> LatentScales:
    """Return the latents' scales of a pipeline's folder, without loading its VAEs' weights."""
    return LatentScales(
        vae=read_component_config(model, "vae"),
        audio_vae=read_component_config(model, "audio_vae"),
        in_channels=transformer_config["in_channels"],
        temporal_compression=transformer_config["vae_temporal_compression"],
    )


def read_component_config(model: str | os.PathLike, name: str) -> Any:
    """Return the config of a pipeline's VAE, defaults included; None where the pipeline has none."""
    class_name = read_pipeline_folder(model).parts.get(name)
    if class_name is None:
        return None
    with reading_folder(model), init_empty_weights():
        cls = AutoencoderMMAudio if class_name == "AutoencoderMMAudio" else getattr(diffusers, class_name)
        return cls.from_config(cls.load_config(Path(model) / name)).config
