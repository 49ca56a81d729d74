# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""From films to a cache for training, in steps that can also be started one by one:

diffusers-jova dataset films/ --model jova-nano --captions given --output_dir cache/

`split` cuts the films into clips, `filter` leaves out what is not worth training on, `annotate` writes down what is
said, seen and heard (`--captions made`), `preprocess` makes the cache. Their rows and reports are in `dataset/` of the
output folder. Start the same command again after an interruption. The exit status is 1 if a step leaves no clip.
"""

import argparse
from pathlib import Path
from typing import Any

from ..command import say
from .engine import add_engine_flags


STEPS = ("split", "filter", "annotate", "preprocess")
SHARED = {  # flags of this verb that go on to these steps
    "num_workers": STEPS,
    "no_faces": ("split", "filter"),
    "landmarks": ("split", "filter", "preprocess"),
    "report": ("filter",),
    "engine": STEPS,
    "address": STEPS,
    "concurrency": ("annotate", "preprocess"),
    "gpus_per_worker": ("annotate", "preprocess"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("films", help="folder of films, one film, or rows of your own")
    parser.add_argument("--model", required=True, help="folder of the pipeline that will be trained, or its name")
    parser.add_argument("--output_dir", required=True, help="folder of the cache; an unfinished one is continued")
    parser.add_argument(
        "--captions",
        choices=("given", "made"),
        default="given",
        help="given: beside the films or in their rows; made: by `annotate` (default: given)",
    )
    parser.add_argument(
        "--config", help="YAML file with the flags of the steps: `filter: {min_sharpness: 0.4}`, `split: {min_s: 2}`"
    )
    parser.add_argument("--no_faces", action="store_true", help="do not look for faces")
    parser.add_argument("--landmarks", help="dlib's landmark file (default: that of face_recognition_models)")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that read files (default: 1)")
    parser.add_argument("--report", action="store_true", help="also write filter's page with clips to look at")
    parser.add_argument(
        "--dry_run", action="store_true", help="split and measure, count what would be left and why, and cache nothing"
    )
    add_engine_flags(parser, has_models=True)


def main(args: argparse.Namespace) -> int:
    from ..data.model_facts import read_model_facts  # late: they take seconds
    from ..dataset.annotation.settings import AnnotationConfig
    from ..remote import place_of
    from .dispatch import module_of

    settings = read_settings(args.config)
    facts = read_model_facts(args.model).defaults
    output, data = place_of(args.output_dir), args.films
    longest_s = facts["num_frames"] / float(facts["frame_rate"])
    defaults: dict[str, dict[str, Any]] = {
        # half a frame more than a bucket, which is then full
        "split": {"max_s": (facts["num_frames"] + 0.5) / float(facts["frame_rate"])},
        "filter": {"min_resolution": min(facts["height"], facts["width"])},
        "annotate": {"max_segment_s": min(AnnotationConfig.max_segment_s, longest_s)},
        "preprocess": {"model": args.model, **({"no_mouth": True} if args.no_faces else {})},
    }
    folders = {"split": "split", "filter": "filtered", "annotate": "annotated"}
    for step in STEPS:
        if step == "annotate" and args.captions == "given":
            continue
        shared = {name: getattr(args, name) for name, steps in SHARED.items() if step in steps}
        target = output if step == "preprocess" else output / "dataset" / folders[step]
        shared = {name: value for name, value in shared.items() if value is not None and value is not False}
        given = defaults[step] | shared | settings[step]
        given |= {"dry_run": True} if args.dry_run and step == "filter" else {}
        status = module_of(step).main(arguments_of(step, given | {"data": str(data), "output_dir": str(target)}))
        if status:
            return status
        if args.dry_run and step == "filter":
            say("dry run: nothing is annotated, and nothing is cached")
            return 0
        data = target
    return 0


def arguments_of(step: str, given: dict[str, Any]) -> argparse.Namespace:
    """Return the arguments of a step, as its own parser reads them.

    Raises:
        ValueError: for what the step does not have.
    """
    from .dispatch import make_parser

    parser = make_parser(step, f"diffusers-jova {step}")
    parser.allow_abbrev = False
    words = []
    for name, value in given.items():
        if value is True or value is None and name.startswith(("min_", "max_")):
            words += [f"--{name}"] if value else [f"--{name}", "none"]
        elif isinstance(value, list | tuple):
            words += [f"--{name}", *map(str, value)]
        elif value is not False and value is not None:
            words += [f"--{name}", str(value)]
    arguments, unknown = parser.parse_known_args(words)
    if unknown:
        name = unknown[0].removeprefix("--")
        raise ValueError(f"`{step}` has no setting `{name}`: `diffusers-jova {step} --help` lists them all.")
    return arguments


def read_settings(path: str | None) -> dict[str, dict[str, Any]]:
    """Return what a YAML file says of each step.

    Raises:
        FileNotFoundError, ValueError: if it is not there, or says something of anything else.
    """
    settings: dict[str, dict[str, Any]] = {step: {} for step in STEPS}
    if path is None:
        return settings
    import yaml

    from ..files import reading

    with reading(path, "correct it"):
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    for step, given in content.items() if isinstance(content, dict) else [(content, None)]:
        if step not in STEPS or not isinstance(given, dict):
            raise ValueError(f"`{path}` must have flags by step ({', '.join(STEPS)}), got {step!r}: {given!r}.")
        settings[step] = given
    return settings
