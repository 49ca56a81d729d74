# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`batch_guidance=True` makes the clips of separate passes, within rounding, whatever the guidance."""

import copy

import pytest
import torch
from diffusers import FirstBlockCacheConfig, PyramidAttentionBroadcastConfig, TaylorSeerCacheConfig
from peft import LoraConfig

from .test_directions import clip_of, noise_like_speech


CALLS = {
    "texts of different lengths": {},
    "a longer negative": {"negative_prompt": "blurred, cut, and with a very long text"},
    "texts of one length": {"negative_prompt": "A face."},
    "all guidance": {"modality_scale": 2.0, "audio_modality_scale": 0.5, "audio_guidance_scale": 4.0},
    "projected guidance": {"apg_norm_threshold": 2.0},
    "two prompts": {"prompt": ["A face.", "A face that says a word."], "num_videos_per_prompt": 2},
    "audio alone": {"modalities": "audio"},
    "a recording": {"audio": noise_like_speech(0.4), "audio_sampling_rate": 16000},
    "a span of a clip": {"video": clip_of(), "retake": (0.16, 0.4)},
}


def run(pipe, **kwargs) -> list[torch.Tensor]:
    call = {"prompt": "A face.", "guidance_scale": 3.0, "num_inference_steps": 2, "output_type": "latent"}
    generator = torch.Generator().manual_seed(0)
    outputs = pipe(**(call | {"generator": generator, "return_dict": False} | kwargs))
    return [output for output in outputs if output is not None]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


def test_one_batch_makes_the_clips_of_separate_passes(each_pipe, record):
    pipe = copy.deepcopy(each_pipe)
    pipe.transformer.register_to_config(condition_mode="clean")  # so that what is given has timestep 0
    calls = record(pipe.transformer)
    for call in CALLS.values():
        expected, num_separate = run(pipe, **call), len(calls)
        calls.clear()
        assert_same(run(pipe, batch_guidance=True, **call), expected)
        assert len(calls) == num_separate - 2 == 2 * pipe.num_passes  # one pass less in each step
        calls.clear()


def test_a_lora_and_the_modulation_cache_go_with_it(own_pipe):
    torch.manual_seed(0)
    targets = ["to_q", "modulation"]
    own_pipe.transformer.add_adapter(LoraConfig(r=2, target_modules=targets, init_lora_weights=False), "a")
    expected = run(own_pipe, attention_kwargs={"scale": 0.5})
    own_pipe.enable_modulation_cache()
    assert_same(run(own_pipe, batch_guidance=True, attention_kwargs={"scale": 0.5}), expected)


@pytest.mark.parametrize("kind", ["pyramid", "taylorseer"])
def test_a_cache_skips_alike_in_one_batch(own_pipe, kind):
    config = {
        "pyramid": PyramidAttentionBroadcastConfig(
            spatial_attention_block_skip_range=2,
            spatial_attention_timestep_skip_range=(-1, 1001),
            current_timestep_callback=lambda: own_pipe.current_timestep,
        ),
        "taylorseer": TaylorSeerCacheConfig(
            cache_interval=2, disable_cache_before_step=1, max_order=1, taylor_factors_dtype=torch.float32
        ),
    }[kind]
    without = run(own_pipe, num_inference_steps=4)
    own_pipe.transformer.enable_cache(config)
    expected = run(own_pipe, num_inference_steps=4)
    assert not torch.equal(expected[0], without[0])
    assert_same(run(own_pipe, num_inference_steps=4, batch_guidance=True), expected)


def test_a_cache_that_decides_for_the_whole_batch_is_refused(own_pipe):
    own_pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.1))
    with pytest.raises(ValueError, match="FirstBlockCache cannot be used with `batch_guidance=True`"):
        run(own_pipe, batch_guidance=True)
    run(own_pipe, batch_guidance=True, guidance_scale=1.0)  # nothing to batch


def test_a_transformer_that_reads_its_padding_is_refused(each_pipe):
    if "text_len" not in each_pipe.transformer.config:
        pytest.skip("this class reads no padding")
    pipe = copy.deepcopy(each_pipe)
    pipe.transformer.register_to_config(text_len=None)
    with pytest.raises(ValueError, match=r"\(`text_len=None`\) reads what a shorter text is filled up with"):
        run(pipe, batch_guidance=True)
    run(pipe, batch_guidance=True, negative_prompt="A face.")
