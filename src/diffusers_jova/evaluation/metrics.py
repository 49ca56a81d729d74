# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which metrics there are: their columns, their protocols and what a prompt must say for them. Imports nothing heavy.

How each is measured is in `plans` (networks of the paper) and in `local_plans` (what runs without published weights).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A number in the report.

    Attributes:
        better: "higher", "lower", or "" where neither is.
        range: in words.
    """

    name: str
    better: str
    range: str


@dataclass(frozen=True)
class Metric:
    """A metric with the protocols that measure it.

    Attributes:
        title: what it says, in a few words.
        variants: protocols; one model's value differs between them, so the name stands beside every number.
        expects: fields of a prompt that must not be empty for the metric to be expected of its clip.
        local: of this project, for users without weights: never printed beside values of the paper's networks.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    variants: tuple[str, ...]
    expects: tuple[str, ...] = ()
    local: bool = False


METRICS = (
    Metric(
        "LSE",
        "lips against audio, by SyncNet",
        (Column("LSE-C", "higher", "0 to about 10"), Column("LSE-D", "lower", "about 6 to 15")),
        ("s3fd50", "s3fd100", "mova", "verse", "precropped", "dlib"),
    ),
    Metric(
        "WER",
        "words heard against the text",
        (Column("WER", "lower", "0 and above"),),
        ("whisper", "sensevoice"),
        ("speech_text",),
    ),
    Metric(
        "FD",
        "audio against its reference",
        (Column("FD", "lower", "0 to 4 (clap-pair), 0 and above (sets)"),),
        ("clap-pair", "panns16k", "panns32k", "passt", "clap-set"),
        ("reference_audio",),
    ),
    Metric(
        "KL",
        "classes of the audio against its reference's",
        (Column("KL", "lower", "0 and above"),),
        ("passt-verse", "passt-avb", "panns-avb"),
        ("reference_audio",),
    ),
    Metric(
        "CS",
        "audio against its text, by CLAP",
        (Column("CS", "higher", "-1 to 1"),),
        ("verse", "verse-nonempty", "mova", "avb", "javis"),
        ("audio_prompt",),
    ),
    Metric(
        "IS",
        "variety and clarity of the audio, of a set",
        (Column("IS", "higher", "1 to 527"),),
        ("panns-mova", "panns-avb", "passt-avb"),
    ),
    Metric(
        "AudioBox",
        "content enjoyment and usefulness, production complexity and quality",
        (
            Column("CE", "higher", "1 to 10"),
            Column("CU", "higher", "1 to 10"),
            Column("PC", "lower", "1 to 10"),
            Column("PQ", "higher", "1 to 10"),
        ),
        ("audiobox",),
    ),
    Metric(
        "MS",
        "motion, in pixels per frame",
        (Column("MS", "higher", "0 and above, pixels per frame"), Column("MS/s", "higher", "pixels per second")),
        ("verse", "per-second", "native"),
    ),
    Metric(
        "AS",
        "looks of the frames, by three networks",
        (Column("AS", "higher", "about 0 to 1"),),
        ("verse", "grid"),
    ),
    Metric(
        "ID",
        "frames against the reference image, by DINOv3",
        (Column("ID", "higher", "-1 to 1"),),
        ("patch", "cls", "patchmean"),
        ("image",),
    ),
    Metric(
        "Words",
        "words heard by pocketsphinx against the text",
        (Column("words", "lower", "0 and above, errors over words"),),
        ("english", "digits"),
        ("speech_text",),
        local=True,
    ),
    Metric(
        "Lips-phones",
        "lips against the phones of the text, by dlib and pocketsphinx",
        (Column("lips-phones", "higher", "-1 to 1"), Column("lag-phones", "lower", "0 to 10 frames")),
        ("opening",),
        ("speech_text",),
        local=True,
    ),
    Metric(
        "Lips-loudness",
        "lips against loudness, by dlib",
        (Column("lips-loudness", "higher", "-1 to 1"), Column("lag-loudness", "lower", "0 to 10 frames")),
        ("gap",),
        local=True,
    ),
    Metric("Faces", "frames with a face, by dlib", (Column("faces", "higher", "0 to 1"),), ("dlib",), local=True),
    Metric(
        "Likeness",
        "faces against the reference image's, by dlib",
        (Column("face-distance", "lower", "0 to about 1"),),
        ("dlib",),
        ("image",),
        local=True,
    ),
    Metric(
        "Motion",
        "optical flow",
        (Column("motion", "", "0 and above, percent of the longer side per second"),),
        ("ilk",),
        local=True,
    ),
    Metric("Sharpness", "frames by Crete's blur", (Column("sharpness", "higher", "0 to 1"),), ("crete",), local=True),
    Metric(
        "Loudness",
        "level of the audio, and how much of it is silent",
        (Column("loudness", "", "-120 to 0 dB of full scale"), Column("silence", "", "0 to 1")),
        ("rms",),
        local=True,
    ),
)

# Which protocol each profile takes; a metric that is not there is not measured unless it is asked for.
PROFILES = {
    "paper": {
        "LSE": "s3fd50",
        "WER": "whisper",
        "FD": "clap-pair",
        "KL": "passt-verse",
        "CS": "verse",
        "IS": "panns-mova",
        "AudioBox": "audiobox",
        "MS": "verse",
        "AS": "verse",
        "ID": "patch",
    },
    "verse": {
        "LSE": "verse",
        "WER": "sensevoice",
        "FD": "clap-pair",
        "KL": "passt-verse",
        "CS": "verse",
        "AudioBox": "audiobox",
        "MS": "verse",
        "AS": "verse",
        "ID": "patch",
    },
    "fixed": {
        "LSE": "s3fd50",
        "WER": "whisper",
        "FD": "panns16k",
        "KL": "passt-avb",
        "CS": "verse-nonempty",
        "IS": "panns-avb",
        "AudioBox": "audiobox",
        "MS": "per-second",
        "AS": "grid",
        "ID": "cls",
    },
    "local": {
        "Words": "english",
        "Lips-phones": "opening",
        "Lips-loudness": "gap",
        "Faces": "dlib",
        "Likeness": "dlib",
        "Motion": "ilk",
        "Sharpness": "crete",
        "Loudness": "rms",
    },
}

OPEN_POINTS = (
    "JoVA's front end of SyncNet, its normaliser for Whisper, what it does with clips without a face, which set feeds "
    "which metric on Verse-Bench and UniAvatar-Bench, its frame sampling and its seeds are unpublished.",
    "UniAvatar-Bench is not released.",
    "NAVA's code for video quality and FD is not in its repository.",
    "The FD of JoVA's tables is said to be of PANNs; its size says that it is of pairs of CLAP embeddings, as in "
    "Verse-Bench's code.",
)


def metric_named(name: str) -> Metric:
    """Return the metric of a name or of one of its columns, in any case.

    Raises:
        ValueError: if there is none; the message lists them.
    """
    for metric in METRICS:
        if name.lower() in (metric.name.lower(), *(column.name.lower() for column in metric.columns)):
            return metric
    raise ValueError(f"There is no metric {name!r}. There are: {', '.join(metric.name for metric in METRICS)}.")


def choose_variants(
    profile: str, metrics: Sequence[str] | None = None, variants: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the protocol of each metric to measure, by its name, in the order of `METRICS`.

    Args:
        metrics: names of metrics or columns; None for all of the profile, and those that `variants` names.
        variants: by the metric's name; the profile says the others.

    Raises:
        ValueError: for a profile, metric or protocol that there is not, or a metric for which the profile has none.
    """
    if profile not in PROFILES:
        raise ValueError(f"`profile` must be one of {', '.join(PROFILES)}, got {profile!r}.")
    asked = {metric_named(name).name: variant for name, variant in (variants or {}).items()}
    for name, variant in asked.items():
        if variant not in metric_named(name).variants:
            known = ", ".join(metric_named(name).variants)
            raise ValueError(f"{name} has no protocol {variant!r}. It has: {known}.")
    chosen = PROFILES[profile] | asked
    if metrics is not None:
        wanted = [metric_named(name).name for name in metrics]
        missing = [name for name in wanted if name not in chosen]
        if missing:
            raise ValueError(
                f"The profile {profile!r} has no protocol for {', '.join(missing)}: name one with --variant "
                f"{missing[0]}={metric_named(missing[0]).variants[0]}, or leave it out."
            )
        chosen = {name: chosen[name] for name in wanted}
    mixed = {metric_named(name).local for name in chosen}
    if len(mixed) > 1:
        raise ValueError(
            "The profile `local` never stands beside metrics of the paper: score twice, into two reports."
        )
    return {metric.name: chosen[metric.name] for metric in METRICS if metric.name in chosen}


def parse_variants(texts: Iterable[str]) -> dict[str, str]:
    """Return {"LSE": "mova"} of "LSE=mova,WER=whisper" texts.

    Raises:
        ValueError: for a text of another form.
    """
    found = {}
    for part in (part for text in texts for part in text.split(",") if part.strip()):
        name, equals, variant = part.partition("=")
        if not equals or not variant.strip():
            raise ValueError(f"A variant is METRIC=PROTOCOL, such as LSE=mova, got {part.strip()!r}.")
        found[name.strip()] = variant.strip()
    return found
