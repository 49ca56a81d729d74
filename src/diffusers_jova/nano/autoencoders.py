# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training of the two VAEs of jova-nano, and the statistics of their latents."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan, ModelMixin
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d
from diffusers.optimization import get_cosine_schedule_with_warmup
from tqdm import trange

from ..files import whole_folder
from ..images import normalize_frames, resize_frames
from ..media import read_audio, read_video
from ..models.autoencoder_mmaudio import AutoencoderMMAudio


# Wan 2.2's layout, small: pixels folded 4 x 4 before the convolutions, 16 x 16 pixels per latent. One latent frame per
# frame: no temporal compression, so that it can be trained on single images, and lips keep their timing.
VIDEO_VAE = {
    "base_dim": 32,
    "z_dim": 16,
    "dim_mult": [1, 2, 4],
    "num_res_blocks": 1,
    "temperal_downsample": [False, False],
    "patch_size": 4,
    "in_channels": 48,
    "out_channels": 48,
    "scale_factor_temporal": 1,
    "scale_factor_spatial": 16,
    "latents_mean": [0.0] * 16,
    "latents_std": [1.0] * 16,
}
AUDIO_VAE = {"hidden_channels": 32}

# Weights of the KL terms over the mean absolute errors, both per element. Ten times more leaves channels that are
# noise: a posterior as wide as the latents' own spread, or wider.
VIDEO_KL_WEIGHT, AUDIO_KL_WEIGHT = 1e-5, 1e-4
MAX_POSTERIOR = 0.1  # of the latents' spread, see `tighten_posterior`
MOTION_WEIGHT = 4.0
EDGE_WEIGHT = 1.0  # of the error of neighbouring pixels' differences: eyes and lips are edges
# Of `refine_audio_decoder`, see there
LATENT_NOISE = 0.1  # of the latents' spread, at most
MEL_EDGE_WEIGHT = 0.5  # of the error of neighbouring cells' differences: formants and onsets are edges
SPAN, MARGIN = 96, 8  # log-mel frames per clip and step; as many at either end have no error, for want of neighbours


def read_clips(
    folder: str | Path, size: int, number: int | None = None, sampling_rate: int = 16000
) -> tuple[np.ndarray, np.ndarray]:
    """Return the clips of a folder: frames (N, F, size, size, 3) uint8 and waveforms (N, samples) float32.

    Args:
        number: how many at most, from the first one on; by default all.

    Raises:
        FileNotFoundError: If there is no mp4 file.
    """
    paths = sorted(Path(folder).glob("*.mp4"))[:number]
    if not paths:
        raise FileNotFoundError(f"There is no mp4 file in `{folder}`: make the corpus first (make_corpus.py).")
    with ProcessPoolExecutor(2) as pool:
        clips = list(pool.map(partial(read_clip, size=size, sampling_rate=sampling_rate), paths, chunksize=32))
    return np.stack([frames for frames, _ in clips]), np.stack([waveform for _, waveform in clips])


def read_waveforms(folder: str | Path, number: int | None = None, sampling_rate: int = 16000) -> np.ndarray:
    """Return the audio of the clips of a folder, with video or alone, (N, samples) float32, mono.

    Args:
        number: how many at most, from the first one on; by default all.

    Raises:
        FileNotFoundError: If there is neither an mp4 file nor a wav file.
    """
    paths = sorted(path for path in Path(folder).glob("*.*") if path.suffix in (".mp4", ".wav"))[:number]
    if not paths:
        raise FileNotFoundError(f"There is no mp4 or wav file in `{folder}`: make the corpus first (make_corpus.py).")
    return np.stack([read_audio(path, sampling_rate)[0].mean(axis=0) for path in paths])


def read_clip(path: Path, size: int, sampling_rate: int) -> tuple[np.ndarray, np.ndarray]:
    clip = read_video(path, sampling_rate=sampling_rate)
    crop = (0, 0, clip.frames.shape[2], clip.frames.shape[1])
    return resize_frames(clip.frames, crop, size, size), clip.waveform.mean(axis=0)


def optimize(
    model: torch.nn.Module,
    losses: Callable[[int], dict[str, torch.Tensor]],
    num_steps: int,
    learning_rate: float,
    mixed_precision: str = "no",
) -> None:
    """Minimise the sum of `losses(step)` by AdamW with warm-up and a cosine to zero, and print them now and then.

    Args:
        mixed_precision: "bf16" computes the losses in bfloat16 where torch holds that safe.
    """
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, betas=(0.9, 0.99), weight_decay=1e-4, fused=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_steps // 20, num_steps)
    device = next(model.parameters()).device
    model.train()
    for step in (progress := trange(num_steps, mininterval=5)):
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision == "bf16"):
            terms = losses(step)
        sum(terms.values(), start=torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 20 == 0:
            progress.set_postfix({name: f"{value.item():.4f}" for name, value in terms.items()})
    model.eval()


def train_video_vae(
    frames: np.ndarray,
    num_steps: int,
    config: Mapping[str, Any] = VIDEO_VAE,
    batch_size: int = 16,
    seed: int = 0,
    mixed_precision: str = "no",
    start: AutoencoderKLWan | None = None,
    motion_weight: float = MOTION_WEIGHT,
) -> AutoencoderKLWan:
    """Return a video VAE trained on `frames` (N, F, H, W, 3) uint8, with its latents' statistics in the config.

    Args:
        config: of the VAE.
        mixed_precision: see `optimize`.
        start: a VAE whose weights it starts from, wherever their shapes are its own.
        motion_weight: of pixels that differ from the clip's mean by 1 (of 2): the mouth is small, and what counts.

    It learns from single frames. What it does to a frame does not depend on the frames before: the taps of its causal
    convolutions that reach into the past are zero.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = AutoencoderKLWan(**config)
    copy_fitting(start, vae)
    forget_the_past(vae)

    def losses(step: int) -> dict[str, torch.Tensor]:
        pixels, weights = draw_frames(frames, rng, batch_size, motion_weight)
        posterior = vae.encode(pixels).latent_dist
        errors = frame_errors(vae.decode(posterior.sample()).sample, pixels, weights)
        return errors | {"kl": VIDEO_KL_WEIGHT * kl_per_element(posterior)}

    with on_single_frames(vae):
        optimize(vae, losses, num_steps, learning_rate=2e-3, mixed_precision=mixed_precision)
    set_statistics(vae, (vae.encode(to_pixels(clip)[None]).latent_dist.mode() for clip in frames[:200]))
    tighten_posterior(vae, torch.cat([to_pixels(clip)[None] for clip in frames[:20]]))
    return vae


def draw_frames(
    frames: np.ndarray, rng: np.random.Generator, batch_size: int, motion_weight: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return single frames (B, 3, 1, H, W) of clips drawn from `frames`, and the weights of their pixels."""
    pixels, weights = [], []
    for index in rng.integers(len(frames), size=batch_size):
        clip = to_pixels(frames[index])
        moment = int(rng.integers(clip.shape[1]))
        pixels.append(clip[:, moment, None])
        weights.append(1 + motion_weight * (clip[:, moment, None] - clip.mean(dim=1, keepdim=True)).abs())
    return torch.stack(pixels), torch.stack(weights)


def frame_errors(made: torch.Tensor, pixels: torch.Tensor, weights: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the mean absolute errors of frames (B, 3, 1, H, W), and of the differences of neighbouring pixels."""
    error = made - pixels
    return {"error": (weights * error.abs()).mean(), "edges": EDGE_WEIGHT * edge_error(error)}


def edge_error(error: torch.Tensor) -> torch.Tensor:
    """Return the mean absolute differences of neighbours along the last two dimensions of an error, added."""
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def add_noise(
    latents: torch.Tensor, latents_std: Sequence[float], most: float, rng: np.random.Generator
) -> torch.Tensor:
    """Return latents (B, C, ...) with noise of up to the part `most` of each channel's spread, mostly of far less.

    A transformer's latents are not a posterior's: a decoder that has met some noise forgives them.
    """
    spread = torch.tensor(latents_std).view(-1, *[1] * (latents.dim() - 2))
    return latents + most * float(rng.uniform()) ** 2 * spread * torch.randn_like(latents)


@torch.no_grad()
def tighten_posterior(vae: AutoencoderKLWan, pixels: torch.Tensor) -> None:
    """Make the posterior of no channel wider than a tenth of the spread of its means.

    Channels that the VAE hardly uses keep a posterior that is wider than what they say. The decoder does not care; but
    latents are drawn from the posterior, and scaled by the spread, so a transformer would have to learn that noise.
    """
    width = vae.encode(pixels).latent_dist.std.mean(dim=(0, 2, 3, 4))
    widest = MAX_POSTERIOR * torch.tensor(vae.config.latents_std)
    vae.quant_conv.bias[len(widest) :] += 2 * (widest / width).log().clamp(max=0)


@torch.no_grad()
def forget_the_past(vae: AutoencoderKLWan) -> None:
    """Set the taps of all causal convolutions to zero but those for the present frame."""
    for module in vae.modules():
        if isinstance(module, WanCausalConv3d):
            module.weight[:, :, :-1] = 0


@contextmanager
def on_single_frames(vae: AutoencoderKLWan) -> Iterator[None]:
    """Compute causal convolutions of a single frame in two dimensions, three times faster.

    Before the first frame there is nothing but zeros, so the last tap is all that counts.
    """

    def forward(module: WanCausalConv3d, hidden_states: torch.Tensor, cache_x=None) -> torch.Tensor:
        padding = module._padding[0]
        image = F.conv2d(
            hidden_states[:, :, 0], module.weight[:, :, -1], module.bias, module.stride[1:], padding=padding
        )
        return image[:, :, None]

    convolutions = [module for module in vae.modules() if isinstance(module, WanCausalConv3d)]
    for module in convolutions:
        module.forward = MethodType(forward, module)
    try:
        yield
    finally:
        for module in convolutions:
            del module.forward


def train_audio_vae(
    waveforms: np.ndarray,
    num_steps: int,
    batch_size: int = 16,
    seed: int = 0,
    start: AutoencoderMMAudio | None = None,
    config: Mapping[str, Any] = AUDIO_VAE,
    kl_weight: float = AUDIO_KL_WEIGHT,
) -> AutoencoderMMAudio:
    """Return an audio VAE trained on `waveforms` (N, samples), with the statistics of mels and latents.

    Args:
        start: a VAE whose weights it starts from, wherever their shapes are its own.
        config: of the VAE.
        kl_weight: of the KL term over the mean absolute error, both per element.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    vae = AutoencoderMMAudio(**config)
    copy_fitting(start, vae)
    waveforms = torch.from_numpy(waveforms)
    log_mels = all_log_mels(vae, waveforms)
    vae.data_mean.copy_(log_mels.mean(dim=(0, 2), keepdim=True))
    vae.data_std.copy_(log_mels.std(dim=(0, 2), keepdim=True))
    length = log_mels.shape[2] // 2 * 2

    def losses(step: int) -> dict[str, torch.Tensor]:
        log_mel = log_mels[torch.from_numpy(rng.integers(len(log_mels), size=batch_size)), :, :length]
        posterior = vae.encode_mel(log_mel).latent_dist
        error = ((vae.decode(posterior.sample()).sample - log_mel) / vae.data_std).abs().mean()
        return {"error": error, "kl": kl_weight * kl_per_element(posterior)}

    optimize(vae, losses, num_steps, learning_rate=1e-3)
    set_statistics(vae, (vae.encode(batch).latent_dist.mode() for batch in waveforms[:1000].split(50)))
    return vae


def refine_audio_decoder(
    vae: AutoencoderMMAudio,
    waveforms: np.ndarray,
    num_steps: int,
    batch_size: int = 16,
    seed: int = 0,
    mixed_precision: str = "no",
) -> None:
    """Train the decoder of `vae` alone, for longer; its latents stay what they are.

    It learns from short spans, which makes a step quick, and from latents with a little noise. (Our choice.)

    Args:
        waveforms: (N, samples).
        mixed_precision: see `optimize`.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    log_mels = all_log_mels(vae, torch.from_numpy(waveforms))
    span = min(SPAN, log_mels.shape[2] // 2 * 2)

    def losses(step: int) -> dict[str, torch.Tensor]:
        start = int(rng.integers(log_mels.shape[2] - span + 1))
        indices = torch.from_numpy(rng.integers(len(log_mels), size=batch_size))
        log_mel = log_mels[indices, :, start : start + span]
        with torch.no_grad():
            latents = vae.encode_mel(log_mel).latent_dist.sample()
        made = vae.decode(add_noise(latents, vae.config.latents_std, LATENT_NOISE, rng)).sample
        error = ((made - log_mel) / vae.data_std)[:, :, MARGIN:-MARGIN]
        return {"error": error.abs().mean(), "edges": MEL_EDGE_WEIGHT * edge_error(error)}

    optimize(vae.decoder, losses, num_steps, learning_rate=6e-4, mixed_precision=mixed_precision)


def all_log_mels(vae: AutoencoderMMAudio, waveforms: torch.Tensor) -> torch.Tensor:
    """Return the log-mels (N, mels, T) of waveforms (N, samples), a few at a time."""
    return torch.cat([vae.mel_spectrogram(batch) for batch in waveforms.split(64)])


def to_pixels(frames: np.ndarray) -> torch.Tensor:
    """Return frames (F, H, W, 3) uint8 as pixels (3, F, H, W) in [-1, 1]."""
    return normalize_frames(frames[None])[0]


def kl_per_element(posterior) -> torch.Tensor:
    """Return the KL divergence to N(0, 1) of one element of the latents, on average."""
    return 0.5 * (posterior.mean**2 + posterior.var - 1 - posterior.logvar).mean()


@torch.no_grad()
def set_statistics(vae: ModelMixin, latents: Iterator[torch.Tensor]) -> None:
    """Write mean and standard deviation of each channel of `latents` (B, C, ...) into the config of `vae`.

    Wan's class comes with the numbers of Wan's own weights, which are wrong for any other.
    """
    values = torch.cat([batch.transpose(0, 1).flatten(1) for batch in latents], dim=1).double()
    vae.register_to_config(
        latents_mean=[round(value, 5) for value in values.mean(dim=1).tolist()],
        latents_std=[round(value, 5) for value in values.std(dim=1).tolist()],
    )


def copy_fitting(source: torch.nn.Module | None, target: torch.nn.Module) -> None:
    """Copy the weights of `source`, if any, that `target` has by the same name and in the same shape."""
    own = target.state_dict()
    weights = {} if source is None else source.state_dict()
    fitting = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    target.load_state_dict(own | fitting)


def save_component(component, folder: str | Path) -> None:
    """Write a component's folder, whole or not at all."""
    with whole_folder(folder, overwrite=True) as partial:
        component.save_pretrained(partial)
