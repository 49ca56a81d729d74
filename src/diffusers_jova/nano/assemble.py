# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The components of jova-nano one after the other, and the pipeline's folder of them."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler
from transformers import Qwen2Model, Qwen2Tokenizer, T5EncoderModel, T5Tokenizer

from ..data.round_trip import log_mel_error, video_psnr
from ..files import whole_folder
from ..models import VOCODERS
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.transformer_jova import PRESETS, JoVATransformer3DModel
from ..models.vocoder_bigvgan import BigVGANVocoder
from ..models.vocoder_griffin_lim import GriffinLimVocoder
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.random_pipeline import NANO_DEFAULTS
from .autoencoders import read_clips, save_component, train_audio_vae, train_video_vae
from .corpus import make_frames, make_waveform, plan_clip
from .text_encoders import make_prompts, train_qwen, train_t5, train_tokenizers
from .vocoder import train_vocoder


logger = logging.getLogger(__name__)

SIZE = 64  # pixels
# Each frame has its own latent frame (see autoencoders.VIDEO_VAE): 16 noisy + 16 image + 1 mask channels.
TRANSFORMER = PRESETS["jova-nano"] | {"in_channels": 33, "vae_temporal_compression": 1}
# The sampler: the shift of its noise levels, and new noise in every step, which corrects words laid out wrongly.
SCHEDULER = {"shift": 5.0, "stochastic_sampling": True}
# What a packed pipeline's call does by default; training/nano/report.py compares numbers of steps.
BEST_SETTINGS = {"num_inference_steps": 30, "guidance_scale": 3.0, "audio_guidance_scale": 3.5}
# All of what a call does by default. A converted Wan has Wan's own until it has learnt the clips of the corpus.
SETTINGS: dict[str, Any] = NANO_DEFAULTS | BEST_SETTINGS | {"prompt_format": "labelled"}


def train_component(
    name: str, corpus: Path, output_dir: Path, num_steps: int, seed: int = 0, mixed_precision: str = "no"
) -> None:
    """Train one of `COMPONENTS` on the corpus, unless its folder is there or `num_steps` is 0.

    Args:
        mixed_precision: "bf16" computes the video VAE, which takes most of the time, in bfloat16.
    """
    if num_steps == 0:
        return
    if (output_dir / LAST_FOLDER[name]).is_dir():
        logger.warning(f"{name}: `{output_dir / LAST_FOLDER[name]}` exists and is kept; remove it to train it anew.")
        return
    output_dir.mkdir(parents=True, exist_ok=True)
    TRAINERS[name](corpus / "train", output_dir, num_steps, seed, mixed_precision)


def _text(clips: Path, output_dir: Path, num_steps: int, seed: int, mixed_precision: str) -> None:
    prompts = make_prompts(20_000, seed)
    tokenizer, tokenizer_2 = train_tokenizers(prompts)
    save_component(tokenizer, output_dir / "tokenizer")
    save_component(tokenizer_2, output_dir / "tokenizer_2")
    save_component(train_t5(tokenizer, prompts, num_steps, seed=seed), output_dir / "text_encoder")
    save_component(train_qwen(tokenizer_2, prompts, num_steps, seed=seed), output_dir / "text_encoder_2")


def _video_vae(clips: Path, output_dir: Path, num_steps: int, seed: int, mixed_precision: str) -> None:
    frames, _ = read_clips(clips, SIZE)
    vae = train_video_vae(frames, num_steps, seed=seed, mixed_precision=mixed_precision)
    save_component(vae, output_dir / "vae")


def _audio_vae(clips: Path, output_dir: Path, num_steps: int, seed: int, mixed_precision: str) -> None:
    _, waveforms = read_clips(clips, SIZE)
    save_component(train_audio_vae(waveforms, num_steps, seed=seed), output_dir / "audio_vae")


def _vocoder(clips: Path, output_dir: Path, num_steps: int, seed: int, mixed_precision: str) -> None:
    _, waveforms = read_clips(clips, SIZE)
    audio_vae = AutoencoderMMAudio.from_pretrained(output_dir / "audio_vae")
    save_component(train_vocoder(audio_vae, waveforms, num_steps, seed=seed), output_dir / "vocoder")


TRAINERS = {"text": _text, "video_vae": _video_vae, "audio_vae": _audio_vae, "vocoder": _vocoder}
LAST_FOLDER = {"text": "text_encoder_2", "video_vae": "vae", "audio_vae": "audio_vae", "vocoder": "vocoder"}


def assemble(output_dir: Path, seed: int = 0) -> None:
    """Write the rest of the pipeline's folder: a scheduler, a transformer that has learnt nothing, the index."""
    torch.manual_seed(seed)
    pipe = JoVAPipeline(
        tokenizer=T5Tokenizer.from_pretrained(output_dir / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(output_dir / "text_encoder"),
        tokenizer_2=Qwen2Tokenizer.from_pretrained(output_dir / "tokenizer_2"),
        text_encoder_2=Qwen2Model.from_pretrained(output_dir / "text_encoder_2"),
        vae=AutoencoderKLWan.from_pretrained(output_dir / "vae"),
        audio_vae=AutoencoderMMAudio.from_pretrained(output_dir / "audio_vae"),
        vocoder=load_vocoder(output_dir / "vocoder"),
        transformer=JoVATransformer3DModel(**TRANSFORMER),
        scheduler=FlowMatchEulerDiscreteScheduler(**SCHEDULER),
        **NANO_DEFAULTS,
    )
    pipe.save_pretrained(output_dir)


def load_vocoder(folder: Path) -> BigVGANVocoder | GriffinLimVocoder:
    """Return the vocoder in a folder; where there is none, the one that needs no training."""
    if not folder.is_dir():
        return GriffinLimVocoder()
    classes = {cls.__name__: cls for cls in VOCODERS}
    return classes[GriffinLimVocoder.load_config(folder)["_class_name"]].from_pretrained(folder)


def measure_vaes(pipe: JoVAPipeline, num_clips: int) -> dict[str, dict]:
    """Return what metrics.json of each VAE says: what is left of clips that it has not seen."""
    psnrs_db, errors_db = [], []
    for plan in (plan_clip("held_out", index) for index in range(num_clips)):
        waveform = make_waveform(plan)
        psnrs_db.append(video_psnr(pipe.vae, make_frames(plan, waveform, SIZE)))
        errors_db.append(log_mel_error(pipe.audio_vae, waveform))
    clips = {"clips": f"{num_clips} held-out clips of the corpus"}
    return {
        "vae": {"psnr_db": round(sum(psnrs_db) / num_clips, 2)} | clips,
        "audio_vae": {"log_mel_error_db": round(sum(errors_db) / num_clips, 2)} | clips,
    }


def pack(pipe: JoVAPipeline, output_dir: Path, metrics: Mapping[str, dict] | None = None) -> None:
    """Write a pipeline with `SETTINGS` and its parameters in float16; statistics, which are buffers, stay.

    float16 and not bfloat16: weights of this size fit its range, and it rounds eight times finer.

    Args:
        metrics: Of components, for a metrics.json beside their weights; see `data.round_trip`.
    """
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            for parameter in component.parameters():
                parameter.data = parameter.data.half()
    pipe.register_to_config(**SETTINGS)
    with whole_folder(output_dir, overwrite=True) as partial:
        pipe.save_pretrained(partial)
        for name, figures in (metrics or {}).items():
            text = json.dumps(figures, indent=2, sort_keys=True) + "\n"
            (partial / name / "metrics.json").write_text(text, encoding="utf-8")
        for path in partial.rglob("*.json"):
            written = json.loads(path.read_text(encoding="utf-8"))
            # where the parts lay on the machine that trained them is nobody's business
            config = {name: value for name, value in written.items() if name != "_name_or_path"}
            if "dtype" in config:  # what transformers loads the weights in; diffusers loads the other parts in float32
                config["dtype"] = "float32"
            if config != written:
                path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
