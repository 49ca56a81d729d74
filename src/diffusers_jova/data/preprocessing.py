# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips -> cache: posterior moments, text embeddings and mouth boxes, one large component in memory at a time.

    plan      find the clips, probe them, cut them into windows               (`clips`)
    video     decode, find the mouth, crop and resize -> VAE                   -> parts/{key}.video.safetensors
    audio     the window's sound -> audio VAE                                  -> parts/{key}.audio.safetensors
    text      the three lines -> T5, then Qwen2                                -> parts/{key}.text*.safetensors
    assemble  the parts of a sample become one file, then the index is written (`cache`)

Every file appears whole or not at all and says from what it was made, so a run that was killed is taken up where it
stopped and ends with the same bytes.
"""
# N video frames, C latent channels, F latent frames, H W latent rows and columns, A audio latents, T tokens, d width

import dataclasses
import gc
import hashlib
import logging
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from operator import not_
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open

from ..faces import DlibFaceDetector, FaceDetector, find_landmarks_file
from ..files import check_output, is_same_place, reading, reading_folder, whole_file
from ..images import centre_crop
from ..latents import exact_frame_rate, nearest_num_frames, num_audio_latents, num_latent_frames
from ..media import check_output_path
from ..mouth import MaskTest, contact_sheet, draw_overlay, mask_test, mouth_mask, to_pixels
from ..pipeline_folder import INDEX, read_pipeline_folder
from ..pipelines.pipeline_jova import JoVAPipeline
from ..progress import progress
from ..shards import own_cache, parse_shard
from ..text import printable
from ..workers import Failure, Workers
from . import cache
from .clips import (
    Bucket,
    Probe,
    Source,
    Window,
    choose_bucket,
    examine,
    find_sources,
    plan_windows,
    sample_key,
)
from .inventory import by_clip, find_leftovers, note_data
from .preparation import CROPS, Preparation, PreparedClip, prepare_all
from .round_trip import choose_clips, decode_again, log_mel_error, read_own_figures, video_psnr
from .summary import Summary, read_round_trip, report_path


logger = logging.getLogger(__name__)

PHASES = ("video", "audio", "text", "text_2")
COMPONENTS_OF = {  # the parts of the pipeline that are in memory in each phase
    "video": ("vae",),
    "audio": ("audio_vae",),
    "text": ("tokenizer", "text_encoder"),
    "text_2": ("tokenizer_2", "text_encoder_2"),
}
EMBEDS_OF = {"text": "prompt_embeds", "text_2": "prompt_embeds_2"}

# Numbers in memory at a time, by measuring: per pixel and unit of width for a chunk of four frames, per mel frame and
# unit of width, per token and unit of width.
WAN_ENCODER_WORK, AUDIO_ENCODER_WORK, TEXT_ENCODER_WORK = 42, 64, 24

DTYPES = ("float32", "bfloat16", "float16")
DEFAULTS = {"no_mouth": False, "detect_every": 1, "max_sequence_length": 512, "no_line_dropout_variants": False}
FROM_CACHE = {  # a field of `PreprocessingConfig` -> its name in fingerprint.json, and how it is read from there
    "buckets": ("buckets", tuple),
    "frame_rate": ("frame_rate", Fraction),
    "max_sequence_length": ("max_sequence_length", int),
    "no_line_dropout_variants": ("line_dropout_variants", not_),
    "no_mouth": ("mouth", lambda mouth: mouth == "none"),
    "detect_every": ("detect_every", int),
    "crop": ("crop", str),
    "dtype": ("dtype", str),
}

PREVIEW_HEIGHT = 192  # pixels: smaller frames are enlarged for the preview
MAX_CROPPED = 0.4  # part of the picture's area that may be cropped away without a word


# --- settings ---


@dataclass(frozen=True)
class PreprocessingConfig:
    """What to do. Fields have the names of the flags of `diffusers-jova preprocess`.

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
        crop: "face" to keep the face in the picture, "centre"; None for the face if faces are looked for.
        require_audio: skip videos without a sound track.
        remove_missing: delete samples of clips that are not in `data`, also those that came from other data.
        no_verify: do not compare what is cached already with its hash, which reads the whole cache.
        no_line_dropout_variants: do not encode prompts with single lines left out; None for False.
        max_sequence_length: the most tokens per text encoder; None for 512.
        shard: "i/n": do only the i-th of n parts of the clips.
        num_workers: processes that decode and look for mouths; 0: none but this one, which a damaged clip may crash.
        preview: also write a picture per clip, with boxes and mask.
        device, dtype: of the encoders; None: a GPU if there is one, and bfloat16 on it.
    """

    data: str
    model: str
    output_dir: str
    buckets: tuple[str, ...] = ()
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    frame_rate: float | None = None
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
    shard: str = "0/1"
    num_workers: int = 1
    preview: bool = False
    device: str | None = None
    dtype: str | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a pipeline's folder says without loading it.

    Attributes:
        folder: of the pipeline.
        phases: those of `PHASES` for which it has the components.
        defaults: height, width, num_frames, frame_rate of a call.
        multiple: of pixels, that a frame's height and width must be.
        spatial, temporal: pixels per latent cell, and frames per latent frame.
        sampling_rate, audio_latent_rate: per second; None without an audio VAE.
        samples_per_latent: of the audio VAE.
    """

    folder: Path
    phases: tuple[str, ...]
    defaults: Mapping[str, float]
    multiple: int
    spatial: int
    temporal: int
    sampling_rate: int | None
    audio_latent_rate: float | None
    samples_per_latent: int | None


def read_model_facts(model: str | os.PathLike) -> ModelFacts:
    """Return what the folder `model` says about the pipeline in it.

    Raises:
        FileNotFoundError: if it is not the folder of a pipeline.
        ValueError: if it can encode neither video nor audio, or no text.
    """
    folder = read_pipeline_folder(model)
    phases = tuple(phase for phase in PHASES if COMPONENTS_OF[phase][-1] in folder.parts)
    if not {"video", "audio"} & set(phases) or not {"text", "text_2"} & set(phases):
        lacking = "text encoder" if {"video", "audio"} & set(phases) else "vae and no audio_vae"
        raise ValueError(
            f"`{folder.path}` has no {lacking}, so nothing can be encoded with it: choose the folder of a whole "
            "pipeline."
        )
    with reading(folder.path / INDEX):
        defaults = {name: folder.call_defaults[name] for name in ("height", "width", "num_frames", "frame_rate")}
    return ModelFacts(
        folder=folder.path,
        phases=phases,
        defaults=defaults,
        multiple=folder.size_multiple,
        spatial=folder.vae_scale_factor_spatial,
        temporal=folder.vae_scale_factor_temporal,
        sampling_rate=folder.sampling_rate,
        audio_latent_rate=folder.audio_latent_rate,
        samples_per_latent=folder.samples_per_latent,
    )


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
        raise ValueError("`--crop face` needs the faces that `--no_mouth` does not look for: give one of them.")
    for name, choices in (("crop", CROPS), ("dtype", DTYPES)):
        if (value := getattr(config, name)) not in (None, *choices):
            raise ValueError(f"`--{name}` must be one of {choices}, got {value!r}.")
    buckets = parse_buckets(config, facts)
    rate = config.frame_rate if config.frame_rate is not None else facts.defaults["frame_rate"]
    device = config.device or _default_device()
    given = DEFAULTS | {name: value for name in DEFAULTS if (value := getattr(config, name)) is not None}
    given["no_mouth"] |= "video" not in facts.phases
    return dataclasses.replace(
        config,
        **given,
        buckets=tuple(f"{bucket.height}x{bucket.width}x{bucket.num_frames}" for bucket in buckets),
        height=None,
        width=None,
        num_frames=None,
        frame_rate=exact_frame_rate(rate),
        crop=config.crop or ("centre" if given["no_mouth"] else "face"),
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


# --- encoders ---


@torch.no_grad()
def encode_video(vae, frames: np.ndarray) -> torch.Tensor:
    """Return the posterior's moments (2C, F, H, W), mean and logvar, of frames (N, height, width, 3) uint8."""
    pixels = to_pixels(frames).to(vae.device, vae.dtype)
    return vae.encode(pixels).latent_dist.parameters[0].cpu()


@torch.no_grad()
def encode_audio(audio_vae, waveform: torch.Tensor, num_latents: int, samples_per_latent: int) -> torch.Tensor:
    """Return the posterior's moments (2C, A) of a mono waveform (num_samples,), silence behind it up to A latents."""
    missing = num_latents * samples_per_latent - len(waveform)
    waveform = torch.nn.functional.pad(waveform, (0, max(missing, 0)))
    moments = audio_vae.encode(waveform[None].to(audio_vae.device)).latent_dist.parameters[0]
    return moments[..., :num_latents].cpu()


@torch.no_grad()
def encode_text(pipe: JoVAPipeline, name: str, lines: tuple[str, ...], max_sequence_length: int) -> torch.Tensor:
    """Return the states (T, d) of the three lines, unpadded; `name` is "prompt_embeds" or "prompt_embeds_2"."""
    outputs = pipe.encode_prompt(
        *lines, do_classifier_free_guidance=False, max_sequence_length=max_sequence_length, device=torch.device("cpu")
    )
    return outputs[0 if name == "prompt_embeds" else 2][0]


@contextmanager
def load_phase(model: Path, phase: str, device: torch.device, dtype: torch.dtype) -> Iterator[JoVAPipeline]:
    """Give a pipeline that holds only the components of `phase`, and free them afterwards."""
    parts = read_pipeline_folder(model).parts.keys() - set(COMPONENTS_OF[phase])
    with reading_folder(model):
        pipe = JoVAPipeline.from_pretrained(model, dtype=dtype, **dict.fromkeys(parts))
    pipe = pipe.to(device)
    try:
        yield pipe
    finally:
        for name in COMPONENTS_OF[phase]:  # whoever still holds the pipeline holds no weights
            setattr(pipe, name, None)
        if device.type != "cpu":
            gc.collect()
            torch.get_device_module(device).empty_cache()


# --- the whole ---


def preprocess(
    config: PreprocessingConfig, detector: FaceDetector | None = None, command: str | None = None
) -> Summary:
    """Write the cache and its report, and return what became of the clips.

    Args:
        config: what to do.
        detector: finds faces; None for dlib's.
        command: what was started, which the summary names where it has to be started again; None for that of `config`.

    Raises:
        ValueError, FileNotFoundError: for settings or data that cannot be used, or a cache that other models or
            settings made; before any work is done.
        InUseError: if another run is at work in the cache.
        OSError: if the disk is full; what was written stays and is used again.
    """
    run = _Run(config, detector)
    check_output(config.output_dir, {"the model": run.facts.folder})
    if is_same_place(config.output_dir, config.data):
        raise ValueError(f"`{config.output_dir}` holds the clips: choose another folder for the cache.")
    run.summary.command = command or command_of(config)
    with own_cache(config.output_dir, *run.shard):
        return run.run()


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


def dry_run(config: PreprocessingConfig) -> str:
    """Return, as a text, what a run would do and about how much memory each phase takes. Nothing is written."""
    run = _Run(config)
    run.check_cache()
    windows = run.plan()
    duration_s = float(sum(window.num_frames / run.frame_rate for window in windows))
    lines = [f"plan: {len(windows)} samples of {run.summary.num_sources} clips, {duration_s:.2f} s"]
    lines += [f"  skipped: {name}: {reason}" for name, reason in run.summary.skipped]
    lines.append(f"peak memory per phase, one after another, on {run.device} in {run.dtype}:")
    for phase in run.facts.phases:
        weights, work = run.phase_memory(phase, windows)
        names = ", ".join(COMPONENTS_OF[phase])
        lines.append(
            f"  {phase:<6} {(weights + work) / 2**20:10,.0f} MiB: {weights / 2**20:,.0f} weights ({names}), "
            f"about {work / 2**20:,.0f} activations"
        )
    frames = run.frame_memory(windows) / 2**20
    lines.append(f"  decoded frames, in main memory during the video phase: about {frames:,.0f} MiB")
    return "\n".join(lines)


class _Run:
    """One run: its settings, what it plans, and its phases one after another."""

    def __init__(self, config: PreprocessingConfig, detector: FaceDetector | None = None):
        self.facts, self.shard = read_model_facts(config.model), parse_shard(config.shard)
        if config.num_workers < 0:
            raise ValueError(f"`--num_workers` must be 0 or more, got {config.num_workers}.")
        self.models = cache.model_fingerprint(self.facts.folder)
        self.summary = Summary()
        self.config, self.summary.from_cache = resolve(config, self.facts, self.models, detector is not None)
        self.buckets, self.frame_rate = parse_buckets(self.config, self.facts), self.config.frame_rate
        self.device, self.dtype = torch.device(self.config.device), getattr(torch, self.config.dtype)
        self.cache_dir = Path(config.output_dir)
        self.writer = "-".join(str(number) for number in self.shard)
        self.heard: dict[str, np.ndarray] = {}  # waveforms to measure, by the digest of their window
        self.unread: set[str] = set()  # clips that could not be read for now: what is cached of them stays
        self.detector = detector
        self.has_video = "video" in self.facts.phases
        self.has_audio = "audio" in self.facts.phases

    @property
    def crop(self) -> str:
        """What the cut piece of the picture keeps, of `CROPS`."""
        return "centre" if self.detector is None else self.config.crop

    # 1. Plan

    def plan(self) -> list[Window]:
        """Return the windows of this shard's clips. What cannot be used is in the summary."""
        index, count = self.shard
        self.all_sources = find_sources(self.config.data, probe_captions=False)
        self.sources = self.all_sources[index::count]
        self.summary.num_sources = len(self.sources)
        for source in self.sources:
            if source.problem:
                self.summary.skip(source.name, source.problem)
        usable, windows = [source for source in self.sources if not source.problem], []
        with Workers(self.config.num_workers) as workers:
            for source, found in progress(workers.map(examine, usable), "plan", len(usable)):
                try:
                    if isinstance(found, Failure):
                        self.unread |= set() if found.is_lasting else {source.name}
                        raise ValueError(found)
                    windows += self._plan_source(source, *found)
                except ValueError as error:
                    self.summary.skip(source.name, " ".join(str(error).split()))
        return windows

    def _plan_source(self, source: Source, found: Probe, sha256: str) -> list[Window]:
        self._check_modalities(found)
        source = source.with_caption(found.has_video)
        if found.has_video and self.config.instance_prompt and "video_caption" not in source.texts:
            source = dataclasses.replace(source, texts={**source.texts, "video_caption": self.config.instance_prompt})
        bucket = choose_bucket(found, self.buckets, self.frame_rate)
        windows, warnings = plan_windows(source, found, sha256, bucket, self.frame_rate)
        cropped = self._cropped(found, bucket)
        if cropped > MAX_CROPPED:
            size = f"{found.height}x{found.width}, the bucket {bucket.height}x{bucket.width}"
            warnings.append(
                f"{cropped:.0%} of the picture are cropped away: it is {size}. Another of --buckets may fit"
            )
        for warning in (*found.warnings, *warnings):
            self.summary.warn(source.name, warning)
        has_words = source.texts.get("transcript") or source.segments
        if has_words and found.has_audio and not any(window.texts["transcript"] for window in windows):
            self.summary.wordless.append(source.name)
        if not windows:
            raise ValueError("none of its segments can be used")
        return windows

    def _check_modalities(self, found: Probe) -> None:
        if found.has_video and not found.has_audio and self.config.require_audio:
            raise ValueError("it has no sound track, which --require_audio asks for")
        if not (found.has_video and self.has_video) and not (found.has_audio and self.has_audio):
            raise ValueError("the model has no VAE for what it holds")

    def _cropped(self, found: Probe, bucket: Bucket) -> float:
        """Return the part of the picture that is cropped away."""
        if not found.has_video or not self.has_video:
            return 0.0
        x1, y1, x2, y2 = centre_crop(found.height, found.width, bucket.height, bucket.width)
        return 1 - (x2 - x1) * (y2 - y1) / (found.width * found.height)

    # 2. Phases

    def run(self) -> Summary:
        fingerprint = self.check_cache()
        windows = self.plan()
        if not windows and not (self.cache_dir / "fingerprint.json").is_file():
            return self.summary
        self._open_cache(fingerprint)
        self._remove_missing(windows)
        todo = [window for window in progress(windows, "verify", len(windows)) if not self._is_current(window)]
        previews = [w for w in windows if self.config.preview and not self._preview_path(w.key).is_file()]
        measured = self._open_round_trip(windows)
        failed = self._video_phase(todo, previews, measured)
        todo = [window for window in todo if window.key not in failed]
        self._audio_phase(todo)
        for phase in ("text", "text_2"):
            self._text_phase(phase, todo)
        self._write_shared()
        for window in progress(todo, "assemble", len(todo)):
            self._assemble(window)
        self._remove_parts(windows)
        self.summary.rows = [
            cache.read_row(cache.sample_path(self.cache_dir, window.key))
            for window in windows
            if window.key not in failed
        ]
        cache.write_index(self.cache_dir, self.writer)
        for line in self.summary.round_trip.alarm():
            logger.warning("%s.", line)
        self.summary.write(report_path(self.cache_dir, self.shard), self.writer)
        return self.summary

    def settings(self) -> dict[str, Any]:
        """Return what decides about the cache's content, besides the models and the clips."""
        return {
            "buckets": [f"{b.height}x{b.width}x{b.num_frames}" for b in self.buckets],
            "frame_rate": str(self.frame_rate),
            "max_sequence_length": self.config.max_sequence_length,
            "line_dropout_variants": not self.config.no_line_dropout_variants,
            "detect_every": self.config.detect_every,
            "mouth": self._mouth_setting(),
            "crop": self.crop,
            "dtype": str(self.dtype).removeprefix("torch."),
        }

    def _mouth_setting(self) -> str:
        if not isinstance(self.detector, DlibFaceDetector):
            return "none" if self.detector is None else type(self.detector).__name__
        with open(self.detector.landmarks_file, "rb") as file:
            return f"dlib {hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"

    def check_cache(self) -> dict[str, Any]:
        """Return the fingerprint of this run, if the cache is new or has it too; choose the detector."""
        if self.config.no_mouth:
            self.detector = None
        elif self.detector is None:
            self.detector = DlibFaceDetector(find_landmarks_file(self.config.landmarks))
        expected = {"models": self.models, "settings": self.settings()}
        if (self.cache_dir / "fingerprint.json").is_file():
            cache.check_fingerprint(self.cache_dir, expected)
            if self.summary.from_cache:
                logger.info("settings taken from the cache: %s", ", ".join(self.summary.from_cache))
        elif next(self.cache_dir.glob("samples/*.safetensors"), None):
            raise ValueError(
                f"The cache `{self.cache_dir}` has samples but no fingerprint.json, so nobody knows what made them: "
                "choose another --output_dir."
            )
        return expected

    def _open_cache(self, fingerprint: Mapping[str, Any]) -> None:
        for folder in ("samples", "parts"):
            (self.cache_dir / folder).mkdir(parents=True, exist_ok=True)
        cache.write_fingerprint(self.cache_dir, fingerprint, self.writer)

    def _is_current(self, window: Window) -> bool:
        """Whether the cache holds this very window, whole; says so if an older version of the clip is there."""
        path = cache.sample_path(self.cache_dir, window.key)
        row = _read_row_or_none(path)
        if row is None:
            return False
        if row["source_sha256"] != window.source_sha256:
            logger.warning("%s: has changed since it was cached, and is cached again", printable(window.source.name))
        return row["digest"] == window.digest and (self.config.no_verify or _is_whole(path))

    def _remove_missing(self, windows: list[Window]) -> None:
        """Delete the samples of clips and windows that are not there any more. A clip that only has another name now
        keeps its sample, under that name."""
        keys, cached = {window.key for window in windows}, by_clip(cache.sample_paths(self.cache_dir))
        stale = [
            path
            for source in self.sources
            if source.name not in self.unread
            for path in cached.get(sample_key(source.name), ())
            if path.stem not in keys
        ]
        left = find_leftovers(self.cache_dir, self.config.data, self.all_sources, self.config.remove_missing)
        note_data(self.cache_dir, self.config.data, left, self.config.remove_missing, self.writer)
        rows = {path: _read_row_or_none(path) or {} for path in left.gone}
        self._rename(windows, {row["digest"]: path for path, row in rows.items() if row})
        for path in [*stale, *left.gone]:
            path.unlink(missing_ok=True)
            self._preview_path(path.stem).unlink(missing_ok=True)
        self.summary.removed = sorted({row.get("source", path.stem) for path, row in rows.items()})
        self.summary.unclear = sorted({(_read_row_or_none(p) or {}).get("source", p.stem) for p in left.unclear})
        self.summary.unseen = left.unseen
        for name in self.summary.removed:
            logger.warning("%s: is gone, and leaves the cache", printable(name))

    def _rename(self, windows: list[Window], gone: Mapping[str, Path]) -> None:
        """Write the samples of windows that are cached under the name of a clip that is gone, by their digest."""
        for window in windows:
            path = gone.get(window.digest)
            if path is None or cache.sample_path(self.cache_dir, window.key).is_file() or not _is_whole(path):
                continue
            row = cache.read_row(path) | {"key": window.key, "source": window.source.name}
            cache.write_sample(self.cache_dir, row, cache.read_tensors(path))
            if self._preview_path(path.stem).is_file():
                os.replace(self._preview_path(path.stem), self._preview_path(window.key))

    def _part_path(self, key: str, phase: str) -> Path:
        return self.cache_dir / "parts" / f"{key}.{phase}.safetensors"

    def _preview_path(self, key: str) -> Path:
        return self.cache_dir / "previews" / f"{key}.png"

    def _has_part(self, key: str, phase: str, digest: str) -> bool:
        row = _read_row_or_none(self._part_path(key, phase))
        return row is not None and row["digest"] == digest

    def _open_round_trip(self, windows: list[Window]) -> list[Window]:
        """Take over what the last run measured of the clips that are chosen, and return those still to measure."""
        chosen, trip = choose_clips(windows), self.summary.round_trip
        trip.own = read_own_figures(self.facts.folder)
        before = read_round_trip(report_path(self.cache_dir, self.shard))
        for name, values in trip.clips.items():
            found = before.get(name, {})
            values |= {window.digest: found[window.digest] for window in chosen if window.digest in found}
        return [window for window in chosen if not any(window.digest in v for v in trip.clips.values())]

    def _video_phase(self, todo: list[Window], previews: list[Window], measured: list[Window]) -> set[str]:
        """Write the video parts and the previews; return the keys of clips that turned out to be unusable."""
        missing = {window.key for window in todo if not self._has_part(window.key, "video", window.digest)}
        shown, tried = ({window.key for window in some} for some in (previews, measured))
        wanted = missing | shown | tried
        windows = [w for w in {w.key: w for w in [*todo, *previews, *measured]}.values() if w.key in wanted]
        shared = self._missing_shared("video")
        prepare = Preparation(
            self.frame_rate,
            self.facts.sampling_rate,
            self.has_video,
            self.detector,
            self.config.detect_every,
            self.crop,
        )
        failed = set()
        if not windows and not shared:
            return failed
        with self._load("video") as pipe:
            self._share("video", {name: self._black(pipe.vae, name) for name in shared})
            prepared = prepare_all(windows, prepare, self.config.num_workers)
            for window, clip in progress(prepared, "video", len(windows)):
                if isinstance(clip, str) and window.key not in missing:
                    self.summary.warn(window.source.name, f"is cached, but can no longer be read: {clip}")
                    continue
                if isinstance(clip, str):
                    self.summary.skip(window.source.name, clip)
                    failed.add(window.key)
                    continue
                if window.key in missing:
                    self._preview_path(window.key).unlink(missing_ok=True)  # of an older version
                    self._write_video_part(window, clip, pipe)
                if self.config.preview and window.key in missing | shown and clip.frames is not None:
                    self._write_preview(window, clip, pipe)
                if window.key in tried:
                    self._measure(window, clip, pipe)
        return failed

    def _measure(self, window: Window, clip: PreparedClip, pipe: JoVAPipeline | None) -> None:
        if clip.frames is not None:
            psnr_db = video_psnr(pipe.vae, clip.frames)
            self.summary.round_trip.clips["psnr_db"][window.digest] = round(psnr_db, 2)
        if clip.waveform is not None and len(clip.waveform):
            self.heard[window.digest] = clip.waveform  # for the phase that has the audio VAE

    def _write_video_part(self, window: Window, clip: PreparedClip, pipe: JoVAPipeline | None) -> None:
        tensors, row = {}, self._row(window, clip)
        if clip.frames is not None:
            tensors["video_moments"] = encode_video(pipe.vae, clip.frames)
            tensors["image_moments"] = encode_video(pipe.vae, clip.frames[:1])
            tensors["mouth_boxes"] = torch.from_numpy(clip.boxes)
        if clip.waveform is not None:
            tensors["waveform"] = torch.from_numpy(np.ascontiguousarray(clip.waveform, np.float32))
        cache.write_tensors(self._part_path(window.key, "video"), tensors, row)

    def _row(self, window: Window, clip: PreparedClip) -> dict[str, Any]:
        has_video, has_sound = clip.frames is not None, clip.waveform is not None
        return {
            "key": window.key,
            "source": window.source.name,
            "kind": "both" if has_video and has_sound else "video" if has_video else "audio",
            "num_frames": clip.num_frames,
            "height": window.bucket.height if has_video else None,
            "width": window.bucket.width if has_video else None,
            "frame_rate": float(self.frame_rate),
            "num_samples": len(clip.waveform) if has_sound else 0,
            "sampling_rate": self.facts.sampling_rate if has_sound else None,
            "start_s": float(window.start_s),
            "duration_s": float(clip.num_frames / self.frame_rate),
            "has_mouth": bool(has_video and np.isfinite(clip.boxes).all(axis=1).any()),
            "faces": clip.num_faces,
            # only where there are some: rows of samples that show all mouths are as they were
            **({"mouth_outside": clip.mouths_outside} if clip.mouths_outside else {}),
            **window.texts,
            "source_sha256": window.source_sha256,
            "digest": window.digest,
        }

    def _write_preview(self, window: Window, clip: PreparedClip, pipe: JoVAPipeline) -> None:
        spatial, temporal = self.facts.spatial, self.facts.temporal
        height, width = window.bucket.height // spatial, window.bucket.width // spatial
        shape = (num_latent_frames(clip.num_frames, temporal), height, width)
        enlarge = max(PREVIEW_HEIGHT // window.bucket.height, 1)
        frames, boxes = clip.frames.repeat(enlarge, axis=1).repeat(enlarge, axis=2), clip.boxes * enlarge
        drawn = draw_overlay(frames, boxes, mouth_mask(clip.boxes, shape, spatial, temporal), temporal)
        path = self._preview_path(window.key)
        path.parent.mkdir(exist_ok=True)
        with whole_file(path, "") as partial_path:
            decoded = decode_again(pipe.vae, clip.frames).repeat(enlarge, axis=1).repeat(enlarge, axis=2)
            contact_sheet([drawn, decoded]).save(partial_path, format="png")

    def _audio_phase(self, todo: list[Window]) -> None:
        if not self.has_audio:
            return
        rows = {window.key: cache.read_row(self._part_path(window.key, "video")) for window in todo}
        missing = [
            window
            for window in todo
            if rows[window.key]["num_samples"] and not self._has_part(window.key, "audio", window.digest)
        ]
        if not missing and not self.heard:
            return
        with self._load("audio") as pipe:
            for digest, waveform in self.heard.items():
                error_db = log_mel_error(pipe.audio_vae, waveform)
                self.summary.round_trip.clips["log_mel_error_db"][digest] = round(error_db, 2)
            for window in progress(missing, "audio", len(missing)):
                waveform = cache.read_tensors(self._part_path(window.key, "video"))["waveform"]
                num_latents = num_audio_latents(
                    rows[window.key]["num_frames"], self.frame_rate, self.facts.audio_latent_rate
                )
                moments = encode_audio(pipe.audio_vae, waveform, num_latents, self.facts.samples_per_latent)
                self._write_part(window, "audio", {"audio_moments": moments})

    def _text_phase(self, phase: str, todo: list[Window]) -> None:
        if phase not in self.facts.phases:
            return
        missing = [window for window in todo if not self._has_part(window.key, phase, window.digest)]
        shared = self._missing_shared(phase)
        if not missing and not shared:
            return
        name, limit = EMBEDS_OF[phase], self.config.max_sequence_length
        with self._load(phase) as pipe:
            self._share(phase, {shared_name: encode_text(pipe, name, ("", "", ""), limit) for shared_name in shared})
            for window in progress(missing, phase, len(missing)):
                tensors = {
                    f"{name}{suffix}": encode_text(pipe, name, lines, limit)
                    for suffix, lines in self._variants(window.texts).items()
                }
                self._write_part(window, phase, tensors)
                if len(tensors[name]) >= limit:
                    self.summary.warn(window.source.name, f"its texts are cut to {limit} tokens, the transcript first")

    def _variants(self, texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
        """Return the lines of the whole prompt, and those with lines left out, by suffix; see `variant_suffix`."""
        lines = tuple(texts[name] for name in cache.TEXTS)
        variants = {"": lines}
        if not self.config.no_line_dropout_variants:
            for kept in product((True, False), repeat=3):
                suffix = cache.variant_suffix(texts, kept)
                if suffix is not None:
                    variants[suffix] = tuple(line if is_kept else "" for line, is_kept in zip(lines, kept))
        return variants

    def _write_part(self, window: Window, phase: str, tensors: Mapping[str, torch.Tensor]) -> None:
        cache.write_tensors(self._part_path(window.key, phase), tensors, {"digest": window.digest})

    @contextmanager
    def _load(self, phase: str, wanted: bool = True) -> Iterator[JoVAPipeline | None]:
        if not wanted or phase not in self.facts.phases:
            yield None
            return
        with load_phase(self.facts.folder, phase, self.device, self.dtype) as pipe:
            yield pipe

    # 3. Memory

    def phase_memory(self, phase: str, windows: list[Window]) -> tuple[int, int]:
        """Return the bytes of a phase's weights and, roughly, of its activations."""
        size, folder = self.dtype.itemsize, self.facts.folder
        weights = size * sum(_num_parameters(folder / name) for name in COMPONENTS_OF[phase])
        config = read_pipeline_folder(folder).config(COMPONENTS_OF[phase][-1])
        num_frames = max((window.num_frames for window in windows), default=0)
        if phase == "video":
            area = max(bucket.height * bucket.width for bucket in self.buckets)
            return weights, WAN_ENCODER_WORK * area * config.get("base_dim", 96) * size
        if phase == "audio":
            mel_frames = 2 * num_frames / self.frame_rate * self.facts.audio_latent_rate
            return weights, int(AUDIO_ENCODER_WORK * mel_frames * config.get("hidden_channels", 512) * size)
        width = config.get("d_model", config.get("hidden_size", 0))
        return weights, TEXT_ENCODER_WORK * self.config.max_sequence_length * width * size

    def frame_memory(self, windows: list[Window]) -> int:
        """Return the bytes of the clips that wait for the VAE, and of the frame that is read at its own size."""
        prepared = max((3 * w.num_frames * w.bucket.height * w.bucket.width for w in windows), default=0)
        # three as they were decoded, one in colour, one in grey, one on its way through Pillow
        read = max((10 * w.source_area for w in windows), default=0)
        return (2 * self.config.num_workers + 1) * prepared + max(self.config.num_workers, 1) * read

    # 4. What all samples share

    def _shared_names(self, phase: str) -> list[str]:
        if phase not in self.facts.phases or phase == "audio":
            return []
        if phase == "video":
            return sorted({f"black.{bucket.height}x{bucket.width}" for bucket in self.buckets})
        return [f"unconditional.{EMBEDS_OF[phase]}"]

    def _missing_shared(self, phase: str) -> list[str]:
        """Return the shared tensors of a phase that are in no file yet."""
        there = _tensor_names(self.cache_dir / "shared.safetensors") | _tensor_names(self._part_path("shared", phase))
        names = self._shared_names(phase)
        return [] if there.issuperset(names) else names

    def _share(self, phase: str, tensors: Mapping[str, torch.Tensor]) -> None:
        if tensors:
            cache.write_tensors(self._part_path("shared", phase), tensors, {}, self.writer)

    def _black(self, vae, name: str) -> torch.Tensor:
        height, width = (int(size) for size in name.removeprefix("black.").split("x"))
        return encode_video(vae, np.zeros((1, height, width, 3), np.uint8))

    def _write_shared(self) -> None:
        names = {name for phase in PHASES for name in self._shared_names(phase)}
        if not _tensor_names(self.cache_dir / "shared.safetensors").issuperset(names):
            parts = [self._part_path("shared", phase) for phase in PHASES if self._shared_names(phase)]
            tensors = {name: tensor for path in parts for name, tensor in cache.read_tensors(path).items()}
            cache.write_shared(self.cache_dir, tensors, self.writer)

    # 5. Assemble

    def _assemble(self, window: Window) -> None:
        tensors = {}
        for phase in PHASES:
            if (path := self._part_path(window.key, phase)).is_file():
                tensors |= cache.read_tensors(path)
        tensors.pop("waveform", None)
        cache.write_sample(self.cache_dir, cache.read_row(self._part_path(window.key, "video")), tensors)
        for phase in PHASES:
            self._part_path(window.key, phase).unlink(missing_ok=True)

    def _remove_parts(self, windows: list[Window]) -> None:
        """Delete what a killed run may have left of these windows, and the folder if it is empty."""
        for key in [window.key for window in windows] + ["shared"]:
            for phase in PHASES:
                self._part_path(key, phase).unlink(missing_ok=True)
        try:
            (self.cache_dir / "parts").rmdir()
        except OSError:  # another shard is at work
            pass


def _default_device() -> str:
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu"


def _num_parameters(folder: Path) -> int:
    """Return how many numbers the weights in a component's folder are."""
    total = 0
    for path in cache.weight_files(folder):
        with safe_open(path, framework="pt") as file:
            total += sum(int(np.prod(file.get_slice(name).get_shape())) for name in file.keys())
    return total


def _read_row_or_none(path: Path) -> dict[str, Any] | None:
    """Return the row of a cached file; None where there is none, or a damaged one, which is made anew."""
    try:
        return cache.read_row(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        logger.warning("%s", error)
        return None


def _is_whole(path: Path) -> bool:
    """Whether a cached file is as it was written; a damaged one is said, and made anew."""
    try:
        cache.read_tensors(path)
        return True
    except FileNotFoundError:
        return False
    except ValueError:
        logger.warning("`%s` is damaged, and is made anew", path)
        return False


def _tensor_names(path: Path) -> set[str]:
    if not _is_whole(path):
        return set()
    with safe_open(path, framework="pt") as file:
        return set(file.keys())


# --- Appendix A, on a clip ---


def validate_mouth_mask(
    video: str | os.PathLike,
    model: str | os.PathLike,
    output: str | os.PathLike,
    detector: FaceDetector | None = None,
    **options: Any,
) -> MaskTest:
    """Return `mouth.mask_test` of a clip, prepared as for the cache, and write the two rows as one picture.

    Args:
        video: the clip; its first window is taken.
        model: folder of a pipeline.
        output: ends in .png or .jpg.
        detector: finds faces; None for dlib's.
        options: `height`, `width`, `num_frames`, `frame_rate`, `landmarks`, `device`, `dtype` of
            `PreprocessingConfig`.

    Raises:
        ValueError: if the clip cannot be read or has no mouth.
    """
    check_output_path(output, (".png", ".jpg"))
    run = _Run(PreprocessingConfig(str(video), str(model), output_dir=os.devnull, **options), detector)
    run.check_cache()
    if not run.has_video:
        raise ValueError(f"The pipeline `{model}` has no video VAE.")
    windows = run.plan()
    if not windows:
        raise ValueError(f"`{video}` cannot be used: {run.summary.skipped[0][1]}.")
    prepare = Preparation(run.frame_rate, None, True, run.detector, crop=run.crop)
    ((_, clip),) = prepare_all(windows[:1], prepare, run.config.num_workers)
    if isinstance(clip, str):
        raise ValueError(f"`{video}` cannot be used: {clip}.")
    if not np.isfinite(clip.boxes).all(axis=1).any():
        raise ValueError(f"No mouth was found in `{video}`: choose a clip with a face that looks into the camera.")
    with load_phase(run.facts.folder, "video", run.device, run.dtype) as pipe:
        test = mask_test(pipe.vae, clip.frames, clip.boxes)
    shape = [size // run.facts.spatial for size in clip.frames.shape[1:3]]
    nothing = torch.zeros(num_latent_frames(clip.num_frames, run.facts.temporal), *shape)
    above = draw_overlay(clip.frames, clip.boxes, nothing, run.facts.temporal)
    with whole_file(output) as partial_path:
        contact_sheet([above, test.masked]).save(partial_path, format=_image_format(output))
    return test


def _image_format(path: str | os.PathLike) -> str:
    return "jpeg" if Path(path).suffix.lower() == ".jpg" else "png"
