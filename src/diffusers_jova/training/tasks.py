# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a visit of a clip asks the transformer for, and what of the clip it is given for it.

    t2av          nothing but the text is given (and now and then the first frame): both modalities are made
    a2v           the audio is given: the video is made
    v2a           the video is given: the audio is made
    continuation  the beginning of both is given, of a random length: the rest is made

What is given has no loss. How it enters is the transformer's `condition_mode`, as the pipeline reads it: "clean", at
timestep 0, or "noised", at the noise level of what is made. The beginning of a video is noised in either mode, since
all its frames have one timestep; the mask channels tell which of them are given. A transformer whose `condition_fill`
is "noisy" has a timestep for each frame instead: what is given of a video is clean then, in either mode.

B batch, F latent frames, A audio latents, M video frames per latent frame
"""

import torch

from .config import TASKS, TrainingConfig
from .dataset import Batch, Visit
from .randomness import make_generator


def draw_tasks(batch: Batch, config: TrainingConfig) -> list[str]:
    """Return the task of each sample. A clip of one modality alone is always asked for all that it has."""
    probabilities = config.tasks
    if batch.kind != "both" or len(probabilities) == 1:
        return ["t2av" if batch.kind != "both" else next(iter(probabilities))] * len(batch.visits)
    weights = torch.tensor(list(probabilities.values()), dtype=torch.float64)
    drawn = [
        int(torch.multinomial(weights, 1, generator=make_generator(config.seed, *visit, "task")))
        for visit in batch.visits
    ]
    return [list(probabilities)[index] for index in drawn]


def draw_prefix(
    visit: Visit,
    seed: int,
    lengths: tuple[int, int],
    frame_rate: float,
    audio_latent_rate: float,
    temporal_compression: int,
) -> tuple[int, int]:
    """Return how many latent frames and how many audio latents of a beginning are given.

    The beginning ends anywhere between the end of the first latent frame and that of the last but one, each moment
    equally likely. Given is what ends no later: latent frame k with video frame M k, audio latent j at (j + 1) / rate.

    Args:
        lengths: F and A.
        frame_rate: Video frames per second.
        audio_latent_rate: Audio latents per second.
        temporal_compression: M.
    """
    num_frames, num_audio = lengths
    past_first = torch.rand((), generator=make_generator(seed, *visit, "prefix")).item() * (num_frames - 1)
    end_s = (1 + temporal_compression * past_first) / frame_rate
    return 1 + int(past_first), min(int(end_s * audio_latent_rate), num_audio - 1)


def draw_given(
    batch: Batch, tasks: list[str], config: TrainingConfig, audio_latent_rate: float, temporal_compression: int
) -> dict[str, torch.Tensor]:
    """Return which latent frames (B, F) of the "video" and which latents (B, A) of the "audio" are given, as bool.

    Where nothing of any sample is given, there is no mask at all.
    """
    if set(tasks) == {"t2av"}:
        return {}
    lengths = (batch.video_moments.shape[2], batch.audio_moments.shape[2])
    numbers = {"t2av": (0, 0), "a2v": (0, lengths[1]), "v2a": (lengths[0], 0)}
    rates = (batch.frame_rate, audio_latent_rate, temporal_compression)
    given = [
        numbers[task] if task in numbers else draw_prefix(visit, config.seed, lengths, *rates)
        for task, visit in zip(tasks, batch.visits)
    ]
    return {
        modality: (torch.arange(length) < torch.tensor(numbers)[:, None]).to(batch.video_moments.device)
        for modality, length, numbers in zip(("video", "audio"), lengths, zip(*given))
    }


def place_given(sigmas: dict[str, torch.Tensor], tasks: list[str], condition_mode: str) -> dict[str, torch.Tensor]:
    """Return the noise levels (B,) of each modality as a whole, where those of `sigmas` are drawn for both.

    A modality that is given whole has none, or that of the other one. In a continuation both have the video's, as in
    the pipeline: they are made together.
    """
    video, audio = sigmas["video"], sigmas["audio"]
    is_task = {name: torch.tensor([task == name for task in tasks], device=video.device) for name in TASKS}
    is_clean = condition_mode == "clean"
    return {
        "video": torch.where(is_task["v2a"], 0 * audio if is_clean else audio, video),
        "audio": torch.where(
            is_task["a2v"], 0 * video if is_clean else video, torch.where(is_task["continuation"], video, audio)
        ),
    }


def is_asked(tasks: list[str]) -> dict[str, list[bool]]:
    """Return which samples are asked for the "video", its "mouth" and the "audio": only these have the loss."""
    video = [task != "v2a" for task in tasks]
    return {"video": video, "mouth": video, "audio": [task != "a2v" for task in tasks]}
