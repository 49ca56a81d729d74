# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""One Euler step from noise (sigma 1) to data (sigma 0) gives noise - v: it shows which velocity the guidance made."""

import pytest
import torch


NOISE = (
    torch.randn(1, 16, 2, 4, 4, generator=torch.Generator().manual_seed(0)),
    torch.randn(1, 20, 13, generator=torch.Generator().manual_seed(1)),
)
OFF = {"guidance_scale": 1.0, "modality_scale": 1.0, "audio_modality_scale": 1.0}


def guided(pipe, calls, **scales) -> tuple[tuple[torch.Tensor, ...], list[tuple[torch.Tensor, ...]]]:
    """Return the guided velocities (video, audio), and what each pass of the transformer gave."""
    outputs = pipe(
        "A face.",
        transcript="one",
        negative_prompt="blurred",
        num_inference_steps=1,
        latents=NOISE[0],
        audio_latents=NOISE[1],
        output_type="latent",
        return_dict=False,
        **(OFF | scales),
    )
    velocities = [None if output is None else noise - output for noise, output in zip(NOISE, outputs)]
    return velocities, [output for _, output in calls]


@pytest.mark.parametrize(
    "scales, names",
    [
        ({}, ["cond"]),
        ({"guidance_scale": 3.0}, ["cond", "uncond"]),
        ({"guidance_scale": 1.0, "audio_guidance_scale": 3.0}, ["cond", "uncond"]),
        ({"guidance_scale": 0.0, "audio_guidance_scale": 1.0}, ["cond", "uncond"]),
        ({"modality_scale": 2.0}, ["cond", "isolated"]),
        ({"audio_modality_scale": 2.0}, ["cond", "isolated"]),
        ({"guidance_scale": 3.0, "modality_scale": 2.0, "audio_modality_scale": 0.0}, ["cond", "uncond", "isolated"]),
        ({"guidance_scale": 3.0, "audio_guidance_scale": 1.0, "modalities": "audio"}, ["cond"]),
        ({"guidance_scale": 1.0, "audio_guidance_scale": 3.0, "modalities": "video"}, ["cond"]),
        ({"guidance_scale": 3.0, "modality_scale": 2.0, "modalities": "video"}, ["cond", "uncond"]),
    ],
)
def test_passes_are_run_only_where_a_scale_asks_for_them(scales, names, pipe, record, monkeypatch):
    calls, contexts = record(pipe.transformer), []
    cache_context = type(pipe.transformer).cache_context

    def spy(self, name, **kwargs):
        contexts.append((name, kwargs["step_index"], kwargs["num_inference_steps"]))
        return cache_context(self, name, **kwargs)

    monkeypatch.setattr(type(pipe.transformer), "cache_context", spy)
    pipe("A face.", **(OFF | scales), num_inference_steps=2, output_type="latent")
    assert contexts == [(name, step, 2) for step in range(2) for name in names]
    assert len(calls) == 2 * len(names)
    for (kwargs, _), (name, _, _) in zip(calls, contexts):
        assert kwargs["cross_modal_attention"] is (name != "isolated")


@pytest.mark.parametrize(
    "scale, audio_scale", [(3.0, None), (3.0, 5.0), (0.0, 2.0), (1.0, 4.0), (2.0, 0.0), (0.0, None)]
)
def test_each_modality_is_guided_by_its_own_scale(scale, audio_scale, pipe, record):
    velocities, (cond, uncond) = guided(
        pipe, record(pipe.transformer), guidance_scale=scale, audio_guidance_scale=audio_scale
    )
    for velocity, v_cond, v_uncond, g in zip(
        velocities, cond, uncond, (scale, scale if audio_scale is None else audio_scale)
    ):
        torch.testing.assert_close(velocity, v_uncond + g * (v_cond - v_uncond), atol=1e-5, rtol=1e-5)
        assert (v_cond - v_uncond).abs().max() > 1e-4


def test_cross_modal_guidance_goes_further_away_from_the_pass_without_it(pipe, record):
    scales = {"guidance_scale": 3.0, "modality_scale": 2.5, "audio_modality_scale": 0.5}
    velocities, passes = guided(pipe, record(pipe.transformer), **scales)
    assert len(passes) == 3
    for velocity, v_cond, v_uncond, v_isolated, m in zip(velocities, *passes, (2.5, 0.5)):
        expected = v_cond + 2.0 * (v_cond - v_uncond) + (m - 1) * (v_cond - v_isolated)
        torch.testing.assert_close(velocity, expected, atol=1e-5, rtol=1e-5)
        assert (v_cond - v_isolated).abs().max() > 1e-5


def test_isolated_pass_is_the_prompt_s_without_the_other_modality(pipe, record):
    calls = record(pipe.transformer)
    _, (_, isolated) = guided(pipe, calls, modality_scale=2.0)
    calls.clear()
    _, ((video, _),) = guided(pipe, calls, modalities="video")
    torch.testing.assert_close(isolated[0], video, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.5, 1e6])
def test_projected_guidance_equals_its_formula(threshold, pipe, record):
    scale = 8.0
    velocities, (cond, uncond) = guided(
        pipe,
        record(pipe.transformer),
        guidance_scale=scale,
        audio_guidance_scale=2.0,
        apg_norm_threshold=threshold,
    )
    # on predicted data (sigma is 1), per latent frame: limit the update's norm, drop its part along the prediction
    expected = torch.empty_like(velocities[0])
    for frame in range(2):
        latents, v_cond, v_uncond = (x[0, :, frame].double().flatten() for x in (NOISE[0], cond[0], uncond[0]))
        data, update = latents - v_cond, v_uncond - v_cond
        update = update * min(1.0, threshold / update.norm().item())
        update = update - (update @ data) / (data @ data) * data
        guided_data = data + (scale - 1) * update
        expected[0, :, frame] = (latents - guided_data).float().view(16, 4, 4)
    torch.testing.assert_close(velocities[0], expected, atol=1e-5, rtol=1e-5)
    plain = uncond[1] + 2.0 * (cond[1] - uncond[1])
    torch.testing.assert_close(velocities[1], plain, atol=1e-5, rtol=1e-5)  # the sound's guidance stays plain


def test_projected_guidance_holds_at_every_noise_level(pipe, record):
    calls, steps = record(pipe.transformer), []

    def callback(pipe, step, timestep, tensors):
        steps.append(tensors["latents"])
        return {}

    pipe(
        "A face.",
        sigmas=[1.0, 0.4],
        latents=NOISE[0],
        guidance_scale=8.0,
        apg_norm_threshold=1e6,
        output_type="latent",
        callback_on_step_end=callback,
    )
    sigmas = pipe.scheduler.sigmas
    (_, (v_cond, _)), (_, (v_uncond, _)) = calls[2:]
    sigma, before = sigmas[1], steps[0]
    velocity = (before - steps[1]) / (sigma - sigmas[2])
    # the guided update has no part along the prediction, frame by frame
    data = before - sigma * v_cond
    update = (before - sigma * velocity) - data
    along = (update * data).sum(dim=(1, 3, 4))
    assert along.abs().max() < 1e-3 * (update.norm() * data.norm())
    assert (v_cond - v_uncond).abs().max() > 0


def test_scales_are_those_of_the_last_call(pipe):
    pipe(
        "A face.",
        num_inference_steps=1,
        output_type="latent",
        **(OFF | {"guidance_scale": 2.0, "modality_scale": 3.0}),
    )
    assert (pipe.guidance_scale, pipe.audio_guidance_scale) == (2.0, 2.0)
    assert (pipe.modality_scale, pipe.audio_modality_scale) == (3.0, 1.0)
    assert pipe.do_classifier_free_guidance and pipe.do_modality_guidance
    assert pipe.attention_kwargs is None and not pipe.interrupt
