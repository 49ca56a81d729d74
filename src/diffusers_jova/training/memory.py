# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How much memory a run will take, worked out before anything is loaded.

The model is built from its config with tensors that have shapes but no content, and one forward pass over the largest
batch tells which activations autograd keeps: a count, not a rule of thumb.
"""

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn as nn
from accelerate import Accelerator
from diffusers import ModelMixin
from safetensors import safe_open

from .. import compat
from ..data.cache import readable, sample_path
from ..live_memory import GIB, default_dtype
from ..machine import free_memory
from ..models.value_checks import without_value_checks
from .accelerator import is_sharded
from .adapters import (
    KEEP_UNQUANTIZED,
    find_lora_targets,
    find_video_targets,
    keep_video,
    matches,
    weight_dtype,
)
from .config import LoraTrainingConfig, TrainingConfig
from .dataset import CachedClips
from .initialization import planned_config, transformer_class


logger = logging.getLogger(__name__)

# Bytes per weight of bitsandbytes' formats, scales included.
QUANTIZED_BYTES = {"nf4": 0.5 + 4 / 64, "int8": 1 + 4 / 1024}
SUGGESTIONS = {
    "gradient_checkpointing": "--gradient_checkpointing",
    "use_8bit_adam": "--use_8bit_adam",
}


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes of one process while it trains.

    `workspace` is what a single layer, or the optimizer's step, takes for a moment. `peak` is not the sum of all:
    gradients take the place of activations, unless `accumulates` says that those of an earlier batch are still there.
    """

    parameters: int
    gradients: int
    optimizer: int
    ema: int
    activations: int
    latents_per_batch: int
    workspace: int
    accumulates: bool = False

    @property
    def sizes(self) -> dict[str, int]:
        return {name: size for name, size in asdict(self).items() if name != "accumulates"}

    @property
    def peak(self) -> int:
        exchanged = 0 if self.accumulates else min(self.activations, self.gradients)
        return sum(self.sizes.values()) - exchanged


@dataclass(frozen=True)
class BatchShape:
    """Shapes of the largest batch; None for what the batch lacks."""

    batch_size: int
    video: tuple[int, ...] | None  # (C, F, H, W)
    audio: tuple[int, ...] | None  # (C, A)
    texts: tuple[tuple[int, int] | None, tuple[int, int] | None]  # (T, d) of each encoder


# --- before a run ---


def plan_memory(config: TrainingConfig, clips: CachedClips, accelerator: Accelerator) -> MemoryEstimate:
    """Return the estimate of one process's memory for the largest batch of `clips`."""
    return estimate_memory(
        planned_config(config),
        largest_batch(clips, config.train_batch_size),
        config,
        dtype=weight_dtype(config),
        device=accelerator.device.type,
        num_shards=accelerator.num_processes if is_sharded(accelerator) else 1,
        accumulates=accelerator.gradient_accumulation_steps > 1,
    )


def check_plan(config: TrainingConfig, clips: CachedClips, accelerator: Accelerator) -> None:
    """Log the estimate beside what is free.

    Raises:
        MemoryError: If the run does not fit.
    """
    estimate, free = plan_memory(config, clips, accelerator), free_memory(accelerator.device)
    check_memory(estimate, free, config)
    logger.info(f"Memory: about {estimate.peak / GIB:.2f} GiB of the {free / GIB:.1f} GiB that are free.")


def print_plan(config: TrainingConfig, clips: CachedClips, accelerator: Accelerator) -> None:
    """Print what a dry run is for: the clips and the memory."""
    estimate = plan_memory(config, clips, accelerator)
    if accelerator.is_main_process:
        kinds = Counter("both" if len(modalities) == 2 else modalities[0] for modalities in clips.modalities.values())
        print(f"{len(clips)} clips in {len(clips.buckets())} bucket(s): {dict(sorted(kinds.items()))}")
        print(f"memory of one process on {accelerator.device.type}, beside the idle program:")
        print(format_estimate(estimate))


# --- the estimate ---


def largest_batch(clips: CachedClips, batch_size: int) -> BatchShape:
    """Return the shape of the batch with the most latents, read from the headers of one file per bucket."""
    shapes = []
    for keys in clips.buckets():
        modalities = clips.modalities[keys[0]]
        path = sample_path(clips.cache_dir, keys[0])
        with readable(path), safe_open(path, framework="pt") as file:
            tensors = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            video = halve(tensors["video_moments"]) if "video" in modalities else None
            audio = halve(tensors["audio_moments"]) if "audio" in modalities else None
        texts = (tensors.get("prompt_embeds"), tensors.get("prompt_embeds_2"))
        shapes.append(BatchShape(batch_size, video, audio, texts))
    return max(shapes, key=lambda shape: count(shape.video) + count(shape.audio))


def halve(shape: Sequence[int]) -> tuple[int, ...]:
    """(2C, ...) of moments -> (C, ...) of latents"""
    return (shape[0] // 2, *shape[1:])


def count(shape: Sequence[int] | None) -> int:
    return 0 if shape is None else int(torch.Size(shape).numel())


def estimate_memory(
    transformer_config: dict[str, Any],
    shape: BatchShape,
    config: TrainingConfig,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    num_shards: int = 1,
    accumulates: bool = False,
) -> MemoryEstimate:
    """Return the memory of one process.

    Args:
        transformer_config: Of the model that will be trained: one branch or both.
        shape: The largest batch.
        config: Settings; those of a LoRA count its layers.
        dtype: Of the weights as they are loaded; see `adapters.weight_dtype`.
        device: "cpu" or "cuda": where optimizers work tensor by tensor, or on all tensors at once.
        num_shards: Over how many processes weights, gradients and optimizer are split (FSDP, ZeRO-3).
        accumulates: Whether an optimizer step takes several batches.
    """
    with compat.load("FakeTensorMode")(allow_non_fake_inputs=True):
        transformer = outline_of(transformer_config, config, dtype)
        activations, workspace = count_activations(transformer, shape, config)
    learning = [parameter for parameter in transformer.parameters() if parameter.requires_grad]
    gradients = sum(parameter.numel() * parameter.element_size() for parameter in learning)
    moments = 2 * sum(p.numel() * (1 if config.use_8bit_adam and p.numel() >= 4096 else 4) for p in learning)
    largest = max(parameter.numel() * parameter.element_size() for parameter in learning)
    # AdamW's step takes a few tensors of the size of what it works on; with 8 bits that is always one tensor
    step_workspace = gradients if device == "cuda" and not config.use_8bit_adam else 3 * largest
    latents = 4 * shape.batch_size * (count_inputs(shape) + sum(count(text) for text in shape.texts))
    return MemoryEstimate(
        parameters=count_parameters(transformer, config) // num_shards,
        gradients=gradients // num_shards,
        optimizer=moments // num_shards,
        ema=gradients // num_shards if config.use_ema else 0,
        activations=activations,
        latents_per_batch=latents,
        workspace=max(workspace, step_workspace // num_shards),
        accumulates=accumulates,
    )


def outline_of(transformer_config: dict[str, Any], config: TrainingConfig, dtype: torch.dtype) -> ModelMixin:
    """Return the transformer of a run, LoRA layers included, as it is about to learn. Called in a `FakeTensorMode`."""
    with default_dtype(dtype):
        transformer = transformer_class(transformer_config)(**transformer_config).train()
    if isinstance(config, LoraTrainingConfig):
        transformer.requires_grad_(False)
        add_outline_of_lora(transformer, find_lora_targets(transformer, config.lora_modalities), config.rank)
    if config.video_lora_rank is not None:
        add_outline_of_lora(transformer, find_video_targets(transformer), config.video_lora_rank)
    if config.keeps_video:
        keep_video(transformer, config)
    if config.gradient_checkpointing:
        transformer.enable_gradient_checkpointing()
    return transformer


class LoraOutline(nn.Module):
    """A linear layer, or a convolution over patches, with a LoRA beside it: PEFT's own needs tensors with content."""

    lora_A: nn.Linear | nn.Conv3d
    lora_B: nn.Linear | nn.Conv3d

    def __init__(self, layer: Any, rank: int):
        super().__init__()
        self.base_layer = layer
        if isinstance(layer, nn.Conv3d):
            patch: dict[str, Any] = {"kernel_size": layer.kernel_size, "stride": layer.stride}
            self.lora_A = nn.Conv3d(layer.in_channels, rank, **patch, bias=False)
            self.lora_B = nn.Conv3d(rank, layer.out_channels, 1, bias=False)
        else:
            self.lora_A = nn.Linear(layer.in_features, rank, bias=False)
            self.lora_B = nn.Linear(rank, layer.out_features, bias=False)

    @property
    def weight(self) -> torch.Tensor:
        return self.base_layer.weight  # as PEFT's: the timestep embedding reads its dtype

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.base_layer(hidden_states) + self.lora_B(self.lora_A(hidden_states.to(self.lora_A.weight.dtype)))


def add_outline_of_lora(transformer: ModelMixin, targets: list[str], rank: int) -> None:
    for name in targets:
        transformer.set_submodule(name, LoraOutline(transformer.get_submodule(name), rank))


def count_inputs(shape: BatchShape) -> int:
    """Return the numbers that a sample keeps beside the activations: moments, image, noise, target, model input."""
    # moments (2), latents, noise, noisy, target, then the 36 channels of which 16 are the latents: about 9 in all
    return 9 * count(shape.video) + 6 * count(shape.audio)


def count_parameters(transformer: ModelMixin, config: TrainingConfig) -> int:
    """Return the bytes of all weights, quantised ones as such."""
    number_format = getattr(config, "base_quantization", None)
    total = 0
    for name, parameter in transformer.named_parameters():
        size = parameter.element_size()
        is_block_weight = "transformer_blocks." in name and name.endswith("weight") and parameter.ndim == 2
        if number_format and is_block_weight and "lora_" not in name and not matches(name, KEEP_UNQUANTIZED):
            size = QUANTIZED_BYTES[number_format]
        total += parameter.numel() * size
    return int(total)


def count_activations(transformer: ModelMixin, shape: BatchShape, config: TrainingConfig) -> tuple[int, int]:
    """Return the bytes that autograd keeps of one forward pass, and the largest single block's share.

    With gradient checkpointing each block keeps its inputs only, and one block at a time is computed again.
    """
    parameters = {parameter.untyped_storage()._cdata for parameter in transformer.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}  # the storages are held, so that their addresses stay their own

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            kept[storage._cdata] = storage
        return tensor

    per_block = []

    def measure_block(module: nn.Module, args: tuple, kwargs: dict | None = None) -> None:
        per_block.append(sum(storage.nbytes() for storage in kept.values()))

    blocks = (*transformer.transformer_blocks, *getattr(transformer, "single_transformer_blocks", ()))
    hooks = [block.register_forward_pre_hook(measure_block) for block in blocks]
    is_checkpointing, transformer.gradient_checkpointing = transformer.gradient_checkpointing, False
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(config.mixed_precision)
    autocast = torch.autocast("cpu", dtype) if dtype is not None else nullcontext()
    keeping = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with autocast, keeping, without_value_checks():  # there are no values
        outputs = transformer(**fake_inputs(transformer, shape), return_dict=False)
        sum(output.float().square().mean() for output in outputs if output is not None)
    for hook in hooks:
        hook.remove()
    transformer.gradient_checkpointing = is_checkpointing
    total = sum(storage.nbytes() for storage in kept.values())
    largest_block = max((b - a for a, b in zip(per_block, [*per_block[1:], total])), default=0)
    if is_checkpointing:
        hidden = count_hidden_states(transformer, shape) * (2 if dtype is not None else 4)
        ends = per_block[0] + (total - per_block[-1] - largest_block if len(per_block) > 1 else 0)
        total = max(ends, 0) + len(blocks) * hidden + largest_block
    return total, largest_block // 2


def count_hidden_states(transformer: ModelMixin, shape: BatchShape) -> int:
    """Return the numbers in a block's input: tokens of all groups times the width."""
    config = transformer.config
    num_text_tokens = sum(text[0] for text in shape.texts if text is not None)
    if "text_len" in config:  # on a Wan base, blocks read the text beside their tokens
        num_text_tokens = 0
    num_tokens = 0
    if shape.video is not None:
        num_tokens += count(shape.video[1:]) // count(config.patch_size) + num_text_tokens
    if shape.audio is not None:
        num_tokens += shape.audio[1] + num_text_tokens
    return shape.batch_size * num_tokens * config.num_attention_heads * config.attention_head_dim


def fake_inputs(transformer: ModelMixin, shape: BatchShape) -> dict[str, torch.Tensor | None]:
    batch_size, config = shape.batch_size, transformer.config
    video = audio = None
    timestep = torch.zeros(batch_size)
    if shape.video is not None:
        video = torch.zeros(batch_size, config.in_channels, *shape.video[1:])
        if config.get("condition_fill") == "noisy":
            timestep = torch.zeros(batch_size, shape.video[1])
    if shape.audio is not None:
        audio = torch.zeros(batch_size, *shape.audio)
    texts = [None if text is None else torch.zeros(batch_size, *text) for text in shape.texts]
    return {
        "hidden_states": video,
        "audio_hidden_states": audio,
        "encoder_hidden_states": texts[0],
        "encoder_hidden_states_2": texts[1],
        "timestep": timestep,
        "audio_timestep": torch.zeros(batch_size),
    }


def format_estimate(estimate: MemoryEstimate) -> str:
    """Return the estimate as lines to print."""
    rows = {name.replace("_", " "): size for name, size in estimate.sizes.items()} | {"peak": estimate.peak}
    return "\n".join(f"{name:<18} {size / GIB:9.3f} GiB" for name, size in rows.items())


def check_memory(estimate: MemoryEstimate, free: int, config: TrainingConfig) -> None:
    """Raise MemoryError where the estimate exceeds the free memory, with what would make the run smaller."""
    if estimate.peak <= free or config.ignore_memory_estimate:
        return
    remedies = [flag for name, flag in SUGGESTIONS.items() if not getattr(config, name)]
    if config.train_batch_size > 1:
        remedies.append("--train_batch_size 1")
    if isinstance(config, LoraTrainingConfig):
        remedies += ["--base_quantization nf4"] * (config.base_quantization is None)
    elif config.branch == "joint" and not config.keeps_video:
        remedies.append("--video_lora_rank 64")
    raise MemoryError(
        f"This run needs about {estimate.peak / GIB:.1f} GiB, but {free / GIB:.1f} GiB are free:\n"
        f"{format_estimate(estimate)}\nTry {', '.join([*remedies, 'shorter or smaller clips'])}, more GPUs with "
        "training/configs/fsdp2.yaml, or start anyway with --ignore_memory_estimate."
    )
