# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Plans for the two audio models, MMAudio's autoencoder and BigVGAN; what they do to the numbers is in `mmaudio` and
`bigvgan`. The published MMAudio weights are CC-BY-NC 4.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from diffusers import MMAudioVAE, __version__
from diffusers.models.autoencoders.autoencoder_mmaudio import MMAudioMelSpectrogram

from diffusers_jova.models.autoencoder_mmaudio import AutoencoderMMAudio
from diffusers_jova.models.vocoder_bigvgan import BigVGANVocoder

from ..presets import AUDIO_MODES
from . import bigvgan, mmaudio
from .checkpoint import Checkpoint
from .errors import ConversionError
from .plan import Plan, meta_model, note_sources, shapes_of, source_config
from .report import Report
from .streaming import Step


AUTOENCODER_ANCHOR = "encoder.conv_in.weight"
NOT_AUTOENCODER = ("mel_converter.", "vocoder.")


def autoencoder(checkpoint: Checkpoint, to: str = "jova", audio_mode: str | None = None, raw: bool = False) -> Plan:
    """Return the plan of an MMAudio autoencoder in another layout.

    Raw and folded weights have the same names; the numbers are read to tell them apart, also in a dry run.

    Args:
        checkpoint: MMAudio's file, raw or folded; an `AutoencoderMMAudio`, or diffusers' `MMAudioVAE`.
        to: "jova" (`AutoencoderMMAudio`), "mmaudio" (the original's names), or "upstream" (`MMAudioVAE`, 44k only).
        audio_mode: "16k" or "44k"; None asks the latent channels.
        raw: to "mmaudio": weights that MMAudio's loader folds, as released. False leaves the numbers alone.

    Raises:
        ConversionError: If it is no such autoencoder, or of another mode.
    """
    try:
        names = mmaudio.strip_prefix({name: name for name in checkpoint}, AUTOENCODER_ANCHOR)
        names = {short: name for short, name in names.items() if not short.startswith(NOT_AUTOENCODER)}
        source = replace(checkpoint, infos={short: checkpoint.infos[name] for short, name in names.items()})
        settings = {**autoencoder_settings(source, audio_mode), **source_config(checkpoint, "AutoencoderMMAudio")}
        model = meta_model(AutoencoderMMAudio, settings)
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{checkpoint.path.name}: {error}") from error
    left_out = [name for name in checkpoint if name not in names.values()]
    report = Report.compare(source.shapes, shapes_of(model), {}, left_out=left_out)
    note_sources(report, [source])
    folded = mmaudio.is_folded(source)
    report.notes.append(f"the weights are {'folded' if folded else 'raw'}")
    if to == "mmaudio":
        change = mmaudio.unfold if raw and folded else None
    else:
        change = None if folded else mmaudio.fold

    prefix = "vae." if to == "upstream" else ""
    steps = []
    for name in report.matched:
        convert = change if change and mmaudio.is_convolution(name) else None
        dtype = torch.float32 if convert else source.infos[name].dtype
        outputs = {prefix + name: source.infos[name].meta().to(dtype)}
        steps.append(Step(outputs, partial(_changed, source, name, convert)))
    plan = Plan(report, steps, checkpoint.files, metadata={"key_map": "mmaudio-1"})
    if to == "mmaudio":
        return replace(plan, weights_name=f"v1-{mode_of(source, audio_mode).removesuffix('k')}")
    if to == "jova":
        return replace(plan, files={"config.json": model.to_json_string()})
    return upstream(plan, model.config)


def _changed(source: Checkpoint, name: str, change) -> list[torch.Tensor]:
    return [change(source[name]) if change else source[name]]


def mode_of(source: Checkpoint, audio_mode: str | None) -> str:
    """Return "16k" or "44k", by the latent channels unless it is given."""
    channels = source.shapes.get("decoder.conv_in.weight", (0, 0))[1]
    found = [mode for mode, known in AUDIO_MODES.items() if known.autoencoder["latent_channels"] == channels]
    if not (audio_mode or found):
        raise ConversionError(f"{channels} latent channels are neither 16k (20) nor 44k (40): pass --audio_mode.")
    return audio_mode or found[0]


def autoencoder_settings(source: Checkpoint, audio_mode: str | None) -> dict[str, Any]:
    return mmaudio.autoencoder_config(source.infos, mode_of(source, audio_mode))


def upstream(plan: Plan, config: Mapping[str, Any]) -> Plan:
    """Return the plan with what diffusers' `MMAudioVAE` has beside the weights: mel buffers and its own config."""
    if config["log_base"] != "e" or config["fmin"] != 0:
        raise ConversionError("diffusers' MMAudioVAE has the natural logarithm built in: it cannot be the 16k model.")
    mel = MMAudioMelSpectrogram(config["sampling_rate"], config["n_fft"], config["num_mels"], config["hop_length"])
    buffers = {f"mel_converter.{name}": tensor for name, tensor in mel.state_dict().items()}
    step = Step({name: tensor.to("meta") for name, tensor in buffers.items()}, lambda: list(buffers.values()))
    same = ("latent_channels", "hidden_channels", "channel_multipliers", "layers_per_block", "n_fft", "hop_length")
    settings = {name: config[name] for name in same}
    settings |= {"mel_bins": config["num_mels"], "sample_rate": config["sampling_rate"]}
    text = {"_class_name": MMAudioVAE.__name__, "_diffusers_version": __version__, **settings}
    return replace(plan, steps=[*plan.steps, step], files={"config.json": json.dumps(text, indent=2) + "\n"})


def vocoder(
    checkpoint: Checkpoint, to: str = "jova", audio_mode: str | None = None, config: Mapping[str, Any] | None = None
) -> Plan:
    """Return the plan of a BigVGAN generator in another layout.

    Args:
        checkpoint: NVIDIA's or MMAudio's file with any kind of weight norm, or a `BigVGANVocoder`.
        to: "jova" (`BigVGANVocoder`), or "bigvgan" (the original's names, weight norm removed).
        audio_mode: "16k" or "44k": one of MMAudio's two vocoders.
        config: NVIDIA's config.json; None takes the one beside the file, else goes by `audio_mode` or the mel bands.

    Raises:
        ConversionError: If it is no such generator, or the config does not fit it.
    """
    metas = {name: info.meta() for name, info in checkpoint.infos.items()}
    try:
        tensors = bigvgan.to_diffusers(metas)
        config = config or checkpoint.config or None
        bands = tensors["conv_pre.weight"].shape[1] if "conv_pre.weight" in tensors else None
        vocoders = {mode: known.vocoder for mode, known in AUDIO_MODES.items()}
        guessed = [mode for mode, known in vocoders.items() if audio_mode == mode or known["num_mels"] == bands]
        mode = audio_mode or next(iter(guessed), None)
        if config is None and mode is None:
            raise ConversionError("the mel bands tell neither 16k (80) nor 44k (128): pass --audio_mode or --config.")
        settings = bigvgan.vocoder_config(tensors, config or vocoders[mode])
        model = meta_model(BigVGANVocoder, settings)
    except (ValueError, KeyError, TypeError) as error:
        raise ConversionError(f"{checkpoint.path.name}: {error}") from error
    report = Report.compare({name: tuple(t.shape) for name, t in tensors.items()}, shapes_of(model), {})
    note_sources(report, [checkpoint])
    if config is None and audio_mode is None:
        report.notes.append(f"taken for MMAudio's {mode} vocoder by its mel bands; else pass --config")

    def make() -> list[torch.Tensor]:
        converted = bigvgan.to_diffusers(dict(checkpoint))
        return list((converted if to == "jova" else bigvgan.to_original(converted)).values())

    outputs = tensors if to == "jova" else {k: t.to("meta") for k, t in bigvgan.to_original(tensors).items()}
    plan = Plan(report, [Step(outputs, make)], checkpoint.files, metadata={"key_map": "bigvgan-1"})
    if to == "jova":
        return replace(plan, files={"config.json": model.to_json_string()})
    settings = {name: value for name, value in model.config.items() if not name.startswith("_")}
    text = json.dumps({"resblock": "1", **settings}, indent=2) + "\n"
    return replace(plan, weights_name="bigvgan_generator", files={"config.json": text})
