# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import ModelMixin
from diffusers.loaders import CogVideoXLoraLoaderMixin
from diffusers.utils import get_adapter_name, logging
from torch import nn

from ..models.transformer_jova_wan import JoVAWanTransformer3DModel
from .lora_file import (
    nothing_fits,
    raise_all,
    raise_for_problems,
    read_file,
    read_tensors,
    tensors_of,
    warn_of_dropped,
)
from .lora_layout import METADATA_KEY, PREFIX, Contents, Layer, owner_of, peft_settings, peft_settings_in


logger = logging.get_logger(__name__)


class JoVALoraLoaderMixin(CogVideoXLoraLoaderMixin):
    """Loads, saves, fuses and swaps LoRA layers of `JoVATransformer3DModel` and `JoVAWanTransformer3DModel`.

    A LoRA for Wan goes into the video branch of the second.

    Upstream's loader for one transformer puts the layers in. Added here: the layouts of other trainers are read (see
    `lora_layout`); every tensor of a file is used or the file is refused, with its names; the strength is what the
    file says; and a load that fails leaves the model as it was.
    """

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict, **kwargs):
        """Return the LoRA's state dict with keys `transformer.<module>.lora_A.weight` (and its metadata if asked).

        Without the metadata, the alpha of a layer whose strength is not 1 is in the state dict, as
        `transformer.<module>.alpha`; `load_lora_weights` takes it from there.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged, or is not a LoRA of a JoVA transformer as a whole.
        """
        source = pretrained_model_name_or_path_or_dict
        return_lora_metadata = kwargs.pop("return_lora_metadata", False)
        metadata: dict[str, str] = {}
        adapter_config: dict[str, Any] = {}
        if not isinstance(source, dict):
            source, metadata, adapter_config = read_file(source, **kwargs)
        contents = read_tensors(source, metadata, adapter_config)
        raise_for_problems(contents, source)
        warn_of_dropped(contents, source)
        layers = contents.layers
        state_dict = with_prefix(tensors_of(contents, source))
        if not return_lora_metadata:
            alphas = {f"{module}.alpha": layer.alpha for module, layer in layers.items() if layer.alpha != layer.rank}
            return state_dict | with_prefix({k: torch.tensor(x, dtype=torch.float64) for k, x in alphas.items()})
        has_alphas = any("alpha" in layer.names for layer in layers.values())
        if METADATA_KEY in metadata and not has_alphas and owner_of(source) != "wan":
            return state_dict, with_prefix(peft_settings_in(metadata))
        if all(layer.alpha == layer.rank for layer in layers.values()):
            return state_dict, None
        return state_dict, with_prefix(peft_settings(layers))

    @classmethod
    def load_lora_into_transformer(
        cls, state_dict, transformer, adapter_name=None, metadata=None, hotswap=False, **kwargs
    ):
        """Load the layers of `state_dict` into `transformer`; see diffusers' loader for the arguments.

        Raises:
            ValueError: If not all of `state_dict` fits the modules of `transformer`, which is then unchanged.
        """
        contents = read_tensors(state_dict, adapter_config=metadata or {})
        raise_for_problems(contents, state_dict)
        check_fit(contents, state_dict, transformer)
        adapter_name = adapter_name or get_adapter_name(transformer)
        if "." in adapter_name or hasattr(nn.ModuleDict(), adapter_name):
            raise ValueError(
                f"`adapter_name` becomes the name of modules, which cannot be {adapter_name!r}: it must have no dots, "
                "and not be a name of torch's own (`half`, `train`, `type`). Choose another."
            )
        settings = peft_settings(contents.layers)
        swap = hotswap and adapter_name in getattr(transformer, "peft_config", {})
        if swap:
            check_hotswap(transformer, adapter_name, contents.layers, settings)
        if settings["use_dora"]:  # which begins by measuring the base's weights
            transformer.unpark_modulation()
        with unchanged_on_failure(transformer):
            if swap:
                settings |= let_configs_agree(transformer, adapter_name)
            super().load_lora_into_transformer(
                with_prefix(tensors_of(contents, state_dict)),
                transformer=transformer,
                adapter_name=adapter_name,
                metadata=with_prefix(settings | quick_patterns(settings)),
                hotswap=hotswap,
                **kwargs,
            )
            finish_layers(transformer, adapter_name, contents.layers)
            restate_config(transformer, adapter_name, settings_of(transformer, adapter_name) if swap else settings)

    @classmethod
    def save_lora_weights(
        cls,
        save_directory,
        transformer_lora_layers=None,
        is_main_process=True,
        weight_name=None,
        save_function=None,
        safe_serialization=True,
        transformer_lora_adapter_metadata=None,
    ):
        """Save LoRA layers; see diffusers' method for the arguments.

        Args:
            transformer_lora_adapter_metadata: `transformer.peft_config[adapter_name].to_dict()`. Without it the file
                does not say how strong the layers are, and they are loaded with strength 1.
        """
        if not transformer_lora_adapter_metadata and save_function is None:
            logger.warning(
                "This LoRA is saved without `transformer_lora_adapter_metadata`: it will be loaded with strength 1 "
                "(alpha = rank), whatever alpha it was trained with."
            )
        super().save_lora_weights(
            save_directory,
            transformer_lora_layers,
            is_main_process,
            weight_name,
            save_function,
            safe_serialization,
            transformer_lora_adapter_metadata,
        )

    def unfuse_lora(self, *args, **kwargs):
        """Take the LoRAs out of the weights again; see diffusers' method, which goes around the transformer's own."""
        self.transformer.unpark_modulation()
        super().unfuse_lora(*args, **kwargs)

    def delete_adapters(self, adapter_names):
        """Delete adapters; see diffusers' method.

        Raises:
            ValueError: If one is fused: it would stay in the weights, and could not be taken out again.
        """
        names = [adapter_names] if isinstance(adapter_names, str) else adapter_names
        for module in self.transformer.modules():
            if fused := set(getattr(module, "merged_adapters", ())) & set(names):
                raise ValueError(f"{sorted(fused)[0]!r} is fused into the weights: call `unfuse_lora()` first.")
        super().delete_adapters(adapter_names)


def with_prefix(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{PREFIX}{key}": value for key, value in entries.items()}


# --- into the transformer ---


def check_fit(contents: Contents, tensors: Mapping[str, torch.Tensor], transformer: ModelMixin) -> None:
    """Raise ValueError unless `transformer` has all modules of a LoRA, in their sizes."""
    modules = dict(transformer.named_modules())
    if contents.layers.keys().isdisjoint(modules):
        is_wan = owner_of(tensors) == "jova_wan"
        fits = is_wan == isinstance(transformer, JoVAWanTransformer3DModel)
        why = "" if fits else "a LoRA for Wan, or for JoVA on a Wan base" if is_wan else "a LoRA for JoVA without Wan"
        raise nothing_fits(tensors, type(transformer).__name__, why)
    problems = []
    for module, layer in contents.layers.items():
        # A layer that already carries an adapter is wrapped.
        base = getattr(modules.get(module), "base_layer", modules.get(module))
        if not hasattr(base, "in_features") and not isinstance(base, nn.Conv3d):
            problems.append(f"{layer.names['down']}: this transformer has no linear layer {module}")
            continue
        size = sizes_of_parts(base, layer.rank)
        for part in layer.names.keys() & size.keys():
            shape = tuple(tensors[layer.names[part]].shape)
            if shape != size[part]:
                problems.append(f"{layer.names[part]}: has the shape {shape}, this transformer needs {size[part]}")
    raise_all(problems)


def sizes_of_parts(base: Any, rank: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a LoRA's tensors for a linear layer, or for a convolution over patches."""
    if isinstance(base, nn.Conv3d):
        width = base.out_channels
        sizes = {"down": (rank, base.in_channels, *base.kernel_size), "up": (width, rank, 1, 1, 1)}
    else:
        width = base.out_features
        sizes = {"down": (rank, base.in_features), "up": (width, rank)}
    return sizes | {"magnitude": (width,), "bias": (width,)}


def quick_patterns(settings: dict[str, Any]) -> dict[str, Any]:
    """Return patterns with which PEFT makes the layers, one per rank: it compiles all of them for each module.

    `finish_layers` sets the alphas, so PEFT needs none.
    """
    modules_of_rank: dict[int, list[str]] = {}
    for module, rank in settings["rank_pattern"].items():
        modules_of_rank.setdefault(rank, []).append(module)
    return {"alpha_pattern": {}, "rank_pattern": {"|".join(names): rank for rank, names in modules_of_rank.items()}}


def check_hotswap(
    transformer: ModelMixin, adapter_name: str, layers: Mapping[str, Layer], settings: dict[str, Any]
) -> None:
    """Raise ValueError unless a LoRA can take the place of a loaded one."""
    if settings["use_dora"] != transformer.peft_config[adapter_name].use_dora:
        raise ValueError("A LoRA and a DoRA cannot replace each other: load it under another `adapter_name`.")
    modules = dict(transformer.named_modules())
    for module in layers:
        if adapter_name not in getattr(modules[module], "lora_A", {}):
            raise ValueError(
                f"`hotswap` replaces only layers that the loaded LoRA has, and {adapter_name!r} has none at {module}: "
                "load the new one under another `adapter_name`, or unload the old one first."
            )
    # PEFT takes every key with the name in it for the adapter's, and sets to zero what the new file does not have.
    for key in transformer.state_dict():
        if ".lora_" in key and adapter_name in key and key.split(".")[-2] != adapter_name:
            raise ValueError(f"`hotswap` of {adapter_name!r} would also change {key}: give one of them another name.")


def let_configs_agree(transformer: ModelMixin, adapter_name: str) -> dict[str, Any]:
    """Let PEFT's comparison of the old LoRA's config with the new one's pass; return what the new one needs for it.

    PEFT asks for the same patterns of alphas, and then passes over them. `finish_layers` sets the strengths.
    """
    config = copy.copy(transformer.peft_config[adapter_name])
    config.alpha_pattern = {}
    transformer.peft_config[adapter_name] = config
    return {"use_rslora": config.use_rslora, "lora_dropout": config.lora_dropout}


@contextmanager
def unchanged_on_failure(transformer: ModelMixin) -> Iterator[None]:
    """Give `transformer` back its adapters as they were, and which of them are active, if the block fails."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    has_config, loaded = hasattr(transformer, "peft_config"), transformer._hf_peft_config_loaded
    peft_config = dict(getattr(transformer, "peft_config", {}))
    before = {
        module: (module._active_adapter, module._disable_adapters, contents_of(module))
        for module in transformer.modules()
        if isinstance(module, BaseTunerLayer)
    }
    trained = {parameter for parameter in transformer.parameters() if parameter.requires_grad}
    try:
        yield
    except BaseException:
        for name, module in list(transformer.named_modules()):
            if not isinstance(module, BaseTunerLayer):
                continue
            if module not in before:
                transformer.set_submodule(name, module.get_base_layer())
                continue
            module._active_adapter, module._disable_adapters, contents = before[module]
            for container, entries in contents:
                container.clear()
                container.update(entries)
        for parameter in transformer.parameters():
            parameter.requires_grad_(parameter in trained)
        if has_config:
            transformer.peft_config = peft_config
        elif hasattr(transformer, "peft_config"):
            del transformer.peft_config
        transformer._hf_peft_config_loaded = loaded
        raise


def contents_of(module: Any) -> list[tuple[Any, dict]]:
    """Return the containers in which a layer of PEFT keeps what belongs to each adapter, and their entries."""
    names = module.adapter_layer_names + module.other_param_names
    containers = (getattr(module, name, None) for name in dict.fromkeys(names))
    return [(container, dict(container.items())) for container in containers if hasattr(container, "items")]


def finish_layers(transformer: ModelMixin, adapter_name: str, layers: Mapping[str, Layer]) -> None:
    """Set the strength of each layer to what the LoRA says, and make sure that all were filled."""
    for module, layer in layers.items():
        tuner = transformer.get_submodule(module)
        strength = layer.alpha / layer.rank
        tuner.r[adapter_name], tuner.lora_alpha[adapter_name] = layer.rank, layer.alpha
        tuner.use_rslora[adapter_name] = False
        scaling = tuner.scaling[adapter_name]
        if isinstance(scaling, torch.Tensor):
            scaling.fill_(strength)  # of a compiled model, which holds this tensor
        else:
            tuner.scaling[adapter_name] = strength
        for part in (tuner.lora_A[adapter_name], tuner.lora_B[adapter_name]):
            # Sequential offloading leaves weights on meta between calls, and knows where they are.
            if part.weight.is_meta and not hasattr(part, "_hf_hook"):
                raise RuntimeError(
                    f"{module} was left without weights by the installed versions of diffusers and PEFT."
                )


def settings_of(transformer: ModelMixin, adapter_name: str) -> dict[str, Any]:
    """Return PEFT's settings of an adapter as it is in the model; what was swapped in may fill a larger one."""
    layers = {}
    for name, module in transformer.named_modules():
        if adapter_name in getattr(module, "scaling", {}):
            rank = len(module.lora_A[adapter_name].weight)
            layers[name] = Layer(rank=rank, alpha=float(module.scaling[adapter_name]) * rank)
    return peft_settings(layers)


def restate_config(transformer: ModelMixin, adapter_name: str, settings: dict[str, Any]) -> None:
    """Let PEFT's config say what is loaded, so that it is saved with its strength."""
    config = transformer.peft_config[adapter_name]
    config.use_rslora = False
    for name in ("r", "lora_alpha", "rank_pattern", "alpha_pattern"):
        setattr(config, name, settings[name])
