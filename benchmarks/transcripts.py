# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How often a Whisper mishears flite's voices, how its words are mistimed, and what it hears where nobody speaks:

python benchmarks/transcripts.py --transcriber whisper-base/

Words are timed on sentences whose words are spoken one by one, with a pause of known length after each; errors are
counted on the same sentences as flite speaks them. All audio goes the way of `diffusers-jova annotate`. Needs flite.
"""

import argparse
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np

from diffusers_jova.command import run
from diffusers_jova.data.clips import Source
from diffusers_jova.dataset.annotation.items import Annotation, Item, SpeechReader
from diffusers_jova.dataset.annotation.models import Place, find_checkpoint
from diffusers_jova.dataset.annotation.settings import AnnotationConfig
from diffusers_jova.dataset.annotation.transcriber import Transcriber
from diffusers_jova.evaluation.word_errors import Transcript, error_rates, measure_words
from diffusers_jova.media import write_wav
from diffusers_jova.nano.speech import speak
from diffusers_jova.vocabulary import spoken_words


SENTENCES = (  # of the Harvard list
    "The birch canoe slid on the smooth planks",
    "Glue the sheet to the dark blue background",
    "It is easy to tell the depth of a well",
    "These days a chicken leg is a rare dish",
    "Rice is often served in round bowls",
    "The juice of lemons makes fine punch",
    "The box was thrown beside the parked truck",
    "Four hours of steady work faced us",
)
VOICES = ("slt", "rms")
RATE = 16000
PAUSE_S = 0.12


def spaced(sentence: str, voice: str) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Return a sentence word by word, (N,), and when each word begins and ends, in seconds."""
    pieces, times, at = [np.zeros(round(0.5 * RATE), np.float32)], [], 0.5
    for word in sentence.split():
        waveform = speak(voice, word)
        times.append((at, at + len(waveform) / RATE))
        pieces += [waveform, np.zeros(round(PAUSE_S * RATE), np.float32)]
        at = times[-1][1] + PAUSE_S
    return np.concatenate(pieces), times


def without_speech() -> dict[str, np.ndarray]:
    """Return audio of 5 s, (N,), in which nobody speaks, by name."""
    rng, t = np.random.default_rng(0), np.arange(5 * RATE) / RATE
    white = rng.standard_normal(len(t))
    hum = np.sin(2 * np.pi * 50 * t) + 0.3 * np.sin(2 * np.pi * 150 * t)
    chord = sum(np.sin(2 * np.pi * pitch * t) for pitch in (220, 277.2, 329.6))
    clicks = np.where(np.arange(len(t)) % RATE < 40, 1.0, 0.0)
    given = {"digital silence": 0 * t, "hiss, -60 dB": 1e-3 * white, "white noise, -34 dB": 0.02 * white}
    given |= {"white noise, -20 dB": 0.1 * white, "hum": 0.05 * hum, "chord": 0.05 * chord, "clicks": 0.5 * clicks}
    return {name: waveform.astype(np.float32) for name, waveform in given.items()}


def listen(transcriber: Transcriber, waveforms: list[np.ndarray], batch_size: int) -> list[dict]:
    """Return the fields of each waveform's row."""
    with tempfile.TemporaryDirectory(prefix="diffusers-jova-") as folder:
        path, clips = Path(folder) / "clip.wav", []
        for waveform in waveforms:
            write_wav(path, waveform[None], RATE)
            item = Item(Source("clip.wav", path=path), Fraction(0), Fraction(len(waveform), RATE))
            clips.append(SpeechReader()(item))
    said = transcriber.transcribe(clips, batch_size)
    return [dict(one.fields) if isinstance(one, Annotation) else {"left_out": str(one)} for one in said]


def main(args: argparse.Namespace) -> None:
    config = AnnotationConfig("", "", transcriber=args.transcriber, device=args.device)
    transcriber = Transcriber.from_folder(find_checkpoint(args.transcriber), "en", "", 4.0, Place.of(config))
    cases = [(sentence, voice) for voice in VOICES for sentence in SENTENCES[: args.num_sentences]]

    heard = listen(transcriber, [speak(voice, sentence) for sentence, voice in cases], args.batch_size)
    texts = [Transcript(one.get("transcript", "")) for one in heard]
    rates = error_rates([measure_words(sentence, text) for (sentence, _), text in zip(cases, texts)])
    print(f"spoken sentences: {rates.num_clips}, WER {rates.micro:.3f}", flush=True)

    spaced_cases = [spaced(sentence, voice) for sentence, voice in cases]
    heard = listen(transcriber, [waveform for waveform, _ in spaced_cases], args.batch_size)
    errors, num_words = [], 0
    for (sentence, _), (_, times), one in zip(cases, spaced_cases, heard):
        words = [word for segment in one.get("segments", ()) for word in segment["words"]]
        num_words += len(times)
        # else nobody can pair them
        if [spoken_words(word["word"]) for word in words] == spoken_words(sentence).split():
            errors += [(w["start"] - begin, w["end"] - end) for w, (begin, end) in zip(words, times)]
    starts, ends = np.abs(np.array(errors)).T if errors else ([np.nan], [np.nan])
    print(f"words one by one: {len(errors)} of {num_words} in sentences that were heard right")
    for name, values in (("begin", starts), ("end", ends)):
        median, p90 = np.percentile(values, (50, 90))
        print(
            f"  {name}: mean error {np.mean(values):.3f} s, median {median:.3f} s, 90 % below {p90:.3f} s", flush=True
        )

    nobody = without_speech()
    for name, one in zip(nobody, listen(transcriber, list(nobody.values()), args.batch_size)):
        print(f"{name}: {one.get('transcript') or one.get('left_out') or 'no words'}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--transcriber", required=True, help="folder of a Whisper, or its name on the Hub")
    parser.add_argument("--num_sentences", type=int, default=len(SENTENCES), help="per voice")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    sys.exit(run(main, parser.parse_args()))
