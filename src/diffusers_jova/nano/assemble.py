# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The components of a small model one after the other, and the pipeline's folder of them; jova-nano's recipe."""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKLWan, FlowMatchEulerDiscreteScheduler, ModelMixin
from transformers import Qwen2Model, Qwen2Tokenizer, T5EncoderModel, T5Tokenizer

from ..data.round_trip import log_mel_error, video_psnr
from ..files import whole_folder
from ..models import VOCODERS
from ..models.autoencoder_mmaudio import AutoencoderMMAudio
from ..models.transformer_jova import PRESETS, JoVATransformer3DModel
from ..models.vocoder_bigvgan import BigVGANVocoder
from ..models.vocoder_griffin_lim import GriffinLimVocoder
from ..pipeline_folder import find_model
from ..pipelines.pipeline_jova import JoVAPipeline
from ..pipelines.random_pipeline import NANO_DEFAULTS
from .autoencoders import (
    AUDIO_KL_WEIGHT,
    AUDIO_VAE,
    MOTION_WEIGHT,
    VIDEO_VAE,
    copy_fitting,
    read_clips,
    read_waveforms,
    refine_audio_decoder,
    save_component,
    train_audio_vae,
    train_video_vae,
)
from .corpus import make_frames, make_waveform, plan_clip
from .settings import COMPONENTS
from .sharpening import sharpen_decoder
from .speech import DIGITS
from .text_encoders import make_prompts, train_qwen, train_t5, train_tokenizers
from .vocoder import train_vocoder


logger = logging.getLogger(__name__)

NUM_CLIPS = 3000  # of the corpus, that VAEs and vocoder learn from at most
LAST_FOLDER = {"text": "text_encoder_2", "video_vae": "vae", "audio_vae": "audio_vae", "vocoder": "vocoder"}
# The sampler: the shift of its noise levels, and new noise in every step, which corrects words laid out wrongly.
SCHEDULER = {"shift": 5.0, "stochastic_sampling": True}

Clips = Iterable[tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Recipe:
    """What a small model is made of.

    Attributes:
        size: of its frames, in pixels.
        steps: of training, of each component that is trained before the transformer, in this order.
        train_text: trains tokenizers and text encoders on a corpus and writes their folders; of the corpus, the
            folder, steps and seed.
        video_vae: config of its `AutoencoderKLWan`.
        transformer: config of its `JoVATransformer3DModel`.
        defaults: of a pipeline's call while it is trained.
        settings: what a packed pipeline says beside.
        held_out: makes clips that nothing was trained on, each frames (N, H, W, 3) uint8 and audio (N,).
        scheduler: config of its `FlowMatchEulerDiscreteScheduler`.
        starts_from: another model, whose weights VAEs and transformer start from wherever their shapes are their own.
        audio_vae: config of its `AutoencoderMMAudio`.
        audio_kl_weight: see `train_audio_vae`.
        audio_refinement: steps of `refine_audio_decoder` after those of the audio VAE, over their number.
        audio_split: of the corpus, from which audio VAE and vocoder learn.
        motion_weight: see `train_video_vae`.
        sharpening: steps of `sharpen_decoder` after those of the video VAE, over their number.
        last_folder: which folder says that a component is trained.
    """

    size: int
    steps: Mapping[str, int]
    train_text: Callable[[Path, Path, int, int], None]
    video_vae: Mapping[str, Any]
    transformer: Mapping[str, Any]
    defaults: Mapping[str, Any]
    settings: Mapping[str, Any]
    held_out: Callable[[], Clips]
    scheduler: Mapping[str, Any] = field(default_factory=SCHEDULER.copy)
    starts_from: str | None = None
    audio_vae: Mapping[str, Any] = field(default_factory=AUDIO_VAE.copy)
    audio_kl_weight: float = AUDIO_KL_WEIGHT
    audio_refinement: float = 0.0
    audio_split: str = "train"
    motion_weight: float = MOTION_WEIGHT
    sharpening: float = 0.0
    last_folder: Mapping[str, str] = field(default_factory=LAST_FOLDER.copy)

    def train_component(
        self, name: str, corpus: Path, output_dir: Path, num_steps: int, seed: int = 0, mixed_precision: str = "no"
    ) -> None:
        """Train one component on the corpus, unless its folder is there or `num_steps` is 0.

        Args:
            mixed_precision: "bf16" computes the video VAE, which takes most of the time, in bfloat16, and the
                refinement of the audio VAE's decoder.
        """
        if num_steps == 0:
            return
        folder = output_dir / self.last_folder[name]
        if folder.is_dir():
            logger.warning(f"{name}: `{folder}` exists and is kept; remove it to train it anew.")
            return
        output_dir.mkdir(parents=True, exist_ok=True)
        if name == "text":
            return self.train_text(corpus, output_dir, num_steps, seed)
        if name == "video_vae":
            frames, _ = read_clips(corpus / "train", self.size, NUM_CLIPS)
            start = self._start(AutoencoderKLWan, "vae")
            weight = self.motion_weight
            vae = train_video_vae(frames, num_steps, self.video_vae, 16, seed, mixed_precision, start, weight)
            if num_sharpened := round(self.sharpening * num_steps):
                sharpen_decoder(
                    vae, frames, num_sharpened, seed=seed, mixed_precision=mixed_precision, motion_weight=weight
                )
            return save_component(vae, folder)
        waveforms = read_waveforms(corpus / self.audio_split, NUM_CLIPS)
        if name == "audio_vae":
            start = self._start(AutoencoderMMAudio, "audio_vae")
            weight = self.audio_kl_weight
            audio_vae = train_audio_vae(waveforms, num_steps, 16, seed, start, self.audio_vae, weight)
            if num_refined := round(self.audio_refinement * num_steps):
                refine_audio_decoder(audio_vae, waveforms, num_refined, seed=seed, mixed_precision=mixed_precision)
            save_component(audio_vae, folder)
        else:
            audio_vae = AutoencoderMMAudio.from_pretrained(output_dir / "audio_vae")
            save_component(train_vocoder(audio_vae, waveforms, num_steps, seed=seed), folder)

    def _start(self, kind: type[ModelMixin], name: str) -> ModelMixin | None:
        if self.starts_from is None:
            return None
        return kind.from_pretrained(find_model(self.starts_from), subfolder=name)

    def assemble(self, output_dir: Path, seed: int = 0) -> None:
        """Write the rest of the pipeline's folder: a scheduler, a transformer that is to be trained, the index."""
        torch.manual_seed(seed)
        transformer = JoVATransformer3DModel(**self.transformer)
        copy_fitting(self._start(JoVATransformer3DModel, "transformer"), transformer)
        has_qwen = (output_dir / "tokenizer_2").is_dir()
        pipe = JoVAPipeline(
            tokenizer=T5Tokenizer.from_pretrained(output_dir / "tokenizer"),
            text_encoder=T5EncoderModel.from_pretrained(output_dir / "text_encoder"),
            tokenizer_2=Qwen2Tokenizer.from_pretrained(output_dir / "tokenizer_2") if has_qwen else None,
            text_encoder_2=Qwen2Model.from_pretrained(output_dir / "text_encoder_2") if has_qwen else None,
            vae=AutoencoderKLWan.from_pretrained(output_dir / "vae"),
            audio_vae=AutoencoderMMAudio.from_pretrained(output_dir / "audio_vae"),
            vocoder=load_vocoder(output_dir / "vocoder"),
            transformer=transformer,
            scheduler=FlowMatchEulerDiscreteScheduler(**self.scheduler),
            **self.defaults,
        )
        pipe.save_pretrained(output_dir)

    def measure_vaes(self, pipe: JoVAPipeline, num_clips: int) -> dict[str, dict]:
        """Return what metrics.json of each VAE says: what is left of clips that it has not seen."""
        psnrs_db, errors_db = [], []
        for frames, waveform in islice(self.held_out(), num_clips):
            psnrs_db.append(video_psnr(pipe.vae, frames))
            errors_db.append(log_mel_error(pipe.audio_vae, waveform))
        clips = {"clips": f"{num_clips} held-out clips of the corpus"}
        return {
            "vae": {"psnr_db": round(sum(psnrs_db) / num_clips, 2)} | clips,
            "audio_vae": {"log_mel_error_db": round(sum(errors_db) / num_clips, 2)} | clips,
        }

    def pack(self, pipe: JoVAPipeline, output_dir: Path, metrics: Mapping[str, dict] | None = None) -> None:
        """Write a pipeline with its settings and its parameters in float16; statistics, which are buffers, stay.

        float16 and not bfloat16: weights of this size fit its range, and it rounds eight times finer.

        Args:
            metrics: Of components, for a metrics.json beside their weights; see `data.round_trip`.
        """
        for component in pipe.components.values():
            if isinstance(component, torch.nn.Module):
                for parameter in component.parameters():
                    parameter.data = parameter.data.half()
        pipe.register_to_config(**self.settings)
        with whole_folder(output_dir, overwrite=True) as partial:
            pipe.save_pretrained(partial)
            for name, figures in (metrics or {}).items():
                text = json.dumps(figures, indent=2, sort_keys=True) + "\n"
                (partial / name / "metrics.json").write_text(text, encoding="utf-8")
            for path in partial.rglob("*.json"):
                _clean(path)


def _clean(path: Path) -> None:
    """Take out of a config where the parts lay on the machine that trained them, and in what they were saved."""
    written = json.loads(path.read_text(encoding="utf-8"))
    config = {name: value for name, value in written.items() if name != "_name_or_path"}
    if "dtype" in config:  # what transformers loads the weights in; diffusers loads the other parts in float32
        config["dtype"] = "float32"
    if config != written:
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def load_vocoder(folder: Path) -> BigVGANVocoder | GriffinLimVocoder:
    """Return the vocoder in a folder; where there is none, the one that needs no training."""
    if not folder.is_dir():
        return GriffinLimVocoder()
    classes = {cls.__name__: cls for cls in VOCODERS}
    return classes[GriffinLimVocoder.load_config(folder)["_class_name"]].from_pretrained(folder)


def _train_text(corpus: Path, output_dir: Path, num_steps: int, seed: int) -> None:
    prompts = make_prompts(20_000, seed)
    tokenizer, tokenizer_2 = train_tokenizers(prompts)
    save_component(tokenizer, output_dir / "tokenizer")
    save_component(tokenizer_2, output_dir / "tokenizer_2")
    save_component(train_t5(tokenizer, prompts, num_steps, seed=seed), output_dir / "text_encoder")
    save_component(train_qwen(tokenizer_2, prompts, num_steps, seed=seed), output_dir / "text_encoder_2")


def _held_out() -> Clips:
    for plan in (plan_clip("held_out", index) for index in count()):
        waveform = make_waveform(plan)
        yield make_frames(plan, waveform, NANO.size), waveform


# What a packed pipeline's call does by default; training/nano/report.py compares numbers of steps.
BEST_SETTINGS = {"num_inference_steps": 30, "guidance_scale": 3.0, "audio_guidance_scale": 3.5}
# All of what a call does by default, and the words of the corpus. A converted Wan has Wan's own defaults until it has
# learnt the clips of the corpus.
SETTINGS: dict[str, Any] = NANO_DEFAULTS | BEST_SETTINGS | {"prompt_format": "labelled"}
SETTINGS["known_words"] = {"digit": list(DIGITS)}

NANO = Recipe(
    size=64,
    steps=COMPONENTS["nano"],
    train_text=_train_text,
    video_vae=VIDEO_VAE,
    # Each frame has its own latent frame (see autoencoders.VIDEO_VAE): 16 noisy + 16 image + 1 mask channels.
    transformer=PRESETS["jova-nano"] | {"in_channels": 33, "vae_temporal_compression": 1},
    defaults=NANO_DEFAULTS,
    settings=SETTINGS,
    held_out=_held_out,
)
