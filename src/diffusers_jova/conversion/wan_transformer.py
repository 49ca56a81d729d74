# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A Wan transformer to `JoVAWanTransformer3DModel` and back.

The video branch is Wan's transformer, tensor by tensor; the audio branch begins as its copy. Wan comes in two layouts,
diffusers' and its authors'; their names are in `models.wan_names`.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from diffusers import WanTransformer3DModel

from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from ..models.wan_base import (
    CLEAN_FRAME_CHANNELS,
    IMAGE_CHANNELS,
    LATENT_CHANNELS,
    PARAMETERS,
    PATCHES,
    add_image_columns,
    columns_from_wan,
    columns_to_wan,
    drop_image_columns,
    image_settings,
)
from ..models.wan_names import BLOCK_PARTS, CONFIG_KEYS, OTHER_PARTS, TABLES
from ..presets import AUDIO_MODES
from .checkpoint import Checkpoint
from .errors import ConversionError
from .key_mapping import KeyMap, Rule
from .plan import Plan, complete_branches, meta_model, shapes_of
from .report import Report, Shape
from .streaming import Write, in_file_order


VERSION = "wan-1"
CLIP = ("add_k_proj", "add_v_proj", "norm_added", "image_embedder", "k_img", "v_img", "img_emb")
OTHER_MODELS = {"vace_": "VACE", "motion_encoder": "Animate", "face_adapter": "Animate", "audio_injector": "S2V"}


def rules(layout: str) -> tuple[Rule, ...]:
    """Return the rules from a layout of Wan, "diffusers" or "original", to our video branch."""
    if layout == "diffusers":
        block = Rule(("blocks.<i>.<rest*>",), ("transformer_blocks.<i>.video.<rest*>",), line="blocks")
        return block, Rule(("<rest*>",), ("video.<rest*>",), line="other parts")
    found = []
    for parts, source, target in (
        (BLOCK_PARTS, "blocks.<i>.", "transformer_blocks.<i>.video."),
        (OTHER_PARTS, "", "video."),
    ):
        for name, renamed in parts.items():
            end = "" if name in TABLES else ".<p>"
            found.append(Rule((f"{source}{name}{end}",), (f"{target}{renamed}{end}",), line=name))
    return tuple(found)


KEY_MAPS = {layout: KeyMap(VERSION, rules(layout)) for layout in ("diffusers", "original")}


def to_jova(
    checkpoint: Checkpoint,
    *,
    audio_mode: str = "44k",
    drop_image_encoder: bool = False,
    seed: int = 0,
    temporal_compression: int = 4,
) -> Plan:
    """Return the plan of the JoVA whose video branch is a Wan transformer, and whose audio branch is its copy.

    New are only the tensors of the audio branch whose shapes differ, between latents and tokens. A model without
    channels for an image gets 20 columns of zeros, so that it does the same until it has learnt to use them; Wan's
    channels for an image are put in our order; Wan2.2-TI2V-5B's are ours as they are.

    Args:
        checkpoint: in diffusers' layout or the original one.
        audio_mode: "16k" or "44k", the audio VAE.
        drop_image_encoder: leave out the layers of Wan2.1-I2V that read CLIP's image tokens.
        seed: of the new tensors.
        temporal_compression: video frames per latent frame of the VAE.

    Raises:
        ConversionError: If it is not a Wan that can be a video branch, with the reason. Tensors that do not fit are in
            the plan's report.
    """
    infos = checkpoint.infos
    refuse_others(checkpoint)
    clip = [name for name in infos if any(part in name for part in CLIP)]
    if clip and not drop_image_encoder:
        raise ConversionError(
            f"{checkpoint.path.name} is a Wan2.1 for images: {len(clip)} tensors, such as {clip[0]}, read the image "
            "through CLIP, which JoVA does not have. Take Wan2.2-I2V-A14B, which needs none, or pass "
            "--drop_image_encoder: the image is then seen through its 20 channels alone, which changes what it makes."
        )
    layout = layout_of(checkpoint)
    writes, unmatched = KEY_MAPS[layout].match({name: info for name, info in infos.items() if name not in clip})
    produced = {write.name: write for write in writes}
    settings = read_config(checkpoint, {name: write.shape for name, write in produced.items()})
    settings |= AUDIO_MODES[audio_mode].transformer
    try:
        settings |= image_settings(settings["in_channels"], settings["out_channels"], temporal_compression)
    except ValueError as error:
        raise ConversionError(f"{checkpoint.path.name}: {error}") from None
    produced[PATCHES] = image_channels_in(produced[PATCHES], settings)
    model = meta_model(JoVAWanTransformer3DModel, settings)

    unmatched_shapes = {name: infos[name].shape for name in unmatched}
    report, plan = complete_branches(model, produced, unmatched_shapes, clip, copy_audio=True, seed=seed)
    report.note_inputs([checkpoint])
    files = {"config.json": model.to_json_string()}
    return Plan(report, plan, checkpoint.files, metadata={"key_map": VERSION, "layout": layout}, files=files)


def to_wan(checkpoint: Checkpoint, *, layout: str | None = None, keep_image_channels: bool = False) -> Plan:
    """Return the plan of the Wan transformer that the video branch is; the inverse of `to_jova`.

    Args:
        checkpoint: a `JoVAWanTransformer3DModel`.
        layout: "diffusers" or "original"; None: that of the file it was made from, else diffusers'.
        keep_image_channels: write 36 input channels, in Wan's order, where the base had 16.

    Raises:
        ConversionError: If it is not such a model, or has learnt to read an image and that would be lost.
    """
    class_name = JoVAWanTransformer3DModel.__name__
    if PATCHES not in checkpoint.infos:
        raise ConversionError(
            f"{checkpoint.path.name} has no {PATCHES}: it is not a {class_name} with a video branch."
        )
    settings = {name: value for name, value in checkpoint.config.items() if name in PARAMETERS}
    if checkpoint.config.get("_class_name") != class_name:
        raise ConversionError(f"{checkpoint.path.name} has no config.json of a {class_name} beside it.")
    layout = layout or checkpoint.metadata.get("layout", "diffusers")
    video = {name: info for name, info in checkpoint.infos.items() if not is_audio(name)}
    model = meta_model(JoVAWanTransformer3DModel, settings | {"audio_in_channels": None})
    writes, unmatched = KEY_MAPS[layout].inverse.match(video)
    patches = image_channels_out(next(w for w in writes if w.origin == (PATCHES,)), model.config, keep_image_channels)
    writes = [patches if write.name == patches.name else write for write in writes]

    expected = shapes_of(model)
    report = Report.compare(
        {name: info.shape for name, info in video.items() if name not in unmatched},
        expected,
        {name: video[name].shape for name in unmatched},
        left_out=[name for name in checkpoint.infos if is_audio(name)],
    )
    report.note_inputs([checkpoint])
    files = {"config.json": wan_config(model.config, layout, patches.shape[1])}
    metadata = {"key_map": VERSION, "layout": layout}
    return Plan(report, in_file_order(writes), checkpoint.files, metadata=metadata, files=files)


CONVERTERS = {"jova": to_jova, "wan": to_wan}


# 1. What came


def refuse_others(checkpoint: Checkpoint) -> None:
    """Raise ConversionError for what is not a Wan of full precision, with what to do."""
    names = checkpoint.infos
    if any(name.startswith(("transformer_blocks.", "video.", "audio.")) for name in names):
        raise ConversionError(f"{checkpoint.path.name} has JoVA's names already, such as {next(iter(names))}.")
    for part, model in OTHER_MODELS.items():
        if found := next((name for name in names if part in name), None):
            raise ConversionError(
                f"{checkpoint.path.name} is a Wan {model} ({found}), whose video passes through more than Wan's "
                "blocks. Take a text-to-video Wan, or Wan2.2-I2V-A14B."
            )
    small = next((name for name, info in names.items() if info.dtype.itemsize == 1), None)
    if small is not None:
        dtype = str(names[small].dtype).removeprefix("torch.")
        raise ConversionError(
            f"{checkpoint.path.name} is in 8 bits ({small} is {dtype}), and what was rounded away does not come back. "
            "Take the bfloat16 or float16 file of the same model, or turn it back first: "
            "`WanTransformer3DModel.from_single_file(FILE, dtype=torch.bfloat16).save_pretrained(DIR)` for plain fp8 "
            "(not for fp8_scaled, whose scales it does not know)."
        )


def layout_of(checkpoint: Checkpoint) -> str:
    """Return "diffusers" or "original", by the names.

    Raises:
        ConversionError: If they are neither's.
    """
    for layout, parts in (
        ("diffusers", (".attn1.", "condition_embedder.")),
        ("original", (".self_attn.", "time_emb")),
    ):
        if any(part in name for name in checkpoint.infos for part in parts):
            return layout
    examples = ", ".join(list(checkpoint.infos)[:3])
    raise ConversionError(f"{checkpoint.path.name} is not a Wan transformer: its tensors are {examples}, ...")


def read_config(checkpoint: Checkpoint, shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """Return the arguments of the video branch, from config.json where there is one, else from the shapes.

    Args:
        shapes: of the video branch by our names.

    Raises:
        ConversionError: If too little is there to tell.
    """
    needed = {
        "patches": PATCHES,
        "head": "video.proj_out.weight",
        "text": "video.condition_embedder.text_embedder.linear_1.weight",
        "time": "video.condition_embedder.time_embedder.linear_1.weight",
        "ffn": "transformer_blocks.0.video.ffn.net.0.proj.weight",
    }
    if absent := [name for name in needed.values() if name not in shapes]:
        raise ConversionError(
            f"{checkpoint.path.name} is not a whole Wan transformer: {len(checkpoint.infos)} tensors, but none that "
            f"becomes {absent[0]}. Copy or download it again, with all its files."
        )
    found = {what: shapes[name] for what, name in needed.items()}
    dim, in_channels, *patch_size = found["patches"]
    blocks = {int(name.split(".")[1]) for name in shapes if name.startswith("transformer_blocks.")}
    settings: dict[str, Any] = {
        "patch_size": patch_size,
        "in_channels": in_channels,
        "out_channels": found["head"][0] // (patch_size[0] * patch_size[1] * patch_size[2]),
        "num_attention_heads": dim // 128,
        "attention_head_dim": 128,
        "num_layers": max(blocks) + 1,
        "ffn_dim": found["ffn"][0],
        "freq_dim": found["time"][1],
        "text_embed_dim": found["text"][1],
        "cross_attn_norm": any(name.endswith(".norm2.weight") for name in shapes),
    }
    own = {CONFIG_KEYS.get(name, name): value for name, value in checkpoint.config.items()}
    told_by_shapes = ("patch_size", "in_channels", "out_channels")
    settings |= {n: own[n] for n in PARAMETERS if own.get(n) is not None and n not in told_by_shapes}
    heads = settings["num_attention_heads"]
    if "attention_head_dim" not in own and heads and dim % heads == 0:
        settings["attention_head_dim"] = dim // heads
    return settings


def is_audio(name: str) -> bool:
    """Whether a tensor belongs to the audio branch, or to what joins both."""
    return JoVAWanTransformer3DModel.video_name(name) is not None or ".cross_linear." in name


# 2. The channels of the image


def image_channels_in(write: Write, settings: Mapping[str, Any]) -> Write:
    """Return the patch embedding with JoVA's channels, of a Wan's; `settings` are the model's."""
    if settings["condition_fill"] == "noisy":
        return write
    if settings["condition_fill"] == "grey":
        return replace(write, make=columns_from_wan, how="reordered")
    make = partial(add_image_columns, in_channels=settings["in_channels"])
    return replace(write, make=make, how="copied + zero columns")


def image_channels_out(write: Write, config: Mapping[str, Any], keep: bool) -> Write:
    """Return the patch embedding with the channels that Wan has."""
    if config["in_channels"] == config["out_channels"]:
        return write
    if keep and config["in_channels"] != IMAGE_CHANNELS:
        raise ConversionError(
            f"--keep_image_channels writes {IMAGE_CHANNELS} channels, as in Wan's models for images: "
            f"this model has {config['in_channels']}, for a VAE of another temporal compression."
        )
    if config["condition_fill"] == "grey" or keep:
        return replace(write, make=columns_to_wan, how="reordered")
    weight = write.sources[0].read()
    if weight[:, LATENT_CHANNELS:].any():
        raise ConversionError(
            "This model has learnt to read an image: the columns of its patch embedding that were added to a Wan "
            "without them are not zero any more, and a Wan of 16 channels would lose them. --keep_image_channels "
            "writes 36 channels, in the order of Wan's models for images (noisy, mask, image)."
        )
    return replace(write, make=drop_image_columns, how="copied - zero columns")


# 3. What Wan is told


def wan_config(config: Mapping[str, Any], layout: str, in_channels: int) -> str:
    """Return the text of config.json in a layout of Wan."""
    names = inspect.signature(WanTransformer3DModel.__init__).parameters
    if layout == "diffusers":
        settings = {
            name: config[CONFIG_KEYS.get(name, name)] for name in names if CONFIG_KEYS.get(name, name) in config
        }
        return meta_model(WanTransformer3DModel, settings | {"in_channels": in_channels}).to_json_string()
    settings = {
        "_class_name": "WanModel",
        "model_type": {LATENT_CHANNELS: "t2v", CLEAN_FRAME_CHANNELS: "ti2v"}.get(in_channels, "i2v"),
        "dim": config["num_attention_heads"] * config["attention_head_dim"],
        "in_dim": in_channels,
        "out_dim": config["out_channels"],
        "num_heads": config["num_attention_heads"],
    }
    settings |= {name: config[name] for name in ("eps", "ffn_dim", "freq_dim", "num_layers", "text_len")}
    return json.dumps(settings, indent=2) + "\n"
