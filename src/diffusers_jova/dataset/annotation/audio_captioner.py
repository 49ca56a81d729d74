# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Audio -> an audio caption: Audio Flamingo 3, or another model of transformers of that class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AudioFlamingo3ForConditionalGeneration, AudioFlamingo3Processor

from .captions import Answer, generate
from .items import SAMPLING_RATE
from .models import Place, load_model, read_config


def check_audio_captioner(folder: Path) -> None:
    """Raise ValueError if a folder does not hold an Audio Flamingo 3."""
    kind = read_config(folder).get("model_type")
    if kind != "audioflamingo3":
        raise ValueError(
            f"`{folder}` is not an audio captioner: its config.json says model_type {kind!r}, and `audioflamingo3` is "
            "what AudioFlamingo3ForConditionalGeneration loads."
        )


class AudioFlamingo3Captioner:
    """Asks an Audio Flamingo 3 about audio."""

    def __init__(self, model, processor, prompt: str, max_new_tokens: int = 256):
        self.model, self.processor, self.prompt, self.max_new_tokens = model, processor, prompt, max_new_tokens

    @classmethod
    def from_folder(cls, folder: Path, prompt: str, max_new_tokens: int, place: Place) -> "AudioFlamingo3Captioner":
        """Return the captioner of a folder; see `check_audio_captioner`."""
        check_audio_captioner(folder)
        processor = AudioFlamingo3Processor.from_pretrained(folder, local_files_only=True)
        if processor.chat_template is None:
            raise ValueError(f"The processor of `{folder}` has no chat template, so it cannot be asked a question.")
        model = load_model(AudioFlamingo3ForConditionalGeneration, folder, place)
        return cls(model, processor, prompt, max_new_tokens)

    @property
    def longest_s(self) -> int:
        """How many seconds of a clip it hears."""
        return int(self.processor.max_audio_len)

    def answer(self, settings: Mapping[str, Any], inputs: Sequence[np.ndarray]) -> list[Answer]:
        """Return what the model says of each waveform, (N,) at 16 kHz."""
        content = [{"type": "text", "text": self.prompt}, {"type": "audio"}]
        text = self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        heard = self.processor(
            text=[text] * len(inputs), audio=list(inputs), sampling_rate=SAMPLING_RATE, padding_side="left"
        )
        return generate(self.model, self.processor.tokenizer, heard, settings, self.max_new_tokens)
