# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Talking clips, from a recording, a round trip or a model, and what they say and do."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

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
from .corpora import NANO, Corpus
from .corpus import FRAME_RATE, ClipPlan, plan_clip
from .speech import SAMPLING_RATE


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
class Lips:
    """How the lips move, and what they should follow.

    Attributes:
        gaps: (N, F), between the lips; NaN without a face.
        curves: (N, F), of the audio.
    """

    gaps: np.ndarray
    curves: np.ndarray

    @property
    def correlations(self) -> np.ndarray:
        """Mean r over the clips for each lag of `LAGS`."""
        return np.mean([lagged_correlations(*pair) for pair in zip(self.gaps, self.curves)], axis=0)

    @property
    def in_time(self) -> float:
        """The mean r at the best lag of −1, 0, 1 frames, the same lag for all clips."""
        correlations = self.correlations
        return float(max(correlations[LAGS.index(lag)] for lag in (-1, 0, 1)))

    @property
    def shuffled(self) -> float:
        """The mean r at lag 0 of each clip's lips with the curves of all the others: the floor; NaN of one clip."""
        pairs = [
            correlation(gaps, curve)
            for i, gaps in enumerate(self.gaps)
            for j, curve in enumerate(self.curves)
            if i != j
        ]
        return float(np.mean(pairs)) if pairs else np.nan


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
    def lips(self) -> Lips:
        """The lips, which should follow the loudness."""
        return Lips(self.gaps, self.loudness)

    @property
    def lip_correlations(self) -> np.ndarray:
        return self.lips.correlations

    @property
    def lips_in_time(self) -> float:
        return self.lips.in_time

    @property
    def shuffled(self) -> float:
        return self.lips.shuffled


def held_out_plans(number: int, seed: int = 0) -> list[ClipPlan]:
    """Return the first held-out clips of the corpus: combinations of digits, and faces, that no training clip has."""
    return [plan_clip("held_out", index, seed) for index in range(number)]


def record(plans: Sequence[Any], corpus: Corpus = NANO) -> TalkingClips:
    """Return the clips as the corpus has them."""
    frames, waveforms = zip(*(corpus.record(plan) for plan in plans))
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
        pixels = torch.stack([to_pixels(clip) for clip in clips.frames[batch]]).to(pipe.device, pipe.vae.dtype)
        made = pipe.vae.decode(pipe.vae.encode(pixels).latent_dist.mode()).sample
        frames.append(pipe.video_processor.postprocess_video(made, output_type="np"))
        sounds = torch.from_numpy(clips.waveforms[batch])
        whole = -(-sounds.shape[1] // pipe.audio_vae.samples_per_latent) * pipe.audio_vae.samples_per_latent
        latents = pipe.audio_vae.encode(fit_audio(sounds, whole).to(pipe.device)).latent_dist.mode()
        made = vocoder(pipe.audio_vae.decode(latents).sample)[:, 0]
        waveforms.append(fit_audio(made.float().cpu(), sounds.shape[1]).numpy())
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


def measure(clips: TalkingClips, num_workers: int = 2, corpus: Corpus = NANO) -> Measures:
    """Return what is heard and seen in clips.

    Args:
        num_workers: processes that listen and look.
        corpus: whose words are listened for.
    """
    gaps = heard = loudness = None
    with ProcessPoolExecutor(num_workers) as pool:
        if clips.frames is not None:
            gaps = np.stack(list(pool.map(_gaps, clips.frames, chunksize=5)))
        if clips.waveforms is not None:
            heard = list(pool.map(partial(_hear, corpus.words), clips.waveforms, chunksize=5))
    if clips.waveforms is not None:
        num_frames = corpus.num_frames if clips.frames is None else clips.frames.shape[1]
        loudness = np.stack([frame_loudness(w, num_frames, FRAME_RATE, SAMPLING_RATE) for w in clips.waveforms])
    return Measures(clips.transcripts, heard, gaps, loudness)


def _gaps(frames: np.ndarray) -> np.ndarray:
    return lip_gaps(frames, DlibFaceDetector(find_landmarks_file()))


def _hear(words: tuple[str, ...], waveform: np.ndarray) -> str:
    return _listener(words).hear(waveform)


_listener = lru_cache(maxsize=1)(WordListener)  # one of each process
