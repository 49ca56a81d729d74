# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Put parts together into one pipeline folder that JoVAPipeline.from_pretrained loads, if they fit each other:

    diffusers-jova assemble --transformer transformer --vae vae --audio_vae audio_vae --vocoder vocoder \\
        --text_encoder t5 --tokenizer t5 --text_encoder_2 qwen --tokenizer_2 qwen --output jova

A part may also be a whole pipeline that has it, such as jova-nano.
"""

import argparse

from ..conversion.errors import ConversionError
from ..conversion.parts import PARTS, REQUIRED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    for part in PARTS:
        parser.add_argument(
            f"--{part}", metavar="DIR", required=part in REQUIRED, help=f"folder of the {part}, or a pipeline"
        )
    parser.add_argument("--output", metavar="DIR", help="folder to write; not needed with --dry_run")
    parser.add_argument("--overwrite", action="store_true", help="replace the output folder if it exists")
    parser.add_argument("--dry_run", action="store_true", help="check that the parts fit, write nothing")


def main(args: argparse.Namespace) -> None:
    from ..conversion.assemble import assemble  # late: it takes seconds

    if args.output is None and not args.dry_run:
        raise ConversionError("Say where to write with --output DIR, or pass --dry_run.")
    parts = {part: getattr(args, part) for part in PARTS}
    print(assemble(parts, args.output, overwrite=args.overwrite, dry_run=args.dry_run))
