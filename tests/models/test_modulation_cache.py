# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Precomputed modulation gives what the weights give, its weights leave and come back, and nothing stale is used."""

import copy
from functools import partial

import accelerate
import pytest
import torch
from peft import LoraConfig

from diffusers_jova.models.modulation_cache import ModulationLinear

from .tiny_transformers import BEGINNINGS, TINY, Tiny, difference


TIMESTEPS = torch.tensor([1000.0, 700.0, 300.0])


@pytest.fixture(params=TINY.values(), ids=TINY)
def tiny(request) -> Tiny:
    return request.param


def cached(tiny: Tiny, **config):
    model = tiny.model(**config)
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    return model


def parked_layers(model) -> dict[str, ModulationLinear]:
    return {name: part for name, part in model.named_modules() if getattr(part, "parked", None)}


def lora_on_modulation(**options) -> LoraConfig:
    return LoraConfig(r=2, target_modules=["modulation", "time_proj", "to_q"], init_lora_weights=False, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_outputs_are_the_same_bits_at_the_batch_that_it_was_computed_for(tiny, batch_size, dtype):
    model = tiny.model().to(dtype)
    inputs = {name: x.to(dtype) if torch.is_tensor(x) else x for name, x in tiny.inputs().items()}
    inputs = {name: x[[0, 1, 0][:batch_size]] if torch.is_tensor(x) else x for name, x in inputs.items()}
    inputs["timestep"] = torch.tensor([700.0, 300.0, 1000.0])[:batch_size]
    with torch.no_grad():
        expected = model(**inputs)
        model.precompute_modulation(TIMESTEPS, batch_size=batch_size)
        assert difference(model(**inputs), expected) == (0, 0)


def test_another_batch_differs_by_rounding_only(tiny):
    model, expected = tiny.model(), tiny.run(tiny.model())
    model.precompute_modulation(TIMESTEPS, batch_size=5)
    for output, reference in zip(tiny.run(model), expected):
        torch.testing.assert_close(output, reference, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=BEGINNINGS)
def test_a_given_beginning_has_its_own_row(beginning):
    tiny, timesteps = beginning.tiny, beginning.timesteps(4, 4)
    expected = tiny.run(tiny.model(), **timesteps)
    model = tiny.model()
    pairs = torch.stack([torch.zeros(3), TIMESTEPS], dim=1)
    schedules = {"timesteps": TIMESTEPS, "audio_timesteps": TIMESTEPS, f"{beginning.argument}s": pairs}
    model.precompute_modulation(**schedules, batch_size=2)
    assert difference(tiny.run(model, **timesteps), expected) == (0, 0)


@pytest.mark.parametrize("branch", ["video", "audio"])
def test_a_model_of_one_branch_has_tables_of_that_branch(tiny, branch):
    other = {"video": "audio_in_channels", "audio": "in_channels"}[branch]
    absent = {"video": "audio_hidden_states", "audio": "hidden_states"}[branch]
    model = cached(tiny, **{other: None})
    reference = tiny.model(**{other: None})
    for output, expected in zip(tiny.run(model, **{absent: None}), tiny.run(reference, **{absent: None})):
        assert (output is None and expected is None) or torch.equal(output, expected)


def test_weights_leave_and_come_back(tiny, tmp_path):
    model, whole = tiny.model(), tiny.model()
    model.enable_modulation_cache()
    layers = parked_layers(model)
    assert layers and all(not list(part.parameters())[0].numel() for part in layers.values())
    left = sum(values.numel() for part in layers.values() for values in part.parked.values())
    assert model.num_parameters() == whole.num_parameters() - left
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    model.save_pretrained(tmp_path)
    for loaded in (type(model).from_pretrained(tmp_path), copy.deepcopy(model)):
        state = loaded.state_dict()
        assert state.keys() == whole.state_dict().keys()
        assert all(torch.equal(state[name], values) for name, values in whole.state_dict().items())
    model.disable_modulation_cache()
    assert not parked_layers(model)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), whole.parameters(), strict=True))
    assert difference(tiny.run(model), tiny.run(whole)) == (0, 0)


def test_weights_come_back_in_the_dtype_that_the_model_has_by_then(tiny):
    model = cached(tiny).to(torch.bfloat16)
    with pytest.raises(ValueError, match="their dtype"):
        tiny.run(model)
    model.disable_modulation_cache()
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), tiny.model().to(torch.bfloat16).parameters()))


def test_state_dict_is_loaded_into_a_model_whose_weights_have_left(tiny):
    model, other = cached(tiny), tiny.model()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.01)
    model.load_state_dict(other.state_dict())
    with pytest.raises(ValueError, match="have changed"):
        tiny.run(model)
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    assert difference(tiny.run(model), tiny.run(other)) == (0, 0)


def test_tables_of_the_same_schedule_are_kept(tiny):
    model = cached(tiny)
    tables = model.modulation_tables
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    assert model.modulation_tables is tables
    model.precompute_modulation(TIMESTEPS[:2], batch_size=2)
    assert model.modulation_tables is not tables


@pytest.mark.parametrize("argument, branch", [("timestep", "video"), ("audio_timestep", "audio")])
def test_a_timestep_that_was_not_precomputed_raises(tiny, argument, branch):
    timesteps = {"timestep": torch.tensor([700.0, 300.0]), argument: torch.tensor([700.0, 299.0])}
    with pytest.raises(ValueError, match=rf"The {branch}'s.*at \[299.0\]: it has 3 timesteps from 1000 to 300"):
        tiny.run(cached(tiny), **timesteps)


def test_nothing_precomputed_and_training_raise(tiny):
    model = tiny.model()
    model.enable_modulation_cache()
    with pytest.raises(ValueError, match="nothing is precomputed"):
        tiny.run(model)
    with pytest.raises(ValueError, match=r"The video's timesteps must be \(K,\).*got shape \(0,\)"):
        model.precompute_modulation([])
    model.precompute_modulation(TIMESTEPS.tolist(), batch_size=2)
    assert difference(tiny.run(model), tiny.run(tiny.model())) == (0, 0)
    with pytest.raises(ValueError, match="Gradients do not reach"):
        cached(tiny).train()(**tiny.inputs())


def test_a_lora_that_reaches_modulation_is_never_stale(tiny):
    model, adapted = cached(tiny), tiny.model()
    run_half = partial(tiny.run, attention_kwargs={"scale": 0.5})
    for each in (model, adapted):
        torch.manual_seed(3)
        each.add_adapter(lora_on_modulation(), adapter_name="a")
    assert parked_layers(model)  # a LoRA brings no weights back to the card
    with pytest.raises(ValueError, match="nothing is precomputed"):
        tiny.run(model)
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    assert difference(tiny.run(model), tiny.run(adapted)) == (0, 0)
    with pytest.raises(ValueError, match="their strength"):
        run_half(model)
    model.precompute_modulation(TIMESTEPS, batch_size=2, attention_kwargs={"scale": 0.5})
    assert difference(run_half(model), run_half(adapted)) == (0, 0)

    for change in ("disable_lora", "enable_lora", "fuse_lora", "unfuse_lora", "unload_lora"):
        for each in (model, adapted):
            getattr(each, change)()
        with pytest.raises(ValueError, match="modulation"):
            tiny.run(model)
        model.precompute_modulation(TIMESTEPS, batch_size=2)
        assert difference(tiny.run(model), tiny.run(adapted)) == (0, 0)


def test_a_dora_measures_the_weights_that_have_left(tiny):
    model, adapted = cached(tiny), tiny.model()
    for each in (model, adapted):
        torch.manual_seed(3)
        each.add_adapter(lora_on_modulation(use_dora=True), adapter_name="a")
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    assert difference(tiny.run(model), tiny.run(adapted)) == (0, 0)


def test_changed_weights_raise(tiny):
    model = cached(tiny)
    embedder = next(iter(model.modulation_layers().values()))[0]
    with torch.no_grad():
        embedder.linear_1.weight.add_(0.1)
    with pytest.raises(ValueError, match="have changed"):
        tiny.run(model)


def test_weights_written_through_data_are_noticed_at_the_next_schedule(tiny):
    """Torch does not count them. Of a layer whose weights have left, new ones even show at once."""
    model, written = cached(tiny), tiny.model()
    layer = next(iter(parked_layers(model)))
    for each in (model, written):
        embedder = next(iter(each.modulation_layers().values()))[0]
        embedder.linear_1.weight.data.add_(0.1)
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    assert difference(tiny.run(model), tiny.run(written)) == (0, 0)
    bias = torch.full_like(written.get_submodule(layer).bias, 0.5)
    for each in (model, written):
        each.get_submodule(layer).bias.data = bias.clone()
    with pytest.raises(ValueError, match="have changed"):
        tiny.run(model)
    assert torch.equal(model.state_dict()[f"{layer}.bias"], bias)
    model.precompute_modulation(TIMESTEPS, batch_size=2)
    assert difference(tiny.run(model), tiny.run(written)) == (0, 0)
    model.get_submodule(layer).bias.data = 2 * bias
    model.disable_modulation_cache()
    assert torch.equal(model.get_submodule(layer).bias, 2 * bias)


@pytest.mark.parametrize("offload", ["block_level", "leaf_level", "sequential"])
@pytest.mark.parametrize("is_first", [True, False], ids=["before", "after"])
def test_offloading_changes_no_output(tiny, offload, is_first):
    model, cpu = tiny.model(), torch.device("cpu")
    if is_first:
        model.enable_modulation_cache()
    if offload == "sequential":
        accelerate.cpu_offload(model, execution_device=cpu)
    else:
        groups = {"num_blocks_per_group": 1} if offload == "block_level" else {}
        model.enable_group_offload(cpu, cpu, offload_type=offload, **groups)
    for timesteps in (TIMESTEPS[:2], TIMESTEPS):
        model.precompute_modulation(timesteps, batch_size=2, device=cpu)
    assert difference(tiny.run(model), tiny.run(tiny.model())) == (0, 0)


def test_a_layer_that_was_quantised_is_refused(tiny):
    model = tiny.model()
    layer = next(name for name, part in model.named_modules() if isinstance(part, ModulationLinear))
    model.set_submodule(layer, torch.nn.Linear(32, 192))
    with pytest.raises(ValueError, match="this model's modulation has a Linear"):
        model.enable_modulation_cache()
    assert not parked_layers(model)
