# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Compute what a voice for a Wan costs, without weights and without a GPU: memory, tokens and FLOPs of each stage:

    python benchmarks/wan_costs.py

Memory is the arithmetic of `train --dry_run`, FLOPs are counted by torch on the same model without content. Both are
straight lines in the number of blocks from the second on, and memory in that of tokens; so they are counted for two
and three blocks and for two lengths, and continued (`--check` compares with a whole model, in a minute).
FLOPs are those of the model's matrix products, forward and backward, without what checkpointing computes again.
"""

import argparse
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from accelerate import init_empty_weights
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from diffusers_jova import compat
from diffusers_jova.cli.dispatch import parse
from diffusers_jova.cli.training import settings_of
from diffusers_jova.command import run
from diffusers_jova.models.branches import branch_config, public
from diffusers_jova.models.transformer_jova_wan import JoVAWanTransformer3DModel
from diffusers_jova.models.value_checks import without_value_checks
from diffusers_jova.models.wan_base import CLEAN_FRAME_CHANNELS
from diffusers_jova.presets import WAN_PRESETS, wan_call_defaults
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.memory import GIB, BatchShape, MemoryEstimate, estimate_memory, fake_inputs, outline_of


AUDIO_RATE, TEXT_LENGTH = 44100 / 1024, 512
CARDS = {"24 GB": 23.0, "48 GB": 46.5, "80 GB": 78.5}  # GiB that a process can take, about 1 less than the card has
SMALL_SIZES = ((512, 512), (256, 256))  # height and width in pixels
LONGEST = 481  # frames: 30 s
STAGES = {
    "stage 1, audio": ["--config", "wan_stage1_audio"],
    "stage 2, video LoRA": ["--config", "wan_stage2"],
    "stage 2, video frozen": ["--config", "wan_stage2", "--video_lora_rank", "none", "--freeze_video"],
    "stage 2, both whole": ["--config", "wan_stage2", "--video_lora_rank", "none"],
}
PRESETS = ["jova-wan-1.3b", "jova-wan-5b", "jova-wan-14b"]
H100 = 989e12  # FLOPs per second, bfloat16, dense


class Base:
    """What a Wan makes: the latents of its VAE, and its own clips.

    Args:
        preset: A name of `WAN_PRESETS`.
    """

    def __init__(self, preset: str):
        config = WAN_PRESETS[preset]
        call = wan_call_defaults(condition_fill=config.get("condition_fill", "black"))
        self.channels = config.get("out_channels", 16)
        self.spatial = 16 if self.channels == CLEAN_FRAME_CHANNELS else 8  # pixels per latent row and column
        self.frame_rate, self.num_frames = call["frame_rate"], call["num_frames"]
        self.size = (call["height"], call["width"])

    @property
    def clip(self) -> str:
        return "{} frames at {} x {}".format(self.num_frames, *self.size)

    def shape(self, num_frames: int | None = None, size: tuple[int, int] | None = None) -> BatchShape:
        """Return the shape of a batch of one clip, its own by default, with audio at 44.1 kHz."""
        num_frames, (height, width) = num_frames or self.num_frames, size or self.size
        video = (self.channels, (num_frames - 1) // 4 + 1, height // self.spatial, width // self.spatial)
        audio = (40, round(num_frames / self.frame_rate * AUDIO_RATE))
        return BatchShape(1, video, audio, ((TEXT_LENGTH, 4096), None))


def stage_config(stage: str, *flags: str) -> TrainingConfig:
    flags = ["--model", "m", "--cache_dir", "c", "--output_dir", "o", *STAGES[stage], *flags]
    return settings_of(parse("train", flags), TrainingConfig)


def model_config(preset: str, config: TrainingConfig, num_layers: int | None = None) -> dict[str, Any]:
    """Return the config of the transformer that a stage trains."""
    with init_empty_weights():
        model = JoVAWanTransformer3DModel(**WAN_PRESETS[preset] | {"num_layers": 1})
    own = public(model.config) | {"num_layers": num_layers or WAN_PRESETS[preset].get("num_layers", 40)}
    return own if config.branch == "joint" else branch_config(own, config.branch)


def shape_for(config: TrainingConfig, shape: BatchShape) -> BatchShape:
    """Return what the stage sees of a batch."""
    return shape if config.branch == "joint" else BatchShape(shape.batch_size, None, shape.audio, shape.texts)


def continued(count: Callable[[int], dict[str, float]], num_layers: int) -> dict[str, float]:
    """Return the straight line through `count(2)` and `count(3)` at `num_layers`."""
    two, three = count(2), count(3)
    return {name: two[name] + (num_layers - 2) * (three[name] - two[name]) for name in two}


@cache
def memory_of(preset: str, config: TrainingConfig, shape: BatchShape, num_shards: int = 1) -> MemoryEstimate:
    """Return the estimate of `train --dry_run` on a GPU, for many batches per step."""

    def count(layers: int) -> dict[str, float]:
        own = model_config(preset, config, layers)
        return estimate_memory(own, shape_for(config, shape), config, device="cuda", num_shards=num_shards).sizes

    num_layers = model_config(preset, config)["num_layers"]
    sizes = continued(count, num_layers)
    return MemoryEstimate(**{name: int(size) for name, size in sizes.items()}, accumulates=True)


def flops_of(preset: str, config: TrainingConfig, shape: BatchShape) -> float:
    """Return the FLOPs of one clip, forward and backward."""

    def count(layers: int) -> dict[str, float]:
        seen, counter = shape_for(config, shape), FlopCounterMode(display=False)
        with compat.load("FakeTensorMode")(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
            transformer = outline_of(model_config(preset, config, layers), config, torch.float32)
            transformer.gradient_checkpointing = False
            with counter, torch.autocast("cpu", torch.bfloat16), without_value_checks():  # there are no values
                outputs = transformer(**fake_inputs(transformer, seen), return_dict=False)
                sum(output.float().square().mean() for output in outputs if output is not None).backward()
        return {"flops": counter.get_total_flops()}

    return continued(count, model_config(preset, config)["num_layers"])["flops"]


def longest_clip(preset: str, config: TrainingConfig, size: tuple[int, int], limit: float) -> int:
    """Return the most frames, 4k + 1, of which one clip fits into `limit` GiB; 0 where none does."""
    shapes = (Base(preset).shape(num_frames, size) for num_frames in (17, 81))
    short, long = (memory_of(preset, config, shape).peak / GIB for shape in shapes)
    per_frame = (long - short) / 64
    most = 17 + int((limit - short) / per_frame // 4 * 4)
    return 0 if most < 1 else min(most, LONGEST)


def number_of_tokens(shape: BatchShape) -> tuple[int, int]:
    """Return the video tokens and the audio tokens of one clip."""
    _, frames, height, width = shape.video
    return frames * (height // 2) * (width // 2), shape.audio[1]


def print_memory(preset: str) -> None:
    base = Base(preset)
    sizes = (base.size, *SMALL_SIZES)
    print(f"\n{preset}: GiB of one clip of {base.clip}, --use_8bit_adam; then the most frames that fit\n")
    columns = " | ".join(f"{card}, {height} x {width}" for card in CARDS for height, width in sizes)
    print(f"| stage | GiB | {columns} |\n|{'---|' * (2 + len(CARDS) * len(sizes))}")
    for stage in STAGES:
        config = stage_config(stage, "--use_8bit_adam")
        peak = memory_of(preset, config, base.shape()).peak / GIB
        cells = []
        for limit in CARDS.values():
            if config.branch == "audio":  # the size of the video does not matter
                cells += ["fits" if peak <= limit else "-"] * len(sizes)
            else:
                cells += [str(longest_clip(preset, config, size, limit) or "-") for size in sizes]
        print(f"| {stage} | {peak:.1f} | {' | '.join(cells)} |", flush=True)


def print_cards(preset: str) -> None:
    print(f"\n{preset}: cards of 80 GB that share the weights (FSDP, AdamW of 32 bits), {Base(preset).clip}\n")
    print("| stage | cards | GiB on each |\n|---|---|---|")
    for stage in STAGES:
        config, shape = stage_config(stage), Base(preset).shape()
        for number in (1, 2, 4, 8, 16):
            peak = memory_of(preset, config, shape, number).peak / GIB
            if peak <= CARDS["80 GB"]:
                print(f"| {stage} | {number} | {peak:.1f} |", flush=True)
                break


def print_compute(preset: str, mfu: float) -> None:
    print(f"\n{preset}: {Base(preset).clip}; hours of an H100 at {mfu:.0%} of {H100 / 1e12:.0f} TFLOPs\n")
    columns = ("stage", "clips", "tokens of a clip", "PFLOPs of a clip", "PFLOPs in all", "H100 hours")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for stage in STAGES:
        config, shape = stage_config(stage), Base(preset).shape()
        clips = config.max_train_steps * config.global_batch_size
        video, audio = number_of_tokens(shape)
        tokens = audio if config.branch == "audio" else video + audio
        flops = flops_of(preset, config, shape)
        hours = clips * flops / (H100 * mfu) / 3600
        print(
            f"| {stage} | {clips:,} | {tokens:,} | {flops / 1e15:.4g} | {clips * flops / 1e15:,.0f} | {hours:,.0f} |",
            flush=True,
        )


def check(preset: str) -> None:
    """Compare the continued lines with a whole model."""
    config, shape = stage_config("stage 2, video LoRA", "--use_8bit_adam"), Base(preset).shape()
    whole = estimate_memory(model_config(preset, config), shape, config, device="cuda", accumulates=True)
    line = memory_of(preset, config, shape)
    print(f"{preset}, stage 2: {whole.peak / GIB:.3f} GiB of a whole model, {line.peak / GIB:.3f} GiB continued")


def main(args: argparse.Namespace) -> None:
    if args.check:
        return check(args.preset[0])
    for preset in args.preset:
        print_memory(preset)
        print_cards(preset)
        print_compute(preset, args.mfu)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", nargs="+", default=PRESETS, choices=sorted(WAN_PRESETS))
    parser.add_argument("--mfu", type=float, default=0.35, help="part of the H100's FLOPs that the model gets")
    parser.add_argument("--check", action="store_true", help="compare with a model of all its blocks, and stop")
    sys.exit(run(main, parser.parse_args()))
