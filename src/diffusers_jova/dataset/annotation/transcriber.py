# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Audio -> words and when they are spoken, by Whisper; silence and noise stay without words.

The thresholds are OpenAI's (openai/whisper, `transcribe`), but for the first.
"""
# B windows, T tokens, N samples

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import WhisperForConditionalGeneration, WhisperProcessor

from ...headers import read_json
from ...workers import Failure
from .items import SAMPLING_RATE, Annotation, Window, is_silent
from .models import Place, drawing_from_seed, in_halves, load_model, read_config
from .nonsense import what_is_broken


logger = logging.getLogger(__name__)

# transformers measures repetition by counting tokens; 1.35 there stands for 2.4 of zlib in OpenAI's code
MAX_COMPRESSION = 1.35
MIN_LOGPROB = -1.0  # mean per token: below, a window is heard again at a higher temperature
MAX_NO_SPEECH = 0.6  # probability of <|nospeech|>: above it, and with so low a mean, nobody speaks
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)

WITHOUT_SPACES = {"zh", "yue", "ja", "th", "lo", "my", "km", "bo"}  # languages in which every token may be a word
SENTENCE_ENDS = tuple(".!?…。！？")
PAUSE_S = 0.5  # that parts two runs of words
MISTIMED_S = 0.5  # by which a word may be heard beside its time
SHORTEST_WORD_S = 0.02  # a step of Whisper's clock


class Word(NamedTuple):
    """A word, with its punctuation, and when it is spoken, in seconds."""

    text: str
    start: float
    end: float


class Heard(NamedTuple):
    """What is heard in a window: words in seconds of the window, and the language, "" where nobody speaks."""

    words: tuple[Word, ...]
    language: str


class Transcriber:
    """Hears words with a Whisper model.

    Args:
        language: that is spoken; None to let the model find out, window by window.
        prompt: what was said before, for the spelling of names; "" for nothing.
        max_segment_s: longest run of words in `segments`, in seconds.
    """

    def __init__(
        self,
        model: WhisperForConditionalGeneration,
        processor: WhisperProcessor,
        language: str | None = None,
        prompt: str = "",
        max_segment_s: float = 4.0,
    ):
        self.model, self.processor, self.max_segment_s = model, processor, max_segment_s
        self.options: dict[str, Any] = {}
        if getattr(model.generation_config, "lang_to_id", None):
            self.options = {"task": "transcribe", "language": language}
        if prompt:
            self.options["prompt_ids"] = torch.as_tensor(processor.get_prompt_ids(prompt), device=model.device)

    @classmethod
    def from_folder(
        cls, folder: Path, language: str | None, prompt: str, max_segment_s: float, place: Place
    ) -> "Transcriber":
        """Return the transcriber of a folder.

        Raises:
            ValueError: if the folder does not hold a Whisper, if it cannot time words, or does not know the language.
        """
        check_transcriber(folder, language)
        processor = WhisperProcessor.from_pretrained(folder, local_files_only=True)
        # attention that can be looked at: the words' times are read off it
        model = load_model(WhisperForConditionalGeneration, folder, place, attn_implementation="eager")
        return cls(model, processor, language, prompt, max_segment_s)

    def transcribe(self, clips: Sequence[Sequence[Window]], batch_size: int) -> list[Annotation | Failure]:
        """Return what is said in each clip, of which the windows are given that are not silent."""
        windows = [window for clip in clips for window in clip]
        waveforms = [window.waveform for window in windows]
        heard: list[Heard | Failure] = []
        for begin in range(0, len(waveforms), batch_size):
            heard += in_halves(self.hear, waveforms[begin : begin + batch_size])
        results, of_all = [], iter(zip(windows, heard))
        for clip in clips:
            results.append(self._annotation([next(of_all) for _ in clip]))
        return results

    def _annotation(self, heard: Sequence[tuple[Window, Heard | Failure]]) -> Annotation | Failure:
        words: list[Word] = []
        languages: Counter[str] = Counter()
        for window, result in heard:
            if isinstance(result, Failure):
                return result
            languages[result.language] += len(result.words)
            words += [Word(w.text, w.start + window.start_s, w.end + window.start_s) for w in result.words]
        text = join(words)
        if fault := what_is_broken(text):
            return Failure(f"heard at {len(TEMPERATURES)} temperatures: {fault}", is_lasting=True)
        if not words:
            return Annotation({"transcript": "", "no_speech": True})
        language = {"language": languages.most_common(1)[0][0]} if languages.most_common(1)[0][0] else {}
        return Annotation({"transcript": text, "segments": segments_of(words, self.max_segment_s), **language})

    @torch.no_grad()
    def hear(self, waveforms: Sequence[np.ndarray]) -> list[Heard]:
        """Return what is said in each waveform, (N,) of at most 30 s at 16 kHz."""
        inputs = self.processor(
            list(waveforms), sampling_rate=SAMPLING_RATE, return_tensors="pt", return_attention_mask=True
        )
        device = self.model.device
        with drawing_from_seed(device):
            outputs = self.model.generate(
                inputs.input_features.to(device, self.model.dtype),
                attention_mask=inputs.attention_mask.to(device),
                return_timestamps=True,
                return_token_timestamps=True,
                return_segments=True,
                temperature=TEMPERATURES,
                compression_ratio_threshold=MAX_COMPRESSION,
                logprob_threshold=MIN_LOGPROB,
                no_speech_threshold=MAX_NO_SPEECH,
                condition_on_prev_tokens=False,
                num_beams=1,
                **self.options,
            )
        return [self._heard(*pair) for pair in zip(outputs["segments"], waveforms)]

    def _heard(self, segments: Sequence[dict[str, Any]], waveform: np.ndarray) -> Heard:
        language = self._language(segments)
        words: list[Word] = []
        for segment in segments:
            tokens, times = segment["tokens"].tolist(), [float(time) for time in segment["token_timestamps"]]
            words += self._words(tokens, times, len(waveform) / SAMPLING_RATE, language in WITHOUT_SPACES)
        words = one_after_another(words)
        # Whisper says "you" or "Thank you." where nothing can be heard
        words = [word for word in words if not is_silent(_around(waveform, word))]
        return Heard(tuple(words), language if words else "")

    def _language(self, segments: Sequence[dict[str, Any]]) -> str:
        """Return the language that stands among a window's first tokens, "en"; "" where the model has only one."""
        languages = {token: name for name, token in getattr(self.model.generation_config, "lang_to_id", {}).items()}
        for segment in segments[:1]:
            for token in segment["result"]["sequences"].tolist():
                if token in languages:
                    return languages[token].strip("<|>")
        return ""

    def _words(self, tokens: list[int], times: list[float], duration_s: float, every_token: bool) -> list[Word]:
        """Return the words of a segment. The time of a token is when it ends, and the next one begins."""
        words: list[Word] = []
        waiting: list[int] = []
        start = end = 0.0
        for token, time in zip(tokens, times):
            before, end = end, min(max(time, end), duration_s)
            if token >= self.model.generation_config.eos_token_id:  # a time, or another sign
                continue
            start = start if waiting else before
            waiting.append(token)
            text = self.processor.tokenizer.decode(waiting)
            is_word = any(character.isalnum() for character in text)
            if "\ufffd" in text or (text.startswith(" ") and not is_word):  # half a character; an opening quote
                continue
            waiting = []
            if is_word and (every_token or text.startswith(" ") or not words):
                words.append(Word(text, start, end))
            elif words:
                words[-1] = Word(words[-1].text + text, words[-1].start, end)
        return words


def check_transcriber(folder: Path, language: str | None) -> None:
    """Raise ValueError if a folder does not hold a Whisper that times words and knows the language."""
    kind = read_config(folder).get("model_type")
    if kind != "whisper":
        raise ValueError(f"`{folder}` is not a Whisper: its config.json says model_type {kind!r}.")
    path = folder / "generation_config.json"
    config = read_json(path) if path.is_file() else {}
    for name in ("alignment_heads", "no_timestamps_token_id"):
        if config.get(name) is None:
            raise ValueError(
                f"`{folder}` cannot say when words are spoken: its generation_config.json has no `{name}`. Copy that "
                "file from the checkpoint of OpenAI that it was made from, or choose one of OpenAI's."
            )
    known = {name.strip("<|>") for name in config.get("lang_to_id") or {"en": 0}}
    if language is not None and language not in known:
        raise ValueError(f"`{folder}` does not know --language {language!r}: it knows {', '.join(sorted(known))}.")


def one_after_another(words: Sequence[Word]) -> list[Word]:
    """Return words of which none begins before the last one ends, or lasts no time: two may be given one moment."""
    placed: list[Word] = []
    for word in words:
        start = max(word.start, placed[-1].end) if placed else word.start
        placed.append(Word(word.text, start, max(word.end, start + SHORTEST_WORD_S)))
    return placed


def segments_of(words: Sequence[Word], max_segment_s: float) -> list[dict[str, Any]]:
    """Return `words` in runs that preprocessing keeps whole: up to a pause, the end of a sentence, or `max_segment_s`.

    Returns:
        {"start", "end", "text", "words": [{"word", "start", "end"}]}, in seconds, in order of time.
    """
    runs: list[list[Word]] = []
    for word in words:
        last = runs[-1][-1] if runs else None
        if (
            last is None
            or word.start - last.end >= PAUSE_S
            or last.text.endswith(SENTENCE_ENDS)
            or word.end - runs[-1][0].start > max_segment_s
        ):
            runs.append([])
        runs[-1].append(word)
    return [
        {
            "start": round(run[0].start, 2),
            "end": round(run[-1].end, 2),
            "text": join(run),
            "words": [{"word": w.text.strip(), "start": round(w.start, 2), "end": round(w.end, 2)} for w in run],
        }
        for run in runs
    ]


def join(words: Sequence[Word]) -> str:
    """Return the text of words, whose spaces stand before them where their language has any."""
    return " ".join("".join(word.text for word in words).split())


def _around(waveform: np.ndarray, word: Word) -> np.ndarray:
    """Return what is heard while a word is spoken, or nearly then: words may be mistimed by tenths of a second."""
    begin, end = (round(time * SAMPLING_RATE) for time in (word.start - MISTIMED_S, word.end + MISTIMED_S))
    return waveform[max(begin, 0) : end]
