# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""jova-mini's text encoder: what is told of words, and that states learn to tell it."""

import json
import math

import numpy as np
import pytest
import torch

from diffusers_jova import AutoencoderMMAudio, JoVATransformer3DModel
from diffusers_jova.media import write_wav
from diffusers_jova.mini.recipe import MINI
from diffusers_jova.mini.sentences import vocabulary
from diffusers_jova.mini.text_encoder import (
    MOMENTS,
    SIZES,
    VARIANTS,
    SpokenWords,
    read_spoken,
    tell_words,
    train_tokenizer,
)
from diffusers_jova.nano.assemble import NANO
from diffusers_jova.nano.text_encoders import train_t5
from diffusers_jova.pipelines.prompts import format_prompt


PHONES = [["a", 0.2, 0.3], ["b", 0.3, 0.4], [" ", 0.4, 0.5], ["c", 0.5, 0.9]]


def test_words_are_told_at_moments_between_their_first_and_last_phone():
    rate = 100.0
    time = (np.arange(100) + 0.5) / rate
    told = tell_words(np.stack([time, 2 * time]), PHONES, rate)
    assert told.shape == (2, 2 * MOMENTS + 2)
    np.testing.assert_allclose(told[:, -2:], [[0, 0.2], [0.3, 0.4]], atol=1e-6)
    moments = 0.5 + 0.4 * (np.arange(MOMENTS) + 0.5) / MOMENTS
    np.testing.assert_allclose(told[1, :-2], np.stack([moments, 2 * moments], 1).ravel(), atol=1e-6)


def test_the_tokens_before_the_end_are_those_of_the_words():
    head = SpokenWords([np.full((2, 4), 3.0, np.float32), np.zeros((0, 4), np.float32)], end_token=1)
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    states, tokens = torch.zeros(2, 5, 192), torch.tensor([[7, 8, 9, 1, 0], [7, 8, 1, 0, 0]])
    head.linear.weight.data[0, 0] = 1.0
    states[0, 1:3, 0], states[0, 0, 0], states[1, :, 0] = 3.0, 99.0, 99.0
    assert head(states, np.array([0, 1]), tokens).item() == pytest.approx(1.5 + 4 * 3)  # of latents 0 and 3, times 3
    assert head(states[1:], np.array([1]), tokens[1:]).item() == 0


def test_states_learn_to_tell_how_words_are_spoken():
    words = list(vocabulary())[:6]
    rng = np.random.default_rng(0)
    ways = dict(zip(words, rng.choice([-1.0, 1.0], (6, MOMENTS))))
    said = [rng.choice(words, 5) for _ in range(60)]
    prompts = [format_prompt(None, None, " ".join(each)) for each in said]
    spoken = [np.float32([[*ways[word], 0.0, 0.0] for word in each]) for each in said]
    tokenizer = train_tokenizer(prompts)
    head = SpokenWords(spoken, tokenizer.eos_token_id)
    encoder = train_t5(tokenizer, prompts, 60, 8, 0, SIZES | {"num_layers": 1}, head)
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = encoder(**batch).last_hidden_state
        assert head(states, np.arange(len(prompts)), batch.input_ids) < 0.5  # 1 without knowing the word


def test_every_known_word_is_one_token_in_any_place():
    tokenizer = train_tokenizer([format_prompt("A woman.", "A voice.", "anna")])
    words = list(vocabulary())
    tokens = tokenizer(format_prompt(None, None, " ".join(words))).input_ids
    assert tokenizer.unk_token_id not in tokens and len(tokens) == 3 + len(words) + 1


def test_prompts_come_from_the_rows_of_a_corpus_but_not_from_those_held_out(tmp_path):
    for split in ("speech", "moments", "held_out"):
        (tmp_path / split).mkdir()
        write_wav(tmp_path / split / "a.wav", np.zeros(16000, np.float32), 16000)
        row = {"file_name": "a.wav", "phones": PHONES, "transcript": f"{split} b", "voice": "heart"}
        (tmp_path / "rows").mkdir(exist_ok=True)
        (tmp_path / "rows" / f"{split}-00000.json").write_text(json.dumps(row))
    audio_vae = AutoencoderMMAudio(hidden_channels=8)
    prompts, spoken = read_spoken(tmp_path, audio_vae)
    assert len(prompts) == len(spoken) == VARIANTS and not any("held_out" in p or "moments" in p for p in prompts)
    for prompt, told in zip(prompts, spoken):
        assert len(told) == (2 if "speech b" in prompt else 0) and told.shape[1] == 20 * MOMENTS + 2
    with pytest.raises(FileNotFoundError, match="make the corpus first"):
        read_spoken(tmp_path / "other", audio_vae)


def test_a_token_has_fewer_numbers_than_the_transformer_is_wide():
    # else its output, of which noise is a part, has directions that no weights can tell
    for recipe in (NANO, MINI):
        transformer = JoVATransformer3DModel.from_config(recipe.transformer)
        width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
        numbers = math.prod(transformer.config.patch_size) * transformer.config.out_channels
        assert numbers <= width / 2
