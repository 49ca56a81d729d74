# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Make a JoVA from a Wan, whose transformer becomes the video branch, or a Wan transformer from that branch:

diffusers-jova convert-wan --to jova --input Wan2.1-T2V-1.3B-Diffusers --output jova-wan
diffusers-jova convert-wan --to wan --input jova-wan/transformer --output wan-transformer

A whole pipeline in diffusers' layout becomes a whole pipeline; a transformer alone (a folder, a .safetensors or .pth
file, in diffusers' names or the original ones) becomes a transformer. The audio branch begins as a copy of the video
branch: it has to be trained before it is worth hearing.
"""

import argparse

from ..conversion.errors import ConversionError
from ..presets import AUDIO_MODES
from .converting import add_conversion_arguments, check_has_output, execute


# flags of one direction, and what they are where they are not given
ONLY = {
    "jova": ("expert", "audio_mode", "audio_vae", "vocoder", "drop_image_encoder", "seed"),
    "wan": ("layout", "keep_image_channels"),
}
UNSET = {"drop_image_encoder": False, "keep_image_channels": False}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", required=True, choices=["jova", "wan"], help="what to write")
    add_conversion_arguments(parser)
    parser.add_argument("--expert", choices=["high", "low"], help="to jova: which noise, of a Wan2.2-A14B")
    parser.add_argument("--audio_mode", choices=list(AUDIO_MODES), help="to jova: audio VAE of the audio branch (44k)")
    parser.add_argument("--audio_vae", metavar="DIR", help="to jova: AutoencoderMMAudio, or a pipeline that has one")
    parser.add_argument("--vocoder", metavar="DIR", help="to jova: its vocoder, or a pipeline that has one")
    parser.add_argument(
        "--drop_image_encoder", action="store_true", help="to jova: leave out CLIP's layers (Wan2.1-I2V)"
    )
    parser.add_argument("--seed", type=int, help="to jova: seed of the new layers of the audio branch (0)")
    parser.add_argument("--layout", choices=["diffusers", "original"], help="to wan: names to write; as it was read")
    parser.add_argument("--keep_image_channels", action="store_true", help="to wan: write 36 input channels for 16")


def main(args: argparse.Namespace) -> None:
    check_flags(args)
    from ..conversion import wan_pipeline, wan_transformer  # late: it takes seconds
    from ..conversion.checkpoint import open_checkpoint

    check_has_output(args)
    path = wan_pipeline.find_transformer(args.input, args.expert)
    checkpoint = open_checkpoint(path, prefix=args.prefix)
    if args.to == "wan":
        plan = wan_transformer.to_wan(checkpoint, layout=args.layout, keep_image_channels=args.keep_image_channels)
    else:
        plan = wan_transformer.to_jova(
            checkpoint,
            audio_mode=args.audio_mode or "44k",
            drop_image_encoder=args.drop_image_encoder,
            seed=args.seed or 0,
            temporal_compression=wan_pipeline.temporal_compression(args.input),
        )
        audio_parts = {"audio_vae": args.audio_vae, "vocoder": args.vocoder}
        plan = wan_pipeline.with_parts(plan, args.input, args.expert, audio_parts)
    execute(plan, args)


def check_flags(args: argparse.Namespace) -> None:
    """Raise ConversionError for flags that go with the other direction."""
    other = "wan" if args.to == "jova" else "jova"
    if given := [name for name in ONLY[other] if getattr(args, name) is not UNSET.get(name)]:
        flags, verb = " and ".join(f"--{name}" for name in given), "go" if given[1:] else "goes"
        raise ConversionError(f"{flags} only {verb} with --to {other}.")
