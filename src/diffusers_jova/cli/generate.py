# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a clip from texts and, if you like, from an image, which becomes the first frame:

    diffusers-jova generate --model jova-nano --prompt "A woman with long red hair, blue shirt, green wall." \\
        --audio_prompt "A clear female voice." --transcript "three seven" --image portrait.png --output out.mp4

Size, length, steps and scales are the checkpoint's own where they are not given.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from ..files import check_output
from .pipeline import (
    NUMBERS,
    TEXTS,
    add_pipeline_arguments,
    add_sampling_arguments,
    add_text_arguments,
    device_of,
    find_face_detector,
    given,
    loras_of,
    prepare_pipeline,
    write_output,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pipeline_arguments(parser)
    add_text_arguments(parser)
    parser.add_argument("--prompt_embeds", type=Path, help="file written by `encode`, instead of the texts")
    parser.add_argument("--image", type=Path, help="reference image, the first frame")
    add_sampling_arguments(parser)
    both = ["video", "audio"]
    parser.add_argument("--modalities", nargs="+", choices=both, default=both, help="one or both (default: both)")
    parser.add_argument("--output", type=Path, required=True, help="an .mp4, or a .wav for audio alone")


def main(args: argparse.Namespace) -> None:
    from .. import media

    # everything that can be wrong is looked at before the weights are read
    suffixes = media.VIDEO_SUFFIXES if "video" in args.modalities else media.AUDIO_SUFFIXES
    media.check_output_path(args.output, suffixes)
    inputs = {"the --image": args.image, "the --prompt_embeds": args.prompt_embeds}
    check_output(args.output, inputs | {f"the --lora {lora}": lora for lora in args.lora if Path(lora).is_file()})
    loras = loras_of(args)
    image = media.load_image(args.image) if args.image is not None else None
    if args.crop == "face" and image is None:
        raise ValueError("--crop face is about the --image: give one, or leave --crop out.")
    detector = find_face_detector(args.crop)
    texts, without = prompt_of(args)
    device = device_of(args)

    import torch

    pipe = prepare_pipeline(args, device, loras, **without)
    if detector is not None:
        from ..faces import crop_to_face

        image = crop_to_face(image, args.height or pipe.config.height, args.width or pipe.config.width, detector)
    started = time.perf_counter()
    output = pipe(
        **texts,
        **given(args, *NUMBERS),
        image=image,
        modalities=tuple(args.modalities),
        generator=torch.Generator().manual_seed(args.seed),
        output_type="np",
    )
    write_output(args.output, output)
    print(f"Wrote {args.output} in {time.perf_counter() - started:.1f} s.")


def prompt_of(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, None]]:
    """Return the prompt as arguments of the pipeline's call, and the components that it makes unnecessary."""
    texts = given(args, *TEXTS)
    if args.prompt_embeds is None:
        return texts, {}
    from ..pipelines.prompts import load_prompt_embeds

    if texts:
        raise ValueError(f"--prompt_embeds stands for all texts: leave out {', '.join(f'--{x}' for x in texts)}.")
    encoders = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    return load_prompt_embeds(args.prompt_embeds), dict.fromkeys(encoders)
