# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""WER: what Whisper hears in a clip, or another recogniser heard, against the text that should be said.

What counts as a word differs by source, and nobody states it: name the normaliser beside every number.
"""

import os
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor
from transformers.models.whisper.english_normalizer import BasicTextNormalizer, EnglishTextNormalizer

from .measurement import Measurement, Status


SAMPLING_RATE = 16000
WINDOW_S = 30  # Whisper hears no more at a time
NORMALIZERS = ("whisper", "lower", "none")
CHARACTER_LANGUAGES = ("zh", "ja")  # written without spaces: characters are counted


@dataclass(frozen=True)
class Transcript:
    """What a recogniser heard, and how sure it is that nobody speaks (None: it does not say)."""

    text: str
    no_speech: float | None = None


@dataclass(frozen=True)
class ErrorRates:
    """The error rates of a set of clips.

    Attributes:
        macro: the mean of the clips' rates; Verse-Bench prints this one.
        micro: all errors over all words of the references.
        num_above_one: clips with more errors than words: the recogniser heard what nobody wrote.
    """

    macro: float
    micro: float
    num_clips: int
    num_above_one: int


class Whisper:
    """Hears speech with a Whisper model: one window of 30 s, greedy, without timestamps."""

    def __init__(self, model: WhisperForConditionalGeneration, processor: WhisperProcessor):
        self.model, self.processor = model.eval(), processor

    @classmethod
    def from_folder(cls, folder: str | os.PathLike, device: str | torch.device = "cpu") -> "Whisper":
        """Return the model of a folder such as `whisper-large-v3`; nothing is downloaded."""
        model = WhisperForConditionalGeneration.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        return cls(model.to(device), WhisperProcessor.from_pretrained(folder, local_files_only=True))

    @property
    def english_spellings(self) -> dict[str, str] | None:
        """British to American spellings of the tokenizer's `normalizer.json`, if it has one."""
        return self.processor.tokenizer.english_spelling_normalizer

    @torch.no_grad()
    def transcribe(self, waveform: np.ndarray, language: str = "en") -> Transcript:
        """Return what is said in the first 30 s.

        Args:
            waveform: (samples,) float in [-1, 1], mono at 16 kHz.
            language: of the speech; it is never guessed.
        """
        features = self.processor(waveform, sampling_rate=SAMPLING_RATE, return_tensors="pt").input_features
        features = features.to(self.model.device, self.model.dtype)
        encoded = self.model.get_encoder()(features)
        tokens = self.model.generate(
            features,
            encoder_outputs=encoded,
            language=language,
            task="transcribe",
            do_sample=False,
            num_beams=1,
            return_timestamps=False,
        )
        text = self.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip()
        return Transcript(text, self._no_speech(encoded))

    def _no_speech(self, encoded) -> float:
        """Return the probability of the token <|nospeech|> right after the start."""
        config = self.model.generation_config
        start = torch.full((1, 1), config.decoder_start_token_id, device=self.model.device)
        logits = self.model(decoder_input_ids=start, encoder_outputs=encoded).logits[0, 0]
        return float(logits.float().softmax(dim=-1)[config.no_timestamps_token_id - 1])


class FasterWhisper:
    """Hears speech as `Whisper` does, with weights in the format of CTranslate2: a third of the bytes, by a package
    that users install themselves.

    Raises:
        ModuleNotFoundError: Without faster-whisper.
    """

    english_spellings = None  # the format has no normalizer.json

    def __init__(self, folder: str | os.PathLike, device: str = "cpu"):
        try:
            from faster_whisper import WhisperModel
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                f"`{folder}` is a Whisper for faster-whisper: pip install faster-whisper, or give a folder of "
                "transformers, with model.safetensors.",
                name="faster_whisper",
            ) from None
        self.model = WhisperModel(str(folder), device=device, compute_type="default", local_files_only=True)

    def transcribe(self, waveform: np.ndarray, language: str = "en") -> Transcript:
        """Return what is said in the first 30 s; see `Whisper.transcribe`."""
        segments, _ = self.model.transcribe(
            np.asarray(waveform, np.float32)[: WINDOW_S * SAMPLING_RATE],
            language=language,
            beam_size=1,
            temperature=0.0,
            without_timestamps=True,
            condition_on_previous_text=False,
        )
        segments = list(segments)
        no_speech = max((segment.no_speech_prob for segment in segments), default=None)
        return Transcript("".join(segment.text for segment in segments).strip(), no_speech)


def open_whisper(folder: str | os.PathLike, device: str = "cpu") -> Whisper | FasterWhisper:
    """Return the Whisper model of a folder, of transformers or, with a model.bin, of faster-whisper."""
    is_converted = (Path(folder) / "model.bin").is_file()
    return FasterWhisper(folder, device) if is_converted else Whisper.from_folder(folder, device)


def normalize(
    text: str, normalizer: str = "whisper", language: str = "en", spellings: Mapping[str, str] | None = None
) -> str:
    """Return a text as it is compared.

    Args:
        normalizer: "whisper": that of its paper, for English, or for any language without punctuation; "lower":
            Verse-Bench's, which keeps punctuation; "none".
        language: Chinese and Japanese are split into characters by "whisper".
        spellings: British to American, for English; see `Whisper.english_spellings`.
    """
    if normalizer == "none":
        return text.strip()
    if normalizer == "lower":
        return text.strip().lower()
    if normalizer != "whisper":
        raise ValueError(f"`normalizer` must be one of {', '.join(NORMALIZERS)}, got {normalizer!r}.")
    if language == "en":
        return EnglishTextNormalizer(dict(spellings or {}))(text).strip()
    return BasicTextNormalizer(split_letters=language in CHARACTER_LANGUAGES)(text).strip()


def measure_words(
    reference: str | None,
    transcript: Transcript,
    normalizer: str = "whisper",
    language: str = "en",
    spellings: Mapping[str, str] | None = None,
) -> Measurement:
    """Return the WER of a clip: substitutions, deletions and insertions over the words of the reference.

    It is above 1 where more is heard than was written, and a character error rate where the text is split into
    characters: `details["unit"]` says so. Status `no_text` without words in the reference.
    """
    details = {"transcript": transcript.text, "no_speech": transcript.no_speech, "normalizer": normalizer}
    wanted = normalize(reference or "", normalizer, language, spellings)
    if not wanted:
        return Measurement(Status.NO_TEXT, details=details)
    heard = normalize(transcript.text, normalizer, language, spellings)
    if normalizer == "lower" and set(transcript.text) <= set(string.punctuation):
        heard = ""  # Verse-Bench's recogniser writes a full stop for silence
    found = jiwer.process_words(wanted, heard)
    errors = found.substitutions + found.deletions + found.insertions
    num_words = found.hits + found.substitutions + found.deletions
    by_character = normalizer == "whisper" and language in CHARACTER_LANGUAGES
    details |= {"errors": errors, "words": num_words, "unit": "character" if by_character else "word"}
    return Measurement(Status.OK, {"WER": errors / num_words}, details)


def error_rates(measurements: Sequence[Measurement]) -> ErrorRates | None:
    """Return the rates over the clips that could be measured; None if there are none."""
    measured = [item for item in measurements if item.status == Status.OK]
    if not measured:
        return None
    rates = [item.values["WER"] for item in measured]
    errors, words = (sum(item.details[name] for item in measured) for name in ("errors", "words"))
    return ErrorRates(float(np.mean(rates)), errors / words, len(rates), sum(rate > 1 for rate in rates))
