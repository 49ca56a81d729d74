# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of the real classes, so small that they load in a moment, and made to say one sentence.

Their layers add nothing, so that a token alone (Qwen2) or its position (Whisper) decides which one follows.
"""

import numpy as np
import torch
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GenerationConfig,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)


CAPTION = ("A", " man", " talks", " slowly", ".")
SPOKEN = (" Hello", " there", ",", " friend", ".")
SIGNS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<sound>",
)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% for part in message['content'] %}"
    "{{ '<sound>' if part['type'] == 'audio' else '<image>' if part['type'] == 'image' else part['text'] }}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHUNK_S = 2  # that a Whisper hears at a time, instead of 30
TEXT = {"hidden_size": 64, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"initializer_range": 0.3, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 0}


def chat_tokenizer() -> Qwen2Tokenizer:
    """Qwen2's tokenizer over single bytes, the signs of a chat, and the words of `CAPTION`."""
    vocabulary = ["<|endoftext|>", *SIGNS, *sorted(ByteLevel.alphabet())]
    tokenizer = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(vocabulary)}, eos_token="<|im_end|>")
    tokenizer.add_special_tokens({"additional_special_tokens": list(SIGNS)})
    tokenizer.add_tokens(list(CAPTION))
    return tokenizer


@torch.no_grad()
def let_say(model, language_model, tokenizer, words) -> None:
    """Make a model answer with `words` after the line feed that ends a prompt."""
    for layer in language_model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    chain = tokenizer.convert_tokens_to_ids(["Ċ", *words, "<|im_end|>"])
    embeddings = language_model.embed_tokens.weight
    model.lm_head.weight.zero_()
    for before, after in zip(chain, chain[1:]):
        model.lm_head.weight[after] += embeddings[before]


def make_qwen2_vl(folder, words=CAPTION):
    """Write a Qwen2-VL that says `words` of every clip; with None, what its random weights make of it."""
    tokenizer = chat_tokenizer()
    ids = dict(zip(SIGNS, tokenizer.convert_tokens_to_ids(list(SIGNS))))
    rope = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e4}
    config = Qwen2VLConfig(
        text_config={**TEXT, "vocab_size": len(tokenizer), "rope_parameters": rope},
        vision_config={"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "initializer_range": 0.3},
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    model = Qwen2VLForConditionalGeneration(config)
    if words is not None:
        let_say(model, model.model.language_model, tokenizer, words)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    Qwen2VLImageProcessorPil().save_pretrained(folder)
    return model


def make_audio_flamingo(folder, words=CAPTION):
    """Write an Audio Flamingo 3 that says `words` of every clip."""
    tokenizer = chat_tokenizer()
    audio = {"num_mel_bins": 80, "max_source_positions": 50 * CHUNK_S, "intermediate_size": 16}
    audio |= {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = AudioFlamingo3Config(
        audio_config={**audio, "model_type": "audioflamingo3_encoder"},
        text_config={**TEXT, "vocab_size": len(tokenizer), "model_type": "qwen2"},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    model = AudioFlamingo3ForConditionalGeneration(config)
    let_say(model, model.model.language_model, tokenizer, words)
    model.generation_config = GenerationConfig(eos_token_id=2, pad_token_id=0)
    model.save_pretrained(folder)
    ears = WhisperFeatureExtractor(chunk_length=CHUNK_S)
    processor = AudioFlamingo3Processor(ears, tokenizer, chat_template=CHAT_TEMPLATE)
    processor.save_pretrained(folder)
    return model


def make_whisper(folder, words=SPOKEN, is_sure=True):
    """Write a Whisper that hears `words` in whatever it hears; unless `is_sure`, it believes that nobody speaks."""
    control = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
    control += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    times = [f"<|{step * 0.02:.2f}|>" for step in range(50 * CHUNK_S + 1)]
    plain = [*sorted(ByteLevel.alphabet()), *dict.fromkeys(word.replace(" ", "Ġ") for word in words)]
    token = {name: index for index, name in enumerate(dict.fromkeys([*plain, *control, *times]))}
    tokenizer = WhisperTokenizer(vocab=token, merges=[], language="en", task="transcribe")
    tokenizer.add_special_tokens({"additional_special_tokens": [*control[1:], *times]})
    end, start = token["<|endoftext|>"], token["<|startoftranscript|>"]
    config = WhisperConfig(
        vocab_size=len(token), d_model=64, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, max_target_positions=32,
        max_source_positions=50 * CHUNK_S,
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    model = WhisperForConditionalGeneration(config)
    said = ["<|0.00|>", *(word.replace(" ", "Ġ") for word in words), "<|1.00|>", "<|endoftext|>"]
    with torch.no_grad():
        decoder = model.model.decoder
        for layer in decoder.layers:
            for part in (layer.self_attn.out_proj, layer.encoder_attn.out_proj, layer.fc2):
                part.weight.zero_(), part.bias.zero_()
        decoder.embed_tokens.weight.zero_()
        decoder.embed_positions.weight.copy_(30 * torch.eye(32, 64))  # a direction for each position
        decoder.embed_tokens.weight[token["<|en|>"], 0] = 10
        if is_sure:
            for position, name in enumerate(said, start=2):
                decoder.embed_tokens.weight[token[name], position] = 10
        else:
            decoder.embed_tokens.weight[token["<|nospeech|>"], 0] = 20
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start, bos_token_id=end, eos_token_id=end, pad_token_id=end, is_multilingual=True,
        lang_to_id={name: token[name] for name in ("<|en|>", "<|de|>")}, alignment_heads=[[0, 0], [0, 1]],
        task_to_id={name: token[f"<|{name}|>"] for name in ("transcribe", "translate")}, max_length=24,
        no_timestamps_token_id=token["<|notimestamps|>"], prev_sot_token_id=token["<|startofprev|>"],
        max_initial_timestamp_index=50, suppress_tokens=[token[name] for name in control[1:]],
    )  # fmt: skip
    model.save_pretrained(folder)
    WhisperProcessor(WhisperFeatureExtractor(chunk_length=CHUNK_S), tokenizer).save_pretrained(folder)
    return model


def noise(duration_s: float, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(round(duration_s * 16000))).astype(np.float32)
