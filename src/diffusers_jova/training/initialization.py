# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Where a run's transformer comes from: one branch or both, of one folder or two, the audio copied from the video."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import torch
from accelerate import init_empty_weights

from ..files import DamagedError, reading_folder
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.branches import BRANCH_KEYS, OTHER_BRANCH, branch_config, copy_to_audio, join_branches
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from ..pipeline_folder import is_pipeline_folder, read_pipeline_folder
from .config import TrainingConfig
from .dataset import CachedClips
from .step import LatentScales


logger = logging.getLogger(__name__)


def load_transformer(config: TrainingConfig, dtype: torch.dtype = torch.float32) -> JoVATransformer3DModel:
    """Return the transformer that a run starts from, on CPU, in training mode.

    A single branch is loaded alone, from a folder of one branch or of both. Both branches come from `model`, or each
    from where `video_transformer` and `audio_transformer` say: the results of stage 1.

    Raises:
        FileNotFoundError: If a folder does not hold a transformer.
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
    raise FileNotFoundError(
        f"`{folder}` does not hold a transformer: it has neither config.json nor transformer/config.json. Give the "
        "folder of a pipeline, or of its transformer."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """Return the transformer's config in a folder, defaults included."""
    with init_empty_weights(), reading_folder(folder):
        config = JoVATransformer3DModel.load_config(folder)
        classes = {cls.__name__: cls for cls in (JoVATransformer3DModel, JoVAWanTransformer3DModel)}
        if config.get("_class_name") not in classes:
            names = " or of a ".join(classes)
            raise DamagedError(f"`{folder / 'config.json'}` is not the config of a {names}.")
        config = dict(classes[config["_class_name"]].from_config(config).config)
    return {key: value for key, value in config.items() if not key.startswith("_")}


def transformer_class(config: Mapping[str, Any]) -> type[JoVATransformer3DModel] | type[JoVAWanTransformer3DModel]:
    """Return the class that a transformer's config is of: on a Wan base, blocks have a width of their own."""
    return JoVAWanTransformer3DModel if "ffn_dim" in config else JoVATransformer3DModel


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
        transformer, info = transformer_class(config).from_pretrained(
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
            return transformer_class(model_config).from_pretrained(folders["video"], dtype=dtype)
    video = load_branch(folders["video"], "video", dtype)
    # which channels the audio has, and what joins the two, is the model's own business
    model_config = read_config(find_transformer(config.model))
    if not config.init_audio_from_video:
        return join_branches(video, load_branch(folders["audio"], "audio", dtype), model_config)
    audio, new = copy_to_audio(video, branch_config(model_config, "audio"), config.seed)
    logger.info(f"The audio branch is a copy of the video branch; new are {', '.join(new)}.")
    return audio if config.branch == "audio" else join_branches(video, audio, model_config)


def read_scales(model: str | os.PathLike, transformer_config: dict[str, Any]) -> LatentScales:
    """Return the latents' scales of a pipeline's folder, without loading its VAEs' weights."""
    return LatentScales(
        vae=read_component_config(model, "vae"),
        audio_vae=read_component_config(model, "audio_vae"),
        in_channels=transformer_config["in_channels"],
        temporal_compression=transformer_config["vae_temporal_compression"],
        audio_latent_rate=transformer_config["audio_latent_rate"],
        condition_mode=transformer_config.get("condition_mode") or "noised",
        condition_fill=transformer_config.get("condition_fill", "black"),
    )


def check_condition(config: TrainingConfig, clips: CachedClips) -> None:
    """Compare what a cache holds beside a reference image with what the transformer wants there.

    Raises:
        ValueError: If it is not the same, or a task needs more than a cache can hold.
    """
    planned = planned_config(config)
    wanted, found = planned.get("condition_fill", "black"), clips.condition_fill
    if planned["in_channels"] is None or "video" not in {m for some in clips.modalities.values() for m in some}:
        return
    if wanted != found:
        raise ValueError(
            f"The cache `{config.cache_dir}` holds {found} frames beside a reference image, the transformer wants "
            f"{wanted} ones (`condition_fill` in its config): preprocess the clips with `--model {config.model}`, "
            "into another folder."
        )
    if wanted == "grey" and "continuation" in config.tasks:
        raise ValueError(
            "`task_probabilities` has continuation, but this transformer, made of a Wan for images, wants the "
            "beginning of a clip and grey frames behind it encoded as one video, which a cache cannot hold for every "
            "moment: leave the task out."
        )


def settle_condition_mode(transformer: JoVATransformer3DModel, config: TrainingConfig) -> None:
    """Write into a transformer's config how it learns what is given: "clean", unless the config says it already.

    The pipeline reads it there. What is trained without a task in which a modality is given stays as it is.
    """
    if set(config.tasks) != {"t2av"} and transformer.config.get("condition_mode") is None:
        # where the file has no such key, diffusers remembers to take the default whenever it copies the config
        defaults = [name for name in transformer.config.get("_use_default_values", ()) if name != "condition_mode"]
        transformer.register_to_config(condition_mode="clean", _use_default_values=defaults)


def read_component_config(model: str | os.PathLike, name: str) -> Any:
    """Return the config of a pipeline's VAE, defaults included; None where the pipeline has none."""
    class_name = read_pipeline_folder(model).parts.get(name)
    if class_name is None:
        return None
    with reading_folder(model), init_empty_weights():
        cls = AutoencoderMMAudio if class_name == "AutoencoderMMAudio" else getattr(diffusers, class_name)
        return cls.from_config(cls.load_config(Path(model) / name)).config


def planned_config(config: TrainingConfig) -> dict[str, Any]:
    """Return the config of the transformer that will be trained, without loading it."""
    if is_pipeline_folder(config.model):
        read_pipeline_folder(config.model).refuse_wan()
    own = find_transformer(config.model)
    if config.branch == "joint":
        return read_config(own)
    source = {"video": config.video_transformer, "audio": config.audio_transformer}[config.branch]
    return branch_config(read_config(find_transformer(source) if source else own), config.branch)
