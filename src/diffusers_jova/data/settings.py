# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What to do, and with which settings: those that are given, else the cache's own, else the defaults."""

import dataclasses
import hashlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from operator import not_
from pathlib import Path
from typing import Any

import torch

from ..engines import ModelEngineConfig
from ..faces import DlibFaceDetector, FaceDetector
from ..files import reading
from ..latents import exact_frame_rate, nearest_num_frames
from ..pipelines.prompts import PROMPT_FORMATS
from . import cache
from .model_facts import ModelFacts
from .windows import Bucket


CROPS = ("face", "centre")
DTYPES = ("float32", "bfloat16", "float16")
DEFAULTS: dict[str, Any] = {
    "no_mouth": False,
    "detect_every": 1,
    "max_sequence_length": 512,
    "no_line_dropout_variants": False,
    "prompt_format": "labelled",
}
# a field of `PreprocessingConfig` -> its name in fingerprint.json, and how it is read from there
FROM_CACHE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "buckets": ("buckets", tuple),
    "frame_rate": ("frame_rate", Fraction),
    "max_sequence_length": ("max_sequence_length", int),
    "no_line_dropout_variants": ("line_dropout_variants", not_),
    "no_mouth": ("mouth", lambda mouth: mouth == "none"),
    "detect_every": ("detect_every", int),
    "crop": ("crop", str),
    "dtype": ("dtype", str),
    "prompt_format": ("prompt_format", str),
}


@dataclass(frozen=True)
class PreprocessingConfig(ModelEngineConfig):
    """What to do. Fields have the names of the flags of `diffusers-jova preprocess`; see also `ModelEngineConfig`.

    What is not given (None, no buckets) and decides about the cache's content is as the cache in `output_dir` has it;
    where there is none yet, it is what is said here. See `resolve`.

    Attributes:
        data: folder, clip or dataset, see `clips.find_sources`.
        model: folder of a pipeline.
        output_dir: folder of the cache.
        buckets: sizes "HEIGHTxWIDTH" or "HEIGHTxWIDTHxFRAMES"; empty for one of `height`, `width`, `num_frames`.
        height, width, num_frames, frame_rate: None for the model's own.
        instance_prompt: video caption of clips that have none.
        landmarks: dlib's landmark file; None to find it.
        no_mouth: do not look for mouths, all clips train without the mouth loss; None for False.
        detect_every: see `faces.find_mouths`; None for 1.
        crop: "face" to keep the face in the image, "centre"; None for the face if faces are looked for.
        require_audio: skip videos without an audio track.
        remove_missing: delete samples of clips that are not in `data`, also those that came from other data.
        no_verify: do not compare what is cached already with its hash, which reads the whole cache.
        no_line_dropout_variants: do not encode prompts with single lines left out; None for False.
        max_sequence_length: the most tokens per text encoder; None for 512.
        prompt_format: "labelled" for the three lines; "plain" for the video caption alone, as a Wan reads it: audio
            captions and transcripts are left out, and so are variants with lines left out. None for "labelled".
        shard: "i/n": do only the i-th of n parts of the clips.
        num_workers: processes that decode and look for mouths; 0: none but this one, which a damaged clip may crash.
        preview: also write an image per clip, with boxes and mask.
        dtype: of the encoders; None for bfloat16 on a GPU and float32 elsewhere.
    """

    data: str
    model: str
    output_dir: str
    buckets: tuple[str, ...] = ()
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    frame_rate: float | Fraction | None = None
    instance_prompt: str | None = None
    landmarks: str | None = None
    no_mouth: bool | None = None
    detect_every: int | None = None
    crop: str | None = None
    require_audio: bool = False
    remove_missing: bool = False
    no_verify: bool = False
    no_line_dropout_variants: bool | None = None
    max_sequence_length: int | None = None
    prompt_format: str | None = None
    shard: str = "0/1"
    num_workers: int = 1
    preview: bool = False
    dtype: str | None = None


def command_of(config: PreprocessingConfig) -> str:
    """Return a command that does what `config` says."""
    words = ["diffusers-jova", "preprocess"]
    for item in dataclasses.fields(config):
        value = getattr(config, item.name)
        if value is True:
            words.append(f"--{item.name}")
        elif value is not False and value != item.default:
            words += [f"--{item.name}", *(value if isinstance(value, tuple) else [str(value)])]
    return shlex.join(words)


def parse_buckets(config: PreprocessingConfig, facts: ModelFacts) -> tuple[Bucket, ...]:
    """Return the sizes to cut clips to; what is not given is the model's own.

    Raises:
        ValueError: for a size that the model cannot have; the message names the nearest ones.
    """
    defaults = {
        name: int(value if (value := getattr(config, name)) is not None else facts.defaults[name])
        for name in ("height", "width", "num_frames")
    }
    buckets = [Bucket(**defaults)]
    if config.buckets:
        if config.height is not None or config.width is not None:
            raise ValueError("Give sizes either as `--buckets` or as `--height` and `--width`.")
        buckets = []
        for text in config.buckets:
            match = re.fullmatch(r"(\d+)x(\d+)(?:x(\d+))?", text)
            if match is None:
                raise ValueError(f"A bucket is HEIGHTxWIDTH or HEIGHTxWIDTHxFRAMES, like 480x832x121, got {text!r}.")
            height, width, num_frames = match.groups()
            buckets.append(Bucket(int(height), int(width), int(num_frames or defaults["num_frames"])))
    for bucket in buckets:
        for name, size in (("height", bucket.height), ("width", bucket.width)):
            if size % facts.multiple or size <= 0:
                nearest = max(round(size / facts.multiple), 1) * facts.multiple
                raise ValueError(
                    f"A bucket's {name} must be a multiple of {facts.multiple}, got {size}: try {nearest}."
                )
        below, above = nearest_num_frames(bucket.num_frames, facts.temporal)
        if bucket.num_frames != below:
            raise ValueError(
                f"A bucket's number of frames must be {facts.temporal}k + 1, got {bucket.num_frames}: "
                f"try {below} or {above}."
            )
    return tuple(sorted(set(buckets), key=dataclasses.astuple))


def resolve(
    config: PreprocessingConfig, facts: ModelFacts, models: Mapping[str, Any], looks_for_faces: bool = False
) -> tuple[PreprocessingConfig, list[str]]:
    """Return `config` with nothing left open: what is not given is as the cache has it, else the default.

    Args:
        models: the fingerprint of the models, with which the cache has to be made.
        looks_for_faces: a detector is given, so a cache without mouths does not decide that none are looked for.

    Returns:
        The whole settings, and in words those that are the cache's and would be others without it.

    Raises:
        ValueError: for a setting that cannot be, or a cache that is damaged or of other models.
    """
    default = _complete(config, facts)
    if not (Path(config.output_dir) / "fingerprint.json").is_file():
        return default, []
    cached = _read_settings(config.output_dir, models)
    if {config.height, config.width, config.num_frames} != {None}:
        cached.pop("buckets", None)
    if looks_for_faces or config.landmarks is not None or config.crop == "face":
        cached.pop("no_mouth", None)
    if config.no_mouth:
        cached.pop("crop", None)  # the centre is all that is left
    taken = {name: value for name, value in cached.items() if getattr(config, name) in (None, ())}
    resolved = _complete(dataclasses.replace(config, **taken), facts)
    return resolved, [_in_words(resolved, n) for n in taken if getattr(resolved, n) != getattr(default, n)]


def _complete(config: PreprocessingConfig, facts: ModelFacts) -> PreprocessingConfig:
    """Return `config` with the defaults for what is not given."""
    for name in ("detect_every", "max_sequence_length"):
        if (value := getattr(config, name)) is not None and value < 1:
            raise ValueError(f"`--{name}` must be at least 1, got {value}.")
    if config.crop == "face" and config.no_mouth:
        raise ValueError("`--crop face` needs the faces that `--no_mouth` does not look for: give only one of them.")
    for name, choices in (("crop", CROPS), ("dtype", DTYPES), ("prompt_format", PROMPT_FORMATS)):
        if (value := getattr(config, name)) not in (None, *choices):
            raise ValueError(f"`--{name}` must be one of {choices}, got {value!r}.")
    buckets = parse_buckets(config, facts)
    rate = config.frame_rate if config.frame_rate is not None else facts.defaults["frame_rate"]
    device = config.device or config.default_device()
    given = DEFAULTS | {name: value for name in DEFAULTS if (value := getattr(config, name)) is not None}
    given["no_mouth"] |= not facts.has_video
    given["no_line_dropout_variants"] |= given["prompt_format"] == "plain"  # it has one line
    return dataclasses.replace(
        config,
        **given,
        buckets=tuple(f"{bucket.height}x{bucket.width}x{bucket.num_frames}" for bucket in buckets),
        height=None,
        width=None,
        num_frames=None,
        frame_rate=exact_frame_rate(rate),
        crop="centre" if given["no_mouth"] else config.crop or "face",  # no faces are known without their mouths
        device=device,
        dtype=config.dtype or ("float32" if torch.device(device).type == "cpu" else "bfloat16"),
    )


def _read_settings(cache_dir: str, models: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `PreprocessingConfig` that the cache says, if these models made it."""
    found = cache.check_fingerprint(cache_dir, {"models": models})
    with reading(Path(cache_dir) / "fingerprint.json", "choose another --output_dir"):
        settings = {**cache.IMPLIED_SETTINGS, **found["settings"]}
        return {field: read(settings[name]) for field, (name, read) in FROM_CACHE.items() if name in settings}


def _in_words(config: PreprocessingConfig, name: str) -> str:
    """Return "crop centre" and the like; "no mouth" for a flag."""
    value = getattr(config, name)
    values = () if value is True else value if isinstance(value, tuple) else (str(value),)
    return " ".join((name.replace("_", " "), *values))


def cache_settings(
    config: PreprocessingConfig, detector: FaceDetector | None, condition_fill: str = "black"
) -> dict[str, Any]:
    """Return what decides about the cache's content, besides the models and the clips, for fingerprint.json.

    Args:
        config: with nothing left open, see `resolve`.
        detector: what finds the faces.
        condition_fill: of the model, see `model_facts`.
    """
    return {
        "buckets": list(config.buckets),
        "frame_rate": str(config.frame_rate),
        "max_sequence_length": config.max_sequence_length,
        "line_dropout_variants": not config.no_line_dropout_variants,
        "detect_every": config.detect_every,
        "mouth": _mouth_setting(detector),
        "crop": config.crop,
        "dtype": config.dtype,
        "prompt_format": config.prompt_format,
        "condition_fill": condition_fill,
    }


def _mouth_setting(detector: FaceDetector | None) -> str:
    if not isinstance(detector, DlibFaceDetector):
        return "none" if detector is None else type(detector).__name__
    with open(detector.landmarks_file, "rb") as file:
        return f"dlib {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
