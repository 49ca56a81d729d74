# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The prompt's three labelled lines (Fig. 2); what the encoders make of them, by name; and the same as files.

B batch, T text tokens
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..files import whole_file
from ..text import split_lines


LABELS = ("<Video Caption>:", "<Audio Caption>:", "<Transcript>:")

PROMPT_FORMATS = ("labelled", "plain")

# The texts of a call, in the order of the lines; the negative has no transcript.
PROMPT_TEXTS = ("prompt", "audio_prompt", "transcript")
NEGATIVE_TEXTS = ("negative_prompt", "negative_audio_prompt")
TEXTS = PROMPT_TEXTS + NEGATIVE_TEXTS

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


def clean_prompt(prompt: str | None = None, audio_prompt: str | None = None, transcript: str | None = None) -> str:
    """Return the text that Wan's text encoder reads: the prompt alone, cleaned by diffusers' own function.

    Raises:
        ValueError: If audio is described, which such a prompt has no place for.
    """
    from diffusers.pipelines.wan.pipeline_wan import prompt_clean  # late: most pipelines never need it

    if audio_prompt or transcript:
        raise ValueError(
            "This checkpoint reads plain prompts (`prompt_format='plain'`), as Wan does: it has not learnt what to do "
            "with `audio_prompt` and `transcript`. Leave them out; or, if it was trained with JoVA's labelled lines, "
            "load it with `JoVAPipeline.from_pretrained(..., prompt_format='labelled')`."
        )
    return prompt_clean(prompt or "")


def format_prompts(
    prompt: str | Sequence[str] | None = None,
    audio_prompt: str | Sequence[str] | None = None,
    transcript: str | Sequence[str] | None = None,
    prompt_format: str = "labelled",
) -> list[str]:
    """Return the text of each sample that the encoders read; a single string goes to every sample.

    Args:
        prompt_format: One of `PROMPT_FORMATS`: `format_prompt`, or `clean_prompt`.
    """
    lines = (prompt, audio_prompt, transcript)
    batch_size = max([len(line) for line in lines if isinstance(line, list | tuple)], default=1)
    lines = [line if isinstance(line, list | tuple) else [line] * batch_size for line in lines]
    to_text = format_prompt if prompt_format == "labelled" else clean_prompt
    return [to_text(*sample) for sample in zip(*lines)]


def names_of_embeds(prefix: str) -> tuple[str, str]:
    """Return the names of both encoders' states, of the prompt ("") or of its negative ("negative_")."""
    return f"{prefix}prompt_embeds", f"{prefix}prompt_embeds_2"


def repeat_samples(
    embeds: dict[str, torch.Tensor | None],
    num_videos_per_prompt: int,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> dict[str, torch.Tensor | None]:
    """Return states and masks for every sample, each prompt's samples side by side; one negative serves all.

    Args:
        embeds: By the names in `PROMPT_EMBEDS`, with as many entries as there are prompts.
        device, dtype: Where they go, and as what the states go.

    Raises:
        ValueError: If one has another number of entries, with its name.
    """
    num_prompts = next(len(tensor) for tensor in embeds.values() if tensor is not None)
    repeated = {}
    for name, tensor in embeds.items():
        if tensor is not None:
            if len(tensor) not in (1, num_prompts):
                raise ValueError(f"`{name}` has {len(tensor)} entries, but there are {num_prompts} prompts.")
            tensor = tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)
            tensor = tensor.repeat_interleave(num_videos_per_prompt * num_prompts // len(tensor), dim=0)
        repeated[name] = tensor
    return repeated


def text_inputs(
    embeds: Mapping[str, torch.Tensor | None], prefix: str, dtype: torch.dtype, multiple: int = 1
) -> dict[str, torch.Tensor | None]:
    """Return the transformer's arguments for texts: states (B, T, text_embed_dim) and masks (B, T) of both encoders.

    What no sample uses is cut off, and where nothing is hidden the mask is None. That looks at the masks' values, for
    which the host waits: so it is done once before the steps.

    Args:
        embeds: By the names in `PROMPT_EMBEDS`.
        prefix: "" for the prompt, "negative_" for its negative.
        dtype: Of the states.
        multiple: T becomes a multiple of it, by tokens that nobody sees: the ranks of context parallelism share the
            text evenly.
    """
    from ..models.embeddings import trim_padding  # late: who reads clips needs no models, and waits for no diffusers

    inputs = {}
    for suffix in ("", "_2"):
        name, mask_name = f"{prefix}prompt_embeds{suffix}", f"{prefix}prompt_attention_mask{suffix}"
        states, mask = trim_padding(embeds[name], embeds[mask_name])
        if states is not None and states.shape[1] % multiple:
            missing = -states.shape[1] % multiple
            if mask is None:
                mask = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
            states, mask = F.pad(states, (0, 0, 0, missing)), F.pad(mask, (0, missing))
        inputs[f"encoder_hidden_states{suffix}"] = states.to(dtype) if states is not None else None
        inputs[f"encoder_attention_mask{suffix}"] = mask
    return inputs


def join_text_inputs(passes: Sequence[Mapping[str, torch.Tensor | None]]) -> dict[str, torch.Tensor | None]:
    """Return the transformer's arguments for the texts of several passes as those of one batch.

    Shorter texts are filled up with tokens that nobody sees.

    Args:
        passes: What `text_inputs` returned for each, all of the same encoders.
    """
    joined: dict[str, torch.Tensor | None] = {}
    for suffix in ("", "_2"):
        name, mask_name = f"encoder_hidden_states{suffix}", f"encoder_attention_mask{suffix}"
        states, masks = [inputs[name] for inputs in passes], [inputs[mask_name] for inputs in passes]
        joined |= {name: None, mask_name: None}
        if states[0] is None:  # an encoder that is not there
            continue
        length = max(x.shape[1] for x in states)
        joined[name] = torch.cat([F.pad(x, (0, 0, 0, length - x.shape[1])) for x in states])
        if any(mask is not None or x.shape[1] < length for x, mask in zip(states, masks)):
            shown = [torch.ones_like(x[..., 0], dtype=torch.bool) if m is None else m for x, m in zip(states, masks)]
            joined[mask_name] = torch.cat([F.pad(mask, (0, length - mask.shape[1])) for mask in shown])
    return joined


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
        raise ValueError(
            f"{str(path)!r} is not a whole safetensors file ({error}). Encode the prompt again."
        ) from None
    unknown = sorted(set(tensors) - set(PROMPT_EMBEDS))
    if unknown or not tensors:
        raise ValueError(f"{str(path)!r} is not an encoded prompt: got {unknown}, allowed are {list(PROMPT_EMBEDS)}.")
    return tensors
