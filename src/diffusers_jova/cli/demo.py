# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a clip with jova-nano, the small checkpoint that comes with the package, and listen to it:

    diffusers-jova demo
    diffusers-jova demo --transcript "five one six" --audio_prompt "A calm male voice."

jova-nano says one to three digits, with a drawn face and one of four voices. pocketsphinx, if it is installed
(pip install 'diffusers-jova[eval]'), says what it hears.
"""

import argparse
import importlib.util
import time
from pathlib import Path

from ..files import check_output
from .pipeline import TEXTS, check_device, load_pipeline, write_output


DEMO = {
    "prompt": "A woman with long red hair, blue shirt, green wall.",
    "audio_prompt": "A clear female voice.",
    "transcript": "three seven one",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for name, text in DEMO.items():
        parser.add_argument(f"--{name}", default=text, help=f"{TEXTS[name]} (default: %(default)s)")
    parser.add_argument("--image", type=Path, help="reference image, the first frame")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("outputs/demo.mp4"), help="the clip (default: %(default)s)"
    )


def main(args: argparse.Namespace) -> None:
    from .. import media

    started = time.perf_counter()
    args.output.parent.mkdir(parents=True, exist_ok=True)
    media.check_output_path(args.output)
    check_output(args.output, {"the --image": args.image})
    inputs = {name: getattr(args, name) for name in DEMO}
    inputs["image"] = media.load_image(args.image) if args.image is not None else None
    import torch

    device = check_device(None)
    pipe = load_pipeline("jova-nano", device, None).to(device)
    print("\n".join(f"{name}: {text}" for name, text in inputs.items() if text is not None))
    output = pipe(**inputs, generator=torch.Generator().manual_seed(args.seed), output_type="np")
    write_output(args.output, output)
    num_frames, height, width, _ = output.frames[0].shape
    print(
        f"Wrote {args.output}: {num_frames} frames of {width} x {height} at {output.frame_rate:g} frames/s with audio "
        f"at {output.audio_sampling_rate} Hz, in {time.perf_counter() - started:.1f} s."
    )
    if importlib.util.find_spec("pocketsphinx") is not None:
        from ..evaluation.words import WordListener
        from ..nano.speech import DIGITS

        print(f"pocketsphinx, which knows the ten digits, hears: {WordListener(DIGITS).hear(output.audio[0])}")
    print(f"Watch it in any player, e.g. `ffplay {args.output}`, or open it in a browser.")
