# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""MMAudio's autoencoder: waveform -> log-mel -> latents -> log-mel, at 16 kHz or 44.1 kHz (arXiv:2412.15322).

The layers are magnitude preserving (EDM2, arXiv:2312.02696): no biases, no normalisation layers; every weight row has
unit norm and every block keeps unit variance. The blocks themselves are diffusers' own (`MMAudioVAE`, 44.1 kHz only).
The published MMAudio *weights* are licensed CC-BY-NC 4.0.
"""

# B batch, N samples, M mel bands, T mel frames, C latent channels, L latents (T // 2), D width

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.autoencoder_mmaudio import (
    ACTIVATION_CLIP,
    MMAudioAttnBlock1D,
    MMAudioDownsample1D,
    MMAudioMPConv1d,
    MMAudioResnetBlock1D,
    MMAudioUpsample1D,
    mel_filterbank,
    mp_silu,
    normalize,
)
from diffusers.models.autoencoders.vae import AutoencoderMixin, DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from diffusers.utils.accelerate_utils import apply_forward_hook
from torch import Tensor, nn

from ..presets import MEL_FRAMES_PER_LATENT


MEL_FLOOR = 1e-5  # quieter mel bands are raised to this before the logarithm
QUERY_CHUNK = 1024


def in_tiles(
    function: Callable[[Tensor], Tensor],
    hidden_states: Tensor,
    tile_length: int | None,
    halo: int,
    in_rate: int = 1,
    out_rate: int = 1,
) -> Tensor:
    """Return `function(hidden_states)`, computed on overlapping tiles of the last axis so that memory stays bounded.

    Exact, not blended: every tile sees `halo` more positions on both sides than it keeps.

    Args:
        function: local map (convolutions, pointwise maps) from (B, D, in_rate * n) to (B, D', out_rate * n).
        hidden_states: (B, D, in_rate * n), or a few entries more, which go to the last tile.
        tile_length: positions kept per tile; None for one tile.
        halo: how many positions away an input can reach an output, at least.
        in_rate, out_rate: entries per position in the input and in the output.
    """
    length = hidden_states.shape[-1] // in_rate
    if tile_length is None or length <= tile_length:
        return function(hidden_states)
    outputs = []
    for start in range(0, length, tile_length):
        stop = min(start + tile_length, length)
        left = max(start - halo, 0)
        right = (stop + halo) * in_rate if stop + halo < length else None
        output = function(hidden_states[..., left * in_rate : right])
        outputs.append(output[..., (start - left) * out_rate : (stop - left) * out_rate])
    return torch.cat(outputs, dim=-1)


class MMAudioPosterior(DiagonalGaussianDistribution):
    """The Gaussian N(mean, exp(logvar)) over latents (B, C, L), logvar clamped to [-30, 20].

    diffusers' class with the sums over two axes instead of an image's three. `kl` is the textbook divergence, one
    number per sample (B,); MMAudio's training code weighs its terms differently.
    """

    def kl(self, other: DiagonalGaussianDistribution | None = None) -> Tensor:
        if self.deterministic:
            return self.mean.new_zeros(self.mean.shape[0])
        mean, var, logvar = (other.mean, other.var, other.logvar) if other is not None else (0.0, 1.0, 0.0)
        return 0.5 * ((self.mean - mean) ** 2 / var + self.var / var - 1.0 - self.logvar + logvar).sum(dim=(1, 2))

    def nll(self, sample: Tensor, dims: tuple[int, ...] = (1, 2)) -> Tensor:
        return super().nll(sample, dims)


class MMAudioWholeAttnProcessor:
    """Single-head attention over all latents, queries in chunks: exact, and no L x L matrix whichever kernel runs.

    (The head is 4 x hidden_channels wide, too wide for the flash kernels.)
    """

    def __call__(self, attn: MMAudioAttnBlock1D, hidden_states: Tensor) -> Tensor:
        qkv = attn.qkv(hidden_states).unflatten(1, (-1, 3))  # (B, D, 3, L): q, k, v are interleaved, not thirds
        qkv = normalize(qkv, dim=1).permute(2, 0, 3, 1)[:, :, None]
        query, key, value = (part.contiguous() for part in qkv)  # (B, 1, L, D): the fast kernels want a head axis
        chunks = [F.scaled_dot_product_attention(chunk, key, value) for chunk in query.split(QUERY_CHUNK, dim=2)]
        return attn.proj_out(torch.cat(chunks, dim=2)[:, 0].transpose(1, 2))  # (B, D, L)


class CheckpointingMixin:
    """For modules: `call` runs a block, under gradient checkpointing when that is enabled."""

    gradient_checkpointing = False
    _gradient_checkpointing_func: Callable[..., Tensor]

    def call(self, block: nn.Module, hidden_states: Tensor) -> Tensor:
        if torch.is_grad_enabled() and self.gradient_checkpointing:
            return self._gradient_checkpointing_func(block, hidden_states)
        return block(hidden_states)


def clip(hidden_states: Tensor) -> Tensor:
    return hidden_states.clamp(-ACTIVATION_CLIP, ACTIVATION_CLIP)


class MMAudioLevel(CheckpointingMixin, nn.Module):
    """Residual blocks of one width, then the level's change of rate, if it has one."""

    def __init__(self, in_channels: int, out_channels: int, num_blocks: int, resample: str | None = None):
        super().__init__()
        widths = [in_channels] + num_blocks * [out_channels]
        self.block = nn.ModuleList(MMAudioResnetBlock1D(*pair) for pair in zip(widths[:-1], widths[1:], strict=True))
        self.downsample = MMAudioDownsample1D(out_channels) if resample == "down" else None
        self.upsample = MMAudioUpsample1D(out_channels) if resample == "up" else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        for block in self.block:
            hidden_states = clip(self.call(block, hidden_states))
        if self.downsample is not None:
            hidden_states = self.downsample(hidden_states)  # an odd last frame is dropped
        if self.upsample is not None:
            hidden_states = self.upsample(hidden_states)
        return hidden_states


def make_mid(channels: int) -> nn.ModuleDict:
    return nn.ModuleDict(
        {
            "block_1": MMAudioResnetBlock1D(channels, channels),
            "attn_1": MMAudioAttnBlock1D(channels, processor=MMAudioWholeAttnProcessor()),
            "block_2": MMAudioResnetBlock1D(channels, channels),
        }
    )


def reach(*modules: nn.Module) -> int:
    """Return the halo, in latents, of modules run in sequence: one for each 3-tap convolution.

    An upper bound: those at the mel rate reach half a latent only.
    """
    convs = (conv for module in modules for conv in module.modules() if isinstance(conv, nn.Conv1d))
    return sum(conv.kernel_size[0] // 2 for conv in convs)


class MMAudioEncoder(CheckpointingMixin, nn.Module):
    """Log-mel (B, M, T), standardised, to moments (B, 2C, L). The attention in the middle is never tiled."""

    def __init__(self, num_mels: int, latent_channels: int, widths: list[int], layers_per_block: int):
        super().__init__()
        self.conv_in = MMAudioMPConv1d(num_mels, widths[0], 3)
        self.down = nn.ModuleList(
            MMAudioLevel(before, width, layers_per_block, "down" if level == 0 else None)
            for level, (before, width) in enumerate(zip([widths[0]] + widths[:-1], widths, strict=True))
        )
        self.mid = make_mid(widths[-1])
        self.conv_out = MMAudioMPConv1d(widths[-1], 2 * latent_channels, 3)
        self.learnable_gain = nn.Parameter(torch.zeros([]))

    def before_attention(self, hidden_states: Tensor) -> Tensor:
        hidden_states = self.conv_in(hidden_states)  # (B, D, T)
        for level in self.down:
            hidden_states = level(hidden_states)  # (B, D, L) from the first level on
        return self.call(self.mid["block_1"], hidden_states)

    def after_attention(self, hidden_states: Tensor) -> Tensor:
        hidden_states = clip(self.call(self.mid["block_2"], hidden_states))
        return self.conv_out(mp_silu(hidden_states), gain=self.learnable_gain + 1)

    def forward(self, hidden_states: Tensor, tile_length: int | None = None) -> Tensor:
        halo = reach(self.conv_in, self.down, self.mid["block_1"])
        hidden_states = in_tiles(self.before_attention, hidden_states, tile_length, halo, MEL_FRAMES_PER_LATENT)
        hidden_states = self.call(self.mid["attn_1"], hidden_states)
        halo = reach(self.mid["block_2"], self.conv_out)
        return in_tiles(self.after_attention, hidden_states, tile_length, halo)


class MMAudioDecoder(CheckpointingMixin, nn.Module):
    """Latents (B, C, L) to a standardised log-mel (B, M, 2L). The attention in the middle is never tiled."""

    def __init__(self, num_mels: int, latent_channels: int, widths: list[int], layers_per_block: int):
        super().__init__()
        self.conv_in = MMAudioMPConv1d(latent_channels, widths[-1], 3)
        self.mid = make_mid(widths[-1])
        self.up = nn.ModuleList(
            MMAudioLevel(before, width, layers_per_block + 1, "up" if level == 1 else None)
            for level, (before, width) in enumerate(zip(widths[1:] + [widths[-1]], widths, strict=True))
        )
        self.conv_out = MMAudioMPConv1d(widths[0], num_mels, 3)
        self.learnable_gain = nn.Parameter(torch.zeros([]))

    def before_attention(self, hidden_states: Tensor) -> Tensor:
        return self.call(self.mid["block_1"], self.conv_in(hidden_states))  # (B, D, L)

    def after_attention(self, hidden_states: Tensor) -> Tensor:
        hidden_states = clip(self.call(self.mid["block_2"], hidden_states))
        for level in reversed(self.up):
            hidden_states = level(hidden_states)  # (B, D, 2L) from level 1 on
        return self.conv_out(mp_silu(hidden_states), gain=self.learnable_gain + 1)

    def forward(self, hidden_states: Tensor, tile_length: int | None = None) -> Tensor:
        halo = reach(self.conv_in, self.mid["block_1"])
        hidden_states = in_tiles(self.before_attention, hidden_states, tile_length, halo)
        hidden_states = self.call(self.mid["attn_1"], hidden_states)
        halo = reach(self.mid["block_2"], self.up, self.conv_out)
        return in_tiles(self.after_attention, hidden_states, tile_length, halo, out_rate=MEL_FRAMES_PER_LATENT)


class AutoencoderMMAudio(ModelMixin, AutoencoderMixin, ConfigMixin):
    """MMAudio's variational autoencoder over log-mel spectrograms, for 16 kHz (the defaults) and 44.1 kHz.

    | | 16 kHz | 44.1 kHz |
    |---|---|---|
    | `sampling_rate`, `n_fft`, `hop_length` | 16000, 1024, 256 | 44100, 2048, 512 |
    | `num_mels`, `log_base` | 80, "10" | 128, "e" |
    | `latent_channels`, `hidden_channels` | 20, 384 | 40, 512 |
    | latents per second | 31.25 | 43.0664 |

    Weights are stored with the magnitude-preserving normalisation already applied; `diffusers_jova.conversion.mmaudio`
    makes them from MMAudio's files. The published weights are CC-BY-NC 4.0.

    The log-mel, its standardisation with `data_mean` and `data_std` (buffers (1, M, 1), zeros and ones until weights
    are loaded) and the decoded log-mel are float32 whatever the model's dtype. Load with
    `from_pretrained(dtype=...)`: `.to(dtype)` would round the two buffers.

    `enable_tiling()` bounds the memory of long audio: the convolutions go in tiles with halos as wide as they can see
    and the attention stays whole, so the result is that of one pass up to rounding.

    Args:
        sampling_rate: of the waveform, in Hz.
        n_fft: samples per Fourier window (Hann, periodic).
        hop_length: samples per mel frame.
        num_mels: mel bands M (Slaney scale and area normalisation).
        fmin, fmax: range of the mel bands in Hz; `fmax=None` is half the sampling rate.
        log_base: "10" or "e", the logarithm of the log-mel.
        latent_channels: C.
        hidden_channels: width of the outermost level.
        channel_multipliers: width of each level over `hidden_channels`; two levels or more.
        layers_per_block: residual blocks per encoder level; the decoder has one more.
        latents_mean, latents_std: C numbers each, the statistics of the latents that a diffusion model was trained
            with; None is identity. Not used here: `encode` and `decode` speak unnormalised latents, the caller
            applies (latents - mean) / std.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["MMAudioResnetBlock1D", "MMAudioAttnBlock1D"]
    _keep_in_fp32_modules = ["data_mean", "data_std"]
    _skip_layerwise_casting_patterns = ["conv_in", "conv_out"]
    _group_offload_block_modules = ["encoder", "decoder"]

    @register_to_config
    def __init__(
        self,
        sampling_rate: int = 16000,
        n_fft: int = 1024,
        hop_length: int = 256,
        num_mels: int = 80,
        fmin: float = 0.0,
        fmax: float | None = None,
        log_base: str = "10",
        latent_channels: int = 20,
        hidden_channels: int = 384,
        channel_multipliers: tuple[int, ...] = (1, 2, 4),
        layers_per_block: int = 2,
        latents_mean: list[float] | None = None,
        latents_std: list[float] | None = None,
    ):
        super().__init__()
        if log_base not in ("10", "e"):
            raise ValueError(f'`log_base` must be "10" (MMAudio 16 kHz) or "e" (44.1 kHz), got {log_base!r}.')
        if len(channel_multipliers) < 2:
            raise ValueError(f"`channel_multipliers` needs two levels or more, got {channel_multipliers}.")
        for name, values in {"latents_mean": latents_mean, "latents_std": latents_std}.items():
            if values is not None and len(values) != latent_channels:
                raise ValueError(f"`{name}` must have {latent_channels} numbers (latent_channels), got {len(values)}.")
        widths = [hidden_channels * multiplier for multiplier in channel_multipliers]
        self.register_buffer("data_mean", torch.zeros(1, num_mels, 1))
        self.register_buffer("data_std", torch.ones(1, num_mels, 1))
        self.encoder = MMAudioEncoder(num_mels, latent_channels, widths, layers_per_block)
        self.decoder = MMAudioDecoder(num_mels, latent_channels, widths, layers_per_block)
        self.use_slicing = False
        self.use_tiling = False
        self.tile_latent_length = 512  # 16 s at 16 kHz

    @property
    def samples_per_latent(self) -> int:
        """Samples of waveform per latent."""
        return MEL_FRAMES_PER_LATENT * self.config.hop_length

    @property
    def latent_rate(self) -> float:
        """Latents per second."""
        return self.config.sampling_rate / self.samples_per_latent

    def enable_tiling(self, tile_latent_length: int | None = None) -> None:
        """Encode and decode long audio in tiles of `tile_latent_length` latents (512 unless set)."""
        super().enable_tiling()
        if tile_latent_length is not None and tile_latent_length < 1:
            raise ValueError(f"`tile_latent_length` must be 1 or more, got {tile_latent_length}.")
        self.tile_latent_length = tile_latent_length or self.tile_latent_length

    def mel_spectrogram(self, waveform: Tensor) -> Tensor:
        """Return the log-mel (B, M, N // hop_length), float32, of a mono `waveform` (B, N) in [-1, 1] (clamped).

        log max(basis |STFT|, 1e-5), |z| = sqrt(re^2 + im^2 + 1e-9), ends reflected by (n_fft - hop_length) / 2: the
        front end that MMAudio and BigVGAN share.

        Raises:
            ValueError: not a float (B, N), shorter than one latent, or not finite.
        """
        config = self.config
        padding = (config.n_fft - config.hop_length) // 2
        self._check_waveform(waveform, min_samples=max(padding + 1, self.samples_per_latent))
        num_frames = waveform.shape[1] // config.hop_length
        frames_per_tile = MEL_FRAMES_PER_LATENT * self.tile_latent_length if self.use_tiling else num_frames
        fmax = config.sampling_rate / 2 if config.fmax is None else config.fmax
        # Made at each call: as buffers they would follow the model into bfloat16.
        basis = mel_filterbank(config.sampling_rate, config.n_fft, config.num_mels, config.fmin, fmax)
        basis = basis.to(waveform.device)
        window = torch.hann_window(config.n_fft, dtype=torch.float32, device=waveform.device)

        log_mels = []
        with torch.autocast(waveform.device.type, enabled=False):
            waveform = F.pad(waveform.float().clamp(-1, 1)[:, None], (padding, padding), mode="reflect")[:, 0]
            for start in range(0, num_frames, frames_per_tile):
                stop = min(start + frames_per_tile, num_frames)
                samples = waveform[:, start * config.hop_length : (stop - 1) * config.hop_length + config.n_fft]
                spectrum = torch.stft(
                    samples, config.n_fft, config.hop_length, window=window, center=False, return_complex=True
                )
                magnitude = (torch.view_as_real(spectrum).square().sum(-1) + 1e-9).sqrt()  # (B, n_fft / 2 + 1, T)
                mel = (basis @ magnitude).clamp(min=MEL_FLOOR)
                log_mels.append(mel.log10() if config.log_base == "10" else mel.log())
        return torch.cat(log_mels, dim=-1)

    @apply_forward_hook
    def encode(self, waveform: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[MMAudioPosterior]:
        """Return the posterior over latents (B, C, N // samples_per_latent) of a mono waveform.

        Args:
            waveform: (B, N), in [-1, 1], at `sampling_rate`, `samples_per_latent` samples or more; what follows the
                last whole latent has no latent of its own.
            return_dict: False for a plain tuple.

        Raises:
            ValueError: not a float (B, N), too short, or not finite.
        """
        return self.encode_mel(self.mel_spectrogram(waveform), return_dict=return_dict)

    @apply_forward_hook
    def encode_mel(self, log_mel: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[MMAudioPosterior]:
        """Return the posterior over latents (B, C, T // 2) of a log-mel (B, M, T), as `mel_spectrogram` makes it."""
        num_mels = self.config.num_mels
        if log_mel.ndim != 3 or log_mel.shape[1] != num_mels or log_mel.shape[2] < MEL_FRAMES_PER_LATENT:
            raise ValueError(
                f"`log_mel` must be (batch, {num_mels} mel bands, {MEL_FRAMES_PER_LATENT} frames or more), "
                f"got {tuple(log_mel.shape)}."
            )
        # A module's hook moves its buffers when `forward` runs, not when `encode` does: hence `.to(log_mel)`.
        log_mel = log_mel.float()
        hidden_states = ((log_mel - self.data_mean.to(log_mel)) / self.data_std.to(log_mel)).to(self.dtype)
        posterior = MMAudioPosterior(self._run_slices(self.encoder, hidden_states))  # moments (B, 2C, L)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    @apply_forward_hook
    def decode(self, latents: Tensor, return_dict: bool = True) -> DecoderOutput | tuple[Tensor]:
        """Return the log-mel (B, M, 2L), float32, of latents (B, C, L), ready for the vocoder.

        Args:
            latents: (B, C, L), unnormalised (see `latents_mean`).
            return_dict: False for a plain tuple.

        Raises:
            ValueError: not (B, C, L).
        """
        channels = self.config.latent_channels
        if latents.ndim != 3 or latents.shape[1] != channels or latents.shape[2] == 0:
            hint = " Transpose it?" if latents.ndim == 3 and latents.shape[2] == channels else ""
            raise ValueError(f"`latents` must be (batch, {channels}, length), got {tuple(latents.shape)}.{hint}")
        log_mel = self._run_slices(self.decoder, latents.to(self.dtype)).float()
        log_mel = log_mel * self.data_std.to(log_mel) + self.data_mean.to(log_mel)
        return DecoderOutput(sample=log_mel) if return_dict else (log_mel,)

    def forward(
        self,
        waveform: Tensor,
        sample_posterior: bool = False,
        return_dict: bool = True,
        generator: torch.Generator | None = None,
    ) -> DecoderOutput | tuple[Tensor]:
        """Return the log-mel (B, M, 2L) that comes back from encoding and decoding `waveform` (B, N).

        Args:
            sample_posterior: decode a sample drawn with `generator`; False decodes the mean.
        """
        posterior = self.encode(waveform).latent_dist
        latents = posterior.sample(generator) if sample_posterior else posterior.mode()
        return self.decode(latents, return_dict=return_dict)

    def _run_slices(self, part: nn.Module, hidden_states: Tensor) -> Tensor:
        tile_length = self.tile_latent_length if self.use_tiling else None
        slices = hidden_states.split(1) if self.use_slicing else [hidden_states]
        return torch.cat([part(one, tile_length) for one in slices])

    def _check_waveform(self, waveform: Tensor, min_samples: int) -> None:
        if waveform.ndim != 2 or not waveform.is_floating_point():
            raise ValueError(
                "`waveform` must be a floating-point tensor (batch, samples) in [-1, 1], mono, got "
                f"{waveform.dtype} {tuple(waveform.shape)}. Average stereo channels; divide integers by their range."
            )
        if waveform.shape[1] < min_samples:
            raise ValueError(
                f"`waveform` must have {min_samples} samples or more ({min_samples / self.config.sampling_rate:.3f} s "
                f"at {self.config.sampling_rate} Hz), got {waveform.shape[1]}. Pad it with zeros."
            )
        if not torch.isfinite(waveform).all():
            raise ValueError("`waveform` must be finite, got NaN or infinity. Drop the clip or repair its decoding.")
