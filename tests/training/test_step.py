# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from tiny_training import TINY, Recorder, make_batch, make_config, write_cache

from diffusers_jova.data import cache
from diffusers_jova.latents import normalize_latents
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.training.dataset import CachedClips, Visit, draw_noise
from diffusers_jova.training.randomness import draw_normal
from diffusers_jova.training.step import (
    LatentScales,
    draw_images,
    draw_isolation,
    draw_sigmas,
    modality_losses,
    sample_posterior,
    training_step,
    weigh_losses,
    with_condition,
)


@pytest.fixture(scope="module")
def pipe():
    return create_pipeline(**TINY)


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return CachedClips(write_cache(tmp_path_factory.mktemp("cache"), kinds=("both", "both", "video", "audio")))


@pytest.fixture(scope="module")
def scales(pipe):
    return LatentScales(pipe.vae.config, pipe.audio_vae.config, pipe.transformer.config.in_channels)


def record(batch, scales, **settings):
    recorder = Recorder()
    output = training_step(recorder, batch, scales, make_config(**settings))
    return recorder.inputs, output


@pytest.mark.parametrize(
    "rows", [((0, 0), (1, 0), (0, 1), (1, 1)), ((2, 0), (2, 1), (2, 2), (2, 3))], ids=["both", "video"]
)
def test_first_frames_are_given_clean_at_timestep_0_where_frames_have_timesteps(rows, clips, scales):
    scales, batch = replace(scales, in_channels=16, condition_fill="noisy"), make_batch(clips, *rows)
    settings = {"image_conditioning_probability": 0.5, "mouth_loss_weight": 0.0}
    inputs, output = record(batch, scales, **settings)
    none, _ = record(batch, scales, **settings | {"image_conditioning_probability": 0.0})
    is_drawn = draw_images(batch.visits, make_config(**settings))
    assert 0 < is_drawn.sum() < 4
    timestep = 1000 * output.sigmas["video"][:, None].repeat(1, 2)
    assert torch.equal(none["timestep"], timestep)
    timestep[is_drawn, 0] = 0
    assert torch.equal(inputs["timestep"], timestep)
    assert inputs["audio_timestep"] is None or torch.equal(inputs["audio_timestep"], 1000 * output.sigmas["audio"])
    video, mean = inputs["hidden_states"], batch.video_moments.chunk(2, dim=1)[0]
    assert torch.equal(video[is_drawn, :, 0], normalize_latents(mean, scales.vae)[is_drawn, :, 0])
    assert torch.equal(video[~is_drawn], none["hidden_states"][~is_drawn])
    assert torch.equal(video[:, :, 1], none["hidden_states"][:, :, 1])
    # prediction 0: the loss is the mean square of noise - x, of what is not given
    ends = [
        record(batch, scales, **settings, sigma_sampling="logit_normal", logit_mean=x)[0]["hidden_states"]
        for x in (-30.0, 30.0)
    ]
    error = (ends[1] - ends[0]).square()
    expected = torch.where(is_drawn, error[:, :, 1].flatten(1).mean(1), error.flatten(1).mean(1))
    torch.testing.assert_close(output.losses["video"], expected, rtol=1e-4, atol=1e-5)


def test_what_the_model_is_given_is_where_its_timestep_says(clips, scales):
    batch = make_batch(clips, (0, 0), (1, 0))
    inputs, output = record(batch, scales)
    assert torch.allclose(inputs["timestep"], 1000 * output.sigmas["video"])
    assert torch.equal(inputs["audio_timestep"], inputs["timestep"])
    # prediction 0: the loss is the mean square of noise - x; near data and near noise the input tells which is which
    near_data, _ = record(batch, scales, sigma_sampling="logit_normal", logit_mean=-30.0)
    near_noise, _ = record(batch, scales, sigma_sampling="logit_normal", logit_mean=30.0)
    for name, channels in (("hidden_states", slice(16)), ("audio_hidden_states", slice(None))):
        target = near_noise[name][:, channels] - near_data[name][:, channels]
        sigma = output.sigmas["video"].view(-1, *[1] * (target.ndim - 1))
        expected = near_data[name][:, channels] + sigma * target
        assert torch.allclose(inputs[name][:, channels], expected, atol=1e-4)
        loss = output.losses["video" if name == "hidden_states" else "audio"]
        assert torch.allclose(loss, target.square().flatten(1).mean(1), rtol=1e-4)


def test_latents_are_on_the_scale_that_the_pipeline_decodes_from(clips, scales, pipe):
    batch = make_batch(clips, (0, 0))
    data, _ = record(batch, scales, sigma_sampling="logit_normal", logit_mean=-30.0)
    config = make_config()
    for name, moments, vae in (
        ("hidden_states", batch.video_moments, pipe.vae), ("audio_hidden_states", batch.audio_moments, pipe.audio_vae)
    ):  # fmt: skip
        noise = draw_noise(batch, config.seed)["video posterior" if vae is pipe.vae else "audio posterior"]
        latents = sample_posterior(moments, noise)
        mean, std = (getattr(vae.config, f"latents_{x}", None) for x in ("mean", "std"))
        if mean is not None:
            shape = (1, -1, *[1] * (latents.ndim - 2))
            latents = (latents - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
        assert torch.allclose(data[name][:, : latents.shape[1]], latents, atol=1e-4)


def test_the_posterior_has_its_mean_and_spread_and_is_drawn_anew_at_each_visit():
    moments = torch.cat([torch.full((1, 2, 5000), 3.0), torch.full((1, 2, 5000), 2 * torch.tensor(0.5).log())], dim=1)
    noises = (draw_normal((2, 5000), [Visit("a", n)], 0, "audio posterior") for n in (0, 0, 1))
    first, again, later = (sample_posterior(moments, noise) for noise in noises)
    assert torch.equal(first, again) and not torch.equal(first, later)
    assert first.mean() == pytest.approx(3.0, abs=0.03) and first.std() == pytest.approx(0.5, abs=0.02)


def test_a_clip_meets_the_same_in_any_company(clips, scales):
    """What makes the loss the same on one process and on many."""
    settings = {"independent_timesteps": True, "image_conditioning_probability": 0.5}
    together, _ = record(make_batch(clips, (0, 2), (1, 5)), scales, **settings)
    alone, _ = record(make_batch(clips, (1, 5)), scales, **settings)
    for name in ("hidden_states", "audio_hidden_states", "timestep", "audio_timestep"):
        assert torch.equal(together[name][1:], alone[name])


def test_noise_drawn_ahead_is_that_of_the_step(clips, scales):
    batch = make_batch(clips, (0, 2), (1, 5))
    ahead = replace(batch, noise=draw_noise(batch, make_config().seed))
    (inputs, output), (expected, other) = record(ahead, scales), record(batch, scales)
    for name in ("hidden_states", "audio_hidden_states"):
        assert torch.equal(inputs[name], expected[name])
    assert output.loss == other.loss


def test_every_visit_has_its_own_noise_and_level(clips, scales):
    inputs, _ = record(make_batch(clips, *((0, number) for number in range(4))), scales)
    assert len(set(inputs["timestep"].tolist())) == 4
    assert len({round(sample.sum().item(), 3) for sample in inputs["audio_hidden_states"]}) == 4


def test_picture_and_sound_have_different_noise(clips, scales):
    """A shared stream of random numbers would tell the sound what the picture's noise is."""
    inputs, _ = record(make_batch(clips, (0, 0)), scales, sigma_sampling="logit_normal", logit_mean=30.0)
    audio = inputs["audio_hidden_states"].flatten()
    video = inputs["hidden_states"][:, :16].flatten()[: len(audio)]
    assert torch.corrcoef(torch.stack([audio, video]))[0, 1].abs() < 0.3


def test_modalities_share_their_noise_level_unless_asked(clips):
    batch = make_batch(clips, *((0, number) for number in range(50)))
    shared = draw_sigmas(batch, make_config())
    own = draw_sigmas(batch, make_config(independent_timesteps=True))
    assert torch.equal(shared["video"], shared["audio"])
    assert torch.corrcoef(torch.stack([own["video"], own["audio"]]))[0, 1].abs() < 0.5
    shifted = draw_sigmas(batch, make_config(independent_timesteps=True, sigma_shift=3.0, audio_sigma_shift=1.0))
    assert torch.equal(shifted["audio"], own["audio"]) and (shifted["video"] > own["video"]).all()


def test_an_option_does_not_move_what_others_draw(clips, scales):
    batch = make_batch(clips, (0, 0))
    plain, _ = record(batch, scales, image_conditioning_probability=0.0)
    pictured, _ = record(batch, scales, image_conditioning_probability=1.0)
    assert torch.equal(plain["hidden_states"][:, :16], pictured["hidden_states"][:, :16])
    assert torch.equal(plain["audio_hidden_states"], pictured["audio_hidden_states"])


@pytest.mark.parametrize("given", [True, False])
def test_the_condition_is_the_pipelines_own(pipe, scales, given):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(1, 3, 32, 32, generator=generator) * 2 - 1
    with torch.no_grad():
        picture = pipe.vae.encode(pixels[:, :, None]).latent_dist.parameters
        black = pipe.vae.encode(torch.full((1, 3, 1, 32, 32), -1.0)).latent_dist.parameters
        latents = torch.randn(1, 16, 2, 4, 4)
        expected = pipe.prepare_condition(pixels if given else None, latents, 32, 32)
    batch = SimpleNamespace(visits=[Visit("a", 0)], image_moments=picture, filler_moments=black)
    config = make_config(image_conditioning_probability=float(given))
    inputs = with_condition(latents, batch, scales, config)
    assert torch.equal(inputs[:, :16], latents)
    assert torch.equal(inputs[:, 16:], expected)


def test_the_picture_is_given_as_often_as_asked():
    visits = [Visit("a", number) for number in range(2000)]
    assert draw_images(visits, make_config()).float().mean() == pytest.approx(0.2, abs=0.03)


def test_a_missing_modality_is_not_run(clips, scales):
    video, output = record(make_batch(clips, (2, 0)), scales)
    assert video["audio_hidden_states"] is None and set(output.losses) == {"video", "mouth", "total"}
    audio, output = record(make_batch(clips, (3, 0)), scales)
    assert audio["hidden_states"] is None and set(output.losses) == {"audio", "total"}
    assert torch.equal(audio["timestep"], audio["audio_timestep"])


def test_the_frame_rate_and_the_padding_reach_the_model(clips, scales):
    inputs, _ = record(make_batch(clips, (0, 0), (1, 0)), scales)
    assert inputs["frame_rate"] == 12.5
    assert inputs["encoder_attention_mask"].sum(1).tolist() == [7, 8]


def test_the_total_is_the_weighted_sum_of_equation_6(clips, scales):
    weights = {"video_loss_weight": 2.0, "audio_loss_weight": 0.5, "mouth_loss_weight": 5.0}
    _, output = record(make_batch(clips, (0, 0), (1, 0)), scales, **weights)
    losses = output.losses
    assert torch.allclose(losses["total"], 2 * losses["video"] + 0.5 * losses["audio"] + 5 * losses["mouth"])
    assert output.loss == losses["total"].mean()


def test_zero_mouth_loss_weight_gives_the_plain_loss(clips, scales):
    _, output = record(make_batch(clips, (0, 0)), scales, mouth_loss_weight=0.0)
    assert torch.equal(output.losses["total"], output.losses["video"] + output.losses["audio"])
    assert output.losses["mouth"] > 0


def test_an_empty_mouth_mask_adds_exactly_nothing(clips, scales):
    batch = make_batch(clips, (0, 0))
    batch = replace(batch, mouth_mask=torch.zeros_like(batch.mouth_mask))
    totals = [record(batch, scales, mouth_loss_weight=weight)[1].losses["total"] for weight in (0.0, 5.0)]
    assert torch.equal(*totals)


def test_a_zero_weight_keeps_even_a_broken_modality_out(clips):
    batch = make_batch(clips, (0, 0))
    predictions = {"video": torch.zeros_like(batch.video_moments), "audio": torch.full((1, 20, 13), torch.nan)}
    targets = {name: torch.zeros_like(tensor) for name, tensor in predictions.items()}
    config = make_config(audio_loss_weight=0.0)
    losses = modality_losses(predictions, targets, {}, batch, config)
    assert losses["audio"].isnan() and weigh_losses(losses, config) == 0.0


def test_losses_reach_every_stream_of_the_real_model(pipe, clips, scales):
    transformer = pipe.transformer
    output = training_step(transformer, make_batch(clips, (0, 0), (1, 0)), scales, make_config())
    output.loss.backward()
    without = [name for name, parameter in transformer.named_parameters() if parameter.grad is None]
    assert without == []
    transformer.zero_grad()


def test_black_frames_are_read_for_the_clips_own_size(clips):
    batch = make_batch(clips, (0, 0))
    assert torch.equal(batch.filler_moments[0], cache.read_shared(clips.cache_dir)["black.32x32"])


def test_modalities_that_are_dropped_for_each_other_do_not_see_each_other(clips, scales):
    batch = make_batch(clips, (0, 0), (1, 0))
    for probability, sees in ((0.0, True), (1.0, False)):
        inputs, _ = record(batch, scales, cross_modal_dropout=probability)
        assert inputs["cross_modal_attention"] is sees
    audio_alone = make_batch(clips, (3, 0), (3, 1))
    assert record(audio_alone, scales, cross_modal_dropout=1.0)[0]["cross_modal_attention"] is True


def test_modalities_are_dropped_for_each_other_as_often_as_asked_and_the_same_in_every_run(clips):
    config = make_config(cross_modal_dropout=0.25)
    batches = [make_batch(clips, (0, visit), (1, visit)) for visit in range(200)]
    drawn = [draw_isolation(batch, config) for batch in batches]
    assert drawn == [draw_isolation(batch, config) for batch in batches]
    assert 30 <= sum(drawn) <= 70  # 50 of 200, and three standard deviations
    assert drawn != [draw_isolation(batch, replace(config, seed=config.seed + 1)) for batch in batches]
