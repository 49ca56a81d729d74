# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a call of the pipeline asks for, and what can be wrong with it.

Every check raises a ValueError that says what came, what is allowed and what to do.

B batch, T text tokens
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

import torch

from ..latents import exact_frame_rate, nearest_num_frames
from .prompts import NEGATIVE_TEXTS, PROMPT_TEXTS, names_of_embeds


MODALITIES = ("video", "audio")
OUTPUT_TYPES = ("pil", "np", "pt", "latent")
# what a checkpoint brings its own values for; see also `audio_guidance_scale`
DEFAULTS = (
    *("height", "width", "num_frames", "frame_rate", "num_inference_steps"),
    *("guidance_scale", "modality_scale", "audio_modality_scale"),
)
SCALES = ("guidance_scale", "audio_guidance_scale", "modality_scale", "audio_modality_scale", "apg_norm_threshold")


def named_modalities(modalities: Any) -> tuple[str, ...]:
    """Return modalities as a tuple; a single one may come by its name."""
    return (modalities,) if isinstance(modalities, str) else tuple(modalities)


@dataclass(frozen=True)
class CallSettings:
    """How a call makes its clips: its arguments, with the checkpoint's values where a call was given None.

    Attributes are arguments of `JoVAPipeline.__call__`, and mean what they mean there.
    """

    height: int
    width: int
    num_frames: int
    frame_rate: float | Fraction
    num_inference_steps: int
    sigmas: list[float] | None
    guidance_scale: float
    audio_guidance_scale: float | None
    modality_scale: float
    audio_modality_scale: float
    apg_norm_threshold: float | None
    num_videos_per_prompt: int
    modalities: tuple[str, ...]
    output_type: str
    callback_on_step_end_tensor_inputs: list[str]
    batch_guidance: bool

    @classmethod
    def from_arguments(cls, arguments: Mapping[str, Any], config: Mapping[str, Any]) -> "CallSettings":
        """Return the settings of a call with `arguments`, by a pipeline with `config`."""
        values = {field.name: arguments[field.name] for field in fields(cls)}
        if values["guidance_scale"] is None and values["audio_guidance_scale"] is None:
            values["audio_guidance_scale"] = config["audio_guidance_scale"]
        if values["num_inference_steps"] is None and values["sigmas"] is not None:
            values["num_inference_steps"] = len(values["sigmas"])
        values |= {name: config[name] for name in DEFAULTS if values[name] is None}
        values["modalities"] = named_modalities(values["modalities"])
        return cls(**values)


def check_modalities(
    modalities: tuple[str, ...], output_type: str, components: Mapping[str, Any], given: tuple[str, ...] = ()
) -> None:
    """Check that the modalities are known, and that the pipeline has the components that make them.

    Args:
        given: The modalities that are given whole, which are encoded and not decoded.
    """
    if not modalities or len(set(modalities)) < len(modalities) or not set(modalities) <= set(MODALITIES):
        raise ValueError(f"`modalities` must be one or both of {MODALITIES}, got {modalities}.")
    needed = ["transformer", "scheduler"]
    if "video" in modalities:
        needed += ["vae"]
    if "audio" in modalities and "audio" in given:
        needed += ["audio_vae"]
    elif "audio" in modalities and output_type != "latent":
        needed += ["audio_vae", "vocoder"]
    missing = [name for name in needed if components[name] is None]
    if missing:
        raise ValueError(
            f"`modalities={modalities}` needs {' and '.join(f'`{name}`' for name in missing)}, which this "
            "pipeline was loaded without. Load the pipeline with it, or choose the other modality alone."
        )
    for modality, channels in (("video", "in_channels"), ("audio", "audio_in_channels")):
        if modality in modalities and components["transformer"].config[channels] is None:
            raise ValueError(
                f"`modalities={modalities}`, but this transformer was built without its {modality} branch "
                f"(`{channels}=None`). Choose the other modality alone."
            )


def check_image(image: Any, modalities: tuple[str, ...], config: Mapping[str, Any]) -> None:
    """Check that a reference image, if any, is for a video, and for a transformer (of `config`) that takes one."""
    if image is not None and "video" not in modalities:
        raise ValueError(
            f"`image` is the first frame of the video, but `modalities={modalities}` does not ask for a video. "
            "Add 'video', or leave out `image`."
        )
    is_without_channels = config["in_channels"] == config["out_channels"]
    if image is not None and is_without_channels and config.get("condition_fill") != "noisy":
        raise ValueError(
            "`image` was given, but this transformer has no channels for a reference image (`in_channels` equals "
            "`out_channels`). Leave out `image`, or load a transformer that has them."
        )


def check_texts(
    texts: Mapping[str, Any], embeds: Mapping[str, torch.Tensor | None], is_optional: bool = False
) -> None:
    """Check the texts' types, that each prompt comes as text or encoded, and that all are for the same samples.

    Args:
        is_optional: Whether there may be no prompt, which means three empty lines.
    """
    for name, text in texts.items():
        is_list = isinstance(text, list | tuple) and all(isinstance(line, str) for line in text)
        if not (text is None or isinstance(text, str) or is_list):
            raise ValueError(f"`{name}` has to be of type `str` or `list` of `str` but is {text!r}.")
    for prefix, names in (("", PROMPT_TEXTS), ("negative_", NEGATIVE_TEXTS)):
        given_texts = [name for name in names if texts[name] is not None]
        given_embeds = [name for name in names_of_embeds(prefix) if embeds[name] is not None]
        if given_texts and given_embeds:
            raise ValueError(
                f"Cannot forward both `{given_texts[0]}`: {texts[given_texts[0]]!r} and `{given_embeds[0]}`. "
                "Provide only one of them."
            )
        if not (prefix or given_texts or given_embeds or is_optional):
            raise ValueError("Provide either `prompt` or `prompt_embeds`. Cannot leave both undefined.")
    lengths = samples_per_argument(texts, embeds)
    if len(set(lengths.values())) > 1 or 0 in lengths.values():
        raise ValueError(f"Lists of texts must have the same length, one entry per sample, got {lengths}.")


def samples_per_argument(texts: Mapping[str, Any], embeds: Mapping[str, torch.Tensor | None]) -> dict[str, int]:
    """Return how many samples each argument is for; a single string, or a single negative, is for all."""
    lengths = {name: len(text) for name, text in texts.items() if isinstance(text, list | tuple)}
    lengths |= {name: len(tensor) for name, tensor in embeds.items() if tensor is not None}
    lengths = {name: length for name, length in lengths.items() if length != 1 or not name.startswith("negative_")}
    return lengths if any(not name.startswith("negative_") for name in lengths) else {"prompt": 1, **lengths}


def check_embeds(
    embeds: Mapping[str, torch.Tensor | None], loaded: tuple[bool, bool], do_classifier_free_guidance: bool
) -> None:
    """Check that masks fit their states, and that prompt and negative come from the same text encoders.

    Args:
        embeds: By the names in `PROMPT_EMBEDS`: states (B, T, text_embed_dim) and masks (B, T).
        loaded: Whether the pipeline has its first text encoder, and its second.
    """
    for name, states in embeds.items():
        mask = embeds.get(name.replace("embeds", "attention_mask"))
        if "mask" not in name and mask is not None and (states is None or mask.shape != states.shape[:2]):
            shape = "none" if states is None else tuple(states.shape)
            raise ValueError(
                f"The attention mask of `{name}` must have its shape without the last axis, "
                f"got {tuple(mask.shape)} for {shape}."
            )
    given = {
        prefix: tuple(embeds[name] is not None for name in names_of_embeds(prefix)) for prefix in ("", "negative_")
    }
    encoders, negative_encoders = (names if any(names) else loaded for names in given.values())
    if do_classifier_free_guidance and any(negative_encoders) and encoders != negative_encoders:
        raise ValueError(
            "A prompt and its negative must come from the same text encoders, but of the embeddings only "
            f"{[name for name, tensor in embeds.items() if tensor is not None]} were given. "
            "Pass all that `encode_prompt` returned."
        )


def check_video_shape(settings: CallSettings, pixels_per_token: int, temporal_compression: int) -> None:
    """Check that height and width divide into the transformer's tokens, and the frames into latent frames."""
    height, width, num_frames = settings.height, settings.width, settings.num_frames
    if height % pixels_per_token or width % pixels_per_token or height <= 0 or width <= 0:
        nearest = [max(round(size / pixels_per_token), 1) * pixels_per_token for size in (height, width)]
        raise ValueError(
            f"`height` and `width` have to be divisible by {pixels_per_token} but are {height} and {width}. "
            f"Nearest: {nearest[0]} and {nearest[1]}."
        )
    below, above = nearest_num_frames(num_frames, temporal_compression)
    if num_frames != below:
        raise ValueError(
            f"`num_frames` must be {temporal_compression}k + 1 for the video VAE, got {num_frames}. "
            f"Nearest: {below} or {above}."
        )


def check_numbers(settings: CallSettings) -> None:
    """Check counts, noise levels, frame rate and scales, which are the same for every model."""
    for name in ("num_frames", "num_inference_steps", "num_videos_per_prompt"):
        if getattr(settings, name) < 1:
            raise ValueError(f"`{name}` must be at least 1, got {getattr(settings, name)}.")
    if settings.sigmas is not None and len(settings.sigmas) != settings.num_inference_steps:
        raise ValueError(
            f"`sigmas` has {len(settings.sigmas)} steps, but `num_inference_steps` is {settings.num_inference_steps}. "
            "Give `sigmas` alone."
        )
    exact_frame_rate(settings.frame_rate)
    for name in SCALES:
        scale = getattr(settings, name)
        if scale is not None and not (scale >= 0 and math.isfinite(scale)):
            off = "None" if name == "apg_norm_threshold" else "1.0"
            raise ValueError(f"`{name}` must be a number of 0 or more, got {scale}. {off} turns this guidance off.")


def check_output(settings: CallSettings, callback_tensor_inputs: list[str]) -> None:
    """Check the type of the output, and that a callback asks for tensors that there are: `callback_tensor_inputs`."""
    if settings.output_type not in OUTPUT_TYPES:
        raise ValueError(f"`output_type` must be one of {OUTPUT_TYPES}, got {settings.output_type!r}.")
    wanted = settings.callback_on_step_end_tensor_inputs or ()
    unknown = [name for name in wanted if name not in callback_tensor_inputs]
    if unknown:
        raise ValueError(
            f"`callback_on_step_end_tensor_inputs` has to be in {callback_tensor_inputs}, but found {unknown}"
        )
