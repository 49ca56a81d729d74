# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""jova-mini's text encoder: a T5 whose state of a word tells how it is spoken here, and when.

Two hundred words in eight voices are too many to be learnt from the transformer's own loss in hours of a CPU. So the
encoder learns them first, from the recordings: from a word's state alone, a linear layer, thrown away afterwards, has
to tell the audio latents at a few moments of the word, its beginning and its length. The other words and the caption
of the voice are what it can know that from. (Our choice; the paper's encoders are pretrained on text alone.)
"""
# B batch, T tokens, C audio latent channels, A audio latent steps, W words of a sentence

import json
from pathlib import Path

import numpy as np
import torch
from transformers import T5Tokenizer

from ..latents import normalize_latents
from ..media import read_audio
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..nano.autoencoders import save_component
from ..nano.text_encoders import make_word_tokenizer, train_t5
from ..pipelines.prompts import LABELS, format_prompt
from .corpus import make_captions
from .people import Person
from .sentences import vocabulary
from .voices import VOICES


SIZES = {"d_model": 192, "d_kv": 32, "d_ff": 512, "num_heads": 6, "num_layers": 3}
MOMENTS = 8  # of a word, at which its audio is told
TIMES_WEIGHT = 4.0  # of the error of its beginning and length, in seconds, over that of the latents
VARIANTS = 4  # prompts of each clip, with other captions


class SpokenWords(torch.nn.Module):
    """Guesses from each word's state how and when it is spoken; thrown away after training.

    Args:
        spoken: of each prompt (W, MOMENTS * C + 2): latents, beginning and length of its words; without rows if the
            prompt has no transcript.
        end_token: that follows the last word.
    """

    def __init__(self, spoken: list[np.ndarray], end_token: int):
        super().__init__()
        self.spoken, self.end_token = spoken, end_token
        self.linear = torch.nn.Linear(SIZES["d_model"], spoken[0].shape[1])

    def forward(self, states: torch.Tensor, numbers: np.ndarray, tokens: torch.Tensor) -> torch.Tensor:
        """Return the mean error of what is told of the words, the last tokens before the end.

        Args:
            states: (B, T, width).
            numbers: of the prompts.
            tokens: (B, T).
        """
        ends = (tokens == self.end_token).int().argmax(dim=1).tolist()
        said = [self.spoken[number] for number in numbers]
        words = torch.cat([state[end - len(each) : end] for state, end, each in zip(states, ends, said)])
        if not len(words):
            return words.sum()
        errors = (self.linear(words) - torch.from_numpy(np.concatenate(said))).abs()
        return errors[:, :-2].mean() + TIMES_WEIGHT * errors[:, -2:].mean()


def train_text(corpus: Path, output_dir: Path, num_steps: int, seed: int = 0) -> None:
    """Write the folders of the tokenizer and the text encoder; the audio VAE's is there.

    Args:
        corpus: folder that `make_corpus` wrote, or is still writing.
    """
    audio_vae = AutoencoderMMAudio.from_pretrained(output_dir / "audio_vae")
    prompts, spoken = read_spoken(corpus, audio_vae, seed)
    tokenizer = train_tokenizer(prompts)
    tells = SpokenWords(spoken, tokenizer.eos_token_id)
    encoder = train_t5(tokenizer, prompts, num_steps, 32, seed, SIZES, tells)
    save_component(tokenizer, output_dir / "tokenizer")
    save_component(encoder, output_dir / "text_encoder")


def train_tokenizer(prompts: list[str]) -> T5Tokenizer:
    """Return a tokenizer in which every word of the captions and of the vocabulary, and every label, is one token."""
    tokenizer = make_word_tokenizer([*prompts, " ".join(vocabulary())])
    tokenizer.add_tokens(list(LABELS))
    return tokenizer


@torch.no_grad()
def read_spoken(corpus: Path, audio_vae: AutoencoderMMAudio, seed: int = 0) -> tuple[list[str], list[np.ndarray]]:
    """Return prompts of the clips to train on, `VARIANTS` of each, and what is told of their words.

    Raises:
        FileNotFoundError: If there is no clip.
    """
    rng = np.random.default_rng([seed, 12])
    prompts: list[str] = []
    spoken: list[np.ndarray] = []
    for path in sorted((corpus / "rows").glob("*.json")):
        split = path.stem.split("-")[0]
        if split in ("held_out", "moments"):  # the latter say nothing that "speech" does not
            continue
        row = json.loads(path.read_text(encoding="utf-8"))
        waveform = torch.from_numpy(read_audio(corpus / split / row["file_name"], 16000, 1)[0][0])
        latents = normalize_latents(audio_vae.encode(waveform[None]).latent_dist.mode(), audio_vae.config)[0]
        said = tell_words(latents.numpy(), row["phones"], audio_vae.latent_rate)
        for _ in range(VARIANTS):
            person = Person.from_seed(int(rng.integers(2**31)), person=VOICES[row["voice"]].person)
            captions = make_captions(person, VOICES[row["voice"]].caption, rng)
            has_captions, has_words = rng.uniform(size=2) < (0.7, 0.95)
            texts = (*(captions if has_captions else ("", captions[1])), row["transcript"] if has_words else "")
            prompts.append(format_prompt(*texts))
            spoken.append(said if has_words else said[:0])
    if not prompts:
        raise FileNotFoundError(f"There is no clip in `{corpus}`: make the corpus first (make_corpus.py).")
    return prompts, spoken


def tell_words(latents: np.ndarray, phones: list[tuple[str, float, float]], latent_rate: float) -> np.ndarray:
    """Return of each word its latents at `MOMENTS` moments, its beginning after the first one's, and its length.

    Args:
        latents: (C, A), normalized.
        phones: symbols with beginning and end in seconds; " " stands between words.
    """
    spans: list[list[float]] = []
    begins = True
    for symbol, start_s, end_s in phones:
        if symbol == " ":
            begins = True
            continue
        if begins:
            spans.append([start_s, end_s])
            begins = False
        spans[-1][1] = end_s
    steps = (np.arange(latents.shape[1]) + 0.5) / latent_rate
    rows = []
    for start_s, end_s in spans:
        moments = start_s + (np.arange(MOMENTS) + 0.5) / MOMENTS * (end_s - start_s)
        told = np.stack([np.interp(moments, steps, channel) for channel in latents], axis=1)
        rows.append([*told.ravel(), start_s - spans[0][0], end_s - start_s])
    return np.array(rows, np.float32)
