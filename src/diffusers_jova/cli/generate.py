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

or a long talk, window by window, each with its words; --dry_run shows the windows and makes nothing:

    diffusers-jova generate --audio long_talk.wav --image me.png --window_num_frames 21 --output talk.mp4
    diffusers-jova generate --num_frames 53 --window_transcripts "one two" "three" "four" --prompt "A woman." \\
        --output talk.mp4 --dry_run

Size, length, steps and scales are the checkpoint's own where they are not given; with --audio the clip is as long as
the recording.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files import check_output
from ..pipeline_folder import read_pipeline_folder
from .pipeline import (
    NUMBERS,
    TEXTS,
    add_pipeline_arguments,
    add_sampling_arguments,
    add_text_arguments,
    check_model,
    device_of,
    find_face_detector,
    given,
    loras_of,
    prepare_pipeline,
    write_output,
)


if TYPE_CHECKING:  # it takes seconds to import, which `--help` should not
    from ..pipelines.pipeline_output import JoVAPipelineOutput


# Flags of a clip in windows, which go to the pipeline's call as they are.
WINDOWS = ("window_num_frames", "overlap_num_frames", "window_transcripts")


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
    windows = parser.add_argument_group("long clips, window by window")
    windows.add_argument("--window_num_frames", type=int, help="frames of each, 4k + 1 (default: the checkpoint's)")
    windows.add_argument("--overlap_num_frames", type=int, help="of them, from the window before, 4k + 1")
    windows.add_argument("--window_transcripts", nargs="+", metavar="TEXT", help="the words of each window")
    parser.add_argument("--dry_run", action="store_true", help="print the windows and their words, and make nothing")
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
    in_windows = bool(given(args, *WINDOWS))
    if args.dry_run or (in_windows and Path(check_model(args.model)).is_dir()):
        windows = describe_windows(args, directions) if in_windows else "One piece, without windows."
    if args.dry_run:
        print(windows)
        return
    device = device_of(args)

    import torch

    from .memory import check_memory

    check_memory(args, device, without)
    pipe = prepare_pipeline(args, device, loras, **without)
    if detector is not None:
        from ..faces import crop_to_face

        image = crop_to_face(image, args.height or pipe.config.height, args.width or pipe.config.width, detector)
    started = time.perf_counter()
    settings = settings_of(args, texts, directions) | {"image": image}
    settings |= {"generator": torch.Generator().manual_seed(args.seed), "output_type": "np"}
    if in_windows:
        write_windows(args.output, pipe.iter_windows(**settings))
    else:
        write_output(args.output, pipe(**settings))
    print(f"Wrote {args.output} in {time.perf_counter() - started:.1f} s.")


def settings_of(args: argparse.Namespace, texts: dict[str, Any], directions: dict[str, Any]) -> dict[str, Any]:
    """Return what is given of the pipeline's call, but for the noise and the type of the output.

    Args:
        texts: As of `prompt_of`.
        directions: As of `directions_of`.
    """
    given_settings = texts | given(args, *NUMBERS, *WINDOWS, "batch_guidance", "image") | directions
    return given_settings | {"modalities": tuple(args.modalities)}


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


def describe_windows(args: argparse.Namespace, directions: dict[str, Any]) -> str:
    """Return a line for each window and its words, looked at without the weights."""
    from ..pipelines.windows import plan_call, read_long_recording

    arguments = dict.fromkeys(("audio", "video", "keep", "retake", "audio_sampling_rate", "prompt_embeds"))
    arguments |= dict.fromkeys(("latents", "audio_latents", "prompt_embeds_2"))
    arguments |= {name: getattr(args, name) for name in (*TEXTS, *NUMBERS, *WINDOWS, "prompt_embeds", "modalities")}
    arguments |= {"output_type": "np", "num_videos_per_prompt": 1} | directions
    recording = read_long_recording(arguments)
    folder = read_pipeline_folder(check_model(args.model))
    mode = folder.config("transformer").get("condition_mode")
    defaults = {"num_frames": 121, "frame_rate": 24.0} | folder.call_defaults  # those of `JoVAPipeline`
    plan = plan_call(arguments, defaults, folder.vae_scale_factor_temporal, mode, recording)
    return plan.describe(plan.words(args.window_transcripts))


def write_windows(path: Path, windows: Iterator[JoVAPipelineOutput]) -> None:
    """Write a clip as its windows are made, so that one of them is held at a time."""
    from .. import media

    first = next(windows)
    with media.video_writer(path, first.frame_rate, first.audio_sampling_rate) as write:
        for window in itertools.chain([first], windows):
            write(window.frames[0], None if window.audio is None else window.audio[0])


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
