# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Frames -> a video caption: Tarsier2 and Qwen2-VL, or another model of transformers that is shown several images.

F frames, P patches of all frames, D numbers of a patch
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoTokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)

from .captions import Answer, Captioner, generate
from .models import Place, load_model, read_config


# Tarsier2 is a Qwen2-VL in Llava's clothes: its names of weights -> those of Qwen2-VL in transformers.
TARSIER2_KEYS = {
    r"^vision_tower\.": "model.visual.",
    r"^language_model\.model\.": "model.language_model.",
    r"^language_model\.lm_head\.": "lm_head.",
}
# How Qwen2-VL and Tarsier2 are spoken to. Tarsier2's own template belongs to its own processor.
CHAT = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>{frames}<|vision_end|>{prompt}<|im_end|>\n<|im_start|>assistant\n"
)
IMAGE_TOKEN = "<|image_pad|>"
SMALLEST_FRAME = 56 * 56  # pixels, as Qwen2-VL has it: smaller ones are enlarged


def load_video_captioner(folder: Path, prompt: str, max_new_tokens: int, max_pixels: int, place: Place) -> Captioner:
    """Return the captioner in a folder: a Tarsier2, a Qwen2-VL, or another model; see `check_video_captioner`."""
    check_video_captioner(folder)
    config = read_config(folder)
    if is_qwen2_vl(config):
        return Qwen2VLCaptioner.from_folder(folder, config, prompt, max_new_tokens, max_pixels, place)
    return ImagesCaptioner.from_folder(folder, prompt, max_new_tokens, place)


def check_video_captioner(folder: Path) -> None:
    """Raise ValueError if a folder does not hold a model that answers questions about images."""
    config = read_config(folder)
    if is_qwen2_vl(config):
        return
    try:
        known = type(AutoConfig.from_pretrained(folder, local_files_only=True)) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    except ValueError:  # transformers does not know it at all
        known = False
    if not known:
        raise ValueError(
            f"`{folder}` is not a video captioner: its config.json says model_type {config.get('model_type')!r}. Give "
            "a Tarsier2, a Qwen2-VL, or another model that AutoModelForImageTextToText loads."
        )


def is_qwen2_vl(config: Mapping[str, Any]) -> bool:
    """Whether a config is that of a Qwen2-VL, or of a Tarsier2, which has one inside."""
    return config.get("model_type") == "qwen2_vl" or is_tarsier2(config)


def is_tarsier2(config: Mapping[str, Any]) -> bool:
    """Whether a config is Llava's around that of a Qwen2-VL."""
    return config.get("model_type") in ("llava", "tarsier2") and _inner(config).get("model_type") == "qwen2_vl"


def _inner(config: Mapping[str, Any]) -> dict[str, Any]:
    return dict(config.get("text_config") or {})


def qwen2_vl_config(config: Mapping[str, Any]) -> Qwen2VLConfig:
    """Return the Qwen2-VL inside the config of a Tarsier2; any other config as it is."""
    if not is_tarsier2(config):
        return Qwen2VLConfig.from_dict(dict(config))
    inner = {"vision_config": config.get("vision_config")} | _inner(config)
    if "image_token_index" in config:
        inner["image_token_id"] = config["image_token_index"]
    return Qwen2VLConfig.from_dict(inner)


class Qwen2VLCaptioner:
    """Asks a Qwen2-VL about frames.

    They go in as one image with F steps in time, as Tarsier2 was trained: each frame fills both places of a temporal
    patch. The image processor makes the patches, since that of videos needs torchvision.
    """

    def __init__(self, model, tokenizer, image_processor, prompt: str, max_new_tokens: int = 256):
        self.model, self.tokenizer, self.image_processor = model, tokenizer, image_processor
        self.prompt, self.max_new_tokens = prompt, max_new_tokens
        tokenizer.padding_side = "left"

    @classmethod
    def from_folder(
        cls, folder: Path, config: Mapping[str, Any], prompt: str, max_new_tokens: int, max_pixels: int, place: Place
    ) -> "Qwen2VLCaptioner":
        """Return the captioner of a folder, and check that its tokenizer knows how frames are marked."""
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if missing := [token for token in (IMAGE_TOKEN, "<|im_start|>") if token not in tokenizer.get_vocab()]:
            raise ValueError(f"The tokenizer of `{folder}` does not know {missing[0]}: it is not that of a Qwen2-VL.")
        # Tarsier2's own size has other keys, which the class does not know
        size = {"shortest_edge": SMALLEST_FRAME, "longest_edge": max(max_pixels, SMALLEST_FRAME)}
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder, size=size, local_files_only=True)
        kwargs: dict[str, Any] = {"config": qwen2_vl_config(config)}
        if is_tarsier2(config):
            kwargs["key_mapping"] = TARSIER2_KEYS
        model = load_model(Qwen2VLForConditionalGeneration, folder, place, **kwargs)
        return cls(model, tokenizer, image_processor, prompt, max_new_tokens)

    def answer(self, settings: Mapping[str, Any], inputs: Sequence[list[Image.Image]]) -> list[Answer]:
        """Return what the model says of each list of frames, which have one size."""
        patches, grids, texts = [], [], []
        for frames in inputs:
            processed = self.image_processor(frames, return_tensors="pt")
            patches.append(processed["pixel_values"])  # (P, D)
            grid = [len(frames), *processed["image_grid_thw"][0, 1:].tolist()]
            grids.append(grid)
            num_tokens = grid[0] * grid[1] * grid[2] // self.image_processor.merge_size**2
            texts.append(CHAT.format(frames=IMAGE_TOKEN * num_tokens, prompt=self.prompt))
        tokens = self.tokenizer(texts, padding=True, return_tensors="pt")
        image_token = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        shown = {
            **tokens,
            "pixel_values": torch.cat(patches),
            "image_grid_thw": torch.tensor(grids),
            "mm_token_type_ids": (tokens["input_ids"] == image_token).int(),
        }
        return generate(self.model, self.tokenizer, shown, settings, self.max_new_tokens)


class ImagesCaptioner:
    """Asks any model of transformers that takes several images and a text, in its own chat format."""

    def __init__(self, model, processor, prompt: str, max_new_tokens: int = 256):
        self.model, self.processor, self.prompt, self.max_new_tokens = model, processor, prompt, max_new_tokens
        processor.tokenizer.padding_side = "left"

    @classmethod
    def from_folder(cls, folder: Path, prompt: str, max_new_tokens: int, place: Place) -> "ImagesCaptioner":
        """Return the captioner of a folder, and check that it has a chat format."""
        try:
            processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        except ImportError as error:
            raise ImportError(f"The processor of `{folder}` needs a package: {' '.join(str(error).split())}") from None
        if getattr(processor, "chat_template", None) is None:
            raise ValueError(f"The processor of `{folder}` has no chat template, so it cannot be asked a question.")
        return cls(load_model(AutoModelForImageTextToText, folder, place), processor, prompt, max_new_tokens)

    def answer(self, settings: Mapping[str, Any], inputs: Sequence[list[Image.Image]]) -> list[Answer]:
        """Return what the model says of each list of frames."""
        texts = []
        for frames in inputs:
            content = [*[{"type": "image"}] * len(frames), {"type": "text", "text": self.prompt}]
            chat = [{"role": "user", "content": content}]
            texts.append(self.processor.apply_chat_template(chat, add_generation_prompt=True))
        shown = self.processor(text=texts, images=list(inputs), padding=True, return_tensors="pt")
        return generate(self.model, self.processor.tokenizer, shown, settings, self.max_new_tokens)
