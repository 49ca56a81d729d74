# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from diffusers_jova.training.flow_matching import add_noise, sample_sigma, shift_sigmas, timesteps_of, velocity
from diffusers_jova.training.randomness import make_generator


def draw(number=2000, **options):
    generator = torch.Generator().manual_seed(0)
    return torch.stack([sample_sigma(generator, **options) for _ in range(number)])


def test_the_path_runs_from_data_to_noise_and_the_velocity_is_its_slope():
    latents, noise = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    ends = [add_noise(latents, noise, torch.full((2,), sigma)) for sigma in (0.0, 1.0)]
    assert torch.equal(ends[0], latents) and torch.equal(ends[1], noise)
    slope = (
        add_noise(latents, noise, torch.full((2,), 0.75)) - add_noise(latents, noise, torch.full((2,), 0.25))
    ) / 0.5
    assert torch.allclose(slope, velocity(latents, noise), atol=1e-5)


def test_each_sample_has_its_own_noise_level():
    latents, noise = torch.zeros(2, 1, 2, 2, 2), torch.ones(2, 1, 2, 2, 2)
    assert add_noise(latents, noise, torch.tensor([0.25, 0.5])).flatten(1).mean(1).tolist() == [0.25, 0.5]


def test_a_perfect_prediction_takes_the_scheduler_from_noise_to_data_in_one_step():
    latents, noise = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[1.0])
    assert scheduler.timesteps[0] == timesteps_of(torch.ones(()))
    step = scheduler.step(velocity(latents, noise), scheduler.timesteps[0], noise, return_dict=False)[0]
    assert torch.allclose(step, latents, atol=1e-6)


def test_the_shift_is_the_schedulers():
    sigmas = torch.linspace(0.1, 0.9, 9)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(sigmas=sigmas.tolist())
    assert torch.allclose(shift_sigmas(sigmas, 3.0), scheduler.sigmas[:-1], atol=1e-6)
    assert torch.equal(shift_sigmas(sigmas, 1.0), sigmas)


def test_uniform_levels_fill_the_unit_interval_evenly():
    sigmas = draw()
    assert 0 <= sigmas.min() and sigmas.max() <= 1
    assert torch.histc(sigmas, 4, 0, 1).sub(500).abs().max() < 80


def test_a_higher_logit_mean_means_more_noise():
    medians = [draw(sampling="logit_normal", logit_mean=mean).median() for mean in (-1.0, 0.0, 1.0)]
    assert medians == sorted(medians)
    assert medians[1] == pytest.approx(0.5, abs=0.03)
    assert medians[2] == pytest.approx(torch.sigmoid(torch.tensor(1.0)).item(), abs=0.03)


def test_mode_with_shift_3_peaks_where_wavers_plot_does():
    sigmas = shift_sigmas(draw(6000, sampling="mode", mode_scale=1.29), 3.0)
    density = torch.histc(sigmas, 10, 0, 1) / len(sigmas) * 10
    assert density.argmax().item() == 7  # 0.7 to 0.8
    assert density[0] < 0.3 and density[-1] == pytest.approx(1.4, abs=0.3)


def test_a_generator_depends_on_every_part_of_its_name():
    names = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), (0, "a", 0, "noise")]
    draws = {torch.rand((), generator=make_generator(*name)).item() for name in names}
    assert len(draws) == len(names)
    assert torch.rand((), generator=make_generator(*names[0])) == torch.rand((), generator=make_generator(*names[0]))
