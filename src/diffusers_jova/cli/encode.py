# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Encode a prompt once and keep it as a file, from which `generate --prompt_embeds` makes clips without the encoders:

diffusers-jova encode --model DIR --prompt "A woman." --transcript "Good night." --output prompt.safetensors
diffusers-jova generate --model DIR --prompt_embeds prompt.safetensors --output out.mp4
"""

import argparse
from pathlib import Path

from .pipeline import TEXTS, add_pipeline_arguments, add_text_arguments, check_device, load_pipeline


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pipeline_arguments(parser)
    add_text_arguments(parser)
    parser.add_argument("--output", type=Path, required=True, help="a .safetensors file")


def main(args: argparse.Namespace) -> None:
    from .. import media
    from ..pipelines.prompts import format_prompt, save_prompt_embeds

    media.check_output_path(args.output, (".safetensors",))
    check_is_prompt_embeds(args.output)
    texts = {name: getattr(args, name) for name in TEXTS}
    if not any(texts[name] for name in ("prompt", "audio_prompt", "transcript")):
        raise ValueError("There is nothing to encode: give --prompt, --audio_prompt or --transcript.")
    format_prompt(args.prompt, args.audio_prompt, args.transcript)
    device = check_device(args.device)

    import torch

    without = dict.fromkeys(("transformer", "vae", "audio_vae", "vocoder"))
    pipe = load_pipeline(args.model, device, args.dtype, **without)
    with torch.no_grad():
        save_prompt_embeds(args.output, pipe.to(device).encode_prompt(**texts))
    print(f"Wrote {args.output}.")


def check_is_prompt_embeds(path: Path) -> None:
    """Raise ValueError if there is a file at `path` that `encode` did not write: it may be a model's weights."""
    from ..headers import read_header
    from ..pipelines.prompts import PROMPT_EMBEDS

    if not path.exists():
        return
    try:
        names = set(read_header(path)[0])
    except ValueError:
        names = set()
    if not names or not names <= set(PROMPT_EMBEDS):
        raise ValueError(
            f"`{path}` exists and is not an encoded prompt, so it is not written over: choose another --output, or "
            "remove it first."
        )
