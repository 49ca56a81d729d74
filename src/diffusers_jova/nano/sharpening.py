# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A video VAE's decoder becomes sharp: where latents leave a choice, an absolute error asks for the blur of all."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.optimization import get_cosine_schedule_with_warmup
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from tqdm import trange

from .autoencoders import MOTION_WEIGHT, add_noise, draw_frames, frame_errors, on_single_frames


LEARNING_RATE = 5e-4  # of the decoder; the discriminator learns twice as fast
WEIGHT = 0.5  # of each of the discriminator's two losses, by the size of their gradients, over that of the errors
NUM_WARM_UP = 300  # steps until its judgement counts that much
KEPT = 0.4  # of the weights from before: alone, the sharpened ones draw speckles into what a transformer makes
LATENT_NOISE = 0.12  # of the latents' spread, at most


class PatchDiscriminator(nn.Module):
    """Judges patches of 54 x 54 pixels of an image (B, 3, H, W): positive where it takes them for real ones.

    After "Image-to-Image Translation with Conditional Adversarial Networks", with spectral norms, small.
    """

    def __init__(self, widths: tuple[int, ...] = (32, 64, 128, 128)):
        super().__init__()
        convolutions, last = [], 3
        for index, width in enumerate(widths):
            is_last = index == len(widths) - 1
            convolutions.append(spectral_norm(nn.Conv2d(last, width, 3 if is_last else 4, 1 if is_last else 2, 1)))
            last = width
        self.convolutions = nn.ModuleList(convolutions)
        self.head = spectral_norm(nn.Conv2d(last, 1, 3, padding=1))

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the judgement (B, 1, H', W') and the features of each layer."""
        features = []
        for convolution in self.convolutions:
            image = F.leaky_relu(convolution(image), 0.2)
            features.append(image)
        return self.head(image), features


def sharpen_decoder(
    vae: AutoencoderKLWan,
    frames: np.ndarray,
    num_steps: int,
    batch_size: int = 12,
    seed: int = 0,
    mixed_precision: str = "no",
    motion_weight: float = MOTION_WEIGHT,
) -> None:
    """Train the decoder of `vae` alone, against a discriminator of single frames; its latents stay what they are.

    The decoder minimises the errors of `train_video_vae`, the distance of the discriminator's features, and what the
    discriminator holds against it; the gradients of the last two are scaled to `WEIGHT` of that of the first. Of its
    weights from before, the part `KEPT` stays in the result (the network interpolation of ESRGAN).

    Args:
        frames: (N, F, H, W, 3) uint8.
        mixed_precision, motion_weight: See `train_video_vae`.
    """
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    discriminator = PatchDiscriminator()
    trained = nn.ModuleList([vae.post_quant_conv, vae.decoder]).train()
    before = copy.deepcopy(trained)
    optimizers, schedules = [], []
    for module, learning_rate in ((trained, LEARNING_RATE), (discriminator, 2 * LEARNING_RATE)):
        parameters = module.parameters()
        optimizers.append(torch.optim.AdamW(parameters, learning_rate, betas=(0.5, 0.99), weight_decay=1e-4))
        schedules.append(get_cosine_schedule_with_warmup(optimizers[-1], num_steps // 20, num_steps))
    autocast = torch.autocast("cpu", torch.bfloat16, enabled=mixed_precision == "bf16")
    with on_single_frames(vae):
        for step in (progress := trange(num_steps, mininterval=5)):
            pixels, weights = draw_frames(frames, rng, batch_size, motion_weight)
            with autocast:
                with torch.no_grad():
                    latents = vae.encode(pixels).latent_dist.sample()
                made = vae.decode(add_noise(latents, vae.config.latents_std, LATENT_NOISE, rng)).sample.float()
                error = torch.stack([*frame_errors(made, pixels, weights).values()]).sum()
                held_against, distance = judge(discriminator, made[:, :, 0], pixels[:, :, 0])
            gradient, *others = (
                torch.autograd.grad(term, made, retain_graph=True)[0] for term in (error, held_against, distance)
            )
            for other, part in zip(others, (min(1.0, step / NUM_WARM_UP), 1.0)):
                scale = WEIGHT * part * gradient.norm() / other.norm().clamp(min=1e-12)
                gradient = gradient + scale * other
            made.backward(gradient)
            torch.nn.utils.clip_grad_norm_(trained.parameters(), 1.0)
            with autocast:
                loss = discriminator_loss(discriminator, made[:, :, 0].detach(), pixels[:, :, 0])
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules):
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
            if step % 20 == 0:
                progress.set_postfix(error=f"{error.item():.4f}", discriminator=f"{loss.item():.4f}")
    vae.eval()
    with torch.no_grad():
        for weight, earlier in zip(trained.parameters(), before.parameters()):
            weight.lerp_(earlier, KEPT)


def judge(discriminator: PatchDiscriminator, made: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the discriminator holds against images that were made, and how far its features are from the real
    ones' on average; its own parameters get no gradient.
    """
    discriminator.requires_grad_(False)
    judgement, features = discriminator(made)
    with torch.no_grad():
        _, wanted = discriminator(real)
    discriminator.requires_grad_(True)
    distances = [(a.float() - b.float()).abs().mean() for a, b in zip(features, wanted)]
    return -judgement.float().mean(), torch.stack(distances).sum()


def discriminator_loss(discriminator: PatchDiscriminator, made: Tensor, real: Tensor) -> Tensor:
    """Return the hinge loss of a discriminator."""
    of_real, of_made = discriminator(real)[0].float(), discriminator(made)[0].float()
    return F.relu(1 - of_real).mean() + F.relu(1 + of_made).mean()
