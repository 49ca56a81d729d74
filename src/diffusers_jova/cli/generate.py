# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a clip from texts and, if you like, from an image, which becomes the first frame:

    diffusers-jova generate --model jova-nano --prompt "A woman with long red hair, blue shirt, green wall." \\
        --audio_prompt "A clear female voice." --transcript "three seven" --image portrait.png --output out.mp4

or make the image's lips follow a recording, audio for a silent clip, what follows a clip, or a part of it anew:

    diffusers-jova generate --audio talk.wav --image me.png --output me.mp4
    diffusers-jova generate --video silent.mp4 --transcript "three seven" --output talking.mp4
    diffusers-jova generate --video clip.mp4 --keep 1.0 --output longer.mp4
    diffusers-jova generate --video clip.mp4 --retake 1.2 2.0 video --output clip2.mp4

Size, length, steps and scales are the checkpoint's own where they are not given; with --audio the clip is as long as
the recording.
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
    add_pipeline_arguments(parser, default="jova-nano")
    add_text_arguments(parser)
    parser.add_argument("--prompt_embeds", type=Path, help="file written by `encode`, instead of the texts")
    parser.add_argument("--image", type=Path, help="reference image, the first frame")
    directions = parser.add_argument_group("what is given and stays as it is")
    directions.add_argument("--audio", type=Path, help="a recording that the video is made to")
    directions.add_argument("--video", type=Path, help="a clip that audio is made for; or see --keep and --retake")
    directions.add_argument("--keep", type=float, metavar="SECONDS", help="of --video are kept, what follows is made")
    directions.add_argument(
        "--retake",
        nargs="+",
        metavar=("START END", "video|audio"),
        help="the seconds of --video that are made anew, or only its video or its audio there",
    )
    add_sampling_arguments(parser)
    both = ["video", "audio"]
    parser.add_argument("--modalities", nargs="+", choices=both, default=both, help="one or both (default: both)")
    parser.add_argument("--output", type=Path, required=True, help="an .mp4, or a .wav for audio alone")


def main(args: argparse.Namespace) -> None:
    from .. import media

    # everything that can be wrong is looked at before the weights are read
    suffixes = media.VIDEO_SUFFIXES if "video" in args.modalities else media.AUDIO_SUFFIXES
    media.check_output_path(args.output, suffixes)
    inputs = {f"the --{name}": getattr(args, name) for name in ("image", "prompt_embeds", "audio", "video")}
    check_output(args.output, inputs | {f"the --lora {lora}": lora for lora in args.lora if Path(lora).is_file()})
    loras = loras_of(args)
    image = media.load_image(args.image) if args.image is not None else None
    if args.crop == "face" and image is None:
        raise ValueError("--crop face is about the --image: give one, or leave --crop out.")
    detector = find_face_detector(args.crop)
    texts, without = prompt_of(args)
    directions = directions_of(args)
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
        **directions,
        image=image,
        modalities=tuple(args.modalities),
        generator=torch.Generator().manual_seed(args.seed),
        output_type="np",
    )
    write_output(args.output, output)
    print(f"Wrote {args.output} in {time.perf_counter() - started:.1f} s.")


def directions_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return what is given of the clip as arguments of the pipeline's call; they are looked at once without it."""
    directions = given(args, "audio", "video", "keep")
    if args.retake is not None:
        directions["retake"] = read_retake(args.retake)
    if directions:
        from ..pipelines.directions import Given

        others = dict.fromkeys(("audio", "audio_sampling_rate", "video", "keep", "retake"))
        Given.from_arguments(others | {"modalities": args.modalities, "image": args.image} | directions)
    return directions


def read_retake(words: list[str]) -> tuple:
    """Return the pipeline's `retake` of the words behind --retake."""
    try:
        start_s, end_s = map(float, words[:2])
    except ValueError:
        raise ValueError(f"--retake takes two times in seconds, got {' '.join(words)!r}.") from None
    return (start_s, end_s, tuple(words[2:])) if words[2:] else (start_s, end_s)


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
