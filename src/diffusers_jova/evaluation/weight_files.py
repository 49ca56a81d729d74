# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The published weights that the metrics need, where they are and under which terms. Nothing here downloads them."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightFile:
    """A file, or with "/" at its end a folder, that a user puts into the folder of weights.

    Attributes:
        name: under which it is published.
        source: where to fetch it.
        licence: as its authors state it.
        metrics: that need it, as in the report's columns; with a colon and a protocol where only that one does.
    """

    name: str
    source: str
    licence: str
    metrics: tuple[str, ...]


LIP_SYNC = ("LSE",)
AUDIO_TEXT = ("CS:verse", "CS:mova", "FD:clap-pair", "FD:clap-set")
VGG = "https://www.robots.ox.ac.uk/~vgg/software/lipsync/data/"
PANNS = "https://zenodo.org/record/3987831"

WEIGHT_FILES = (
    WeightFile("syncnet_v2.model", VGG, "research; CC Attribution", LIP_SYNC),
    WeightFile("sfd_face.pth", VGG, "research; CC Attribution", ("LSE:s3fd50", "LSE:s3fd100", "LSE:mova")),
    WeightFile(
        "insightface/",
        "https://github.com/deepinsight/insightface (buffalo_l of its model zoo, as models/buffalo_l/)",
        "non-commercial research",
        ("LSE:verse",),
    ),
    WeightFile("whisper-large-v3/", "https://huggingface.co/openai/whisper-large-v3", "Apache-2.0", ("WER:whisper",)),
    WeightFile(
        "630k-audioset-fusion-best.pt", "https://huggingface.co/lukewys/laion_clap", "CC0 (repository)", AUDIO_TEXT
    ),
    WeightFile(
        "roberta-base/", "https://huggingface.co/FacebookAI/roberta-base", "MIT", ("CS:verse", "CS:mova", "CS:avb")
    ),
    WeightFile(
        "music_speech_audioset_epoch_15_esc_89.98.pt",
        "https://huggingface.co/lukewys/laion_clap",
        "CC0 (repository)",
        ("CS:avb",),
    ),
    WeightFile(
        "clap-htsat-unfused/", "https://huggingface.co/laion/clap-htsat-unfused", "Apache-2.0 (card)", ("CS:javis",)
    ),
    WeightFile(
        "passt-s-f128-p16-s10-ap.476-swa.pt",
        "https://github.com/kkoutini/PaSST/releases/tag/v0.0.1-audioset",
        "Apache-2.0",
        ("KL:passt-verse", "KL:passt-avb", "FD:passt", "IS:passt-avb"),
    ),
    WeightFile("Cnn14_16k_mAP=0.438.pth", PANNS, "CC-BY-4.0", ("FD:panns16k", "KL:panns-avb", "IS:panns-avb")),
    WeightFile("Cnn14_mAP=0.431.pth", PANNS, "CC-BY-4.0", ("FD:panns32k", "IS:panns-mova")),
    WeightFile(
        "audiobox-aesthetics/",
        "https://huggingface.co/facebook/audiobox-aesthetics",
        "CC-BY-4.0",
        ("CE", "CU", "PC", "PQ"),
    ),
    WeightFile(
        "raft-things.pth", "https://github.com/princeton-vl/RAFT (download_models.sh)", "BSD-3-Clause", ("MS",)
    ),
    WeightFile(
        "aesthetic_predictor_v2_5.pth", "https://github.com/discus0434/aesthetic-predictor-v2-5", "AGPL-3.0", ("AS",)
    ),
    WeightFile(
        "siglip-so400m-patch14-384/", "https://huggingface.co/google/siglip-so400m-patch14-384", "Apache-2.0", ("AS",)
    ),
    WeightFile(
        "musiq_koniq_ckpt-e95806b9.pth",
        "https://huggingface.co/chaofengc/IQA-PyTorch-Weights",
        "PolyForm Noncommercial",
        ("AS",),
    ),
    WeightFile("ckpt_koniq10k.pt", "https://github.com/IIGROUP/MANIQA/releases/tag/Koniq10k", "Apache-2.0", ("AS",)),
    WeightFile(
        "dinov3-vitl16-pretrain-lvd1689m/",
        "https://huggingface.co/facebook/dinov3-vitl16-pretrain-lvd1689m (gated)",
        "DINOv3 License",
        ("ID",),
    ),
)


def needed_files(metrics: Iterable[str]) -> list[WeightFile]:
    """Return the files that metrics need, each once.

    Args:
        metrics: such as "ID", or "LSE:s3fd50" where the protocol decides.

    Raises:
        ValueError: if a metric is unknown, or its files depend on a protocol and none is named.
    """
    metrics = list(metrics)
    known = {name for file in WEIGHT_FILES for name in file.metrics}
    for metric in metrics:
        protocols = sorted(name for name in known if name.partition(":")[0] == metric.partition(":")[0])
        if not protocols:
            raise ValueError(f"No weights are known for `{metric}`. Known: {', '.join(sorted(known))}.")
        if ":" not in metric and protocols != [metric]:
            raise ValueError(f"The weights for `{metric}` depend on the protocol, such as `{protocols[-1]}`.")
    wanted = set(metrics) | {metric.partition(":")[0] for metric in metrics}
    return [file for file in WEIGHT_FILES if wanted & set(file.metrics)]


def missing_files(folder: str | os.PathLike, metrics: Iterable[str]) -> list[WeightFile]:
    """Return the files that metrics need and `folder` lacks."""
    return [file for file in needed_files(metrics) if not is_there(Path(folder) / file.name, file.name)]


def describe_files(files: Iterable[WeightFile]) -> str:
    """Return one line per file: its name, for which metrics, where to fetch it and under which licence."""
    files = list(files)
    width = max((len(file.name) for file in files), default=0)
    return "\n".join(
        f"{file.name:<{width}}  {', '.join(file.metrics)}  {file.source}  [{file.licence}]" for file in files
    )


def is_there(path: Path, name: str) -> bool:
    """Whether `path` holds what is known as `name`: a file, or a folder with something in it if the name ends in /."""
    return path.is_dir() and any(path.iterdir()) if name.endswith("/") else path.is_file()
