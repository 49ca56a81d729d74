# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a LoRA run ends with: proof of what it learned, in numbers; `model_card` puts it in words."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn as nn

from ..data.round_trip import RoundTrip, read_own_figures
from ..data.summary import read_round_trip, report_path
from ..evaluation.likeness import describe_faces, face_distance, find_face_network, picture_distance, some_frames
from ..files import whole_file
from ..latents import num_audio_samples
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.pipeline_output import JoVAPipelineOutput
from .adapters import LORA_FILE
from .config import LoraTrainingConfig
from .dataset import CachedClips, Visit, collate, hold_out
from .initialization import read_scales
from .step import LatentScales, training_step
from .validation import call_pipeline, write_clip
from .validation_prompts import prompt_of_clip


logger = logging.getLogger(__name__)

LATENTS = ("video", "audio")
NUM_JUDGED = 16  # clips at most, by which base and LoRA are judged
NUM_NOISES = 8  # and the noises and noise levels that each of them gets

# Student's t of a 95 % interval for 1, 2, ... degrees of freedom; that of 10 serves for more, a little too wide.
STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23)


@dataclass
class Comparison:
    """One measure of base and LoRA on the same things. Less is nearer to the clips.

    Attributes:
        base, lora: Means.
        interval: 95 % interval of the mean difference, LoRA less base; None where there is one pair only.
        number: Of pairs.
        verdict: "nearer", "no better" (the interval holds zero), "worse" or "unknown".
    """

    base: float
    lora: float
    interval: tuple[float, float] | None
    number: int
    verdict: str


@dataclass
class Proof:
    """What was measured at the end of a LoRA run.

    Attributes:
        updates: Per modality, the norm of the LoRA's update and of the weights under it.
        num_frozen: Tensors outside the LoRA, and how many of them changed (none should).
        num_clips: Clips with each modality that the run could learn from.
        strength_0: Per modality, whether strength 0 makes the same latents as the base, bit for bit.
        strength_1: Per modality, how far strength 1 goes from the base: root mean square of the latents' difference.
        samples: Files made with strength 0 and 1; those with the same number have the same prompt and noise.
        num_judged: Clips by which base and LoRA were judged, and whether training did not see them.
        losses: "video", "mouth" and "audio": the losses on these clips, each with the same noises.
        likeness: "faces" and "pictures": the samples' distances to these clips, as the model's VAE shows them.
        faces_found: Samples of "base" and "lora" in which a face was found; empty where none was looked for.
        alarms: What preprocessing found that the model's VAEs cannot show or play, LoRA or not.
    """

    updates: dict[str, tuple[float, float]]
    num_frozen: int
    num_frozen_changed: int
    num_clips: dict[str, int]
    strength_0: dict[str, bool] = field(default_factory=dict)
    strength_1: dict[str, float] = field(default_factory=dict)
    samples: dict[str, str] = field(default_factory=dict)
    num_judged: int = 0
    is_held_out: bool = False
    losses: dict[str, Comparison] = field(default_factory=dict)
    likeness: dict[str, Comparison] = field(default_factory=dict)
    faces_found: dict[str, int] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)


def hash_frozen(transformer: nn.Module) -> dict[str, str]:
    """Return a hash of each parameter that does not learn."""
    frozen = {name: parameter for name, parameter in transformer.named_parameters() if not parameter.requires_grad}
    logger.info(f"Hashing {len(frozen)} frozen tensors: none of them may change ...")
    return {name: hash_tensor(parameter) for name, parameter in frozen.items()}


def hash_tensor(tensor: torch.Tensor) -> str:
    content = tensor.detach().contiguous().cpu().flatten().view(torch.uint8).numpy().data
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def count_changed(before: dict[str, str], after: dict[str, str]) -> int:
    """Return how many tensors differ, or are there only once."""
    return sum(before.get(name) != after.get(name) for name in before.keys() | after.keys())


def count_clips(clips: CachedClips) -> dict[str, int]:
    """Return how many clips have each modality."""
    return {name: sum(name in modalities for modalities in clips.modalities.values()) for name in LATENTS}


# --- base and LoRA, judged by clips ---


def compare(base: Sequence[float], lora: Sequence[float]) -> Comparison:
    """Return the comparison of pairs, of which those with a NaN are left out; the interval is Student's."""
    pairs = np.array([pair for pair in zip(base, lora, strict=True) if np.isfinite(pair).all()]).reshape(-1, 2)
    number, interval, verdict = len(pairs), None, "unknown"
    if number > 1:
        differences = pairs[:, 1] - pairs[:, 0]
        margin = STUDENT_T[min(number - 1, len(STUDENT_T)) - 1] * differences.std(ddof=1) / math.sqrt(number)
        interval = (float(differences.mean() - margin), float(differences.mean() + margin))
        verdict = "nearer" if interval[1] < 0 else "worse" if interval[0] > 0 else "no better"
    means = pairs.mean(axis=0) if number else (math.nan, math.nan)
    return Comparison(float(means[0]), float(means[1]), interval, number, verdict)


def split_clips(clips: CachedClips, config: LoraTrainingConfig) -> tuple[CachedClips, CachedClips]:
    """Return the clips to train on, and those by which base and LoRA are judged: held out if the settings say so."""
    train, judged = hold_out(clips, config.num_held_out) if config.num_held_out else (clips, clips)
    ranked = sorted(judged.rows, key=lambda key: (-len(judged.modalities[key]), key))
    judged = judged.subset(ranked[:NUM_JUDGED])
    judged.caption_dropout = judged.line_dropout = 0.0
    return train, judged


@torch.no_grad()
def measure_losses(
    transformer: nn.Module, clips: CachedClips, scales: LatentScales, config: LoraTrainingConfig, device: torch.device
) -> dict[str, list[float]]:
    """Return the losses of each clip, by modality, averaged over visits that training never makes.

    The visits decide noises and noise levels, from the density of the settings: every model meets the same. Whatever
    the tasks of the run, the clips are judged by the plain one, which every model knows.
    """
    config = replace(config, task_probabilities=None)
    losses: dict[str, list[float]] = {"video": [], "mouth": [], "audio": []}
    for key in clips.rows:
        visits = [Visit(key, -number) for number in range(1, NUM_NOISES + 1)]
        found = []
        for start in range(0, NUM_NOISES, config.train_batch_size):  # no more at a time than training had
            batch = collate([clips[visit] for visit in visits[start : start + config.train_batch_size]]).to(device)
            found.append(training_step(transformer, batch, scales, config).losses)
        for name, values in losses.items():
            values.append(torch.cat([f[name] for f in found]).mean().item() if name in found[0] else math.nan)
    return losses


def find_alarms(config: LoraTrainingConfig) -> list[str]:
    """Return what the report in the cache says against the model's VAEs: what these cannot show, no LoRA learns."""
    trip = RoundTrip(own=read_own_figures(Path(config.model)))
    trip.clips |= read_round_trip(report_path(config.cache_dir))
    return trip.alarm()


@torch.no_grad()
def show_clips(pipe: JoVAPipeline, clips: CachedClips, device: torch.device) -> list[np.ndarray]:
    """Return the first frames of clips, (height, width, 3) uint8, as the model's VAE gives them back."""
    images = []
    for key in clips.rows:
        moments = clips[Visit(key, 0)].image_moments
        if moments is not None:
            mean = moments.chunk(2)[0][None].to(device, pipe.vae.dtype)
            decoded = pipe.vae.decode(mean).sample
            images.append(pipe.video_processor.postprocess_video(decoded, output_type="np")[0, 0])
    return [(image * 255).round().clip(0, 255).astype(np.uint8) for image in images]


@torch.no_grad()
def compare_with_base(
    proof: Proof,
    pipe: JoVAPipeline,
    prompts: Sequence[dict[str, Any]],
    clips: CachedClips,
    config: LoraTrainingConfig,
    device: torch.device,
) -> None:
    """Enter in `proof` how the base and the saved LoRA differ, and which of them is nearer to `clips`.

    Args:
        pipe: Around a base transformer that was loaded anew, so that the file is tested, not the memory of the run.
        prompts: Encoded arguments of the pipeline's call; without any, the clips' own texts are taken.
        clips: By which both are judged, see `split_clips`.
    """
    proof.alarms = find_alarms(config)
    proof.num_judged, proof.is_held_out = len(clips), config.num_held_out > 0
    prompts = prompts or [prompt_of_clip(clips, key) for key in list(clips.rows)[: config.num_proof_samples]]
    jobs = [(prompts[i % len(prompts)], config.validation_seed + i) for i in range(config.num_proof_samples)]
    scales = read_scales(config.model, pipe.transformer.config)
    images = show_clips(pipe, clips, device)

    def make(number: int, **options: Any) -> dict[str, Any]:
        prompt, seed = jobs[number]
        logger.info(f"  sample {number + 1} of {len(jobs)} ...")
        output = call_pipeline(pipe, prompt, seed, device, output_type="latent", **options)
        latents = {"video": output.frames, "audio": output.audio}
        return {name: tensor for name, tensor in latents.items() if tensor is not None}

    def write(number: int, strength: int, latents: dict[str, torch.Tensor]) -> np.ndarray | None:
        suffix = f"_{number + 1}" if number else ""
        output = decode(pipe, latents, jobs[number][0])
        path = write_clip(Path(config.output_dir) / "samples" / f"strength_{strength}{suffix}", output)
        proof.samples[f"{strength}{f' ({number + 1})' * bool(number)}"] = str(path.relative_to(config.output_dir))
        return None if output.frames is None else some_frames(np.asarray(output.frames[0]))

    logger.info(f"Judging base and LoRA by {len(clips)} clip(s) and {len(jobs)} sample(s) of each: the base ...")
    losses = measure_losses(pipe.transformer, clips, scales, config, device)
    first = make(0)
    shown = [write(number, 0, make(number) if number else first) for number in range(len(jobs))]

    logger.info("Judging the LoRA ...")
    pipe.load_lora_weights(config.output_dir, weight_name=LORA_FILE)
    lora_losses = measure_losses(pipe.transformer, clips, scales, config, device)
    proof.strength_0 = {
        name: torch.equal(first[name], latents) for name, latents in make(0, attention_kwargs={"scale": 0.0}).items()
    }
    lora_shown = []
    for number in range(len(jobs)):
        latents = make(number, attention_kwargs={"scale": 1.0})
        if number == 0:
            proof.strength_1 = {n: (first[n] - x).square().mean().sqrt().item() for n, x in latents.items()}
        lora_shown.append(write(number, 1, latents))

    for name, values in losses.items():
        if np.isfinite(values).any() and any(values):  # without a mouth its loss is zero
            proof.losses[name] = compare(values, lora_losses[name])
    if images and shown[0] is not None:
        proof.likeness, proof.faces_found = compare_likeness(shown, lora_shown, images)


def compare_likeness(
    base: Sequence[np.ndarray], lora: Sequence[np.ndarray], images: list[np.ndarray]
) -> tuple[dict[str, Comparison], dict[str, int]]:
    """Return which samples are nearer to the clips' images, by faces and by pixels, and how many show a face.

    Faces are compared where both samples of a pair show one. Where dlib or its networks are not installed, none is
    looked for.

    Args:
        base, lora: Frames (N, height, width, 3) uint8 of each sample.
        images: One of each clip, (height, width, 3) uint8.
    """
    likeness, faces_found = {}, {}
    network = find_face_network()
    if network is not None:
        known = np.concatenate([describe_faces(image[None], network) for image in images])
        faces = {
            "base": [describe_faces(x, network) for x in base],
            "lora": [describe_faces(x, network) for x in lora],
        }
        faces_found = {name: sum(len(found) > 0 for found in samples) for name, samples in faces.items()}
        comparison = compare(*([face_distance(found, known) for found in samples] for samples in faces.values()))
        if comparison.number:
            likeness["faces"] = comparison
    likeness["pictures"] = compare(*([picture_distance(x, images) for x in samples] for samples in (base, lora)))
    return likeness, faces_found


def decode(pipe: JoVAPipeline, latents: dict[str, torch.Tensor], prompt: dict[str, Any]) -> JoVAPipelineOutput:
    """Return the clip of latents that the pipeline's call returned."""
    frame_rate = prompt.get("frame_rate") or pipe.config.frame_rate
    num_frames = prompt.get("num_frames") or pipe.config.num_frames
    frames = audio = None
    if "video" in latents:
        frames = pipe.decode_latents(latents["video"], "np")
    if "audio" in latents:
        num_samples = num_audio_samples(num_frames, frame_rate, pipe.audio_sampling_rate)
        audio = pipe.decode_audio_latents(latents["audio"], num_samples, "np")
    return JoVAPipelineOutput(
        frames=frames, audio=audio, audio_sampling_rate=pipe.audio_sampling_rate, frame_rate=frame_rate
    )


def write_proof(proof: Proof, folder: str | Path) -> None:
    with whole_file(Path(folder) / "proof.json", "") as partial:
        partial.write_text(json.dumps(asdict(proof), indent=2) + "\n", encoding="utf-8")
