# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Tokenizers and text encoders of jova-nano, trained on the captions of the corpus.

Each learns by its own family's task: the Qwen2 model predicts the next token, the T5 encoder fills in hidden words
through a decoder that is thrown away afterwards. These tasks alone leave the order of the words out of the states, and
the transformer, whose text tokens have no positions, needs it: so each state also learns to tell its neighbours.
"""
# B batch, T tokens, V vocabulary

import math
import string
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import (
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen2Tokenizer,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Tokenizer,
)

from ..pipelines.prompts import LABELS, format_prompt
from ..pipelines.random_pipeline import byte_tokenizer
from .autoencoders import optimize
from .corpus import LENGTHS, is_held_out, make_captions
from .faces import Identity
from .speech import DIGITS, VOICES


WIDTH = 128
VOCABULARY = 512  # tokens: all words of the captions, and single characters for everything else
T5_SIZES = {"d_model": WIDTH, "d_kv": 32, "d_ff": 256, "num_heads": 4, "num_layers": 2}
HIDDEN_WORDS = 0.25  # of T5's input
T5_NEIGHBOURS, QWEN_NEIGHBOURS = (-2, -1, 1, 2), (-2, -1)  # what a state tells; Qwen2 has not read what follows
IGNORED = -100  # as a target

Tells = Callable[[torch.Tensor, np.ndarray, torch.Tensor], torch.Tensor]


def make_prompts(number: int, seed: int = 0) -> list[str]:
    """Return prompts as the corpus has them, without its held-out combinations of digits."""
    rng = np.random.default_rng([seed, 11])
    prompts: list[str] = []
    while len(prompts) < number:
        digits = tuple(int(digit) for digit in rng.integers(10, size=1 + rng.choice(3, p=LENGTHS)))
        if is_held_out(digits):
            continue
        voice = list(VOICES.values())[rng.integers(len(VOICES))]
        identity = Identity.from_seed(int(rng.integers(2**31)), person=voice.person)
        texts = [*make_captions(identity, voice.caption, rng), " ".join(DIGITS[digit] for digit in digits)]
        dropped = rng.uniform(size=3) < 0.1
        prompts.append(format_prompt(*("" if drop else text for text, drop in zip(texts, dropped))))
    return prompts


def train_tokenizers(prompts: list[str]) -> tuple[T5Tokenizer, Qwen2Tokenizer]:
    """Return both tokenizers, in which every word of the captions, and every label, is one token."""
    tokenizers = make_word_tokenizer(prompts), byte_tokenizer().train_new_from_iterator(prompts, VOCABULARY)
    for tokenizer in tokenizers:
        tokenizer.add_tokens(list(LABELS))
    return tokenizers


def make_word_tokenizer(prompts: list[str]) -> T5Tokenizer:
    """Return T5's tokenizer, a unigram model over the words of the prompts and, far less likely, single characters.

    SentencePiece's own training finds no whole words here: it takes words for rare that are not among thousands.
    """
    counts = Counter(word for prompt in prompts for word in prompt.split())
    for word, count in list(counts.items()):
        counts[word.strip(",.")] += count
    total = sum(counts.values())
    words = [(f"▁{word}", math.log(count / total)) for word, count in counts.most_common()]
    characters = [(character, -20.0) for character in ("▁", *string.printable) if not character.isspace()]
    return T5Tokenizer(vocab=[("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *words, *characters], extra_ids=0)


class NeighbourHead(torch.nn.Module):
    """Guesses a token's neighbours from its state alone; thrown away after training.

    Args:
        offsets: of the neighbours, in tokens.
    """

    def __init__(self, vocab_size: int, offsets: tuple[int, ...], width: int = WIDTH):
        super().__init__()
        self.offsets = offsets
        self.linear = torch.nn.Linear(width, len(offsets) * vocab_size)

    def forward(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean cross entropy of the neighbours.

        Args:
            states: (B, T, width).
            targets: (B, T) tokens, `IGNORED` where there is padding.
        """
        logits = self.linear(states).unflatten(-1, (len(self.offsets), -1))  # (B, T, offsets, V)
        reach, length = max(map(abs, self.offsets)), targets.shape[1]
        padded = F.pad(targets, (reach, reach), value=IGNORED)  # beyond both ends there is nothing to tell
        starts = [reach + offset for offset in self.offsets]
        neighbours = torch.stack([padded[:, start : start + length] for start in starts], dim=-1)  # (B, T, offsets)
        neighbours = neighbours.masked_fill((targets == IGNORED)[..., None], IGNORED)
        return F.cross_entropy(logits.flatten(0, 2), neighbours.flatten(), ignore_index=IGNORED)


def train_t5(
    tokenizer: T5Tokenizer,
    prompts: list[str],
    num_steps: int,
    batch_size: int = 64,
    seed: int = 0,
    sizes: Mapping[str, Any] = T5_SIZES,
    tells: Tells | None = None,
) -> T5EncoderModel:
    """Return a T5 encoder that learnt, with a decoder, to write out prompts in which words were hidden.

    Args:
        sizes: settings of its `T5Config`.
        tells: what its states have to tell instead of hidden words: a module that returns a loss, of the states
            (B, T, width), the numbers of the prompts and the tokens (B, T); thrown away afterwards.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=len(tokenizer),
            **sizes,
            num_decoder_layers=1,
            dropout_rate=0.0,
            decoder_start_token_id=tokenizer.pad_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    model.neighbours = NeighbourHead(len(tokenizer), T5_NEIGHBOURS, sizes["d_model"])
    model.tells = tells

    def losses(step: int) -> dict[str, torch.Tensor]:
        numbers = rng.integers(len(prompts), size=batch_size)
        batch = tokenizer([prompts[i] for i in numbers], **PADDED)
        targets = batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
        # nobody can tell a hidden neighbour
        states = model.encoder(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
        terms = {"neighbours": model.neighbours(states, targets)}
        if tells is not None:
            return terms | {"told": tells(states, numbers, batch.input_ids)}
        is_hidden = torch.from_numpy(rng.uniform(size=targets.shape) < HIDDEN_WORDS) & (targets != IGNORED)
        inputs = batch.input_ids.masked_fill(is_hidden, tokenizer.unk_token_id)
        return terms | {"words": model(inputs, attention_mask=batch.attention_mask, labels=targets).loss}

    optimize(model, losses, num_steps, learning_rate=2e-3)
    del model.neighbours, model.tells
    encoder = T5EncoderModel(model.config)
    missing, _ = encoder.load_state_dict(model.state_dict(), strict=False)
    if missing:
        raise RuntimeError(f"The encoder lacks weights: {missing}.")
    return encoder.eval()


def train_qwen(
    tokenizer: Qwen2Tokenizer, prompts: list[str], num_steps: int, batch_size: int = 64, seed: int = 0
) -> Qwen2Model:
    """Return a Qwen2 model that learnt to predict the next token of prompts."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=256,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=512,
            tie_word_embeddings=True,
        )
    )
    model.neighbours = NeighbourHead(len(tokenizer), QWEN_NEIGHBOURS)

    def losses(step: int) -> dict[str, torch.Tensor]:
        batch = tokenizer([prompts[i] for i in rng.integers(len(prompts), size=batch_size)], **PADDED)
        targets = batch.input_ids.masked_fill(batch.attention_mask == 0, IGNORED)
        output = model(**batch, labels=targets, output_hidden_states=True)
        return {"next": output.loss, "neighbours": model.neighbours(output.hidden_states[-1], targets)}

    optimize(model, losses, num_steps, learning_rate=2e-3)
    return model.model.eval()


PADDED = {"padding": True, "return_tensors": "pt"}
