# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What of the transformer learns: all of it, LoRA layers per modality, or the audio branch beside a video branch that
stays; and which parameter belongs to which modality."""

import importlib.util
import json
import math
import os
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.nn as nn
from diffusers.loaders.lora_base import LORA_ADAPTER_METADATA_KEY
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import save_file

from ..files import whole_file
from ..models.branches import joining_tensors
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from ..pipelines.pipeline_jova import JoVAPipeline
from .config import LoraTrainingConfig, TrainingConfig


MODALITIES = ("video", "audio", "text")
LORA_FILE = "pytorch_lora_weights.safetensors"
ADAPTER = "default"
WEIGHT_DTYPES = {"no": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}  # of `mixed_precision`

# Attention's four projections, in both stages. In a single-stream block `video` serves the video's text as well. On a
# Wan base a branch has two attentions, and no streams of text.
LORA_LAYERS = r"\.(to_q|to_k|to_v|to_out\.0)$"
STREAMS = {"video": r"\.video(\.attn[12])?", "audio": r"\.audio(\.attn[12])?", "text": r"\.(video|audio)_text"}
# Where latents and image enter the video branch, by class: a Wan without an image has zeros for its channels here.
VIDEO_ENTRANCES = ("video_embedder.proj_in", "video.patch_embedding")

# Not quantised: what the model keeps in float32, and the ends, which are small.
KEEP_UNQUANTIZED = ("embedder", "patch_embedding", "proj_out", "norm_out", "modulation")


def modality_of(name: str) -> str:
    """Return "video", "audio" or "text", to which a parameter belongs by its path.

    The text's own streams and projections of both branches are "text". What serves a modality and its text alike, as
    the streams of the single-stream blocks and the timestep embedding do, counts for the modality.
    """
    if re.search(r"(video|audio)_text\.|\.text_embedder", name):
        return "text"
    return "audio" if re.search(r"(^|\.)audio(_|\.)", name) else "video"


def group_by_modality(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the names of parameters by modality; modalities without any are left out."""
    groups = defaultdict(list)
    for name in names:
        groups[modality_of(name)].append(name)
    return {modality: groups[modality] for modality in MODALITIES if modality in groups}


def weight_dtype(config: TrainingConfig) -> torch.dtype:
    """Return the number format in which weights are loaded: that of the forward pass for a LoRA's base, else float32.

    See `keep_video` for weights that stay beside others that learn.
    """
    return WEIGHT_DTYPES[config.mixed_precision] if isinstance(config, LoraTrainingConfig) else torch.float32


def choose_what_learns(transformer: JoVATransformer3DModel, config: TrainingConfig) -> None:
    """Freeze the video branch, and put a LoRA on it, where the settings of whole weights say so.

    Else the transformer stays as it is: all of it learns.
    """
    if not config.keeps_video:
        return
    if (rank := config.video_lora_rank) is not None:
        put_lora_on(transformer, find_video_targets(transformer), rank, rank, config.seed)
    keep_video(transformer, config)


def keep_video(transformer: JoVATransformer3DModel | JoVAWanTransformer3DModel, config: TrainingConfig) -> None:
    """Let the audio branch's weights learn, and of the video branch its LoRA, if it has one.

    With a LoRA learns, too, what joins the branches (see `branches`): it starts at zero, and without it the video
    would not see the audio. What does not learn takes the number format of the forward pass, as a LoRA's base does.
    """
    model_class, dtype = type(transformer), WEIGHT_DTYPES[config.mixed_precision]
    joining = set() if config.freeze_video else set(joining_tensors(model_class, transformer.config))
    for name, parameter in list(transformer.named_parameters()):
        learns = "lora_" in name or name in joining or model_class.video_name(name) is not None
        if not learns and not set(name.split(".")) & set(transformer._keep_in_fp32_modules or ()):
            parameter = nn.Parameter(parameter.detach().to(dtype))
            path, _, own_name = name.rpartition(".")
            setattr(transformer.get_submodule(path), own_name, parameter)
        parameter.requires_grad_(learns)


# --- LoRA ---


def find_lora_targets(transformer: nn.Module, lora_modalities: str) -> list[str]:
    """Return the paths of the linear layers that get LoRA layers.

    Args:
        transformer: The base model, without adapters.
        lora_modalities: "video", "audio", "text" or several with commas: the attention projections of these streams.
            Anything else is a regular expression, searched for in the paths of all linear layers.

    Raises:
        ValueError: If the expression is not valid, or a modality or the expression finds nothing.
    """
    linears = [name for name, module in transformer.named_modules() if is_linear(module)]
    parts = [part.strip() for part in lora_modalities.split(",")]
    if all(part in MODALITIES for part in parts):
        patterns = {part: STREAMS[part] + LORA_LAYERS for part in parts}
    else:
        patterns = {lora_modalities: lora_modalities}
    targets = []
    for what, pattern in patterns.items():
        try:
            found = [name for name in linears if re.search(pattern, name)]
        except re.error as error:
            raise ValueError(
                f"`lora_modalities` {what!r} is neither {', '.join(MODALITIES)} or several of them with commas, "
                f"nor a regular expression: {error}."
            ) from None
        if not found:
            examples = ", ".join(f"`{name}`" for name in linears[:: max(len(linears) // 4, 1)][:5])
            raise ValueError(
                f"`lora_modalities` {what!r} matches none of this transformer's {len(linears)} linear layers, such "
                f"as {examples}."
            )
        targets += found
    return sorted(set(targets))


def find_video_targets(transformer: nn.Module) -> list[str]:
    """Return the paths of the layers by which a video branch whose weights stay learns: its attention and entrance."""
    entrances = [name for name, _ in transformer.named_modules() if name in VIDEO_ENTRANCES]
    return sorted([*find_lora_targets(transformer, "video"), *entrances])


def is_linear(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or type(module).__name__ in ("Linear4bit", "Linear8bitLt")


def add_lora(
    transformer: JoVATransformer3DModel, lora_modalities: str, rank: int, alpha: float, seed: int = 0
) -> list[str]:
    """Freeze `transformer`, add LoRA layers that start as nothing, in float32, and return their targets."""
    targets = find_lora_targets(transformer, lora_modalities)
    put_lora_on(transformer, targets, rank, alpha, seed)
    return targets


def put_lora_on(transformer: JoVATransformer3DModel, targets: list[str], rank: int, alpha: float, seed: int) -> None:
    """Freeze `transformer` and add LoRA layers, which start as nothing, to the layers at these paths."""
    transformer.requires_grad_(False)
    alpha = int(alpha) if float(alpha).is_integer() else alpha
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        transformer.add_adapter(
            LoraConfig(r=rank, lora_alpha=alpha, init_lora_weights=True, target_modules=targets), adapter_name=ADAPTER
        )
    for parameter in transformer.parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            parameter.data = parameter.data.float()


def lora_state_dict(
    transformer: JoVATransformer3DModel, state_dict: dict[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """Return the LoRA's tensors by their names in diffusers' format, on CPU.

    Args:
        state_dict: Of the whole transformer, gathered from all processes; None takes its own.
    """
    state_dict = get_peft_model_state_dict(transformer, state_dict=state_dict, adapter_name=ADAPTER)
    return {name: tensor.detach().cpu() for name, tensor in state_dict.items()}


def save_lora(
    transformer: JoVATransformer3DModel, folder: str | os.PathLike, state_dict: dict[str, torch.Tensor] | None = None
) -> Path:
    """Write the LoRA with its settings as metadata, as `pipe.load_lora_weights` reads it, and return the file."""
    state_dict = lora_state_dict(transformer, state_dict)
    metadata = transformer.peft_config[ADAPTER].to_dict()
    metadata = {key: list(value) if isinstance(value, set | tuple) else value for key, value in metadata.items()}
    metadata["target_modules"] = sorted(metadata["target_modules"])
    metadata = {f"{JoVAPipeline.transformer_name}.{key}": value for key, value in metadata.items()}
    text = json.dumps(metadata, indent=2, sort_keys=True, default=str)

    def write(weights: dict[str, torch.Tensor], path: str) -> None:
        # one entry of metadata: safetensors writes several in random order, and the same LoRA would be another file
        with whole_file(path) as partial:
            save_file(weights, partial, metadata={LORA_ADAPTER_METADATA_KEY: text})

    JoVAPipeline.save_lora_weights(folder, state_dict, save_function=write)
    return Path(folder) / LORA_FILE


def load_lora(transformer: JoVATransformer3DModel, path: str | os.PathLike) -> None:
    """Put the tensors of a file by `save_lora` into the LoRA layers that `transformer` already has.

    Raises:
        ValueError: If the file has other layers or another rank.
    """
    state_dict, _ = JoVAPipeline.lora_state_dict(str(path), return_lora_metadata=True)
    state_dict = {name.removeprefix("transformer."): tensor for name, tensor in state_dict.items()}
    expected = lora_state_dict(transformer)
    if {name: t.shape for name, t in expected.items()} != {name: t.shape for name, t in state_dict.items()}:
        raise ValueError(
            f"`{path}` has other LoRA layers than these settings make: resume with the `rank` and `lora_modalities` "
            "(or the `video_lora_rank`) of the run that wrote it."
        )
    set_peft_model_state_dict(transformer, state_dict, adapter_name=ADAPTER)


def lora_update_norms(transformer: JoVATransformer3DModel) -> dict[str, tuple[float, float]]:
    """Return per modality how far the LoRA moves its layers, and how large these are.

    Two Frobenius norms over all targets of the modality: of the update alpha / r · B A, and of the weights under it.
    """
    squares: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for name, module in transformer.named_modules():
        if not isinstance(module, BaseTunerLayer) or ADAPTER not in getattr(module, "lora_A", {}):
            continue
        update = module.get_delta_weight(ADAPTER)
        entry = squares[modality_of(f"{name}.")]
        entry[0] += update.float().square().sum().item()
        entry[1] += dequantized(module.get_base_layer()).float().square().sum().item()
    return {m: (math.sqrt(squares[m][0]), math.sqrt(squares[m][1])) for m in MODALITIES if m in squares}


# --- quantised base ---


def quantize_base(transformer: JoVATransformer3DModel, number_format: str, device: torch.device | str) -> None:
    """Replace the linear layers of all blocks by bitsandbytes' of 4 or 8 bits, in place, and move them to `device`.

    The entrances, the modulation and the heads stay as they are. One layer is converted at a time.

    Args:
        number_format: "nf4" or "int8".

    Raises:
        ValueError: If bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError("`base_quantization` needs bitsandbytes: pip install bitsandbytes")
    for name, module in list(transformer.named_modules()):
        if isinstance(module, nn.Linear) and "transformer_blocks." in name and not matches(name, KEEP_UNQUANTIZED):
            parent, _, child = name.rpartition(".")
            setattr(transformer.get_submodule(parent), child, quantized(module, number_format).to(device))


def matches(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)


def quantized(linear: nn.Linear, number_format: str) -> nn.Module:
    """Return a frozen bitsandbytes layer of the weights of `linear`, quantised when it is moved."""
    import bitsandbytes as bnb

    size, dtype = (linear.in_features, linear.out_features), linear.weight.dtype
    options: dict[str, Any] = {"bias": linear.bias is not None, "device": "meta"}
    if number_format == "nf4":
        layer = bnb.nn.Linear4bit(*size, compute_dtype=dtype, quant_type="nf4", **options)
        layer.weight = bnb.nn.Params4bit(linear.weight.data, requires_grad=False, quant_type="nf4", module=layer)
    else:
        layer = bnb.nn.Linear8bitLt(*size, has_fp16_weights=False, **options)
        layer.weight = bnb.nn.Int8Params(linear.weight.data.half(), requires_grad=False, has_fp16_weights=False)
    layer.bias = linear.bias
    return layer


def dequantized(linear: nn.Module) -> torch.Tensor:
    """Return the weights of a layer, quantised or not."""
    if not hasattr(linear.weight, "quant_state") and linear.weight.dtype != torch.int8:
        return linear.weight
    from peft.utils.integrations import dequantize_module_weight

    return dequantize_module_weight(linear)
