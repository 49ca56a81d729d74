# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""AudioBox-Aesthetics (arXiv:2502.05139): content enjoyment, content usefulness, production complexity and quality.

WavLM-base by transformers, and a small head per axis on the mean of its layers. All in float32; loudness is not
normalised, so it moves the scores.
"""
# B windows of 10 s, T = 499 frames of 20 ms, L = 13 layers

import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import WavLMConfig, WavLMModel
from transformers.initialization import no_init_weights

from ..headers import read_json
from .audio_input import is_silent, mono, resample
from .checkpoints import load_weights, read_checkpoint
from .measurement import Measurement, Status


AXES = ("CE", "CU", "PC", "PQ")
SAMPLING_RATE = 16000
WINDOW = 10 * SAMPLING_RATE
NUM_LAYERS = 13  # the input of the transformer and its 12 layers
EMBEDDING_SIZE = 768

_RENAMES = (
    (r"\.conv_layers\.(\d+)\.0\.", r".conv_layers.\1.conv."),
    (r"\.conv_layers\.0\.2\.", ".conv_layers.0.layer_norm."),
    (r"^wavlm_model\.post_extract_proj\.", "wavlm_model.feature_projection.projection."),
    (r"^wavlm_model\.layer_norm\.", "wavlm_model.feature_projection.layer_norm."),
    (r"\.mask_emb$", ".masked_spec_embed"),
    (r"\.pos_conv\.0\.weight_g$", ".pos_conv_embed.conv.parametrizations.weight.original0"),
    (r"\.pos_conv\.0\.weight_v$", ".pos_conv_embed.conv.parametrizations.weight.original1"),
    (r"\.pos_conv\.0\.", ".pos_conv_embed.conv."),
    (r"\.self_attn\.", ".attention."),
    (r"\.grep_linear\.", ".gru_rel_pos_linear."),
    (r"\.grep_a$", ".gru_rel_pos_const"),
    (r"\.relative_attention_bias\.", ".rel_attn_embed."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
)


class WavLM(WavLMModel):
    """WavLM whose frames count as padding only if all of their samples do.

    transformers counts the frames that fit into the samples, one less, and that moves the scores by up to 7e-3.
    """

    def _get_feature_vector_attention_mask(self, feature_vector_length: int, attention_mask, add_adapter=None):
        num_samples = attention_mask.shape[1] // feature_vector_length
        mask = attention_mask[:, : num_samples * feature_vector_length].bool()
        return mask.unflatten(1, (feature_vector_length, num_samples)).any(dim=2)


class AudioBox(nn.Module):
    """Scores audio on four axes, from about 1 to 10.

    Args:
        heads: one per axis, from (B, 768) to (B, 1).
        weighted_layers: whether each axis weights the layers; otherwise the last one counts.
        normalized: whether the mean over time has length one.
        targets: mean and standard deviation of each axis.
    """

    def __init__(
        self,
        heads: Mapping[str, nn.Module],
        weighted_layers: bool,
        normalized: bool,
        targets: Mapping[str, Mapping[str, float]],
    ):
        super().__init__()
        self.wavlm_model = WavLM(WavLMConfig())
        self.proj_layer = nn.ModuleDict(heads)
        self.normalized, self.targets = normalized, targets
        self.layer_weights = None
        if weighted_layers:
            self.layer_weights = nn.ParameterDict({axis: torch.ones(NUM_LAYERS) / NUM_LAYERS for axis in AXES})

    def layers(self, samples: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the layers (L, B, T, 768), and which frames (B, T) are not padding.

        Args:
            samples: (B, samples) at 16 kHz.
            mask: (B, samples) int, 0 where samples are padding.
        """
        with warnings.catch_warnings():  # of torch, about the types of transformers' two masks
            warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask", UserWarning)
            output = self.wavlm_model(samples, attention_mask=mask, output_hidden_states=True)
        layers = torch.stack(output.hidden_states)
        return layers, self.wavlm_model._get_feature_vector_attention_mask(layers.shape[2], mask)

    def forward(self, layers: torch.Tensor, heard: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the score (B,) of each axis, of what `layers` returns."""
        heard = heard[..., None].to(layers)
        scores = {}
        for axis in AXES:
            hidden_states = layers[-1]
            if self.layer_weights is not None:
                hidden_states = torch.einsum("lbtc,l->btc", layers, self.layer_weights[axis].softmax(dim=0))
            embedding = (hidden_states * heard).sum(dim=1) / heard.sum(dim=1).clamp(min=1)
            if self.normalized:
                embedding = F.normalize(embedding, dim=-1)
            target = self.targets[axis]
            scores[axis] = self.proj_layer[axis](embedding)[:, 0] * target["std"] + target["mean"]
        return scores

    @torch.no_grad()
    def scores(self, waveform: np.ndarray, sampling_rate: int) -> dict[str, float]:
        """Return the score of each axis: the mean over windows of 10 s, the last one weighted by its length.

        Args:
            waveform: (channels, samples) or (samples,), float in [-1, 1].
        """
        samples = torch.from_numpy(mono(resample(np.asarray(waveform, np.float32), sampling_rate, SAMPLING_RATE)))
        device = self.wavlm_model.device
        totals, seconds = dict.fromkeys(AXES, 0.0), 0.0
        for window in samples.split(WINDOW):  # one at a time: the last one has a mask of its own
            padded = F.pad(window, (0, WINDOW - len(window)))[None].to(device)
            mask = (torch.arange(WINDOW, device=device) < len(window))[None].long()
            for axis, score in self(*self.layers(padded, mask)).items():
                totals[axis] += float(score) * len(window)
            seconds += len(window)
        return {axis: total / seconds for axis, total in totals.items()}


def load_audiobox(checkpoint: Mapping) -> AudioBox:
    """Return the network of `checkpoint.pt`: a dict with `state_dict`, `model_cfg` and `target_transform`.

    Raises:
        ValueError: if these are other weights.
    """
    missing = [name for name in ("state_dict", "model_cfg", "target_transform") if name not in checkpoint]
    if missing:
        raise ValueError(f"This is not the checkpoint of AudioBox-Aesthetics: {', '.join(missing)} is missing.")
    config = checkpoint["model_cfg"]
    if config["nth_layer"] != NUM_LAYERS or config["proj_act_fn"] != "gelu" or config.get("output_dim", 1) != 1:
        raise ValueError(
            "AudioBox-Aesthetics is known with 13 layers, GELU and one output per axis, "
            f"got {config['nth_layer']}, {config['proj_act_fn']} and {config.get('output_dim', 1)}."
        )
    with no_init_weights():
        heads = {axis: _head(config["proj_num_layer"], config["proj_ln"], config["proj_dropout"]) for axis in AXES}
        network = AudioBox(
            heads, config["use_weighted_layer_sum"], config["normalize_embed"], checkpoint["target_transform"]
        )
    return load_weights(network, _renamed(checkpoint["state_dict"]), "AudioBox-Aesthetics")


def read_audiobox(path: str | os.PathLike) -> dict:
    """Return the checkpoint of a file `checkpoint.pt`, or of a folder that holds it or Hugging Face's two files.

    Raises:
        FileNotFoundError: if there is neither.
    """
    path = Path(path)
    if path.is_dir() and (path / "model.safetensors").is_file():
        config = read_json(path / "config.json")
        weights = read_checkpoint(path / "model.safetensors")
        return {"state_dict": weights, "model_cfg": config, "target_transform": config["target_transform"]}
    return read_checkpoint(path / "checkpoint.pt" if path.is_dir() else path)


def measure_audio_aesthetics(network: AudioBox, waveform: np.ndarray | None, sampling_rate: int | None) -> Measurement:
    """Return CE, CU, PC and PQ of a clip's audio, with its level in dB of full scale; status `silent` without any."""
    if is_silent(waveform):
        return Measurement(Status.SILENT)
    level = 10 * np.log10(np.mean(np.square(waveform, dtype=np.float64)))
    return Measurement(Status.OK, network.scores(waveform, sampling_rate), {"level_dbfs": float(level)})


def _head(num_layers: int, layer_norm: bool, dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(num_layers - 1):
        layers.append(nn.Linear(EMBEDDING_SIZE, EMBEDDING_SIZE))
        if layer_norm:
            layers.append(nn.LayerNorm(EMBEDDING_SIZE))
        layers.append(nn.GELU())
        if dropout:
            layers.append(nn.Identity())  # keeps the numbers in the names
    return nn.Sequential(*layers, nn.Linear(EMBEDDING_SIZE, 1))


def _renamed(state_dict: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    renamed = {}
    for key, value in state_dict.items():
        key = key.removeprefix("model.")
        if key.startswith("wavlm_model."):
            for pattern, replacement in _RENAMES:
                key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed
