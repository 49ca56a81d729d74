# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a LoRA file says, whichever trainer wrote it: which module each tensor belongs to, and how strong it is.

| written by | names | alpha |
|---|---|---|
| diffusers | `transformer.MODULE.lora_A.weight`, `lora_B`, or without prefix | metadata, `lora_adapter_metadata` |
| PEFT | `base_model.model.MODULE.lora_A.weight`, also `lora_A.NAME.weight` | `adapter_config.json` beside it |
| ComfyUI | `diffusion_model.MODULE.lora_A.weight` or `lora_down` | `diffusion_model.MODULE.alpha` |
| kohya, musubi | `lora_unet_MODULE_WITH_UNDERSCORES.lora_down.weight` | `….alpha`, else metadata, `ss_network_alpha` |

MODULE is a module of either transformer, or in a file for Wan a module of Wan's, by diffusers' name or its authors',
which stands for that module of the video branch: `diffusion_model.blocks.0.self_attn.q`. Which it is, the names of the
blocks tell, since the prefixes are the same.

The strength of a layer is alpha / rank, in rsLoRA alpha / sqrt(rank); where nothing says an alpha it is 1. Underscores
do not say where the dots were, so names are looked up among the modules of the transformers.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from ..headers import parse_json, read_json
from ..models.transformer_jova import JoVATransformer3DModel
from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from ..models.wan_names import BLOCK_PARTS, OTHER_PARTS, jova_name


Shape = tuple[int, ...]
NOTHING: Mapping[str, Any] = MappingProxyType({})

METADATA_KEY = "lora_adapter_metadata"
PREFIX = "transformer."
DOTTED_PREFIXES = ("base_model.model.", "model.", "module.", "_orig_mod.", PREFIX, "diffusion_model.")
UNDERSCORE_PREFIXES = ("lora_unet_", "lora_transformer_")
_WEIGHT = r"(?:(?:\.[^.]+)?\.weight)?"  # PEFT puts the adapter's name before it: `lora_A.default.weight`
ENDINGS = {
    "down": re.compile(rf"(.+)\.(?:lora_A|lora_down|lora\.down){_WEIGHT}"),
    "up": re.compile(rf"(.+)\.(?:lora_B|lora_up|lora\.up){_WEIGHT}"),
    "alpha": re.compile(r"(.+)\.alpha"),
    "magnitude": re.compile(rf"(.+)\.lora_magnitude_vector{_WEIGHT}"),
    "bias": re.compile(r"(.+)\.(?:lora_B|lora_up)(?:\.[^.]+)?\.bias"),
}
# Files for Wan may change biases and whole weights as well: by what is added to them, whatever the strength
WAN_ENDINGS = {"bias_diff": re.compile(r"(.+)\.diff_b"), "diff": re.compile(r"(.+)\.diff")}
# part -> its ending in diffusers' format
DIFFUSERS = {
    "down": "lora_A.weight",
    "up": "lora_B.weight",
    "magnitude": "lora_magnitude_vector",
    "bias": "lora_B.bias",
}
BLOCK = re.compile(r"((?:transformer_)?blocks)([._])(0|[1-9][0-9]{0,5})(?=[._])")
# whose names a file has: those of Wan (`blocks.0`), of our transformer on a Wan base, or of the first transformer
NAMES_OF = {
    "wan": re.compile(r"(?:^|[._])(?<!transformer_)blocks[._][0-9]"),
    "jova_wan": re.compile(r"transformer_blocks[._][0-9]+[._](?:video|audio)[._](?:attn[12]|ffn)[._]"),
}

# Names of tensors that are not LoRA layers of the transformer, and what they are
OTHER_TENSORS = {
    r"\.(lokr_|hada_|oft_|glora|lora_mid|boft|vera_|on_input|scalar)": "a LyCORIS adapter (LoKr, LoHa, ...), not LoRA",
    r"dora_scale": "DoRA in kohya's form, which is not supported",
    r"^(lora_te|text_encoder)": "a LoRA of a text encoder; here only the transformer takes one",
    r"[._](k|v)_img[._]|add_[kv]_proj|img_emb|image_embedder": "a layer for CLIP's image tokens",
    r"\.(diff|diff_b|set_weight|w_norm|b_norm)$": "a change of whole weights",
    r"modules_to_save|base_layer": "a whole weight that was trained beside the LoRA",
}
# PEFT's settings under which a layer computes more than strength · B · A · x
OTHER_SETTINGS = ("bias", "modules_to_save", "layer_replication", "target_parameters", "trainable_token_indices")
OTHER_SETTINGS += ("use_qalora", "use_bdlora", "arrow_config", "kasa_config", "monteclora_config", "megatron_config")
OTHER_SETTINGS += ("alora_invocation_tokens",)
# How PEFT began the layers without a change of the weights under them; after pissa, olora, corda, loftq and the like
# a LoRA belongs to changed weights that are not in its file.
PLAIN_BEGINNINGS = (None, True, False, "gaussian", "eva", "orthogonal", "mica")


@dataclass
class Layer:
    """One adapted module.

    Args:
        names: of its tensors in the file, by part: "down" (rank, in), "up" (out, rank), both with three axes more for
            a convolution; "alpha"; for DoRA "magnitude", for PEFT's `lora_bias` "bias"; in files for Wan "bias_diff",
            and "diff" (out, in) instead of the first two.
        alpha: for the strength alpha / rank.
    """

    names: dict[str, str] = field(default_factory=dict)
    rank: int = 0
    alpha: float = 0.0


@dataclass
class Contents:
    """What is in a LoRA file.

    Args:
        layers: the whole ones, by module.
        unused: names that belong to no layer, and why.
        dropped: names in a file for Wan of changes to what is not a linear layer, which diffusers drops, too.
        missing: names, in diffusers' format, without which a layer is not whole.
        mismatched: shapes of down and up projections that do not fit each other, by the first one's name.
    """

    layers: dict[str, Layer] = field(default_factory=dict)
    unused: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    mismatched: dict[str, tuple[Shape, Shape]] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return what is wrong, a line for each tensor."""
        lines = [f"{name}: {why}" for name, why in self.unused.items()]
        lines += [f"{name}: missing" for name in self.missing]
        lines += [f"{name}: {a} and its other half {b} do not fit" for name, (a, b) in self.mismatched.items()]
        return lines


def read_layers(
    shapes: Mapping[str, Shape],
    number: Callable[[str], float],
    metadata: Mapping[str, str] = NOTHING,
    adapter_config: Mapping[str, Any] = NOTHING,
    alpha: float | None = None,
) -> Contents:
    """Return the layers of a LoRA in any of the formats above, and which of its tensors cannot be used.

    Args:
        shapes: of its tensors, by name.
        number: returns the value of a tensor of one element.
        metadata: of its safetensors file.
        adapter_config: PEFT's settings, where `metadata` has none.
        alpha: of all layers, in place of what the file says.

    Raises:
        ValueError: If a tensor of a module is there twice, or the settings ask for what is not plain LoRA, contradict
            the tensors, or do not say how strong a layer is.
    """
    contents = Contents()
    layers: dict[str, Layer] = {}
    owner = owner_of(shapes)
    for name in shapes:
        part, path = split_ending(name, owner)
        module = find_module(path, owner) if part else None
        if module is None and part in WAN_ENDINGS and "img" not in name:
            contents.dropped.append(name)
            continue
        if module is None:
            contents.unused[name] = what_else(name)
            continue
        names = layers.setdefault(module, Layer()).names
        if part in names:
            raise ValueError(f"The {part} of {module} is there twice, as {names[part]} and as {name}. Remove one.")
        names[part] = name

    settings = peft_settings_in(metadata, adapter_config)
    refuse_other_settings(settings)
    for module, layer in layers.items():
        if layer.names.keys() <= {"bias_diff"}:
            contents.dropped += layer.names.values()
            continue
        if layer.names.keys() <= {"diff", "bias_diff"}:  # a LoRA of full rank: the unit matrix times the difference
            layer.rank = layer.alpha = shapes[layer.names["diff"]][0]
            contents.layers[module] = layer
            continue
        if "diff" in layer.names:
            contents.unused[layer.names["diff"]] = "a change of a whole weight that has a LoRA, too"
        absent = [part for part in ("down", "up") if part not in layer.names]
        contents.missing += [f"{PREFIX}{module}.{DIFFUSERS[part]}" for part in absent]
        if absent:
            continue
        down, up = (tuple(shapes[layer.names[part]]) for part in ("down", "up"))
        if len(down) != len(up) or len(down) not in (2, 5) or down[0] != up[1] or not down[0]:
            contents.mismatched[layer.names["down"]] = (down, up)
            continue
        layer.rank = down[0]
        layer.alpha = alpha_of(module, layer, number, settings, metadata, alpha)
        contents.layers[module] = layer
    targets = settings.get("target_modules")
    for target in targets if isinstance(targets, list | tuple | set) else ():
        module = modules_by_name(owner).get(first_block(str(target)))
        module = module and with_block(module, str(target))
        if module and module not in layers:
            contents.missing += [f"{PREFIX}{module}.{DIFFUSERS[part]}" for part in ("down", "up")]
    for part, setting in (("magnitude", "use_dora"), ("bias", "lora_bias")):
        with_part = [module for module, layer in contents.layers.items() if part in layer.names]
        if with_part or settings.get(setting):
            wanted = (module for module in contents.layers if module not in with_part)
            contents.missing += [f"{PREFIX}{module}.{DIFFUSERS[part]}" for module in wanted]
    return contents


# --- names ---


def owner_of(names: Iterable[str]) -> str:
    """Return whose names a file has: "wan", "jova_wan" or "jova"."""
    return next((owner for owner, pattern in NAMES_OF.items() if any(map(pattern.search, names))), "jova")


@lru_cache(3)
def modules_by_name(owner: str) -> dict[str, str]:
    """Return the layers of a transformer of one block per stage, by the names that files of `owner` have.

    They are the linear ones, and the video's patch embedding, a convolution, where a JoVA learned to read an image.
    The names of "wan", its authors' and diffusers', stand for linear layers of the video branch.
    """
    size: dict[str, Any] = {"num_attention_heads": 1, "attention_head_dim": 6, "text_embed_dim": 1, "num_layers": 1}
    size["attention_fusion"] = "cross_linear"
    with torch.device("meta"):
        if owner == "jova":
            model = JoVATransformer3DModel(**size, text_embed_dim_2=1, num_single_layers=1)
        else:
            model = JoVAWanTransformer3DModel(**size, ffn_dim=1)
    kinds = nn.Linear if owner == "wan" else nn.Linear | nn.Conv3d
    linear = [name for name, module in model.named_modules() if isinstance(module, kinds)]
    if owner != "wan":
        return {name: name for name in linear}
    names = {f"blocks.0.{original}": f"blocks.0.{name}" for original, name in BLOCK_PARTS.items()} | OTHER_PARTS
    names |= {name: name for name in names.values()}
    return {name: jova_name(diffusers) for name, diffusers in names.items() if jova_name(diffusers) in linear}


@lru_cache(3)
def modules_by_underscores(owner: str) -> dict[str, str]:
    """Return the same by their names with underscores for dots."""
    modules = modules_by_name(owner)
    by_underscores = {name.replace(".", "_"): module for name, module in modules.items()}
    assert len(by_underscores) == len(modules), "two modules are the same with underscores"
    return by_underscores


def first_block(name: str) -> str:
    """Return `name` with its block's number as 0."""
    return BLOCK.sub(r"\1\g<2>0", name, count=1)


def with_block(module: str, name: str) -> str:
    """Return `module`, of block 0, in the block that `name` has."""
    block = BLOCK.search(name)
    return module.replace("_blocks.0.", f"_blocks.{block[3]}.", 1) if block else module


def split_ending(name: str, owner: str = "jova") -> tuple[str | None, str]:
    """Return which part of a layer a tensor is, None if it is none, and its name without the ending of that part."""
    for part, ending in (ENDINGS | WAN_ENDINGS if owner == "wan" else ENDINGS).items():
        if match := ending.fullmatch(name):
            return part, match[1]
    return None, name


def find_module(name: str, owner: str) -> str | None:
    """Return the module that a name with a prefix, or with underscores for dots, means; None if there is none such."""
    for prefix in UNDERSCORE_PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix).replace(".", "_")
            module = modules_by_underscores(owner).get(first_block(name))
            return module and with_block(module, name)
    while (module := modules_by_name(owner).get(first_block(name))) is None:
        prefix = next((prefix for prefix in DOTTED_PREFIXES if name.startswith(prefix)), None)
        if prefix is None:
            return None
        name = name.removeprefix(prefix)
    return with_block(module, name)


def what_else(name: str) -> str:
    """Return in words what a tensor is that belongs to no layer."""
    return next(
        (words for pattern, words in OTHER_TENSORS.items() if re.search(pattern, name)),
        f"no LoRA tensor of a linear layer of {JoVATransformer3DModel.__name__} or of one on a Wan base",
    )


# --- strength ---


def peft_settings_in(metadata: Mapping[str, str], adapter_config: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """Return PEFT's settings of the transformer's adapter, or {} where there are none.

    They come from `lora_adapter_metadata`, else from `lora_alpha` and its kin as entries of the metadata, else from
    `adapter_config`. Prefixes (`transformer.r`) are taken off.
    """
    if METADATA_KEY in metadata:
        found = parse_json(metadata[METADATA_KEY], f"The metadata's {METADATA_KEY}")
    elif metadata.get("lora_alpha") not in (None, "", "None"):
        found = {
            "lora_alpha": metadata["lora_alpha"],
            "r": metadata.get("r", metadata.get("lora_rank")),
            "use_rslora": metadata.get("use_rslora", "").lower() == "true",
        }
    else:
        found = adapter_config
    own = {key: value for key, value in found.items() if key.startswith(PREFIX)}
    own = own or {key: value for key, value in found.items() if "." not in key}
    return {key.rpartition(".")[2]: value for key, value in own.items()}


def refuse_other_settings(settings: Mapping[str, Any]) -> None:
    """Raise ValueError unless `settings` are those of LoRA (or DoRA) on unchanged weights."""
    peft_type = settings.get("peft_type") or "LORA"
    if str(getattr(peft_type, "value", peft_type)).upper() != "LORA":
        raise ValueError(f"This adapter is {peft_type}, not LORA.")
    for name in OTHER_SETTINGS:
        if (value := settings.get(name)) and value != "none":
            raise ValueError(
                f"LoRA with the setting `{name}` ({value!r}) is not supported: it is more than LoRA layers."
            )
    beginning = settings.get("init_lora_weights")
    if beginning not in PLAIN_BEGINNINGS:
        raise ValueError(
            f"This LoRA began as {beginning!r} (`init_lora_weights`), which changes the weights under it, and these "
            "are not in the file. Save it as plain LoRA first: PEFT's `save_pretrained(..., "
            "path_initial_model_for_weight_conversion=...)`."
        )


def alpha_of(
    module: str,
    layer: Layer,
    number: Callable[[str], float],
    settings: Mapping[str, Any],
    metadata: Mapping[str, str],
    given: float | None,
) -> float:
    """Return the alpha of a layer for the strength alpha / rank."""
    if given is not None:
        stated = given
    elif settings:
        stated = peft_alpha(settings, module, layer)
    elif "alpha" not in layer.names:
        stated = trainer_alpha(metadata, module, layer)
    else:
        stated = None
    if "alpha" not in layer.names:
        return layer.rank if stated is None else stated
    own = number(layer.names["alpha"])
    if not math.isfinite(own):
        raise ValueError(f"{layer.names['alpha']} is {own}, which is not a strength.")
    # Half precision rounds an alpha by up to 0.4 %.
    if given is None and stated is not None and not math.isclose(own, stated, rel_tol=0.01):
        raise ValueError(
            f"{layer.names['alpha']} is {own:g}, but the file's settings say {stated:g}. Remove what is wrong, or say "
            "which alpha is meant with `diffusers-jova convert-lora --alpha`."
        )
    return own if given is None else given


def peft_alpha(settings: Mapping[str, Any], module: str, layer: Layer) -> float:
    """Return the alpha that PEFT's settings mean for a module, after a check that they mean this LoRA."""
    rank, (_, name) = layer.rank, split_ending(layer.names["down"])
    # patterns start from what PEFT wrapped, which may have had the transformer in it
    paths = (module, name.removeprefix("base_model.model."))
    said = pattern_value(settings, "rank_pattern", paths, settings.get("r"))
    if said is not None and to_number(said, "r") != rank:
        raise ValueError(f"The settings say rank {said} for {module}, its lora_A has rank {rank}: they differ.")
    alpha = pattern_value(settings, "alpha_pattern", paths, settings.get("lora_alpha"))
    if alpha is None:
        raise ValueError(f"The settings of this LoRA give no `lora_alpha` for {module}: its strength is unknown.")
    return to_number(alpha, "lora_alpha") * (math.sqrt(rank) if settings.get("use_rslora") else 1)


def pattern_value(settings: Mapping[str, Any], pattern: str, paths: Iterable[str], default: Any) -> Any:
    """Return what the first pattern that fits says for a module, by PEFT's own rule."""
    values = settings.get(pattern) or {}
    try:
        keys = (key for path in paths for key in values if compiled(key).match(path))
        return values.get(next(keys, None), default)
    except (re.error, TypeError, AttributeError) as error:
        raise ValueError(f"`{pattern}` of this LoRA's settings cannot be read: {error}.") from None


@lru_cache(None)
def compiled(key: str) -> re.Pattern:
    """Return a key of `rank_pattern` or `alpha_pattern` as PEFT reads it.

    `peft.utils.other.get_pattern_key` compiles it anew each time: 260 s for 960 modules with an alpha each.
    """
    return re.compile(rf"(.*\.)?({key})$")


def trainer_alpha(metadata: Mapping[str, str], module: str, layer: Layer) -> float | None:
    """Return the alpha that a trainer such as kohya's wrote into the metadata; None if it wrote none.

    A layer in PEFT's names may have had its alpha multiplied into the weights when it was renamed: musubi-tuner does
    so, and keeps the metadata. There an alpha other than the rank could mean two things.
    """
    for key in ("network_alpha", "ss_network_alpha"):
        text = str(metadata.get(key, ""))
        if text in ("", "None") or text == metadata.get("ss_network_dim") == str(layer.rank):
            continue
        alpha = to_number(text, f"{key} of the metadata")
        if alpha != layer.rank and ".lora_A" in layer.names["down"]:
            raise ValueError(
                f"The metadata says {key} {text}, but {module} has PEFT's names, rank {layer.rank} and no alpha: the "
                "strength may be in the weights already. Say which alpha is meant with `diffusers-jova convert-lora "
                "--alpha`: the rank leaves the weights unchanged."
            )
        return alpha
    return None


def to_number(value: Any, name: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"`{name}` of this LoRA must be a number, got {value!r}.")
    return number


def find_adapter_config(file: Path) -> dict[str, Any]:
    """Return the adapter_config.json beside a LoRA's weights if it belongs to them, or {}.

    It does where the weights have PEFT's name, `adapter_model`, or are the folder's only ones.
    """
    config = file.parent / "adapter_config.json"
    alone = [path.name for path in file.parent.glob(f"*{file.suffix}")] == [file.name]
    return read_json(config) if config.is_file() and (alone or file.stem == "adapter_model") else {}


def peft_settings(layers: Mapping[str, Layer]) -> dict[str, Any]:
    """Return PEFT's settings of an adapter: the most common rank and alpha, and the exceptions."""
    ranks = {module: layer.rank for module, layer in layers.items()}
    alphas = {
        module: int(layer.alpha) if float(layer.alpha).is_integer() else layer.alpha
        for module, layer in layers.items()
    }
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    parts = {part for layer in layers.values() for part in layer.names}
    return {
        "r": rank,
        "lora_alpha": alpha,
        # PEFT fits these names to the ends of paths; no path in JoVA ends with another one's
        "rank_pattern": {module: value for module, value in ranks.items() if value != rank},
        "alpha_pattern": {module: value for module, value in alphas.items() if value != alpha},
        "target_modules": sorted(ranks),
        "use_dora": "magnitude" in parts,
        "lora_bias": bool(parts & {"bias", "bias_diff"}),
    }
