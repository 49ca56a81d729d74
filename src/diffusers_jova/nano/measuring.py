# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Talking clips, from a recording, a round trip or a model, and what they say and do."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from ..evaluation.lips import LAGS, correlation, lagged_correlations, lip_gaps
from ..evaluation.loudness import frame_loudness
from ..evaluation.words import WordListener, confidence_interval, word_error_rate
from ..faces import DlibFaceDetector, find_landmarks_file
from ..latents import fit_audio
from ..pipelines.pipeline_jova import JoVAPipeline
from .autoencoders import to_pixels
from .corpus import FRAME_RATE, NUM_FRAMES, ClipPlan, make_frames, make_waveform, plan_clip
from .speech import DIGITS, SAMPLING_RATE


BATCH_SIZE = 20


@dataclass(frozen=True)
class TalkingClips:
    """Clips and what they should say.

    Attributes:
        transcripts: N texts.
        frames: (N, F, H, W, 3) uint8; None for audio alone.
        waveforms: (N, samples) float32 at 16 kHz; None for video alone.
    """

    transcripts: list[str]
    frames: np.ndarray | None
    waveforms: np.ndarray | None

    def first(self, number: int) -> "TalkingClips":
        return TalkingClips(self.transcripts[:number], self.frames[:number], self.waveforms[:number])


@dataclass(frozen=True)
class Measures:
    """What was heard and seen in clips.

    Attributes:
        transcripts, heard: N texts each; nothing is heard in video alone.
        gaps, loudness: (N, F), the lips' gap (NaN without a face) and the audio's root mean square in each frame;
            None for audio alone, and for video alone.
    """

    transcripts: list[str]
    heard: list[str] | None
    gaps: np.ndarray | None
    loudness: np.ndarray | None

    @property
    def word_error_rate(self) -> float:
        return word_error_rate(self.transcripts, self.heard)

    @property
    def word_error_interval(self) -> tuple[float, float]:
        return confidence_interval(self.transcripts, self.heard)

    @property
    def faces_found(self) -> float:
        """The part of the frames in which dlib found a face."""
        return float(np.isfinite(self.gaps).mean())

    @property
    def lip_correlations(self) -> np.ndarray:
        """Mean r over the clips for each lag of `LAGS`."""
        pairs = zip(self.gaps, self.loudness)
        return np.mean([lagged_correlations(gaps, loudness) for gaps, loudness in pairs], axis=0)

    @property
    def lips_in_time(self) -> float:
        """The mean r at the best lag of −1, 0, 1 frames, the same lag for all clips."""
        return float(max(self.lip_correlations[LAGS.index(lag)] for lag in (-1, 0, 1)))

    @property
    def shuffled(self) -> float:
        """The mean r at lag 0 of each clip's lips with the audio of all the others: the floor."""
        pairs = [
            correlation(gaps, loudness)
            for i, gaps in enumerate(self.gaps)
            for j, loudness in enumerate(self.loudness)
            if i != j
        ]
        return float(np.mean(pairs))


def held_out_plans(number: int, seed: int = 0) -> list[ClipPlan]:
    """Return the first held-out clips of the corpus: combinations of digits, and faces, that no training clip has."""
    return [plan_clip("held_out", index, seed) for index in range(number)]


def record(plans: Sequence[ClipPlan], size: int = 64) -> TalkingClips:
    """Return the clips as the corpus has them, before any file."""
    waveforms = [make_waveform(plan) for plan in plans]
    frames = [make_frames(plan, waveform, size) for plan, waveform in zip(plans, waveforms)]
    return TalkingClips([plan.transcript for plan in plans], np.stack(frames), np.stack(waveforms))


@torch.no_grad()
def round_trip(pipe: JoVAPipeline, clips: TalkingClips, vocoder=None) -> TalkingClips:
    """Return what is left of clips after both VAEs and the vocoder: what a perfect transformer would reach.

    Args:
        vocoder: instead of the pipeline's.
    """
    frames, waveforms, vocoder = [], [], vocoder or pipe.vocoder
    for start in range(0, len(clips.frames), BATCH_SIZE):
        batch = slice(start, start + BATCH_SIZE)
        pixels = torch.stack([to_pixels(clip) for clip in clips.frames[batch]]).to(pipe.vae.dtype)
        made = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
        frames.append(pipe.video_processor.postprocess_video(made, output_type="np"))
        sounds = torch.from_numpy(clips.waveforms[batch])
        whole = -(-sounds.shape[1] // pipe.audio_vae.samples_per_latent) * pipe.audio_vae.samples_per_latent
        latents = pipe.audio_vae.encode(fit_audio(sounds, whole)).latent_dist.mode()
        made = vocoder(pipe.audio_vae.decode(latents).sample)[:, 0]
        waveforms.append(fit_audio(made.float(), sounds.shape[1]).numpy())
    return TalkingClips(clips.transcripts, to_uint8(np.concatenate(frames)), np.concatenate(waveforms))


def generate(pipe: JoVAPipeline, requests: Sequence[dict], seed: int = 0, **settings) -> TalkingClips:
    """Return the clips that a pipeline makes of requests: arguments of its call, alike in which they give.

    Clip k has the noise of seed `seed` + k, whatever the batches. `modalities=("audio",)` makes audio alone.
    """
    frames, waveforms = [], []
    for start in tqdm(range(0, len(requests), BATCH_SIZE), mininterval=10):
        batch = requests[start : start + BATCH_SIZE]
        inputs = {name: [request[name] for request in batch] for name in batch[0]}
        generators = [torch.Generator().manual_seed(seed + start + k) for k in range(len(batch))]
        output = pipe(**inputs, generator=generators, output_type="np", **settings)
        frames += [] if output.frames is None else [to_uint8(np.asarray(output.frames))]
        waveforms += [] if output.audio is None else [output.audio]
    media = (np.concatenate(batches) if batches else None for batches in (frames, waveforms))
    return TalkingClips([request.get("transcript", "") for request in requests], *media)


def to_uint8(frames: np.ndarray) -> np.ndarray:
    return (frames * 255).round().clip(0, 255).astype(np.uint8)


def measure(clips: TalkingClips, num_workers: int = 2) -> Measures:
    """Return what is heard and seen in clips."""
    gaps = heard = loudness = None
    if clips.frames is not None:
        with ProcessPoolExecutor(num_workers) as pool:
            gaps = np.stack(list(pool.map(_gaps, clips.frames, chunksize=5)))
    if clips.waveforms is not None:
        listener = WordListener(DIGITS)
        heard = [listener.hear(waveform) for waveform in clips.waveforms]
        num_frames = NUM_FRAMES if clips.frames is None else clips.frames.shape[1]
        loudness = np.stack([frame_loudness(w, num_frames, FRAME_RATE, SAMPLING_RATE) for w in clips.waveforms])
    return Measures(clips.transcripts, heard, gaps, loudness)


def _gaps(frames: np.ndarray) -> np.ndarray:
    return lip_gaps(frames, DlibFaceDetector(find_landmarks_file()))
