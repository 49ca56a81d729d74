# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The encoders, one large component in memory at a time: frames -> video VAE, waveform -> audio VAE, lines -> texts.

encode_video_parts  decode, find the mouth, crop and resize (`prepare`) -> VAE  -> parts/{key}.video.safetensors
encode_audio_parts  the window's audio -> audio VAE                             -> parts/{key}.audio.safetensors
encode_text_parts   the three lines -> T5, then Qwen2                           -> parts/{key}.text*.safetensors
"""
# N video frames, C latent channels, F latent frames, A audio latents, T tokens, d width

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..files import reading_folder
from ..latents import num_audio_latents
from ..mouth import to_pixels
from ..pipeline_folder import read_pipeline_folder
from ..pipelines.pipeline_jova import JoVAPipeline
from ..progress import progress
from . import cache
from .check import measure_audio, measure_video
from .model_facts import COMPONENTS_OF, EMBEDS_OF
from .parts import has_part, missing_shared, write_part, write_shared_part
from .prepare import Preparation, PreparedClip, prepare_all
from .preview import write_preview
from .run import Run
from .windows import Window


# --- one component at a time ---


@torch.no_grad()
def encode_video(vae, frames: np.ndarray, num_grey: int = 0) -> torch.Tensor:
    """Return the posterior's moments (2C, F, H, W), mean and logvar, of a video.

    Args:
        frames: (N, height, width, 3) uint8, the beginning of the video.
        num_grey: how many grey frames follow: 0 in the VAE's range from -1 to 1, which 8 bits do not have.
    """
    pixels = torch.nn.functional.pad(to_pixels(frames), (0, 0, 0, 0, 0, num_grey)).to(vae.device, vae.dtype)
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
    """Return the states (T, d) of the three lines, unpadded; `name` is "prompt_embeds" or "prompt_embeds_2".

    A pipeline whose `prompt_format` is "plain" reads the first of them alone.
    """
    prompt, audio_prompt, transcript = lines if pipe.config.prompt_format == "labelled" else (lines[0], None, None)
    outputs = pipe.encode_prompt(
        prompt,
        audio_prompt,
        transcript,
        do_classifier_free_guidance=False,
        max_sequence_length=max_sequence_length,
        device=torch.device("cpu"),
    )
    return outputs[0 if name == "prompt_embeds" else 2][0]


@contextmanager
def load_phase(
    model: Path, phase: str, device: torch.device, dtype: torch.dtype, prompt_format: str = "labelled"
) -> Iterator[JoVAPipeline]:
    """Give a pipeline that holds only the components of `phase`, and free them afterwards.

    Training teaches the three lines, unless `prompt_format` says otherwise, also where the base, from Wan, reads plain
    prompts.
    """
    parts = read_pipeline_folder(model).parts.keys() - set(COMPONENTS_OF[phase])
    with reading_folder(model):
        pipe = JoVAPipeline.from_pretrained(model, dtype=dtype, prompt_format=prompt_format, **dict.fromkeys(parts))
    pipe = pipe.to(device)
    try:
        yield pipe
    finally:
        for name in COMPONENTS_OF[phase]:  # whoever still holds the pipeline holds no weights
            setattr(pipe, name, None)
        if device.type != "cpu":
            gc.collect()
            torch.get_device_module(device).empty_cache()


def _load(run: Run, phase: str):
    return load_phase(run.facts.folder, phase, run.device, run.dtype, run.config.prompt_format)


# --- video ---


def encode_video_parts(
    run: Run, todo: list[Window], previews: list[Window], measured: list[Window]
) -> tuple[set[str], dict[str, np.ndarray]]:
    """Prepare windows once for all that needs their frames: write video parts and previews, measure the VAE.

    Args:
        todo: windows whose samples are made.
        previews: windows of which a preview is missing.
        measured: windows that go through the VAEs and back.

    Returns:
        The keys of windows in `todo` that turned out to be unusable, and the waveforms of `measured` by their digest,
        for the phase that has the audio VAE.
    """
    missing = {window.key for window in todo if not has_part(run, window, "video")}
    shown, tried = ({window.key for window in some} for some in (previews, measured))
    wanted = missing | shown | tried
    windows = [w for w in {w.key: w for w in [*todo, *previews, *measured]}.values() if w.key in wanted]
    shared = missing_shared(run, "video")
    failed: set[str] = set()
    heard: dict[str, np.ndarray] = {}
    if not windows and not shared:
        return failed, heard
    with _load(run, "video") if run.facts.has_video else nullcontext() as pipe:
        write_shared_part(run, "video", {name: _encode_filler(run, pipe.vae, name) for name in shared})
        prepared = prepare_all(windows, _preparation(run), run.config.num_workers)
        for window, clip in progress(prepared, "video", len(windows)):
            if isinstance(clip, str):
                if window.key in missing:
                    run.summary.skip(window.source.name, clip)
                    failed.add(window.key)
                else:
                    run.summary.warn(window.source.name, f"is cached, but can no longer be read: {clip}")
                continue
            if window.key in missing:
                run.preview_path(window.key).unlink(missing_ok=True)  # of an older version
                _write_video_part(run, window, clip, pipe)
            if run.config.preview and window.key in missing | shown:
                write_preview(run, window, clip, pipe)
            if window.key in tried:
                measure_video(run, window, clip, pipe)
                heard |= {window.digest: clip.waveform} if clip.waveform is not None and len(clip.waveform) else {}
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


def _encode_filler(run: Run, vae, name: str) -> torch.Tensor:
    """Return the moments of the shared tensor "black.HEIGHTxWIDTH", or "grey.HEIGHTxWIDTH".

    One black frame; or as many grey ones as the longest clip of this size has, of which shorter clips take the first:
    the VAE is causal.
    """
    fill, _, size = name.partition(".")
    height, width = (int(number) for number in size.split("x"))
    if fill == "black":
        return encode_video(vae, np.zeros((1, height, width, 3), np.uint8))
    longest = max(bucket.num_frames for bucket in run.buckets if (bucket.height, bucket.width) == (height, width))
    return encode_video(vae, np.zeros((0, height, width, 3), np.uint8), longest)


def _write_video_part(run: Run, window: Window, clip: PreparedClip, pipe: JoVAPipeline | None) -> None:
    tensors = {}
    if clip.frames is not None:
        tensors["video_moments"] = encode_video(pipe.vae, clip.frames)
        num_grey = len(clip.frames) - 1 if run.facts.condition_fill == "grey" else 0
        tensors["image_moments"] = encode_video(pipe.vae, clip.frames[:1], num_grey)
        tensors["mouth_boxes"] = torch.from_numpy(clip.boxes)
    if clip.waveform is not None:
        tensors["waveform"] = torch.from_numpy(np.ascontiguousarray(clip.waveform, np.float32))
    cache.write_tensors(run.part_path(window.key, "video"), tensors, _index_row(run, window, clip))


def _index_row(run: Run, window: Window, clip: PreparedClip) -> dict[str, Any]:
    """Return the row of the sample in the cache's index."""
    has_video, has_audio = clip.frames is not None, clip.waveform is not None
    return {
        "key": window.key,
        "source": window.source.name,
        "kind": "both" if has_video and has_audio else "video" if has_video else "audio",
        "num_frames": clip.num_frames,
        "height": window.bucket.height if has_video else None,
        "width": window.bucket.width if has_video else None,
        "frame_rate": float(run.frame_rate),
        "num_samples": len(clip.waveform) if has_audio else 0,
        "sampling_rate": run.facts.sampling_rate if has_audio else None,
        "start_s": float(window.start_s),
        "duration_s": float(clip.num_frames / run.frame_rate),
        "has_mouth": bool(has_video and np.isfinite(clip.boxes).all(axis=1).any()),
        "faces": clip.num_faces,
        # only where there are some: rows of samples that show all mouths are as they were
        **({"mouth_outside": clip.mouths_outside} if clip.mouths_outside else {}),
        **window.texts,
        "source_sha256": window.source_sha256,
        "digest": window.digest,
    }


# --- audio ---


def encode_audio_parts(run: Run, todo: list[Window], heard: Mapping[str, np.ndarray]) -> None:
    """Write the audio parts from the waveforms in the video parts.

    Args:
        todo: windows whose samples are made.
        heard: waveforms that go through the audio VAE and back, by the digest of their window.
    """
    if not run.facts.has_audio:
        return
    rows = {window.key: cache.read_row(run.part_path(window.key, "video")) for window in todo}
    missing = [w for w in todo if rows[w.key]["num_samples"] and not has_part(run, w, "audio")]
    if not missing and not heard:
        return
    with _load(run, "audio") as pipe:
        for digest, waveform in heard.items():
            measure_audio(run, digest, waveform, pipe)
        for window in progress(missing, "audio", len(missing)):
            waveform = cache.read_tensors(run.part_path(window.key, "video"))["waveform"]
            num_frames = rows[window.key]["num_frames"]
            num_latents = num_audio_latents(num_frames, run.frame_rate, run.facts.audio_latent_rate)
            moments = encode_audio(pipe.audio_vae, waveform, num_latents, run.facts.samples_per_latent)
            write_part(run, window, "audio", {"audio_moments": moments})


# --- text ---


def encode_text_parts(run: Run, phase: str, todo: list[Window]) -> None:
    """Write the text parts of one text encoder; `phase` is "text" or "text_2"."""
    if phase not in run.facts.phases:
        return
    missing = [window for window in todo if not has_part(run, window, phase)]
    shared = missing_shared(run, phase)
    if not missing and not shared:
        return
    name, limit = EMBEDS_OF[phase], run.config.max_sequence_length
    with _load(run, phase) as pipe:
        write_shared_part(
            run, phase, {shared_name: encode_text(pipe, name, ("",) * 3, limit) for shared_name in shared}
        )
        for window in progress(missing, phase, len(missing)):
            tensors = {
                f"{name}{suffix}": encode_text(pipe, name, lines, limit)
                for suffix, lines in _variants(window.texts, not run.config.no_line_dropout_variants).items()
            }
            write_part(run, window, phase, tensors)
            if len(tensors[name]) >= limit:
                run.summary.warn(window.source.name, f"its texts are cut to {limit} tokens, the transcript first")


def _variants(texts: Mapping[str, str], with_lines_left_out: bool) -> dict[str, tuple[str, ...]]:
    """Return the lines of the whole prompt, and those with lines left out, by suffix; see `variant_suffix`."""
    lines = tuple(texts[name] for name in cache.TEXTS)
    variants = {"": lines}
    for kept in product((True, False), repeat=3) if with_lines_left_out else ():
        suffix = cache.variant_suffix(texts, kept)
        if suffix is not None:
            variants[suffix] = tuple(line if is_kept else "" for line, is_kept in zip(lines, kept))
    return variants
