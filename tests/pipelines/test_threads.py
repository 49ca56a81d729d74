# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Several threads: a pipeline serves one call at a time, pipelines of their own share the large weights."""

import copy
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from PIL import Image


SETTINGS = {"num_frames": 9, "num_inference_steps": 3, "output_type": "np", "transcript": "one two"}


def make(pipe, seed, **kwargs):
    prompt = "A face. " * (seed + 1)
    picture = Image.new("RGB", (40, 40), (80 * seed, 100, 200))
    return pipe(prompt, image=picture, generator=torch.Generator().manual_seed(seed), **SETTINGS | kwargs)


def assert_same(output, expected):
    assert (output.frames == expected.frames).all() and (output.audio == expected.audio).all()


def test_a_second_call_during_the_first_is_refused_and_harms_neither_it_nor_the_next(pipe):
    expected, errors = make(pipe, 0), []

    def call_again(pipe, step, timestep, tensors):
        with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="one call at a time") as error:
            threads.submit(make, pipe, 1).result()
        errors.append(str(error.value))
        return {}

    assert_same(make(pipe, 0, callback_on_step_end=call_again), expected)
    assert len(errors) == 3 and all("threading.Lock" in error for error in errors)
    assert_same(make(pipe, 0), expected)


def test_a_call_that_failed_does_not_count_as_running(pipe):
    for _ in range(2):
        with pytest.raises(ValueError, match="`num_frames`"):
            make(pipe, 0, num_frames=8)


def test_pipelines_that_share_their_weights_serve_a_thread_each(pipe):
    expected = [make(pipe, seed) for seed in (0, 1)]
    own = {name: copy.deepcopy(pipe.components[name]) for name in ("scheduler", "vae", "tokenizer", "tokenizer_2")}
    settings = {name: pipe.config[name] for name in ("height", "width", "frame_rate", "guidance_scale")}
    other = type(pipe)(**pipe.components | own, **settings)
    other.set_progress_bar_config(disable=True)
    assert other.transformer is pipe.transformer and other.text_encoder is pipe.text_encoder
    meet = Barrier(2, timeout=60)

    def in_step(pipe, step, timestep, tensors):
        meet.wait()  # both are in the middle of their steps
        return {}

    for _ in range(3):
        with ThreadPoolExecutor(2) as threads:
            calls = [threads.submit(make, p, i, callback_on_step_end=in_step) for i, p in enumerate((pipe, other))]
            for call, clip in zip(calls, expected):
                assert_same(call.result(), clip)
