# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)


def run(pipe, **kwargs):
    """Return the latents of five steps, (video, audio), with all three passes."""
    settings = {"num_inference_steps": 5, "guidance_scale": 3.0, "modality_scale": 1.5, "output_type": "latent"}
    generator = torch.Generator().manual_seed(0)
    return pipe("A face.", transcript="one two", generator=generator, return_dict=False, **(settings | kwargs))


def assert_same(ours, theirs, tolerance=1e-4):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), atol=tolerance, rtol=tolerance)


@pytest.fixture(scope="module")
def expected(pipe):
    return run(pipe)


def cache_config(kind, pipe, skips: bool):
    if kind == "first block":
        return FirstBlockCacheConfig(threshold=1e6 if skips else 0.0)
    if kind == "pyramid":
        return PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2 if skips else 1,
            spatial_attention_timestep_skip_range=(-1, 1001),
            current_timestep_callback=lambda: pipe.current_timestep,
        )
    return TaylorSeerCacheConfig(
        cache_interval=2 if skips else 1, disable_cache_before_step=1, max_order=1, taylor_factors_dtype=torch.float32
    )


KINDS = ("first block", "pyramid", "taylorseer")


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_never_skips_changes_nothing(kind, own_pipe, expected):
    own_pipe.transformer.enable_cache(cache_config(kind, own_pipe, skips=False))
    assert_same(run(own_pipe), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_that_skips_changes_video_and_audio_a_little_and_forgets_after_the_call(kind, own_pipe, expected):
    own_pipe.transformer.enable_cache(cache_config(kind, own_pipe, skips=True))
    first, second = run(own_pipe), run(own_pipe)
    assert_same(first, second, tolerance=0)
    for one, other in zip(first, expected, strict=True):
        assert not torch.equal(one, other)
        assert (one - other).norm() < 0.2 * other.norm()
    own_pipe.transformer.disable_cache()
    assert_same(run(own_pipe), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cache_keeps_the_passes_of_guidance_apart(kind, own_pipe, record, expected):
    """At the first step nothing is skipped: each pass must give what it gives without a cache."""
    calls = record(own_pipe.transformer)
    run(own_pipe, num_inference_steps=1)
    without = [output for _, output in calls]
    calls.clear()
    own_pipe.transformer.enable_cache(cache_config(kind, own_pipe, skips=True))
    run(own_pipe, num_inference_steps=1)
    assert len(calls) == 3
    for (_, output), other in zip(calls, without, strict=True):
        assert_same(output, other)


def test_faster_cache_is_refused_where_there_is_more_than_one_pass(own_pipe):
    config = FasterCacheConfig(
        is_guidance_distilled=True,
        spatial_attention_timestep_skip_range=(-1, 901),
        attention_weight_callback=lambda _: 0.5,
        current_timestep_callback=lambda: own_pipe.current_timestep,
    )
    own_pipe.transformer.enable_cache(config)
    with pytest.raises(ValueError, match="FasterCache mixes up the 3 passes"):
        run(own_pipe)
    video, audio = run(own_pipe, guidance_scale=1.0, modality_scale=1.0)
    assert torch.isfinite(video).all() and torch.isfinite(audio).all()


def test_a_cache_made_for_another_number_of_steps_is_refused(make_pipeline):
    pipe = make_pipeline(audio_in_channels=None, num_layers=1)  # the only models that MagCache can serve
    pipe.transformer.enable_cache(MagCacheConfig(num_inference_steps=2, mag_ratios=[1.0, 1.0]))
    call = {"modality_scale": 1.0, "modalities": "video"}
    with pytest.raises(ValueError, match="This MagCache was made for 2 steps, and the call takes 3: .*disable_cache"):
        run(pipe, num_inference_steps=3, **call)
    assert torch.isfinite(run(pipe, num_inference_steps=2, **call)[0]).all()


@pytest.mark.parametrize("offload_type", ["block_level", "leaf_level"])
def test_group_offload_changes_nothing(offload_type, load_pipeline, expected):
    offloaded = load_pipeline()
    groups = {"num_blocks_per_group": 1} if offload_type == "block_level" else {}
    cpu = torch.device("cpu")
    offloaded.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=offload_type, **groups)
    assert_same(run(offloaded), expected)
    frames, audio = run(offloaded, num_inference_steps=1, output_type="pt")
    assert torch.isfinite(frames).all() and torch.isfinite(audio).all()


def test_model_offload_names_every_model_in_the_order_of_use(pipe):
    models = [name for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)]
    assert sorted(pipe.model_cpu_offload_seq.split("->")) == sorted(models)
    assert pipe.model_cpu_offload_seq.endswith("transformer->vae->audio_vae->vocoder")


def test_layerwise_casting_to_float8_gives_finite_frames_and_audio(load_pipeline, expected):
    cast = load_pipeline()
    cast.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    for one, other in zip(run(cast), expected, strict=True):
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.95


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["enable_model_cpu_offload", "enable_sequential_cpu_offload"])
def test_cpu_offload_on_an_accelerator_changes_nothing(method, load_pipeline, expected):
    offloaded = load_pipeline()
    getattr(offloaded, method)()
    assert_same(run(offloaded), expected, tolerance=1e-2)
    frames, audio = run(offloaded, num_inference_steps=1, output_type="pt")
    assert torch.isfinite(frames).all() and torch.isfinite(audio).all()
    offloaded.maybe_free_model_hooks()
