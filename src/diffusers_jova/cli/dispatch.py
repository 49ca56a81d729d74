# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The command `diffusers-jova`: a verb's name -> its module, of which no other is loaded, and its exit status."""

import argparse
import importlib
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

from .. import __version__
from ..command import run
from ..text import nearest


PROGRAM = "diffusers-jova"
# `convert-lora` is the module convert_lora beside this one: its docstring is what `--help` says,
# `add_arguments(parser)` and `main(args)` do the rest. At its top it may import only what takes no time.
GROUPS = {
    "make clips": {
        "demo": "make a clip with a small checkpoint that comes with the package, and listen to it",
        "generate": "make a clip from texts, and from an image if you like",
        "app": "open a page in the browser that makes clips, or write a Space",
        "encode": "encode a prompt once and keep it as a file",
        "create": "write a small pipeline with random weights",
    },
    "train": {
        "dataset": "make a cache of a folder of films: split, filter, annotate, preprocess",
        "split": "cut films into clips of one shot and one face",
        "filter": "leave out clips that are not worth training on",
        "annotate": "write down what is said, seen and heard in clips",
        "pack": "put clips and what is said of them into tars, as WebDataset has them",
        "preprocess": "cache latents, texts and mouths of a folder of clips",
        "train": "train a transformer from a cache, in the paper's two stages",
        "train-lora": "train a LoRA from a cache, and prove what it learned",
        "validate-mouth-mask": "zero the mouth in a clip's latents and see what changes",
    },
    "measure clips": {
        "bench": "make a clip of each prompt in a file, to be scored",
        "score": "measure a folder of any model's clips",
    },
    "read and write other projects' checkpoints": {
        "convert-waver": "Waver <-> a JoVA transformer, or one branch of it",
        "convert-mmaudio": "MMAudio's autoencoder <-> AutoencoderMMAudio",
        "convert-bigvgan": "a BigVGAN generator <-> BigVGANVocoder",
        "convert-wan": "a Wan pipeline or transformer <-> JoVA on a Wan base",
        "convert-wan-vae": "the original Wan 2.1 VAE <-> AutoencoderKLWan",
        "convert-lora": "LoRA files between the names of diffusers, ComfyUI and kohya",
        "assemble": "put parts together into one pipeline folder",
    },
}
VERBS = {verb: help for verbs in GROUPS.values() for verb, help in verbs.items()}

DESCRIPTION = (
    "Make talking videos: from a prompt to a clip, from clips to a LoRA, from other projects' weights to ours."
)
EPILOG = f"""\
`{PROGRAM} VERB --help` explains a verb; `python -m diffusers_jova VERB` does the same as `{PROGRAM} VERB`.

exit status:
  0    done, also if only in part: the output then says how many of how many failed
  1    nothing came of it: everything failed, or a check found what it should not
  2    it could not begin or go on: a wrong argument, a file, a package or memory that is missing
  130  interrupted with Ctrl-C
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run `diffusers-jova` with arguments, by default those of the process, and return the exit status.

    Raises:
        SystemExit: after `--help`, and with 2 for arguments that a verb does not have.
    """
    return run(_start, sys.argv[1:] if args is None else list(args))


def run_verb(verb: str, args: Sequence[str] | None = None) -> int:
    """Run one verb under the name that the process has, as a script of the repository does; see `main`."""
    return run(lambda args: _run(verb, args, prog=None), sys.argv[1:] if args is None else list(args))


def _start(args: list[str]) -> int | None:
    if not args or args[0] in ("-h", "--help"):
        print(help_text(), end="", file=sys.stdout if args else sys.stderr)
        return 0 if args else 2
    if args[0] == "--version":
        print(PROGRAM, __version__)
        return 0
    verb = args[0].replace("_", "-")  # flags have underscores: who writes train_lora means train-lora
    if verb not in VERBS:
        raise ValueError(f"There is no verb `{args[0]}`{nearest(verb, VERBS)} `{PROGRAM} --help` lists them all.")
    return _run(verb, args[1:], prog=f"{PROGRAM} {verb}")


class VerbParser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all others are, and not below a page of usage."""

    def error(self, message: str) -> NoReturn:
        stop = "" if message.endswith((".", "?")) else "."
        self.exit(2, f"error: {message}{stop} `{self.prog} --help` explains all.\n")


def module_of(verb: str) -> ModuleType:
    return importlib.import_module(f".{verb.replace('-', '_')}", __package__)


def make_parser(verb: str, prog: str | None) -> argparse.ArgumentParser:
    """Return the parser of a verb; `prog` is what its `--help` calls it, None for the name of the process."""
    module = module_of(verb)
    parser = VerbParser(prog=prog, description=module.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    module.add_arguments(parser)
    return parser


def parse(verb: str, args: Sequence[str], prog: str | None = None) -> argparse.Namespace:
    """Return the arguments of a verb.

    Raises:
        SystemExit: for what the verb does not have; the message names the nearest that it has.
    """
    parser = make_parser(verb, prog)
    parsed, unknown = parser.parse_known_args(args)
    if unknown:
        flags = re.findall(r"--[\w-]+", parser.format_usage())
        parser.error(f"unknown argument `{unknown[0]}`{nearest(unknown[0].partition('=')[0], flags)}")
    return parsed


def _run(verb: str, args: list[str], prog: str | None) -> int | None:
    return module_of(verb).main(parse(verb, args, prog))


def help_text() -> str:
    """Return what `diffusers-jova --help` prints."""
    width = max(map(len, VERBS))
    groups = (
        f"{title}:\n" + "".join(f"  {verb:<{width}}  {help}\n" for verb, help in verbs.items())
        for title, verbs in GROUPS.items()
    )
    return "\n".join([f"usage: {PROGRAM} VERB ...\n\n{DESCRIPTION}\n", *groups, EPILOG])
