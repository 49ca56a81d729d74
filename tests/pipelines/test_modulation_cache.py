# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`enable_modulation_cache` changes no clip: each call makes the tables that it needs."""

import copy

import torch

from .test_directions import clip_of, noise_like_speech


CALLS = {
    "texts": {},
    "other steps": {"num_inference_steps": 3, "modality_scale": 2.0},
    "two prompts": {"prompt": ["A face.", "A face that says a word."]},
    "audio alone": {"modalities": "audio"},
    "a recording": {"audio": noise_like_speech(0.4), "audio_sampling_rate": 16000},
    "an image": {"image": clip_of().frames[0]},
    "a span of a clip": {"video": clip_of(), "retake": (0.16, 0.4)},
}


def run(pipe, **kwargs):
    call = {"prompt": "A face.", "num_inference_steps": 2, "output_type": "latent", "return_dict": False}
    outputs = pipe(**(call | {"generator": torch.Generator().manual_seed(0)} | kwargs))
    return [output for output in outputs if torch.is_tensor(output)]


def test_clips_are_the_same_bits(each_pipe):
    pipe = copy.deepcopy(each_pipe)
    pipe.transformer.register_to_config(condition_mode="clean")  # so that what is given has timestep 0
    expected = {name: run(pipe, **call) for name, call in CALLS.items()}
    pipe.enable_modulation_cache()
    for name, call in CALLS.items():
        assert all(torch.equal(*pair) for pair in zip(run(pipe, **call), expected[name], strict=True)), name
    pipe.disable_modulation_cache()
    assert torch.equal(run(pipe)[0], expected["texts"][0])


def test_calls_of_one_schedule_share_the_tables(own_pipe):
    own_pipe.enable_modulation_cache()
    run(own_pipe)
    tables = own_pipe.transformer.modulation_tables
    run(own_pipe, prompt="Another face.")
    assert own_pipe.transformer.modulation_tables is tables
    run(own_pipe, num_inference_steps=3)
    assert own_pipe.transformer.modulation_tables is not tables


def test_a_pipeline_is_saved_whole(own_pipe, pipe, tmp_path):
    own_pipe.enable_modulation_cache()
    run(own_pipe)
    own_pipe.transformer.save_pretrained(tmp_path)
    loaded = type(pipe.transformer).from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[name], values) for name, values in pipe.transformer.state_dict().items())
