# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A small pipeline and caches of random latents, for the tests of training."""

import json
import multiprocessing
import runpy
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState, GradientState
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file
from wan_parts import make_wan22_vae, make_wan_transformer

from diffusers_jova import BigVGANVocoder, JoVAPipeline
from diffusers_jova.cli.dispatch import parse
from diffusers_jova.cli.training import settings_of
from diffusers_jova.data import cache
from diffusers_jova.models.wan_base import transformer_from_wan
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.dataset import Visit, collate
from diffusers_jova.training.train_lora import train_lora


REPOSITORY = Path(__file__).parents[1]
TINY = {"num_attention_heads": 2, "attention_head_dim": 32, "num_layers": 1, "num_single_layers": 1}
FRAME_RATE, SAMPLING_RATE, TEXT_DIM = 12.5, 16000, 128
CALL_DEFAULTS = {"height": 32, "width": 32, "num_frames": 5, "frame_rate": FRAME_RATE, "num_inference_steps": 2}


def save_tiny_pipeline(folder, **transformer_config):
    """Write a whole pipeline with a transformer of two blocks and return its folder; it makes clips in no time."""
    parts = create_pipeline(**{**TINY, **transformer_config}).components
    torch.manual_seed(0)
    parts["vae"] = AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1)
    small = {"resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1,),)}
    parts["vocoder"] = BigVGANVocoder(upsample_initial_channel=64, **small)
    JoVAPipeline(**parts, **CALL_DEFAULTS, guidance_scale=3.0).save_pretrained(folder)
    return folder


def save_wan_base(folder, in_channels=16):
    """Write a pipeline whose transformer stands on a tiny Wan, with a 16 kHz audio branch and one text encoder.

    The Wan has 16 channels in, 36 for images, or 48, in and out, like Wan2.2-TI2V-5B with its VAE.
    """
    torch.manual_seed(0)
    pipe = create_pipeline(num_attention_heads=1, num_layers=1, num_single_layers=1)
    channels = {"in_channels": in_channels, "out_channels": 48 if in_channels == 48 else 16}
    transformer = transformer_from_wan(make_wan_transformer(text_dim=TEXT_DIM, **channels), "16k")
    parts = pipe.components | {"transformer": transformer, "text_encoder_2": None, "tokenizer_2": None}
    parts["vae"] = make_wan22_vae() if in_channels == 48 else pipe.vae
    JoVAPipeline(**parts, **CALL_DEFAULTS, prompt_format="plain").save_pretrained(folder)
    return folder


def sample_tensors(kind, num_frames=5, size=32, seed=0, has_mouth=True, encoders=("", "_2")):
    """Return the tensors of one cached clip."""
    generator = torch.Generator().manual_seed(seed)
    num_latents = (num_frames - 1) // 4 + 1

    def moments(*shape):
        return torch.cat([torch.randn(16 if len(shape) > 1 else 20, *shape, generator=generator), torch.full(
            (16 if len(shape) > 1 else 20, *shape), -4.0)])  # fmt: skip

    tensors = {
        name: torch.randn(length, TEXT_DIM, generator=generator)
        for name, length in (("prompt_embeds", 7 + seed % 3), ("prompt_embeds_2", 9))
        if name.removeprefix("prompt_embeds") in encoders
    }
    if kind != "audio":
        boxes = torch.full((num_frames, 4), float("nan"))
        if has_mouth:
            boxes[:] = torch.tensor([8.0, 16.0, 24.0, 24.0])
        tensors |= {
            "video_moments": moments(num_latents, size // 8, size // 8),
            "image_moments": moments(1, size // 8, size // 8),
            "mouth_boxes": boxes,
        }
    if kind != "video":
        num_audio = -(-num_frames * 5 // 2)  # 31.25 latents per second, 12.5 frames
        tensors["audio_moments"] = moments(num_audio)
    return tensors


def write_cache(
    folder, model=None, kinds=("both",), num_frames=5, size=32, variants=(), has_mouth=True, encoders=("", "_2")
):
    """Write a cache with one clip per entry of `kinds` and return its folder; `encoders` are those of the texts."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for index, kind in enumerate(kinds):
        tensors = sample_tensors(kind, num_frames, size, index, has_mouth, encoders)
        for variant in variants:
            tensors |= {
                f"prompt_embeds{suffix}.{variant}": torch.full((3, TEXT_DIM), float(index)) for suffix in encoders
            }
        row = {
            "key": f"clip{index:03d}",
            "source": f"clip{index:03d}.mp4",
            "kind": kind,
            "num_frames": num_frames if kind != "audio" else None,
            "height": size if kind != "audio" else None,
            "width": size if kind != "audio" else None,
            "frame_rate": FRAME_RATE,
            "num_samples": round(num_frames / FRAME_RATE * SAMPLING_RATE) if kind != "video" else None,
            "duration_s": num_frames / FRAME_RATE,
            "has_mouth": has_mouth and kind != "audio",
            "faces": 1,
            "video_caption": "a face",
            "audio_caption": "a voice",
            "transcript": "three seven",
        }
        cache.write_sample(folder, row, tensors)
    generator = torch.Generator().manual_seed(99)
    shared = {f"unconditional.prompt_embeds{s}": torch.randn(4, TEXT_DIM, generator=generator) for s in encoders}
    black = torch.cat(
        [
            torch.randn(16, 1, size // 8, size // 8, generator=generator),
            torch.full((16, 1, size // 8, size // 8), -4.0),
        ]
    )
    cache.write_shared(folder, shared | {f"black.{size}x{size}": black})
    cache.write_index(folder)
    models = cache.model_fingerprint(model) if model is not None else {}
    cache.write_fingerprint(folder, {"models": models, "settings": {}})
    return folder


def make_config(**settings):
    """Return settings of training without files, for single steps."""
    return TrainingConfig(model="m", cache_dir="c", output_dir="o", **{"caption_dropout": 0.0, **settings})


def make_batch(clips, *visits):
    """Return the batch of visits, each (number of a clip, number of the visit)."""
    return collate([clips[Visit(f"clip{key:03d}", number)] for key, number in visits])


class Recorder:
    """Stands where the transformer stands: keeps what it is given and predicts zero, in 16 channels or others."""

    def __init__(self, channels=16):
        self.channels = channels

    def __call__(self, **inputs):
        self.inputs = inputs
        video, audio = inputs["hidden_states"], inputs["audio_hidden_states"]
        return (None if video is None else 0 * video[:, : self.channels], None if audio is None else 0 * audio)


def start_script(script, *flags):
    """Start a training script as `python training/SCRIPT` would, and return its process.

    It is a copy of this one, since importing everything takes longer than training does.
    """

    def main():
        forget_accelerate()
        sys.argv = [script, *map(str, flags)]
        runpy.run_path(str(REPOSITORY / "training" / script), run_name="__main__")

    process = multiprocessing.get_context("fork").Process(target=main)
    process.start()
    return process


def run(program, model, cache_dir, output_dir, *flags):
    """Call `train.train` or `train_lora.train_lora` with flags in this process, and return the run's metrics."""
    forget_accelerate()
    cls = LoraTrainingConfig if program is train_lora else TrainingConfig
    flags = ["--model", model, "--cache_dir", cache_dir, "--output_dir", output_dir, *flags]
    program(parse_config(cls, [str(flag) for flag in flags]))
    return read_metrics(output_dir)


def read_metrics(output_dir):
    path = Path(output_dir) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def weights(folder):
    """Return the tensors of the one safetensors file in a folder."""
    return load_file(next(Path(folder).glob("*.safetensors")))


def parse_config(cls, flags):
    """Return the settings that a verb takes from flags."""
    verb = {TrainingConfig: "train", LoraTrainingConfig: "train-lora"}[cls]
    return settings_of(parse(verb, flags), cls)


def forget_accelerate():
    """Let the next run in this process start anew."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def hide_accelerators(monkeypatch):
    """Let accelerate run on CPU, alone, whatever the machine has."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
