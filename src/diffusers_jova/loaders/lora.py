# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from diffusers.loaders.lora_pipeline import CogVideoXLoraLoaderMixin
from safetensors import SafetensorError


class JoVALoraLoaderMixin(CogVideoXLoraLoaderMixin):
    """Loads, saves, fuses and swaps LoRA layers of `JoVATransformer3DModel`, in diffusers' file format.

    Upstream's loader for one transformer does all of it. Added here: keys with ComfyUI's prefix `diffusion_model.`
    are read too, a file that holds nothing for this transformer is an error instead of a silent success, and a damaged
    safetensors file is one instead of a search for a pickle.
    """

    @classmethod
    def lora_state_dict(cls, pretrained_model_name_or_path_or_dict, **kwargs):
        """Return the LoRA's state dict with keys `transformer.<module>.lora_A.weight` (and its metadata if asked).

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged.
        """
        source, weight_name = pretrained_model_name_or_path_or_dict, kwargs.get("weight_name")
        if not isinstance(source, dict):
            if Path(source).suffix == ".safetensors" and not Path(source).is_file():
                raise FileNotFoundError(f"There is no LoRA file {str(source)!r}.")
            if Path(weight_name or source).suffix not in (".bin", ".pt", ".pth"):  # a pickle only where it is named
                kwargs.setdefault("use_safetensors", True)
        return_lora_metadata = kwargs.pop("return_lora_metadata", False)
        try:
            state_dict, metadata = super().lora_state_dict(source, return_lora_metadata=True, **kwargs)
        except SafetensorError as error:
            raise ValueError(
                f"The LoRA {str(source)!r} is no whole safetensors file ({error}): copy or download it again."
            ) from error
        prefix = "diffusion_model."
        state_dict = {
            f"{cls.transformer_name}.{key.removeprefix(prefix)}" if key.startswith(prefix) else key: value
            for key, value in state_dict.items()
        }
        return (state_dict, metadata) if return_lora_metadata else state_dict

    @classmethod
    def load_lora_into_transformer(cls, state_dict, transformer, **kwargs):
        """Load the layers of `state_dict` into `transformer`; see diffusers' loader for the arguments.

        Raises:
            ValueError: If no key names a module of `transformer`.
        """
        # A layer that already carries an adapter is wrapped: its own name leads to `base_layer`.
        modules = [name.removesuffix(".base_layer") for name, _ in transformer.named_modules() if name]
        prefix = f"{cls.transformer_name}."
        layers = {key.removeprefix(prefix).rpartition(".lora_")[0] for key in state_dict if key.startswith(prefix)}
        if layers.isdisjoint(modules):
            example = next(iter(state_dict), "none at all")
            module = next(name for name in modules if name.endswith("to_q"))
            raise ValueError(
                f"None of the {len(state_dict)} LoRA keys belongs to this {type(transformer).__name__}: got "
                f"{example!r}, expected keys like '{prefix}{module}.lora_A.weight'. Files in other formats can be "
                "converted with conversion/convert_lora.py."
            )
        super().load_lora_into_transformer(state_dict, transformer=transformer, **kwargs)
