# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""No step lets the host wait for the device: nothing in it asks for a value of a tensor."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diffusers_jova.media import Clip
from diffusers_jova.models.embeddings import trim_padding


aten = torch.ops.aten
# what has to know values before the host can go on: numbers, and results whose shape depends on them
WAITS = (aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten._unique2, aten.unique_dim)
WAITS += (aten.repeat_interleave, aten.bincount, aten.is_nonzero, aten.unique_consecutive)
PROMPTS = ["A face.", "A face that says a word."]


class Waits(TorchDispatchMode):
    """Lists the operations for which the host would wait for an accelerator."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        by_mask = function.overloadpacket in (aten.index, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if function.overloadpacket in WAITS or by_mask:
            self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def waits_of(pipe, num_steps: int, **kwargs) -> list[str]:
    """Return what the denoising of a call waited for."""
    denoise, waits = pipe.denoise, Waits()

    def watched(*args):
        with waits:
            return denoise(*args)

    call = {"num_inference_steps": num_steps, "guidance_scale": 3.0, "output_type": "latent"}
    try:
        pipe.denoise = watched
        pipe(PROMPTS, generator=torch.Generator().manual_seed(0), **(call | kwargs))
    finally:
        del pipe.denoise
    return waits.names


RECORDING = np.linspace(-0.5, 0.5, 6400, dtype=np.float32) ** 3
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
CALLS = {
    "texts": {},
    "all passes": {"modality_scale": 2.0, "audio_modality_scale": 1.5, "apg_norm_threshold": 5.0},
    "one batch": {"batch_guidance": True},
    "audio alone": {"modalities": "audio"},
    "a recording": {"audio": RECORDING, "audio_sampling_rate": 16000},
    "a clip": {"video": FRAMES},
    "an image": {"image": FRAMES[0]},
}


@pytest.mark.parametrize("call", CALLS)
def test_no_step_waits_for_the_device(each_pipe, call):
    few, many = (waits_of(each_pipe, number, **CALLS[call]) for number in (2, 4))
    assert few == many


def test_no_step_waits_where_a_beginning_is_given_clean_and_modulation_is_precomputed(make_pipeline):
    pipe = make_pipeline(condition_mode="clean")
    pipe.enable_modulation_cache()
    call = {"video": Clip(FRAMES, Fraction(25, 2), RECORDING[None], 16000), "retake": (0.16, 0.4)}
    few, many = (waits_of(pipe, number, **call) for number in (2, 4))
    assert few == many


@pytest.mark.parametrize("is_in_place", [False, True])
def test_a_text_that_a_callback_changes_counts_from_the_next_step(own_pipe, record, is_in_place):
    given = []

    def callback(pipe, step, timestep, tensors):
        if step > 0:
            return {}
        given.append(tensors["prompt_embeds"].clone())
        if not is_in_place:
            return {"prompt_embeds": -tensors["prompt_embeds"]}
        tensors["prompt_embeds"].neg_()
        return {}

    calls = record(own_pipe.transformer)
    own_pipe(
        PROMPTS[0],
        num_inference_steps=2,
        guidance_scale=1.0,
        output_type="latent",
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=["prompt_embeds"],
    )
    assert torch.equal(calls[1][0]["encoder_hidden_states"], -given[0])
    assert all(kwargs["encoder_attention_mask"] is None for kwargs, _ in calls)


def test_what_waits_is_seen():
    with Waits() as waits:
        trim_padding(torch.ones(2, 3, 4), torch.tensor([[1, 1, 0], [1, 0, 0]]))
    assert {"aten._local_scalar_dense.default", "aten.index.Tensor"} <= set(waits.names)
