# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""LoRA files from disk or the Hub, and the refusal of what is not whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME, LORA_WEIGHT_NAME_SAFE
from diffusers.utils import logging
from safetensors.torch import load_file

from .. import compat
from ..headers import read_header, read_json
from .lora_layout import DIFFUSERS, NOTHING, Contents, find_adapter_config, read_layers


logger = logging.get_logger(__name__)

PICKLES = (".bin", ".pt", ".pth", ".ckpt")
DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
USER_AGENT = {"file_type": "attn_procs_weights", "framework": "pytorch"}
HOW_TO_LEAVE_OUT = (
    "Nothing was loaded. `diffusers-jova convert-lora --to diffusers --allow_missing 'PATTERN'` writes a LoRA without "
    "the layers that you can do without."
)


def read_file(
    source: str | os.PathLike, weight_name: str | None = None, use_safetensors: bool | None = None, **kwargs
) -> tuple[dict[str, torch.Tensor], dict[str, str], dict[str, Any]]:
    """Return the tensors of a LoRA, the metadata of its file, and PEFT's adapter_config.json beside it.

    Args:
        source: a file, a folder, or a repository of the Hub.
        weight_name: of the file in the folder or repository. A pickle is read only where it is named.
        use_safetensors: False looks for a pickle where no file is named.
    """
    suffix = ".bin" if use_safetensors is False else ".safetensors"
    if Path(source).exists() or Path(source).suffix in (".safetensors", *PICKLES):
        file = find_local_file(Path(source), weight_name, kwargs.get("subfolder"), suffix)
        adapter_config = find_adapter_config(file)
    else:
        file, adapter_config = find_hub_file(str(source), weight_name, suffix, **kwargs)
    if file.suffix in PICKLES:
        return compat.load("load_state_dict")(file), {}, adapter_config  # loads with `weights_only=True`
    try:
        _, metadata, _ = read_header(file)
    except ValueError as error:
        raise ValueError(
            f"The LoRA {str(source)!r} is not a complete safetensors file ({error}): copy or download it again."
        ) from error
    return load_file(file), metadata, adapter_config


def find_local_file(source: Path, weight_name: str | None, subfolder: str | None, suffix: str) -> Path:
    """Return the file of weights that is meant: `source` itself, or the one in this folder."""
    folder = source / (subfolder or "")
    if source.is_file() or not source.exists():
        file = source
    elif weight_name is not None:
        file = folder / weight_name
    else:
        names = sorted(path.name for path in folder.glob(f"*{suffix}") if not path.name.startswith("."))
        usual = (LORA_WEIGHT_NAME_SAFE, LORA_WEIGHT_NAME, "adapter_model.safetensors", "adapter_model.bin")
        chosen = [name for name in usual if name in names] or names
        if not names:
            raise FileNotFoundError(f"There is no *{suffix} file in {str(folder)!r}: name one with `weight_name`.")
        if len(names) > 1 and chosen is names:
            shown = ", ".join(names[:5])
            raise ValueError(f"{str(folder)!r} has {len(names)} files ({shown}): name one with `weight_name`.")
        file = folder / chosen[0]
    if not file.is_file():
        raise FileNotFoundError(f"There is no LoRA file {str(file)!r}.")
    return file


def find_hub_file(source: str, weight_name: str | None, suffix: str, **kwargs) -> tuple[Path, dict[str, Any]]:
    """Return a file of a repository of the Hub, downloaded, and its adapter_config.json if the file is PEFT's."""
    get_model_file, best_guess = compat.load("get_model_file"), compat.load("best_guess_weight_name")
    if weight_name is None:
        try:
            local_files_only = kwargs.get("local_files_only", False)
            weight_name = best_guess(source, file_extension=suffix, local_files_only=local_files_only)
        except IndexError:
            weight_name = None
        if weight_name is None:
            raise FileNotFoundError(f"{source!r} has no file that its name shows to be a LoRA: pass `weight_name`.")
    file = Path(get_model_file(source, weights_name=weight_name, user_agent=USER_AGENT, **kwargs))
    if file.stem != "adapter_model":
        return file, {}
    config = str(Path(weight_name).with_name("adapter_config.json"))
    return file, read_json(get_model_file(source, weights_name=config, user_agent=USER_AGENT, **kwargs))


def read_tensors(
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] = NOTHING,
    adapter_config: Mapping[str, Any] = NOTHING,
) -> Contents:
    """Return what is in a LoRA; see `read_layers`."""
    if others := [name for name, tensor in tensors.items() if not isinstance(tensor, torch.Tensor)]:
        raise ValueError(f"A LoRA is a flat dictionary of tensors; {others[0]!r} is a {type(tensors[others[0]])}.")

    def number(name: str) -> float:
        if tensors[name].numel() != 1:
            raise ValueError(f"{name} must be one number, got the shape {tuple(tensors[name].shape)}.")
        return float(tensors[name])

    return read_layers({name: tuple(x.shape) for name, x in tensors.items()}, number, metadata, adapter_config)


def tensors_of(contents: Contents, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors of the layers by their names in diffusers' format, `<module>.lora_A.weight`."""
    with_biases = any("bias_diff" in layer.names for layer in contents.layers.values())
    found: dict[str, torch.Tensor] = {}
    for module, layer in contents.layers.items():
        parts = {part: tensors[name] for part, name in layer.names.items()}
        if "diff" in parts:
            parts |= {"down": parts["diff"], "up": torch.eye(layer.rank).to(parts["diff"])}
        if with_biases:  # a layer's bias is multiplied by its strength as well, and PEFT wants one in all layers
            zero = parts["up"].new_zeros(len(parts["up"]))
            parts["bias"] = parts.get("bias_diff", zero) / (layer.alpha / layer.rank)
        found |= {f"{module}.{ending}": parts[part] for part, ending in DIFFUSERS.items() if part in parts}
    return found


def warn_of_dropped(contents: Contents, tensors: Mapping[str, torch.Tensor]) -> None:
    """Log the names of what a LoRA for Wan changes beside linear layers, which neither diffusers nor we can load."""
    names = [name for name in contents.dropped if tensors[name].any()]
    if names:
        shown = ", ".join(names[:8]) + f" and {len(names) - 8} more" * (len(names) > 8)
        logger.warning(
            f"This LoRA also changes norms, tables or convolutions, which stay unchanged (as in diffusers' "
            f"WanPipeline): {shown}."
        )


# --- refusing ---


def raise_for_problems(contents: Contents, tensors: Mapping[str, torch.Tensor]) -> None:
    """Raise ValueError unless every tensor of a LoRA belongs to a whole layer and can be computed with."""
    if not (contents.layers or contents.missing or contents.mismatched):
        raise nothing_fits(tensors, "JoVATransformer3DModel", next(iter(contents.unused.values()), ""))
    problems = contents.problems()
    for name, tensor in tensors.items():
        if tensor.is_meta:
            problems.append(f"{name}: has no content (device meta)")
        elif name not in contents.unused and not name.endswith(".alpha"):
            if tensor.dtype not in DTYPES:
                problems.append(f"{name}: is of {tensor.dtype}, not of a floating-point type of 16 bits or more")
            elif not tensor.isfinite().all():
                problems.append(f"{name}: has NaN or Inf")
    raise_all(problems)


def nothing_fits(tensors: Mapping[str, torch.Tensor], class_name: str, why: str = "") -> ValueError:
    example = next(iter(tensors), "none at all")
    return ValueError(
        f"None of the {len(tensors)} LoRA keys belongs to this {class_name}: got {example!r}{why and f' ({why})'}, "
        "expected keys like 'transformer.transformer_blocks.0.video.to_q.lora_A.weight', in the form of diffusers, "
        "PEFT, ComfyUI or kohya."
    )


def raise_all(problems: list[str]) -> None:
    if problems:
        shown = "; ".join(problems[:8] + [f"and {len(problems) - 8} more"] * (len(problems) > 8))
        raise ValueError(f"This LoRA does not fit: {shown}. {HOW_TO_LEAVE_OUT}")
