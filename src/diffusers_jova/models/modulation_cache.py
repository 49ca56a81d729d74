# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Modulation computed once for all steps of a schedule, so that its weights can leave the device.

Nothing but the timestep goes into it: of jova-24b's 24.6 B parameters 8.15 B make modulation, 16.3 GB in bfloat16,
and what they make in 50 steps are 265 MB.

B batch, N timesteps among the tokens of a sample: 1 or 2, K timesteps of a schedule, D width
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn as nn
import torch.nn.functional as F
from diffusers.utils import apply_lora_scale

from .value_checks import checks_values


class ModulationLinear(nn.Linear):
    """A linear layer of a modulation, whose outputs at the timesteps of a schedule can stand in for its weights.

    While it is parked its parameters are empty, wherever the model goes, and their values wait on the host. A state
    dict has them all the same.

    Attributes:
        table: `(K, out_features)`, its outputs, or None. Not a buffer: it stays where it was made, offloading or not.
        parked: The values of the parameters by name; empty where they are in their place.
    """

    def __init__(self, in_features: int, out_features: int):
        super().__init__(in_features, out_features)
        self.table: torch.Tensor | None = None
        self.parked: dict[str, torch.Tensor] = {}

    def park(self) -> None:
        """Move the parameters' values to the host."""
        for name, parameter in self.named_parameters(recurse=False):
            # Sequential offloading brings weights only when a layer is called, which this one will not be. A parked
            # parameter that is not empty was given new values through `.data`.
            if parameter.numel() and not parameter.is_meta:
                self.parked[name], self.table = parameter.data.to("cpu"), None
                parameter.data = parameter.data.new_empty(0)

    def unpark(self) -> None:
        """Put the values back, where the model is by now and in its dtype."""
        if self.parked:
            self.park()  # what is newer
        for name, values in self.parked.items():
            parameter = self.get_parameter(name)
            parameter.data = values.to(device=parameter.device, dtype=parameter.dtype)
        self.parked, self.table = {}, None

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        if self.parked:
            self.park()  # what is newer
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({prefix + name: values for name, values in self.parked.items()})

    def _load_from_state_dict(self, state_dict, prefix, *args):
        if any(prefix + name in state_dict for name in self.parked):  # and not a LoRA's alone
            self.unpark()
        super()._load_from_state_dict(state_dict, prefix, *args)


def project(layer: nn.Module, time: torch.Tensor) -> torch.Tensor:
    """Return a modulation (B, N, 6D).

    Args:
        layer: A `ModulationLinear`, possibly with a LoRA around it.
        time: temb (B, N, D), or, where modulation was precomputed, rows of the layer's table (B, N).
    """
    if time.is_floating_point():
        return layer(F.silu(time))
    base = base_of(layer)
    if base.table.device != time.device:  # the model has moved since
        base.table = base.table.to(time.device)
    return base.table[time]


def base_of(layer: Any) -> Any:
    """Return the layer itself, without a LoRA around it."""
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def run_on(device: torch.device | None, module: nn.Module, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return what `module` makes of each of `inputs`, wherever its weights are kept meanwhile.

    It is computed where the module is, or on `device` if the module is offloaded to the host.
    """
    weights = dict(module.named_parameters())
    if any(weight.is_meta for weight in weights.values()):  # sequential offloading brings them when it is called
        for part in module.modules():
            if isinstance(part, ModulationLinear):
                part.unpark()
        return [module(x) for x in inputs]
    for prefix, part in module.named_modules():
        for name, values in getattr(part, "parked", {}).items():
            name = f"{prefix}.{name}" if prefix else name
            weights[name] = values.to(weights[name])
    at = next(iter(weights.values())).device
    at = device if device is not None and at.type == "cpu" else at
    weights = {name: weight.to(at) for name, weight in weights.items()}
    return [torch.func.functional_call(module, weights, (x.to(at),)) for x in inputs]


def state_of(module: nn.Module) -> Iterator[tuple]:
    """Yield what the outputs of `module` depend on: which parameters, as they are by now, and LoRAs' strengths."""

    def version(tensor: torch.Tensor) -> int:
        # nobody counts changes of inference tensors, which change nowhere but in `torch.inference_mode`
        return 0 if tensor.is_inference() else tensor._version

    for parameter in module.parameters():
        if not parameter.is_meta:  # sequential offloading makes others at every call
            yield id(parameter), parameter.dtype, parameter.numel(), version(parameter)
    for part in module.modules():
        if isinstance(part, ModulationLinear):
            yield part.table is None, *map(version, part.parked.values())
    loras: Any = [part for part in module.modules() if hasattr(part, "merged_adapters")]
    for lora in loras:
        # as text, since a strength that was scaled and scaled back differs in its last digit
        strengths = {name: f"{float(value):.9g}" for name, value in lora.scaling.items()}
        yield tuple(lora.active_adapters), lora.disable_adapters, tuple(lora.merged_adapters), str(strengths)


def sums_of(modules: list[nn.Module]) -> list[float]:
    """Return the sum of each parameter, where a change shows that was written through `.data` and is not counted.

    The host waits for them, so it is nothing for every step.
    """
    parameters = [parameter.detach() for module in modules for parameter in module.parameters()]
    sums = [parameter.float().sum() for parameter in parameters if not parameter.is_meta]
    return torch.stack([each.to(sums[0].device) for each in sums]).tolist() if sums else []


@dataclass(frozen=True)
class ModulationTables:
    """What the tables of a model were made for.

    Attributes:
        keys: By branch, the timesteps (K,) of the rows, in float32.
        shapes: By branch, the timesteps as numbers, and the (B, N) that they were computed at.
        state: `state_of` all layers.
        sums: `sums_of` all layers.
    """

    keys: dict[str, torch.Tensor]
    shapes: dict[str, tuple]
    state: list[tuple]
    sums: list[float]


if TYPE_CHECKING:
    from diffusers import ModelMixin as Model  # whose methods it extends
else:
    Model = object


class ModulationCacheMixin(Model):
    """Keeps what a transformer's modulation layers give at the timesteps of a schedule instead of their weights.

    Attributes:
        has_modulation_cache: Whether tables take the place of the weights.
        modulation_tables: What the tables were made for; None where they are still to be made.
    """

    has_modulation_cache: bool = False
    modulation_tables: ModulationTables | None = None

    def modulation_layers(self) -> dict[str, tuple[nn.Module, list[tuple[nn.Module, bool]]]]:
        """Return by branch what makes temb (B, N, D) of timesteps (B, N), and the layers that make modulation of it,
        each with whether it is the text's, which has one timestep."""
        raise NotImplementedError

    def enable_modulation_cache(self) -> None:
        """Let the modulation's weights leave the device, for the tables of `precompute_modulation`.

        Enable it before offloading and before the model goes to its device, and the weights never get there.

        Raises:
            ValueError: If a layer is not the one that the model was built with, such as a quantised one.
        """
        layers = [base_of(layer) for _, branch in self.modulation_layers().values() for layer, _ in branch]
        for layer in layers:
            if not isinstance(layer, ModulationLinear):
                raise ValueError(
                    f"The modulation cache takes the place of linear layers, and this model's modulation has a "
                    f"{type(layer).__name__}, as quantisation puts it there. Leave modulation out of what is "
                    "quantised, or do without the cache."
                )
        for layer in layers:
            layer.park()
        self.has_modulation_cache = True

    def disable_modulation_cache(self) -> None:
        """Put the weights back into their place, and forget the tables."""
        self.unpark_modulation()
        self.has_modulation_cache = False

    @torch.no_grad()
    @apply_lora_scale("attention_kwargs")
    def precompute_modulation(
        self,
        timesteps: torch.Tensor,
        audio_timesteps: torch.Tensor | None = None,
        batch_size: int = 1,
        device: torch.device | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Compute the modulation of all blocks at the timesteps of a schedule, and enable the modulation cache.

        Tables that were made for the same are kept, others are replaced; so are those of weights that were written to
        through `.data`, which torch does not count and a forward pass does not notice. A forward pass with
        `batch_size` samples then gives the same bits as without; another number of samples differs by the rounding of
        a matrix product.

        Args:
            timesteps: `(K,)`, 0 (data) to 1000 (noise), all that the video will be called with; or `(K, 2)` where a
                part of it is given clean: pairs of its timestep and that of the rest.
            audio_timesteps: The same of the audio. None means `timesteps`.
            batch_size: Samples in a forward pass.
            device: Where to compute what is offloaded to the host.
            attention_kwargs: As in `forward`: the strength of LoRA layers.

        Raises:
            ValueError: If timesteps have another shape, or a layer was quantised.
        """
        self.enable_modulation_cache()
        layers = self.modulation_layers()
        schedules = {"video": timesteps, "audio": timesteps if audio_timesteps is None else audio_timesteps}
        keys, shapes = {}, {}
        for branch in layers:
            schedule = torch.as_tensor(schedules[branch], dtype=torch.float32)
            if schedule.ndim not in (1, 2) or not schedule.numel():
                raise ValueError(
                    f"The {branch}'s timesteps must be (K,), or (K, 2) where a part of it is given, K at least 1, "
                    f"got shape {tuple(schedule.shape)}."
                )
            keys[branch] = schedule.unique()
            shapes[branch] = (keys[branch].tolist(), batch_size, 1 if schedule.ndim == 1 else schedule.shape[1])
        tables, sums = self.modulation_tables, sums_of(self._modulation_modules())
        if tables is not None and (tables.shapes, tables.state, tables.sums) == (
            shapes,
            self._modulation_state(),
            sums,
        ):
            return
        self.modulation_tables = None  # whatever happens now
        for branch, (time_embedder, branch_layers) in layers.items():
            _, *shape = shapes[branch]
            tembs = run_on(device, time_embedder, [key.expand(shape) for key in keys[branch]])
            dtype = self.dtype
            for layer, is_text in branch_layers:
                # a text has one timestep; one row of each result, since equal inputs give equal rows
                inputs = [F.silu((temb[:, -1:] if is_text else temb).to(dtype)) for temb in tembs]
                base_of(layer).table = torch.cat([output[:1, -1] for output in run_on(device, layer, inputs)])
        self.modulation_tables = ModulationTables(keys, shapes, self._modulation_state(), sums)

    def check_modulation_cache(self) -> None:
        """Raise a ValueError unless the tables, if they are to be used, are of the weights and LoRAs as they are."""
        if not self.has_modulation_cache or torch.compiler.is_compiling():
            return
        if self.training:
            raise ValueError(
                "Gradients do not reach a modulation that was precomputed. Call `disable_modulation_cache()` before "
                "training, or `eval()`."
            )
        if self.modulation_tables is None:
            raise ValueError(
                "The modulation cache is enabled, and nothing is precomputed. Call `precompute_modulation(timesteps)` "
                "with the timesteps of the schedule, as `JoVAPipeline` does, or `disable_modulation_cache()`."
            )
        if self.modulation_tables.state != self._modulation_state():
            raise ValueError(
                "Since the modulation was precomputed, its weights, their dtype, or the LoRAs in it or their strength "
                "have changed. Call `precompute_modulation` again, as each call of `JoVAPipeline` does, or "
                "`disable_modulation_cache()`."
            )

    def modulation_rows(self, branch: str, timesteps: torch.Tensor) -> torch.Tensor | None:
        """Return the rows (B, N) of a branch's tables for `timesteps` (B, N), or None without tables.

        Raises:
            ValueError: For a timestep that the tables were not made for.
        """
        if not self.has_modulation_cache:
            return None
        keys = self.modulation_tables.keys[branch].to(timesteps.device)
        is_key = timesteps[..., None] == keys  # (B, N, K)
        if checks_values() and not is_key.any(dim=-1).all():
            missing = timesteps[~is_key.any(dim=-1)].unique().tolist()
            raise ValueError(
                f"The {branch}'s modulation was not precomputed at {missing}: it has {len(keys)} timesteps from "
                f"{keys.max():g} to {keys.min():g}. Call `precompute_modulation` with all timesteps of this schedule, "
                "0 included for what is given, or `disable_modulation_cache()`."
            )
        return is_key.int().argmax(dim=-1)

    def _modulation_modules(self) -> list[nn.Module]:
        branches = self.modulation_layers().values()
        return [module for embedder, layers in branches for module in (embedder, *dict(layers))]

    def _modulation_state(self) -> list[tuple]:
        return [state for module in self._modulation_modules() for state in state_of(module)]

    def unpark_modulation(self) -> None:
        """Put the weights back, since somebody needs them; the next `precompute_modulation` takes them away again."""
        for _, layers in self.modulation_layers().values():
            for layer, _ in layers:
                if isinstance(base_of(layer), ModulationLinear):
                    base_of(layer).unpark()
        self.modulation_tables = None

    # A new LoRA needs new tables; what works on the base's weights needs these, too.

    def load_lora_adapter(self, *args, **kwargs):
        """Load a LoRA; see diffusers' `PeftAdapterMixin`."""
        self.modulation_tables = None
        return super().load_lora_adapter(*args, **kwargs)

    def add_adapter(self, adapter_config, *args, **kwargs):
        """Add new LoRA layers; see diffusers' `PeftAdapterMixin`."""
        self.modulation_tables = None
        if getattr(adapter_config, "use_dora", False):  # which begins by measuring the base's weights
            self.unpark_modulation()
        return super().add_adapter(adapter_config, *args, **kwargs)

    def fuse_lora(self, *args, **kwargs):
        """Add the LoRAs to the weights; see diffusers' `PeftAdapterMixin`."""
        self.unpark_modulation()
        return super().fuse_lora(*args, **kwargs)

    def unfuse_lora(self, *args, **kwargs):
        """Take the LoRAs out of the weights again; see diffusers' `PeftAdapterMixin`."""
        self.unpark_modulation()
        return super().unfuse_lora(*args, **kwargs)
