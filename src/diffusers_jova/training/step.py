# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""One training step: cached clips in, losses out. What can be wrong in silence is here.

B batch, C latent channels, F latent frames, H W latent rows and columns, A audio latents
What is given of a clip, and what it is asked for, is in `tasks`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..latents import normalize_latents
from ..pipelines.conditioning import condition_channels, video_input
from .config import TrainingConfig
from .dataset import Batch, Visit, draw_noise
from .flow_matching import add_noise, along_time, sample_sigma, shift_sigmas, timesteps_of, velocity
from .losses import flow_matching_loss, mouth_loss
from .randomness import make_generator
from .tasks import draw_given, draw_tasks, place_given


@dataclass(frozen=True)
class LatentScales:
    """What turns VAE latents into the transformer's, and frames into latent frames.

    Attributes:
        vae, audio_vae: Configs with `latents_mean` and `latents_std`; None for a VAE that is not there.
        in_channels: Channels of the transformer's video input; as many as the latents have means no condition.
        temporal_compression: Frames per latent frame.
        audio_latent_rate: Audio latents per second.
        condition_mode: How a modality that is given enters; see `tasks`.
        condition_fill: Where the frames that are given stand: "noisy" among the others, clean, else in channels of
            their own; see `JoVAWanTransformer3DModel`.
    """

    vae: Any
    audio_vae: Any
    in_channels: int | None
    temporal_compression: int = 4
    audio_latent_rate: float = 44100 / 1024
    condition_mode: str = "noised"
    condition_fill: str = "black"


@dataclass
class StepOutput:
    """What a step tells. Numbers per sample are (B,) float32, None where the batch lacks the modality.

    Attributes:
        loss: The mean over the batch of the weighted sum, with its gradient.
        losses: "video", "mouth" and "audio", unweighted and without gradient; and "total", weighted.
        sigmas: Noise levels of "video" and "audio".
        tasks: Of each sample.
    """

    loss: torch.Tensor
    losses: dict[str, torch.Tensor]
    sigmas: dict[str, torch.Tensor]
    tasks: list[str]


def training_step(
    transformer: Callable[..., Any], batch: Batch, scales: LatentScales, config: TrainingConfig
) -> StepOutput:
    """Return the losses of one batch: L = w_v L_video + w_a L_audio + lambda L_mouth (Eq. 6), averaged over samples.

    All that is random comes from the seed and from each clip's visit, so that it does not matter which process
    computes which clip. The branch of a modality that the batch lacks is not run.

    Args:
        transformer: `JoVATransformer3DModel`, possibly wrapped.
        batch: On the transformer's device.
        scales: Of the latents.
        config: Settings of noise levels and losses.
    """
    tasks = draw_tasks(batch, config)
    given = draw_given(batch, tasks, config, scales.audio_latent_rate, scales.temporal_compression)
    sigmas = draw_sigmas(batch, config)
    if given:
        sigmas = place_given(sigmas, tasks, scales.condition_mode)
    levels = dict(sigmas)  # those that the transformer is told: one for each latent where that is needed
    if "continuation" in tasks and scales.condition_mode == "clean":
        levels["audio"] = torch.where(given["audio"], 0.0, sigmas["audio"][:, None])  # (B, A)
    if "video" in sigmas and scales.condition_fill == "noisy":
        given["video"] = give_first_frames(batch, config, given.get("video"))
        levels["video"] = torch.where(given["video"], 0.0, sigmas["video"][:, None])  # (B, F)

    noise = batch.noise or draw_noise(batch, config.seed)
    inputs: dict[str, torch.Tensor | None] = {"hidden_states": None, "audio_hidden_states": None}
    targets = {}
    if "video" in sigmas:
        latents = sample_posterior(batch.video_moments, noise["video posterior"], given.get("video"))
        latents = normalize_latents(latents, scales.vae)
        noisy, targets["video"] = noise_latents(latents, levels["video"], noise["video noise"])
        inputs["hidden_states"] = with_condition(noisy, batch, scales, config, given.get("video"))
    if "audio" in sigmas:
        latents = sample_posterior(batch.audio_moments, noise["audio posterior"], given.get("audio"))
        latents = normalize_latents(latents, scales.audio_vae)
        noisy, targets["audio"] = noise_latents(latents, levels["audio"], noise["audio noise"])
        inputs["audio_hidden_states"] = noisy

    first = levels.get("video", levels.get("audio"))
    outputs = transformer(
        **inputs,
        encoder_hidden_states=batch.prompt_embeds,
        encoder_hidden_states_2=batch.prompt_embeds_2,
        encoder_attention_mask=batch.prompt_attention_mask,
        encoder_attention_mask_2=batch.prompt_attention_mask_2,
        timestep=timesteps_of(first),
        audio_timestep=timesteps_of(levels["audio"]) if "audio" in levels else None,
        frame_rate=batch.frame_rate,
        cross_modal_attention=not draw_isolation(batch, config),
        return_dict=False,
    )
    predictions = dict(zip(("video", "audio"), outputs))
    losses = modality_losses({name: predictions[name] for name in targets}, targets, given, batch, config)
    total = weigh_losses(losses, config)
    losses = {name: loss.detach() for name, loss in losses.items()}
    return StepOutput(total.mean(), losses | {"total": total.detach()}, sigmas, tasks)


def modality_losses(
    predictions: dict[str, torch.Tensor],
    targets: dict[str, torch.Tensor],
    given: dict[str, torch.Tensor],
    batch: Batch,
    config: TrainingConfig,
) -> dict[str, torch.Tensor]:
    """Return the losses (B,) of velocities, by modality, and of the video's mouth: of what is not given."""
    losses = {name: flow_matching_loss(predictions[name], targets[name], given.get(name)) for name in targets}
    if "video" in losses:
        mask = batch.mouth_mask
        if "video" in given:
            mask = mask & ~given["video"][..., None, None]
        losses["mouth"] = mouth_loss(predictions["video"], targets["video"], mask, config.mouth_loss_reduction)
    return losses


def weigh_losses(losses: dict[str, torch.Tensor], config: TrainingConfig) -> torch.Tensor:
    """Return the weighted sum of losses, (B,). A weight of zero adds nothing at all."""
    weights = {
        "video": config.video_loss_weight,
        "audio": config.audio_loss_weight,
        "mouth": config.mouth_loss_weight,
    }
    terms = [weights[name] * loss for name, loss in losses.items() if weights[name]]
    # with every weight zero there is nothing to learn, but still a graph for `backward`
    terms = terms or [0.0 * loss for loss in losses.values()]
    return sum(terms[1:], start=terms[0])


# --- what is random ---


def draw_sigmas(batch: Batch, config: TrainingConfig) -> dict[str, torch.Tensor]:
    """Return the noise levels (B,) of the modalities that the batch has: one for both, or each its own."""
    modalities = {"both": ("video", "audio")}.get(batch.kind, (batch.kind,))
    device = (batch.video_moments if batch.video_moments is not None else batch.audio_moments).device
    sigmas = {}
    for modality in modalities:
        purpose = f"{modality} sigma" if config.independent_timesteps else "sigma"
        drawn = [
            sample_sigma(
                make_generator(config.seed, *visit, purpose),
                config.sigma_sampling,
                config.logit_mean,
                config.logit_std,
                config.mode_scale,
            )
            for visit in batch.visits
        ]
        shift = config.sigma_shift
        if modality == "audio" and config.audio_sigma_shift is not None:
            shift = config.audio_sigma_shift
        sigmas[modality] = shift_sigmas(torch.stack(drawn), shift).to(device)
    return sigmas


def sample_posterior(moments: torch.Tensor, noise: torch.Tensor, is_given: torch.Tensor | None = None) -> torch.Tensor:
    """Return latents (B, C, ...) drawn from N(mean, exp(logvar)), whose moments are (B, 2C, ...). VAE scale.

    The noise, standard normal (B, C, ...), is another one at each visit, so that a clip is not always the same point
    of its posterior. What `is_given` (B, F) or (B, A) marks is the mean, as the pipeline encodes what it is given.
    """
    mean, logvar = moments.chunk(2, dim=1)
    std = torch.exp(0.5 * logvar.clamp(-30, 20))  # the bounds of both VAEs
    latents = mean + std * noise.to(mean)
    return latents if is_given is None else torch.where(along_time(is_given, latents), mean, latents)


def noise_latents(
    latents: torch.Tensor, sigmas: torch.Tensor, noise: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the latents at their noise levels and the velocity there, both (B, C, ...)."""
    noise = noise.to(latents)
    return add_noise(latents, noise, sigmas), velocity(latents, noise)


def draw_images(visits: list[Visit], config: TrainingConfig) -> torch.Tensor:
    """Return which samples are given their first frame: (B,) bool."""
    drawn = [torch.rand((), generator=make_generator(config.seed, *visit, "image")) for visit in visits]
    return torch.stack(drawn) < config.image_conditioning_probability


def draw_isolation(batch: Batch, config: TrainingConfig) -> bool:
    """Return whether the modalities of a batch do not see each other. It is the whole batch's, its first clip draws.

    Our choice: `modality_scale` compares with such a pass, which is then one that the transformer has learnt.
    """
    drawn = torch.rand((), generator=make_generator(config.seed, *batch.visits[0], "isolation"))
    return batch.kind == "both" and bool(drawn < config.cross_modal_dropout)


def give_first_frames(batch: Batch, config: TrainingConfig, given_frames: torch.Tensor | None) -> torch.Tensor:
    """Return which latent frames are given, (B, F) bool: those of `given_frames`, if any, and the drawn first ones."""
    num_latent_frames, device = batch.video_moments.shape[2], batch.video_moments.device
    is_first = torch.arange(num_latent_frames, device=device) == 0
    is_given = draw_images(batch.visits, config).to(device)[:, None] & is_first
    return is_given if given_frames is None else is_given | given_frames


def with_condition(
    latents: torch.Tensor,
    batch: Batch,
    scales: LatentScales,
    config: TrainingConfig,
    given_frames: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return the transformer's video input (B, in_channels, F, H, W): noisy latents, and what is given.

    The channels are those of `JoVAPipeline.prepare_condition`: the first frame where it is drawn, and the latent
    frames that `given_frames` (B, F) marks. They and what fills the rest, black or grey frames, are the mode of
    their posterior, not a sample.
    """
    if scales.in_channels == latents.shape[1]:
        return latents
    image_latents, filler_latents = (
        normalize_latents(moments.chunk(2, dim=1)[0], scales.vae)
        for moments in (batch.image_moments, batch.filler_moments)
    )
    is_given = draw_images(batch.visits, config).to(latents.device)[:, None]  # (B, 1)
    if image_latents.shape[2] == latents.shape[2]:  # one video of the image and grey frames: these are not grey's own
        filler_latents = torch.where(along_time(is_given, latents), image_latents, filler_latents)
    clean_latents = image_latents[:, :, :1]
    if given_frames is not None:
        clean_latents = normalize_latents(batch.video_moments.chunk(2, dim=1)[0], scales.vae)
        first = torch.where(along_time(given_frames[:, :1], latents), clean_latents[:, :, :1], image_latents[:, :, :1])
        clean_latents = torch.cat([first, clean_latents[:, :, 1:]], dim=2)
        is_given = torch.cat([is_given | given_frames[:, :1], given_frames[:, 1:]], dim=1)  # (B, F)
    condition = condition_channels(
        clean_latents, is_given, filler_latents, latents.shape[2], scales.temporal_compression
    )
    return video_input(latents, condition)
