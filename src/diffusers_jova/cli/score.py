# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Measure a folder of any model's clips, beside the prompts that they were made from, and write a report:

    diffusers-jova score clips/ --prompts prompts.jsonl --weights weights/ --out report.json
    diffusers-jova score --check --weights weights/

Nothing is downloaded. Without their weights, metrics are left out with --skip-missing, or the run ends with status 2
and the list of what to fetch. What was measured before is kept in a cache: after an interruption, start the same
command again.
"""

import argparse
import importlib.metadata
import importlib.util
import json
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from ..command import logging_progress, say
from ..evaluation.metrics import METRICS, OPEN_POINTS, PROFILES, choose_variants, parse_variants
from ..evaluation.weight_files import WEIGHT_FILES, describe_files, is_there
from ..files import check_output, lock_folder, whole_file
from ..headers import read_json_lines
from ..text import printable
from .pipeline import check_device
from .prompts import add_prompt_arguments, read_all_prompts


PACKAGES = ("diffusers-jova", "torch", "transformers", "diffusers", "numpy", "scipy", "jiwer", "av")
EVAL_PACKAGES = ("jiwer", "scipy", "skimage", "matplotlib")
GIB = 1 << 30
PROFILES_HELP = (
    "which metrics, in whose protocols: the paper's, those of Verse-Bench's own code, ours with known faults mended, "
    "or local, which needs no weights (default: %(default)s)"
)
# of joonson/syncnet_python @6efbb1c, README.md: AV offset, Min dist and Confidence of data/example.avi
README_VALUES, TOLERANCES = (3, 5.353, 10.021), (0, 0.05, 0.05)
EXAMPLE_URL = "http://www.robots.ox.ac.uk/~vgg/software/lipsync/data/example.avi"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    table = "; ".join(f"{metric.name}: {', '.join(metric.variants)}" for metric in METRICS)
    add = parser.add_argument
    add("clips", type=Path, nargs="?", help="the folder of clips")
    add_prompt_arguments(parser)
    add("--weights", type=Path, help="the folder of published weights, under their own names")
    add(
        "--metrics",
        help="only these metrics or columns, with commas between, such as LSE,WER (default: the profile's)",
    )
    add(
        "--variant",
        action="append",
        default=[],
        metavar="M=V,...",
        help=f"another protocol than the profile's. {table}",
    )
    add("--profile", choices=tuple(PROFILES), default="paper", help=PROFILES_HELP)
    add(
        "--against",
        action="append",
        default=[],
        metavar="NAME",
        help="print published rows beside, such as jova-table1",
    )
    add("--audio", choices=("auto", "wav", "mp4"), default="auto", help="ID.wav beside the clip, or its own track")
    add("--layout", help="how the clips are named: a model's name, or a pattern such as {set}/{id}.mp4")
    add("--transcripts", type=Path, help="what a recogniser heard: a JSON object a line with `id` and `text`")
    add("--min-track", "--min_track", type=int, help="LSE: frames for which a face must be seen")
    add("--faces", choices=("mean", "best", "largest"), help="LSE: which of several faces count")
    add(
        "--scenes",
        choices=("none", "content"),
        default="none",
        help="LSE: cuts that end tracks (default: %(default)s)",
    )
    add(
        "--wer-normalizer",
        "--wer_normalizer",
        choices=("whisper", "lower", "none"),
        help="WER: how texts are compared",
    )
    add("--wer-average", "--wer_average", choices=("macro", "micro"), help="WER: over clips, or over words")
    add("--as-frames", "--as_frames", type=int, metavar="N", help="AS: of N frames a clip; not comparable")
    add(
        "--id-reference",
        "--id_reference",
        choices=("image", "first-frame"),
        default="image",
        help="ID: what frames are compared with (default: %(default)s)",
    )
    add("--seed", type=int, default=0, help="of drawn crops and intervals (default: %(default)s)")
    add("--device", help="cpu, cuda, mps ... (default: a GPU if there is one)")
    add("--jobs", type=int, default=2, help="processes that decode; 0: none but this one (default: %(default)s)")
    add(
        "--decoded-gb",
        "--decoded_gb",
        type=float,
        default=8.0,
        help="of decoded frames on the disk at a time (default: 8)",
    )
    add("--cache", type=Path, help="folder of what was measured (default: REPORT.cache)")
    add(
        "--out",
        type=Path,
        default=Path("outputs/score/report.json"),
        help="the report; .md and .html are beside it (default: %(default)s)",
    )
    add("--skip-missing", "--skip_missing", action="store_true", help="leave out metrics whose weights are not there")
    add("--check", action="store_true", help="say which weights are there and which are missing, and measure nothing")
    add(
        "--selftest",
        type=Path,
        metavar="EXAMPLE.AVI",
        help="measure SyncNet's own example with its weights, and compare with its README",
    )


def main(args: argparse.Namespace) -> int:
    """Score, check or test, and return the exit status."""
    check_numbers(args)
    metrics = None if args.metrics in (None, "all") else [name.strip() for name in args.metrics.split(",")]
    variants = choose_variants(args.profile, metrics, parse_variants(args.variant))
    check_packages()
    if args.selftest is not None:
        return run_selftest(args)
    if args.check:
        return run_check(args, variants)
    published = read_against(args)
    if args.clips is None:
        raise ValueError("Which clips? Give their folder: diffusers-jova score CLIPS --prompts FILE --weights DIR.")
    prompts = read_all_prompts(args)
    if args.out.suffix != ".json":
        raise ValueError(f"--out must end in .json, got {str(args.out)!r}: .md and .html are written beside it.")
    args.cache = args.cache or args.out.with_suffix(".cache")
    inputs = ("clips", "prompts", "from_verse_bench", "weights", "transcripts")
    for output in (*(args.out.with_suffix(suffix) for suffix in (".json", ".md", ".html")), args.cache):
        check_output(output, {f"the {name}": getattr(args, name) for name in inputs})
    with logging_progress():
        return score(args, variants, prompts, published, check_device(args.device))


def read_against(args: argparse.Namespace) -> list[dict]:
    """Return the published rows to print beside, each with its source and protocol."""
    from ..evaluation.published import published_rows

    if args.against and args.profile == "local":
        raise ValueError(
            "--against prints values of papers, which `local` never stands beside: leave one of them out."
        )
    return [row for name in args.against for row in published_rows(name)]


def check_packages() -> None:
    """Raise ImportError if packages of the extra `eval` are not there."""
    missing = [name for name in EVAL_PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"score needs {', '.join(missing)}: pip install 'diffusers-jova[eval]'.")


def check_numbers(args: argparse.Namespace) -> None:
    """Raise ValueError for numbers that make no sense."""
    for name, least in {"min_track": 6, "as_frames": 1, "jobs": 0}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise ValueError(f"--{name.replace('_', '-')} must be {least} or more, got {value}.")
    if not args.decoded_gb > 0:
        raise ValueError(f"--decoded-gb must be above 0, got {args.decoded_gb:g}.")


def make_options(args: argparse.Namespace):
    """Return what the user changes about the protocols."""
    from ..evaluation.plans import Options, read_spellings

    return Options(
        min_track=args.min_track,
        faces=args.faces,
        scenes=args.scenes == "content",
        wer_normalizer=args.wer_normalizer,
        wer_average=args.wer_average or ("micro" if args.profile == "fixed" else "macro"),
        spellings=read_spellings(args.weights) if args.weights is not None else None,
        transcripts=None if args.transcripts is None else read_transcripts(args.transcripts),
        as_frames=args.as_frames,
        id_reference=args.id_reference,
        seed=args.seed,
    )


def read_transcripts(path: Path) -> dict[str, str]:
    """Return what was heard, by the clip's id, or "SET/ID" where a line has a `set`.

    Raises:
        ValueError: if a line cannot be read; the message names it.
    """
    found = {}
    for where, row in read_json_lines(path):
        if "id" not in row or not isinstance(row.get("text"), str):
            raise ValueError(f'{where} must be {{"id": ..., "text": ...}}, got {str(row)[:60]}.')
        name, text = f"{row['set']}/{row['id']}" if row.get("set") else str(row["id"]), row["text"]
        found[name] = text
    return found


# --- what is there ---


def what_is_missing(plan, weights: Path | None) -> list[str]:
    """Return the files of weights and the packages that a plan needs and that are not there."""
    missing = [name for name in plan.files if weights is None or not is_there(weights / name, name)]
    return missing + [f"the package {name}" for name in plan.packages if importlib.util.find_spec(name) is None]


def run_check(args: argparse.Namespace, variants: dict[str, str]) -> int:
    """Say what each metric has and lacks; return 1 if anything is missing."""
    from ..evaluation.plans import Options, make_plans

    lacking = set()
    for plan in make_plans(variants, Options(transcripts={})):
        if plan.metric.name == "WER" and plan.variant == "whisper":
            plan = make_plans({"WER": "whisper"})[0]
        missing = what_is_missing(plan, args.weights)
        lacking.update(missing)
        what = f"missing: {', '.join(missing)}" if missing else "ready"
        say(f"{plan.metric.name}={plan.variant}: {what}")
    list_missing(lacking)
    return 1 if lacking else 0


def list_missing(names: set[str]) -> None:
    """Print where to fetch files."""
    files = [file for file in WEIGHT_FILES if file.name in names]
    if files:
        say("\nTo fetch, into the folder of --weights, under these names (nothing is downloaded for you):")
        say(describe_files(files))


# --- scoring ---


def choose_plans(args: argparse.Namespace, variants: dict[str, str]) -> tuple[list, dict[str, str]]:
    """Return the plans that can be followed, and why the other metrics are not measured.

    Raises:
        FileNotFoundError: if that is all of them, or some and they may not be skipped; what to fetch is printed.
    """
    from ..evaluation.plans import make_plans

    options = make_options(args)
    plans, not_measured = [], {}
    for name, variant in variants.items():
        try:
            (plan,) = make_plans({name: variant}, options)
        except ValueError as error:
            if not args.skip_missing:
                raise
            not_measured[name] = str(error)
            continue
        if missing := what_is_missing(plan, args.weights):
            not_measured[plan.metric.name] = f"missing: {', '.join(missing)}"
        else:
            plans.append(plan)
    if not_measured and not args.skip_missing or not plans:
        for name, why in not_measured.items():
            say(f"{name}={variants[name]}: {why}")
        list_missing({name for why in not_measured.values() for name in why.removeprefix("missing: ").split(", ")})
        raise FileNotFoundError(
            f"{len(not_measured)} of {len(variants)} metrics cannot be measured, see above: put the files into "
            "--weights, choose others with --metrics, or leave them out with --skip-missing."
        )
    return plans, not_measured


def score(
    args: argparse.Namespace, variants: dict[str, str], prompts: list, published: list[dict], device: str
) -> int:
    """Measure the clips, write the report, and return the exit status: 1 if no clip has any value."""
    from ..evaluation.clip_files import find_clips
    from ..evaluation.report import summary_text, write_html, write_markdown
    from ..evaluation.scoring import Cache, Item, Scorer, make_report

    plans, not_measured = choose_plans(args, variants)
    found, without_prompt = find_clips(args.clips, prompts, args.layout, args.audio)
    items = [Item(prompt, found.get(prompt.name)) for prompt in prompts]
    if not found:
        raise ValueError(
            f"None of the {len(prompts)} prompts has a clip in `{args.clips}`: the clips should be named after the "
            f"ids, such as {prompts[0].id}.mp4, or --layout should say how."
        )
    if without_prompt:
        names = ", ".join(printable(path.name) for path in without_prompt[:5])
        more = ", ..." if len(without_prompt) > 5 else ""
        say(f"{len(without_prompt)} clips have no prompt and are not measured: {names}{more}")

    args.out.parent.mkdir(parents=True, exist_ok=True)
    with lock_folder(args.cache, "score"):
        max_bytes = int(args.decoded_gb * GIB)
        scorer = Scorer(plans, args.weights, device, Cache(args.cache), args.jobs, max_bytes)
        scorer.run(items)
    header = make_header(args, variants, scorer.weight_hashes, not_measured, device)
    report = make_report(
        plans,
        items,
        header,
        args.seed,
        without_prompt=[str(path) for path in without_prompt],
        published=published,
        open_points=list(OPEN_POINTS),
    )
    with whole_file(args.out) as partial:
        partial.write_text(json.dumps(report, indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    write_markdown(report, args.out.with_suffix(".md"))
    write_html(report, args.out.with_suffix(".html"))
    say(summary_text(report))
    say(f"Wrote {args.out}, and the same to read as .md and .html beside it.")
    return 0 if any(entry["n_used"] for entry in report["summary"]["all"].values()) else 1


def make_header(
    args: argparse.Namespace, variants: dict[str, str], hashes: dict[str, str], not_measured: dict, device: str
) -> dict:
    """Return the report's header."""
    known = {file.name: file for file in WEIGHT_FILES}
    weights = [
        {
            "name": name,
            "sha256": sha256,
            "source": known[name].source if name in known else "",
            "licence": known[name].licence if name in known else "",
        }
        for name, sha256 in hashes.items()
    ]
    shown = (
        "sets",
        "audio",
        "layout",
        "min_track",
        "faces",
        "wer_normalizer",
        "wer_average",
        "as_frames",
        "id_reference",
    )
    options = {name: getattr(args, name) for name in shown if getattr(args, name) is not None}
    if args.transcripts is not None:
        options["transcripts"] = str(args.transcripts)
    not_comparable = [f"AS: {args.as_frames} frames of each clip"] if args.as_frames is not None else []
    if args.profile == "local":
        not_comparable.append("the profile `local` measures with this project's own means")
    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "clips": str(args.clips),
        "prompts": str(args.prompts or args.from_verse_bench),
        "profile": args.profile,
        "variants": {name: variant for name, variant in variants.items() if name not in not_measured},
        "options": options,
        "seed": args.seed,
        "device": device,
        "versions": {name: version_of(name) for name in PACKAGES},
        "weights": weights,
        "not_measured": not_measured,
        "not_comparable": not_comparable,
    }


def version_of(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


# --- self-test ---


def run_selftest(args: argparse.Namespace) -> int:
    """Measure SyncNet's example; return 1 if it differs from its authors' values.

    Their code cuts no face out of it, and goes through JPEGs, which moves the last digits.
    """
    from ..evaluation.clips import DecodeRequest, Subject, decode
    from ..evaluation.measurement import Status
    from ..evaluation.plans import make_plans
    from ..evaluation.prompt_file import Prompt

    if not args.selftest.is_file():
        raise FileNotFoundError(f"There is no file `{args.selftest}`: --selftest needs SyncNet's {EXAMPLE_URL}.")
    device = check_device(args.device)
    lips = make_plans({"LSE": "precropped"})[0].passes[0]
    if missing := what_is_missing(make_plans({"LSE": "precropped"})[0], args.weights):
        list_missing(set(missing))
        raise FileNotFoundError(f"--selftest needs the real weights in --weights: {', '.join(missing)} is missing.")
    with tempfile.TemporaryDirectory(prefix="diffusers-jova-score-") as folder:
        decoded = decode(DecodeRequest(Path(folder) / "0", args.selftest, args.selftest, int(args.decoded_gb * GIB)))
        found = lips.run(lips.network.load(args.weights, device), Subject(Prompt("example"), decoded), {})
    if found.status != Status.OK:
        raise ValueError(f"`{args.selftest}` cannot be measured ({found.status.value}): is it SyncNet's example?")
    got = (found.details["offsets"][0], found.values["LSE-D"], found.values["LSE-C"])
    good = True
    for name, value, wanted, tolerance in zip(("offset", "min dist", "confidence"), got, README_VALUES, TOLERANCES):
        fits = abs(value - wanted) <= tolerance
        good = good and fits
        say(f"{name}: {value:.4g}, SyncNet's README says {wanted:.4g}: {'equal' if fits else 'DIFFERENT'}")
    return 0 if good else 1
