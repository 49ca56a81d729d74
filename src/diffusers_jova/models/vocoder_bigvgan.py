# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""BigVGAN: log-mel -> waveform (arXiv:2206.04658), version 1 (16 kHz) and version 2 (44.1 kHz).

diffusers ships version 2 as `MMAudioVocoder`; its residual block is reused here. What is added: the 16 kHz generator
(tanh, bias in the last layer), plain snake, tiling, gradient checkpointing and `sampling_rate` in the config.
The 16 kHz *weights* that MMAudio distributes are licensed CC-BY-NC 4.0, NVIDIA's 44.1 kHz weights MIT.
"""

# B batch, M mel bands, T mel frames, N = T * prod(upsample_rates) samples, D width, S samples at some stage

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.mmaudio_vocoder import MMAudioAMPBlock
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .autoencoder_mmaudio import CheckpointingMixin, in_tiles


ACTIVATION_REACH = 5  # samples that an anti-aliased activation sees on each side: its 12-tap filter, twice, at rate 2


def lowpass_filter() -> Tensor:
    """Return the half-band low-pass (1, 1, 12), float32, of the anti-aliased activations.

    Kaiser-windowed sinc(n / 2), n = -5.5..5.5, unit sum; beta = 0.1102 (A - 8.7), A = 2.285 * 5 * pi * 1.2 + 7.95
    (alias-free GAN, arXiv:2106.12423, appendix C, with BigVGAN's cut-off 1/4 and half-width 0.3).
    """
    beta = 0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7)
    window = torch.kaiser_window(12, periodic=False, beta=beta, dtype=torch.float32)
    taps = window * torch.sinc((torch.arange(-6, 6, dtype=torch.float32) + 0.5) / 2)
    return (taps / taps.sum())[None, None]


class Snake(nn.Module):
    """x + sin^2(alpha x) / beta per channel (arXiv:2006.08195); plain snake has beta = alpha.

    With `logscale` the parameters are the logarithms. Computed in float32: alpha x is a phase.
    """

    def __init__(self, channels: int, has_beta: bool, logscale: bool):
        super().__init__()
        self.logscale = logscale
        initial = torch.zeros if logscale else torch.ones
        self.alpha = nn.Parameter(initial(channels))
        self.beta = nn.Parameter(initial(channels)) if has_beta else None

    def forward(self, hidden_states: Tensor) -> Tensor:
        alpha = self.alpha.float()[:, None]  # (D, 1)
        beta = alpha if self.beta is None else self.beta.float()[:, None]
        if self.logscale:
            alpha, beta = alpha.exp(), beta.exp()
        return hidden_states + ((alpha * hidden_states).sin().square() / (beta + 1e-9)).to(hidden_states.dtype)


class AntiAliasedActivation(nn.Module):
    """Snake at twice the rate, between two low-passes, one on each way (arXiv:2206.04658, section 3.3)."""

    filter: Tensor

    def __init__(self, channels: int, has_beta: bool, logscale: bool):
        super().__init__()
        self.act = Snake(channels, has_beta, logscale)
        self.register_buffer("filter", lowpass_filter(), persistent=False)

    def upsample(self, hidden_states: Tensor) -> Tensor:
        channels = hidden_states.shape[1]
        kernel = 2 * self.filter.to(hidden_states.dtype).expand(channels, -1, -1)
        hidden_states = F.pad(hidden_states, (5, 5), mode="replicate")
        return F.conv_transpose1d(hidden_states, kernel, stride=2, groups=channels)[..., 15:-15]  # (B, D, 2S)

    def downsample(self, hidden_states: Tensor) -> Tensor:
        channels = hidden_states.shape[1]
        kernel = self.filter.to(hidden_states.dtype).expand(channels, -1, -1)
        hidden_states = F.pad(hidden_states, (5, 6), mode="replicate")
        return F.conv1d(hidden_states, kernel, stride=2, groups=channels)  # (B, D, S)

    def forward(self, hidden_states: Tensor) -> Tensor:
        return self.downsample(self.act(self.upsample(hidden_states)))


class AMPBlock(MMAudioAMPBlock):
    """diffusers' anti-aliased multi-periodicity block, with the activation above for its log-scale snakebeta."""

    def __init__(self, channels: int, kernel_size: int, dilations: Sequence[int], has_beta: bool, logscale: bool):
        super().__init__(channels, kernel_size, dilations)
        self.activations = nn.ModuleList(
            AntiAliasedActivation(channels, has_beta, logscale) for _ in range(2 * len(dilations))
        )


class BigVGANVocoder(ModelMixin, ConfigMixin, CheckpointingMixin):
    """BigVGAN generator: `vocoder(log_mel)` is the waveform. The defaults are MMAudio's 16 kHz vocoder.

    44.1 kHz (nvidia/bigvgan_v2_44khz_128band_512x): `sampling_rate=44100, num_mels=128,
    upsample_rates=(8, 4, 2, 2, 2, 2), upsample_kernel_sizes=(16, 8, 4, 4, 4, 4), use_tanh_at_final=False,
    use_bias_at_final=False`. Weight norm is folded into plain weights; `diffusers_jova.conversion.bigvgan` makes them
    from NVIDIA's and MMAudio's files. The anti-aliasing filters are computed, not stored.

    Run it in float32: bfloat16 works but costs quality one can measure (the snake phases stay float32 in both).

    Tiling is on: up to `tile_mel_length` frames (1024: 16 s at 16 kHz, 12 s at 44.1 kHz) go in one pass, longer audio
    in tiles with halos as wide as the receptive field, so that memory is bounded and the result that of one pass up to
    rounding. `disable_tiling()` for one pass always.

    Args:
        sampling_rate: of the waveform in Hz; None if unknown. Metadata: nothing here depends on it.
        num_mels: mel bands M.
        upsample_rates: factor of each stage; their product is the samples per mel frame.
        upsample_kernel_sizes: kernel of each stage's transposed convolution, its rate plus an even number.
        upsample_initial_channel: width before the first stage; halved by each stage.
        resblock_kernel_sizes, resblock_dilation_sizes: of the parallel residual blocks of each stage (type "1").
        activation: "snakebeta" or "snake".
        snake_logscale: alpha and beta are stored as logarithms.
        use_tanh_at_final: True ends in tanh (version 1), False in a clamp to [-1, 1] (version 2).
        use_bias_at_final: bias in the last convolution (version 1).
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["AMPBlock"]
    _keep_in_fp32_modules = ["alpha", "beta"]
    _skip_layerwise_casting_patterns = ["conv_pre", "conv_post", "act"]

    @register_to_config
    def __init__(
        self,
        sampling_rate: int | None = 16000,
        num_mels: int = 80,
        upsample_rates: tuple[int, ...] = (4, 4, 2, 2, 2, 2),
        upsample_kernel_sizes: tuple[int, ...] = (8, 8, 4, 4, 4, 4),
        upsample_initial_channel: int = 1536,
        resblock_kernel_sizes: tuple[int, ...] = (3, 7, 11),
        resblock_dilation_sizes: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5), (1, 3, 5)),
        activation: str = "snakebeta",
        snake_logscale: bool = True,
        use_tanh_at_final: bool = True,
        use_bias_at_final: bool = True,
    ):
        super().__init__()
        if activation not in ("snake", "snakebeta"):
            raise ValueError(f'`activation` must be "snake" or "snakebeta", got {activation!r}.')
        if len(upsample_rates) != len(upsample_kernel_sizes):
            raise ValueError(
                "`upsample_rates` and `upsample_kernel_sizes` must be equally long, "
                f"got {upsample_rates} and {upsample_kernel_sizes}."
            )
        stages = list(zip(upsample_rates, upsample_kernel_sizes, strict=True))
        if any((kernel - rate) % 2 or kernel < rate for rate, kernel in stages):
            raise ValueError(
                "`upsample_kernel_sizes` must be `upsample_rates` plus even numbers, "
                f"got {upsample_kernel_sizes} for {upsample_rates}."
            )
        if len(resblock_kernel_sizes) != len(resblock_dilation_sizes):
            raise ValueError(
                "`resblock_kernel_sizes` and `resblock_dilation_sizes` must be equally long, "
                f"got {resblock_kernel_sizes} and {resblock_dilation_sizes}."
            )
        snake = {"has_beta": activation == "snakebeta", "logscale": snake_logscale}
        self.conv_pre = nn.Conv1d(num_mels, upsample_initial_channel, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()  # flat, as in the checkpoints: stage after stage
        width = upsample_initial_channel
        for rate, kernel in stages:
            up = nn.ConvTranspose1d(width, width // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.Sequential(up))
            width //= 2
            for kernel, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes, strict=True):
                self.resblocks.append(AMPBlock(width, kernel, dilations, **snake))
        self.activation_post = AntiAliasedActivation(width, **snake)
        self.conv_post = nn.Conv1d(width, 1, 7, padding=3, bias=use_bias_at_final)
        self.use_tiling = True
        self.tile_mel_length = 1024

    @property
    def samples_per_frame(self) -> int:
        """Samples of waveform per mel frame."""
        return math.prod(self.config.upsample_rates)

    @property
    def receptive_field(self) -> int:
        """How many mel frames away, at most, a frame can change the waveform."""
        config = self.config
        blocks = zip(config.resblock_kernel_sizes, config.resblock_dilation_sizes, strict=True)
        widest_block = max(
            sum(kernel // 2 * (dilation + 1) + 2 * ACTIVATION_REACH for dilation in dilations)
            for kernel, dilations in blocks
        )
        samples = 3 + ACTIVATION_REACH
        stages = zip(config.upsample_rates, config.upsample_kernel_sizes, strict=True)
        for rate, kernel in reversed(list(stages)):
            samples = (samples + widest_block + (kernel + rate) // 2 - 1) // rate
        return samples + 3

    def enable_tiling(self, tile_mel_length: int | None = None) -> None:
        """Run inputs longer than `tile_mel_length` mel frames (1024 unless set) in tiles. On by default."""
        if tile_mel_length is not None and tile_mel_length < 1:
            raise ValueError(f"`tile_mel_length` must be 1 or more, got {tile_mel_length}.")
        self.use_tiling = True
        self.tile_mel_length = tile_mel_length or self.tile_mel_length

    def disable_tiling(self) -> None:
        """Run inputs of any length in one pass."""
        self.use_tiling = False

    def forward(self, log_mel: Tensor) -> Tensor:
        """Return the waveform (B, 1, N) in [-1, 1], in the model's dtype.

        Args:
            log_mel: (B, M, T), with the logarithm that the weights were trained with (16 kHz: base 10, 44.1 kHz: e),
                as `AutoencoderMMAudio.decode` gives it.

        Raises:
            ValueError: not (B, M, T).
        """
        if log_mel.ndim != 3 or log_mel.shape[1] != self.config.num_mels or log_mel.shape[2] == 0:
            raise ValueError(
                f"`log_mel` must be (batch, {self.config.num_mels} mel bands, frames), got {tuple(log_mel.shape)}."
            )
        tile_length = self.tile_mel_length if self.use_tiling else None
        return in_tiles(
            self._forward, log_mel.to(self.dtype), tile_length, self.receptive_field, out_rate=self.samples_per_frame
        )

    def _forward(self, log_mel: Tensor) -> Tensor:
        num_parallel = len(self.config.resblock_kernel_sizes)
        hidden_states = self.conv_pre(log_mel)  # (B, D, T)
        for stage, up in enumerate(self.ups):
            hidden_states = up(hidden_states)  # (B, D / 2, S * rate)
            blocks = self.resblocks[stage * num_parallel : (stage + 1) * num_parallel]
            hidden_states = sum(self.call(block, hidden_states) for block in blocks) / num_parallel
        waveform = self.conv_post(self.activation_post(hidden_states))  # (B, 1, N)
        return waveform.tanh() if self.config.use_tanh_at_final else waveform.clamp(-1, 1)
