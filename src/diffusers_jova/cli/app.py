# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Open a page to play with a pipeline, in the browser of this machine, or write it as a Space of Hugging Face:

    diffusers-jova app --model jova-nano
    diffusers-jova app --model jova-nano --lora_dir loras/
    diffusers-jova app --model jova-nano --write_space space/

The page makes what `generate` makes, and says with which command or Python. It needs Gradio: pip install
'diffusers-jova[app]'. Nobody but this machine sees it, unless you give --server_name or --share. Uploads and clips lie
in a temporary folder, which is removed when the app ends.
"""

import argparse
import importlib.util
import signal
from pathlib import Path

from ..command import say
from .pipeline import add_memory_arguments, add_pipeline_arguments, check_model


LOOPBACK = "127.0.0.1"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_pipeline_arguments(parser, default="jova-nano")
    add_memory_arguments(parser, ("cpu_offload",))
    parser.add_argument("--lora_dir", type=Path, help="folder of LoRAs to choose from on the page")
    page = parser.add_argument_group("who sees the page")
    page.add_argument(
        "--server_name", default=LOOPBACK, help="address to listen on; 0.0.0.0 is everybody (default: %(default)s)"
    )
    page.add_argument("--server_port", type=int, help="(default: the first free one from 7860 on)")
    page.add_argument("--share", action="store_true", help="also show it to the world, through a server of Gradio's")
    page.add_argument(
        "--max_file_size_mb", type=float, default=20.0, help="largest upload, in MB (default: %(default)g)"
    )
    parser.add_argument(
        "--write_space", type=Path, metavar="DIR", help="write a Space of Hugging Face there instead, and end"
    )


def main(args: argparse.Namespace) -> None:
    if args.max_file_size_mb <= 0:
        raise ValueError(f"--max_file_size_mb must be more than 0, got {args.max_file_size_mb:g}.")
    if args.write_space is not None:
        from ..app.space import write_space

        write_space(args.write_space, args.model, args.max_file_size_mb)
        say(f"Wrote {args.write_space}: README.md, app.py, requirements.txt. Upload it as a Space.")
        return
    check_model(args.model)
    if importlib.util.find_spec("gradio") is None:
        raise ImportError("The app needs Gradio: pip install 'diffusers-jova[app]'.")
    from ..app.clips import ClipMaker
    from ..app.sessions import temporary_folder

    maker = ClipMaker(args, args.lora_dir)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as with Ctrl-C, and clears the folder
    with temporary_folder() as folder:
        from ..app.page import launch_options, make_page

        make_page(maker, Path(folder)).launch(
            server_name=args.server_name,
            server_port=args.server_port,
            share=args.share,
            **launch_options(args.max_file_size_mb),
        )
