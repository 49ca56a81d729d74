# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Captions: a model is asked about clips; what is not language is asked for again, in other ways, and then given up.

B clips, T tokens
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch

from ...workers import Failure
from .items import Annotation
from .models import drawing_from_seed, in_halves
from .nonsense import what_is_wrong


# How a model is asked, one way after another. The last draws, with a seed of its own.
ATTEMPTS: tuple[Mapping[str, Any], ...] = (
    {"do_sample": False},
    {"do_sample": False, "repetition_penalty": 1.1, "no_repeat_ngram_size": 6},
    {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1},
)
# Checkpoints have settings of their own for drawing, which do not matter where nothing is drawn.
NOT_DRAWN = {"temperature": None, "top_p": None, "top_k": None, "num_beams": 1}


class Answer(NamedTuple):
    """A text, and whether the model came to an end by itself."""

    text: str
    is_whole: bool


class Captioner(Protocol):
    """A model that answers a question about what it is shown."""

    prompt: str

    def answer(self, settings: Mapping[str, Any], inputs: Sequence[Any]) -> list[Answer]: ...


def caption(captioner: Captioner, level: str, inputs: Sequence[Any]) -> list[Annotation | Failure]:
    """Return what `captioner` says of each of `inputs`, or why there is nothing that can be used."""
    results: dict[int, Annotation | Failure] = {}
    for settings in ATTEMPTS:
        left = [index for index in range(len(inputs)) if not isinstance(results.get(index), Annotation)]
        if not left:
            break
        answers = in_halves(partial(captioner.answer, settings), [inputs[index] for index in left])
        for index, answer in zip(left, answers):
            if isinstance(answer, Failure):
                results[index] = answer
            elif fault := what_is_wrong(answer.text, answer.is_whole, captioner.prompt):
                results[index] = Failure(f"asked {len(ATTEMPTS)} times: {fault}", is_lasting=True)
            else:
                results[index] = Annotation({level: " ".join(answer.text.split())})
    return [results[index] for index in range(len(inputs))]


@torch.no_grad()
def generate(
    model: Any, tokenizer: Any, inputs: Mapping[str, torch.Tensor], settings: Mapping[str, Any], max_new_tokens: int
) -> list[Answer]:
    """Return the model's answers to prompts that are padded on the left, `input_ids` (B, T)."""
    inputs = {name: _to(value, model) for name, value in inputs.items()}
    settings = settings if settings["do_sample"] else {**NOT_DRAWN, **settings}
    with drawing_from_seed(model.device):
        tokens = model.generate(**inputs, **settings, max_new_tokens=max_new_tokens)
    tokens = tokens[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ends = torch.tensor(_end_tokens(model), device=tokens.device)
    return [Answer(text, bool(torch.isin(row, ends).any())) for text, row in zip(texts, tokens)]


def _to(value: torch.Tensor, model: Any) -> torch.Tensor:
    return value.to(model.device, model.dtype if value.is_floating_point() else None)


def _end_tokens(model: Any) -> list[int]:
    ends = model.generation_config.eos_token_id
    return [ends] if isinstance(ends, int) else list(ends or [])
