# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a clip with the newest small checkpoint that comes with the package, and listen to it:

    diffusers-jova demo
    diffusers-jova demo --transcript "maria finds seven blue pencils" --audio_prompt "A lively American female voice."
    diffusers-jova demo --words
    diffusers-jova demo --model jova-nano --output outputs/nano.mp4

Texts that are not given are those of the checkpoint's first example. A checkpoint that says which words it knows is
asked for no others: --words lists them. pocketsphinx, if it is installed (pip install 'diffusers-jova[eval]'), says
what it hears.
"""

from __future__ import annotations

import argparse
import importlib.util
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import check_output
from ..pipeline_folder import newest_model, read_pipeline_folder
from ..vocabulary import KnownWords, all_words, spoken_words, unknown_words
from .pipeline import (
    add_pipeline_arguments,
    add_text_arguments,
    check_device,
    check_model,
    given,
    load_pipeline,
    write_output,
)


if TYPE_CHECKING:  # it takes seconds to import, which `--help` should not
    from ..pipelines.pipeline_output import JoVAPipelineOutput


TEXTS = ("prompt", "audio_prompt", "transcript")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pipeline_arguments(parser, default=newest_model())
    add_text_arguments(parser, TEXTS)
    parser.add_argument("--image", type=Path, help="reference image, the first frame")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/demo.mp4"), help="the clip (default: %(default)s)"
    )
    parser.add_argument("--words", action="store_true", help="list the words that the checkpoint knows, and end")


def main(args: argparse.Namespace) -> None:
    from .. import media

    started = time.perf_counter()
    known_words = known_words_of(args.model)
    if args.words:
        print(describe_words(args.model, known_words))
        return
    inputs: dict[str, Any] = texts_of(args, known_words)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    media.check_output_path(args.output)
    check_output(args.output, {"the --image": args.image})
    inputs["image"] = media.load_image(args.image) if args.image is not None else None
    import torch

    device = check_device(args.device)
    pipe = load_pipeline(args.model, device, args.dtype).to(device)
    print("\n".join(f"{name}: {text}" for name, text in {"model": args.model, **inputs}.items() if text is not None))
    output = pipe(**inputs, generator=torch.Generator().manual_seed(args.seed), output_type="np")
    write_output(args.output, output)
    num_frames, height, width, _ = output.frames[0].shape
    print(
        f"Wrote {args.output}: {num_frames} frames of {width} x {height} at {output.frame_rate:g} frames/s with audio "
        f"at {output.audio_sampling_rate} Hz, in {time.perf_counter() - started:.1f} s."
    )
    if importlib.util.find_spec("pocketsphinx") is not None:
        print(hear(output, all_words(known_words)))
    print(f"Watch it in any player, e.g. `ffplay {args.output}`, or open it in a browser.")


def known_words_of(model: str) -> KnownWords | None:
    """Return the words that a checkpoint knows, by their kinds; None for one that does not say.

    Args:
        model: A folder, a name on the Hub, or a checkpoint that comes with the package.
    """
    folder = check_model(model)
    if Path(folder).is_dir():
        return read_pipeline_folder(folder).index.get("known_words")
    from .. import JoVAPipeline

    return JoVAPipeline.load_config(folder).get("known_words")


def describe_words(model: str, known_words: KnownWords | None) -> str:
    """Return what --words prints: a line for each kind, and what the checkpoint's examples say."""
    from ..app.examples import read_examples

    num_words = len(all_words(known_words))
    if not num_words:
        return f"{model} does not say which words it knows: it is given any."
    lines = [f"{model} knows {num_words} words:"]
    for kind, words in known_words.items():
        lines.append(textwrap.fill(f"{kind}: {' '.join(words)}", width=99, subsequent_indent="    "))
    transcripts = [f'"{example["transcript"]}"' for example in read_examples(model) if "transcript" in example]
    lines += [f"For example: {', '.join(transcripts)}."] * bool(transcripts)
    return "\n".join(lines)


def texts_of(args: argparse.Namespace, known_words: KnownWords | None) -> dict[str, str]:
    """Return the texts of the clip: those that are given, for the others those of the checkpoint's first example.

    The transcript is written as the checkpoint has learnt to read it, in lower case without punctuation, if it says
    which words it knows.

    Raises:
        ValueError: For words that it does not know; or if there are no texts at all.
    """
    from ..app.examples import read_examples

    examples = read_examples(args.model)
    texts = {name: text for name, text in (examples[0] if examples else {}).items() if name in TEXTS}
    texts |= given(args, *TEXTS)
    if not texts:
        raise ValueError(f"{args.model} comes without examples: give --prompt, --transcript or both.")
    if (known := all_words(known_words)) and "transcript" in texts:
        texts["transcript"] = spoken_words(texts["transcript"])
        if unknown := unknown_words(texts["transcript"].split(), known):
            raise ValueError(
                f"{args.model} has not learnt to say {unknown}. `diffusers-jova demo --model {args.model} --words` "
                f"lists the {len(known)} words that it knows."
            )
    return texts


def hear(output: JoVAPipelineOutput, words: list[str]) -> str:
    """Return what pocketsphinx hears, in words that it is told to expect, or in English where there are none."""
    import numpy as np

    from ..evaluation.audio_input import resample
    from ..evaluation.loudness import SAMPLING_RATE
    from ..evaluation.words import WordListener

    try:
        listener = WordListener(words or None)
    except RuntimeError:
        return "pocketsphinx cannot listen to this clip: its dictionary does not have all words of the checkpoint."
    waveform = np.asarray(output.audio[0])
    heard = listener.hear(resample(waveform, output.audio_sampling_rate, SAMPLING_RATE))
    expected = f"the {len(words)} words of this checkpoint" if words else "English"
    return f"pocketsphinx, which knows {expected}, hears: {heard}"
