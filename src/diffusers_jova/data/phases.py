# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The phases, one large component in memory at a time, on the machines of an engine; what they make is written here.

encode_video_parts  decode, find the mouth, crop and resize (`prepare`) -> VAE  -> parts/{key}.video.safetensors
                    previews (`preview`), what the VAEs lose (`check`, `round_trip`)
encode_audio_parts  the window's audio -> audio VAE                             -> parts/{key}.audio.safetensors
encode_text_parts   the three lines -> T5, then Qwen2                           -> parts/{key}.text*.safetensors
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice, product
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..engines import Engine
from ..faces import FaceDetector
from ..files import whole_file
from ..latents import num_audio_latents
from ..progress import progress
from ..workers import Failure
from . import cache, encode
from .clips import Source
from .model_facts import EMBEDS_OF, ModelFacts
from .parts import has_part, missing_shared, write_part, write_shared_part
from .prepare import Preparation, PreparedClip
from .preview import draw_preview
from .round_trip import log_mel_error, video_psnr
from .run import Run
from .windows import Bucket, Window


if TYPE_CHECKING:  # children that read clips import this, and wait for no diffusers
    from ..pipelines.pipeline_jova import JoVAPipeline


@dataclass(frozen=True)
class Phase:
    """What the components of one phase do with items, for an engine: each kind of item says it, as `encode`.

    Attributes:
        facts: of the model.
        name: of the phase.
        prepare: how windows are read, in the phase that reads them.
    """

    facts: ModelFacts
    name: str
    device: torch.device
    dtype: torch.dtype
    prompt_format: str
    prepare: Preparation | None = None

    def load(self) -> "AbstractContextManager[JoVAPipeline | None]":
        if self.name not in self.facts.phases:
            return nullcontext()
        return encode.load_phase(self.facts.folder, self.name, self.device, self.dtype, self.prompt_format)

    def reader(self, pipe: "JoVAPipeline | None") -> "ItemReader | None":
        return None if self.prepare is None else ItemReader(self.prepare)

    def __call__(self, pipe: "JoVAPipeline | None", batch: Sequence[tuple[Any, Any]]) -> list[Any]:
        return [item.encode(self.facts, pipe, content) for item, content in batch]


@dataclass(frozen=True)
class ItemReader:
    """Reads the clip of an item that has a window; other items need none."""

    prepare: Preparation

    @property
    def detector(self) -> FaceDetector | None:
        return self.prepare.detector

    def __call__(self, item: Any) -> PreparedClip | None:
        return self.prepare(item.window) if isinstance(item, VideoItem) else None


def _phase(run: Run, name: str, prepare: Preparation | None = None) -> Phase:
    return Phase(run.facts, name, run.device, run.dtype, run.config.prompt_format, prepare)


def _made(problem: Failure | None, made: Any) -> Any:
    """Return what was made for all samples, without which there is none."""
    if problem is not None:
        raise RuntimeError(f"What all samples share could not be encoded: {problem}. Start the same command again.")
    return made


def _usable(run: Run, results: Iterable[tuple[Any, Failure | None, Any]], failed: set[str]) -> Iterator[Any]:
    """Yield (item, what was made of it); what could not be made is skipped, and its window's key is in `failed`."""
    for item, problem, made in results:
        if problem is None:
            yield item, made
        else:
            run.summary.skip(item.source.name, problem)
            failed.add(item.window.key)


# --- video ---


@dataclass(frozen=True)
class Filler:
    """The shared tensor "black.HEIGHTxWIDTH", or "grey.HEIGHTxWIDTH".

    One black frame; or as many grey ones as the longest clip of this size has, of which shorter clips take the first:
    the VAE is causal.
    """

    name: str
    buckets: tuple[Bucket, ...]

    def encode(self, facts: ModelFacts, pipe: "JoVAPipeline", content: None) -> torch.Tensor:
        """Return its moments."""
        fill, _, size = self.name.partition(".")
        height, width = (int(number) for number in size.split("x"))
        if fill == "black":
            return encode.encode_video(pipe.vae, np.zeros((1, height, width, 3), np.uint8))
        longest = max(b.num_frames for b in self.buckets if (b.height, b.width) == (height, width))
        return encode.encode_video(pipe.vae, np.zeros((0, height, width, 3), np.uint8), longest)


@dataclass
class EncodedVideo:
    """What is made of a window in the video phase, as far as it was asked for and the clip has it.

    Attributes:
        tensors, row: of its part; the row is the sample's in the cache's index.
        preview: its image.
        psnr_db: after the VAE and back.
        waveform: for the way through the audio VAE and back.
    """

    tensors: dict[str, torch.Tensor] | None = None
    row: dict[str, Any] | None = None
    preview: Image.Image | None = None
    psnr_db: float | None = None
    waveform: np.ndarray | None = None


@dataclass(frozen=True)
class VideoItem:
    """A window, and what is made of it.

    Attributes:
        frame_rate: of the model.
        is_missing, is_shown, is_tried: whether its part, its preview and its way through the VAE are wanted.
    """

    window: Window
    frame_rate: Fraction
    is_missing: bool
    is_shown: bool
    is_tried: bool

    @property
    def source(self) -> Source:
        return self.window.source

    def encode(self, facts: ModelFacts, pipe: "JoVAPipeline | None", clip: PreparedClip) -> EncodedVideo:
        made = EncodedVideo()
        if self.is_missing:
            made.tensors = _video_tensors(facts, clip, pipe)
            made.row = _index_row(facts, self.frame_rate, self.window, clip)
        if self.is_shown and clip.frames is not None:
            made.preview = draw_preview(facts, self.window, clip, pipe)
        if self.is_tried:
            made.psnr_db = None if clip.frames is None else round(video_psnr(pipe.vae, clip.frames), 2)
            made.waveform = clip.waveform if clip.waveform is not None and len(clip.waveform) else None
        return made


def encode_video_parts(
    run: Run, engine: Engine, todo: list[Window], previews: list[Window], measured: list[Window]
) -> tuple[set[str], list[tuple[Window, np.ndarray]]]:
    """Prepare windows once for all that needs their frames: write video parts and previews, measure the VAE.

    Args:
        todo: windows whose samples are made.
        previews: windows of which a preview is missing.
        measured: windows that go through the VAEs and back.

    Returns:
        The keys of windows in `todo` that turned out to be unusable, and those of `measured` with their waveforms, for
        the phase that has the audio VAE.
    """
    missing = {window.key for window in todo if not has_part(run, window, "video")}
    shown, tried = ({window.key for window in some} for some in (previews, measured))
    if run.config.preview:
        shown |= missing
    windows = {window.key: window for window in [*todo, *previews, *measured]}
    items: list[Any] = [Filler(name, run.buckets) for name in missing_shared(run, "video")]
    num_fillers = len(items)
    items += [
        VideoItem(window, run.frame_rate, key in missing, key in shown, key in tried)
        for key, window in windows.items()
        if key in missing | shown | tried
    ]
    failed: set[str] = set()
    heard: list[tuple[Window, np.ndarray]] = []
    if not items:
        return failed, heard
    results = engine.ask(_phase(run, "video", _preparation(run)), items)
    shared = {item.name: _made(problem, moments) for item, problem, moments in islice(results, num_fillers)}
    write_shared_part(run, "video", shared)
    for item, problem, made in progress(results, "video", len(items) - num_fillers):
        if problem is None:
            _write_video(run, item.window, made)
            if made.waveform is not None:
                heard.append((item.window, made.waveform))
        elif item.is_missing:
            run.summary.skip(item.source.name, problem)
            failed.add(item.window.key)
        else:
            run.summary.warn(item.source.name, f"is cached, but can no longer be read: {problem}")
    return failed, heard


def _preparation(run: Run) -> Preparation:
    return Preparation(
        run.frame_rate,
        run.facts.sampling_rate,
        run.facts.has_video,
        run.detector,
        run.config.detect_every,
        run.config.crop,
    )


def _write_video(run: Run, window: Window, made: EncodedVideo) -> None:
    preview_path = run.preview_path(window.key)
    if made.tensors is not None:
        preview_path.unlink(missing_ok=True)  # of an older version
        cache.write_tensors(run.part_path(window.key, "video"), made.tensors, made.row)
    if made.preview is not None:
        preview_path.parent.mkdir(exist_ok=True)
        with whole_file(preview_path, "") as partial_path:
            made.preview.save(partial_path, format="png")
    if made.psnr_db is not None:
        run.summary.round_trip.clips["psnr_db"][window.digest] = made.psnr_db


def _video_tensors(facts: ModelFacts, clip: PreparedClip, pipe: "JoVAPipeline | None") -> dict[str, torch.Tensor]:
    tensors = {}
    if clip.frames is not None:
        tensors["video_moments"] = encode.encode_video(pipe.vae, clip.frames)
        num_grey = len(clip.frames) - 1 if facts.condition_fill == "grey" else 0
        tensors["image_moments"] = encode.encode_video(pipe.vae, clip.frames[:1], num_grey)
        tensors["mouth_boxes"] = torch.from_numpy(clip.boxes)
    if clip.waveform is not None:
        tensors["waveform"] = torch.from_numpy(np.ascontiguousarray(clip.waveform, np.float32))
    return tensors


def _index_row(facts: ModelFacts, frame_rate: Fraction, window: Window, clip: PreparedClip) -> dict[str, Any]:
    """Return the row of the sample in the cache's index."""
    has_video, has_audio = clip.frames is not None, clip.waveform is not None
    return {
        "key": window.key,
        "source": window.source.name,
        "kind": "both" if has_video and has_audio else "video" if has_video else "audio",
        "num_frames": clip.num_frames,
        "height": window.bucket.height if has_video else None,
        "width": window.bucket.width if has_video else None,
        "frame_rate": float(frame_rate),
        "num_samples": len(clip.waveform) if has_audio else 0,
        "sampling_rate": facts.sampling_rate if has_audio else None,
        "start_s": float(window.start_s),
        "duration_s": float(clip.num_frames / frame_rate),
        "has_mouth": bool(has_video and np.isfinite(clip.boxes).all(axis=1).any()),
        "faces": clip.num_faces,
        # only where there are some: rows of samples that show all mouths are as they were
        **({"mouth_outside": clip.mouths_outside} if clip.mouths_outside else {}),
        **window.texts,
        "source_sha256": window.source_sha256,
        "digest": window.digest,
    }


# --- audio ---


@dataclass(frozen=True)
class AudioItem:
    """A waveform, and how many latents it becomes; 0: it goes through the audio VAE and back, and is measured."""

    window: Window
    waveform: np.ndarray
    num_latents: int

    @property
    def source(self) -> Source:
        return self.window.source

    def encode(self, facts: ModelFacts, pipe: "JoVAPipeline", content: None) -> torch.Tensor | float:
        """Return the moments, or the error in dB."""
        if not self.num_latents:
            return round(log_mel_error(pipe.audio_vae, self.waveform), 2)
        waveform = torch.from_numpy(self.waveform)
        return encode.encode_audio(pipe.audio_vae, waveform, self.num_latents, facts.samples_per_latent)


def encode_audio_parts(
    run: Run, engine: Engine, todo: list[Window], heard: Sequence[tuple[Window, np.ndarray]]
) -> set[str]:
    """Write the audio parts from the waveforms in the video parts.

    Args:
        todo: windows whose samples are made.
        heard: windows and their waveforms, which go through the audio VAE and back.

    Returns:
        The keys of windows that cannot be encoded, on machines that are lost.
    """
    failed: set[str] = set()
    if not run.facts.has_audio:
        return failed
    rows = {window.key: cache.read_row(run.part_path(window.key, "video")) for window in todo}
    missing = [w for w in todo if rows[w.key]["num_samples"] and not has_part(run, w, "audio")]
    if not missing and not heard:
        return failed
    tried = (AudioItem(window, waveform, 0) for window, waveform in heard)
    items = (_audio_item(run, window, rows[window.key]["num_frames"]) for window in missing)
    results = engine.ask(_phase(run, "audio"), chain(tried, items))
    for item, problem, error_db in islice(results, len(heard)):
        if problem is None:
            run.summary.round_trip.clips["log_mel_error_db"][item.window.digest] = error_db
    for item, moments in _usable(run, progress(results, "audio", len(missing)), failed):
        write_part(run, item.window, "audio", {"audio_moments": moments})
    return failed


def _audio_item(run: Run, window: Window, num_frames: int) -> AudioItem:
    waveform = cache.read_tensors(run.part_path(window.key, "video"))["waveform"]
    num_latents = num_audio_latents(num_frames, run.frame_rate, run.facts.audio_latent_rate)
    return AudioItem(window, waveform.numpy(), num_latents)


# --- text ---


@dataclass(frozen=True)
class TextItem:
    """The lines of a window's prompt, and with lines left out, by suffix; without a window those of no prompt at all.

    Attributes:
        name: "prompt_embeds" or "prompt_embeds_2".
        max_sequence_length: the most tokens.
    """

    window: Window | None
    name: str
    variants: Mapping[str, tuple[str, ...]]
    max_sequence_length: int

    @property
    def source(self) -> Source | None:
        return None if self.window is None else self.window.source

    def encode(self, facts: ModelFacts, pipe: "JoVAPipeline", content: None) -> dict[str, torch.Tensor]:
        """Return the states by suffix."""
        return {
            suffix: encode.encode_text(pipe, self.name, lines, self.max_sequence_length)
            for suffix, lines in self.variants.items()
        }


def encode_text_parts(run: Run, engine: Engine, phase: str, todo: list[Window]) -> set[str]:
    """Write the text parts of one text encoder, "text" or "text_2", and return the keys of windows that have none."""
    failed: set[str] = set()
    if phase not in run.facts.phases:
        return failed
    missing = [window for window in todo if not has_part(run, window, phase)]
    shared = missing_shared(run, phase)
    if not missing and not shared:
        return failed
    name, limit = EMBEDS_OF[phase], run.config.max_sequence_length
    with_lines_left_out = not run.config.no_line_dropout_variants
    items = [TextItem(None, name, dict.fromkeys(shared, ("",) * 3), limit)] if shared else []
    items += [TextItem(window, name, _variants(window.texts, with_lines_left_out), limit) for window in missing]
    results = engine.ask(_phase(run, phase), items)
    for _, problem, states in islice(results, len(items) - len(missing)):
        write_shared_part(run, phase, _made(problem, states))
    for item, states in _usable(run, progress(results, phase, len(missing)), failed):
        write_part(run, item.window, phase, {f"{name}{suffix}": state for suffix, state in states.items()})
        if len(states[""]) >= limit:
            run.summary.warn(item.source.name, f"its texts are cut to {limit} tokens, the transcript first")
    return failed


def _variants(texts: Mapping[str, str], with_lines_left_out: bool) -> dict[str, tuple[str, ...]]:
    """Return the lines of the whole prompt, and those with lines left out, by suffix; see `variant_suffix`."""
    lines = tuple(texts[name] for name in cache.TEXTS)
    variants = {"": lines}
    for kept in product((True, False), repeat=3) if with_lines_left_out else ():
        suffix = cache.variant_suffix(texts, kept)
        if suffix is not None:
            variants[suffix] = tuple(line if is_kept else "" for line, is_kept in zip(lines, kept))
    return variants
