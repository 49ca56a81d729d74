# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The prompt's three labelled lines (Fig. 2), and encoded prompts as files."""

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..files import whole_file


LABELS = ("<Video Caption>:", "<Audio Caption>:", "<Transcript>:")

# What `JoVAPipeline.encode_prompt` returns, in its order; all of them are arguments of the pipeline's call.
PROMPT_EMBEDS = (
    "prompt_embeds",
    "prompt_attention_mask",
    "prompt_embeds_2",
    "prompt_attention_mask_2",
    "negative_prompt_embeds",
    "negative_prompt_attention_mask",
    "negative_prompt_embeds_2",
    "negative_prompt_attention_mask_2",
)


def split_lines(text: str) -> list[str]:
    """Return the lines of `text`, which line feeds and carriage returns end.

    `str.splitlines` also breaks at U+2028, U+0085 and others, which people paste into the middle of a line.
    """
    return re.split(r"\r\n|\r|\n", text)


def is_labelled(prompt: str | None) -> bool:
    """Whether `prompt` already holds labelled lines."""
    return any(line.lstrip().startswith(LABELS) for line in split_lines(prompt or ""))


def format_prompt(prompt: str | None = None, audio_prompt: str | None = None, transcript: str | None = None) -> str:
    """Return the text that the encoders read: three labelled lines, one of them or all possibly empty.

    White space is folded, so that each text stays on its line. A `prompt` that is labelled already is returned as it
    is. With nothing given this is the unconditional prompt, in inference and in training.

    Raises:
        ValueError: If `prompt` is labelled and another text is given beside it.
    """
    if is_labelled(prompt):
        if audio_prompt or transcript:
            raise ValueError(
                f"`prompt` already has labelled lines ({', '.join(LABELS)}): put the other texts there too, or pass "
                "a plain `prompt` beside `audio_prompt` and `transcript`."
            )
        return prompt
    texts = (prompt, audio_prompt, transcript)
    return "\n".join(" ".join([label, *(text or "").split()]) for label, text in zip(LABELS, texts))


def save_prompt_embeds(path: str | os.PathLike, prompt_embeds: tuple[torch.Tensor | None, ...]) -> None:
    """Write what `JoVAPipeline.encode_prompt` returned to a safetensors file, whole or not at all.

    Args:
        path: The file; its folder must exist.
        prompt_embeds: The eight tensors in `encode_prompt`'s order; None where there is none.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist: create it first.")
    if len(prompt_embeds) != len(PROMPT_EMBEDS):
        raise ValueError(f"Expected the {len(PROMPT_EMBEDS)} outputs of `encode_prompt`, got {len(prompt_embeds)}.")
    tensors = {name: tensor.contiguous() for name, tensor in zip(PROMPT_EMBEDS, prompt_embeds) if tensor is not None}
    with whole_file(path) as partial:
        save_file(tensors, partial)


def load_prompt_embeds(path: str | os.PathLike, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Return the arguments saved by `save_prompt_embeds`: `pipe(**load_prompt_embeds("prompt.safetensors"))`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"No file {str(path)!r}: encode a prompt first and save it with `save_prompt_embeds`.")
    try:
        tensors = load_file(path, device=str(device))
    except SafetensorError as error:
        raise ValueError(f"{str(path)!r} is no whole safetensors file ({error}): encode the prompt again.") from None
    unknown = sorted(set(tensors) - set(PROMPT_EMBEDS))
    if unknown or not tensors:
        raise ValueError(f"{str(path)!r} holds no encoded prompt: got {unknown}, allowed are {list(PROMPT_EMBEDS)}.")
    return tensors
