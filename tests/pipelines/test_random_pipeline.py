# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import nn

from diffusers_jova import PRESETS
from diffusers_jova.pipelines.random_pipeline import NANO_DEFAULTS, create_pipeline, draw_zero_parameters


def test_nano_pipeline_has_the_preset_and_its_own_defaults():
    pipe = create_pipeline()
    assert all(pipe.transformer.config[key] == value for key, value in PRESETS["jova-nano"].items())
    assert all(pipe.config[key] == value for key, value in NANO_DEFAULTS.items())
    assert not any(part.training for part in pipe.components.values() if isinstance(part, nn.Module))
    assert pipe.audio_sampling_rate == 16000


def test_no_parameter_is_zero_so_that_gradients_flow(pipe):
    for name, parameter in pipe.transformer.named_parameters():
        assert parameter.any(), name


def test_only_zero_parameters_are_drawn():
    module = nn.ParameterDict({"zero": torch.zeros(1000), "one": torch.ones(3)})
    torch.manual_seed(0)
    draw_zero_parameters(module, std=0.1)
    assert module["one"].eq(1).all()
    assert module["zero"].std().item() == pytest.approx(0.1, rel=0.1)


def test_a_seed_sets_all_weights_and_leaves_the_global_generator_alone(make_pipeline):
    torch.manual_seed(7)
    before = torch.get_rng_state()
    pipes = [create_pipeline(seed=seed, num_layers=1, num_single_layers=1) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), before)
    for name, part in pipes[0].components.items():
        if isinstance(part, nn.Module):
            states = [getattr(pipe, name).state_dict() for pipe in pipes]
            assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())
            assert any(not torch.equal(value, states[2][key]) for key, value in states[0].items())


def test_tokenizers_read_any_text(pipe):
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        ids = tokenizer("<Transcript>: Zwölf, 三七!\n").input_ids
        assert 0 < len(ids) and max(ids) < len(tokenizer)
    text = "Zwölf, 三七"
    assert pipe.tokenizer_2.decode(pipe.tokenizer_2(text).input_ids) == text


@pytest.mark.parametrize("preset, message", [("jova-7b", "is not a preset"), ("jova-24b", "5 B and 32 B")])
def test_presets_that_cannot_be_made_are_refused(preset, message):
    with pytest.raises(ValueError, match=message):
        create_pipeline(preset)
