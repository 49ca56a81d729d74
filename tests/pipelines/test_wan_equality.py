# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A converted Wan in JoVAPipeline makes what diffusers' own pipelines make of it."""

import copy
import json

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DiffusionPipeline,
    FlowMatchEulerDiscreteScheduler,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
)
from diffusers.pipelines.wan import pipeline_wan, pipeline_wan_i2v
from PIL import Image
from wan_parts import make_wan_pipeline

from diffusers_jova import JoVAPipeline
from diffusers_jova.cli.dispatch import main
from diffusers_jova.models import JoVAWanTransformer3DModel
from diffusers_jova.models.branches import public
from diffusers_jova.models.wan_base import transformer_from_wan
from diffusers_jova.pipelines.wan_parts import KEPT


CALL = {"height": 32, "width": 64, "num_frames": 9, "num_inference_steps": 4, "guidance_scale": 5.0}
PROMPT, NEGATIVE = ["A  cat walks &amp; waits.", "Rain"], "blurry, static"


def image() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(autouse=True)
def one_way_to_clean_prompts(monkeypatch):
    """diffusers' image pipeline cannot clean a prompt without ftfy, which its text pipeline can."""
    monkeypatch.setattr(pipeline_wan_i2v, "prompt_clean", pipeline_wan.prompt_clean)


@pytest.fixture(scope="module", params=["text", "image", "5b"])
def pair(request, tmp_path_factory):
    """A tiny Wan pipeline, the JoVA pipeline that the verb made of its folder, and the arguments that Wan needs."""
    folder = tmp_path_factory.mktemp("wan")
    wan = make_wan_pipeline(request.param)
    wan.save_pretrained(folder / "wan")
    args = ["--to", "jova", "--input", str(folder / "wan"), "--output", str(folder / "jova")]
    assert main(["convert-wan", *args]) == 0
    jova = JoVAPipeline.from_pretrained(folder / "jova")
    jova.set_progress_bar_config(disable=True)
    if request.param == "5b":  # one folder for both of Wan's pipelines; that of texts is in a test of its own
        parts = {name: part for name, part in wan.components.items() if part is not None}
        wan = WanImageToVideoPipeline(**parts, expand_timesteps=True)
        wan.set_progress_bar_config(disable=True)
    return wan, jova, {} if request.param == "text" else {"image": image()}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("output_type", ["latent", "np"])
def test_video_is_that_of_wans_own_pipeline(pair, output_type):
    wan, jova, extra = pair
    prompt = PROMPT[0] if extra else PROMPT
    call = CALL | extra | {"generator": seeded(), "output_type": output_type}
    reference = wan(prompt=prompt, negative_prompt=NEGATIVE, **call).frames
    call["generator"] = seeded()
    frames = jova(prompt, negative_prompt=NEGATIVE, modalities=("video",), **call).frames
    assert frames.shape == reference.shape
    scale = 1.0 if output_type == "np" else float(abs(reference).max())
    assert float(abs(frames - reference).max()) <= 1e-4 * scale


def test_video_of_a_text_alone_is_that_of_wans_own_pipeline_with_a_timestep_for_each_token():
    wan = make_wan_pipeline("5b")
    parts = {name: wan.components[name] for name in KEPT}
    jova = JoVAPipeline(**parts, transformer=transformer_from_wan(wan.transformer), prompt_format="plain")
    jova.set_progress_bar_config(disable=True)
    call = CALL | {"output_type": "latent"}
    reference = wan(prompt=PROMPT, negative_prompt=NEGATIVE, **call, generator=seeded()).frames
    frames = jova(PROMPT, negative_prompt=NEGATIVE, modalities="video", **call, generator=seeded()).frames
    assert float(abs(frames - reference).max()) <= 1e-4 * float(abs(reference).max())


def test_negative_prompt_is_empty_where_none_is_given(pair):
    wan, jova, extra = pair
    reference = wan(prompt="A cat.", **CALL, **extra, generator=seeded(), output_type="latent").frames
    frames = jova("A cat.", **CALL, **extra, generator=seeded(), output_type="latent", modalities="video").frames
    assert float(abs(frames - reference).max()) <= 1e-4 * float(abs(reference).max())


def test_audio_beside_it_has_its_own_scheduler_and_changes_video(pair):
    _, jova, extra = pair
    call = CALL | extra | {"output_type": "latent"}
    alone = jova("A cat.", **call, generator=seeded(), modalities="video").frames
    output = jova("A cat.", **call, generator=seeded(), frame_rate=16)
    assert output.audio.shape == (1, 40, 25) and torch.isfinite(output.audio).all()  # ceil(9 / 16 s · 43.07)
    assert float(abs(output.frames - alone).max()) > 1e-4


def test_folder_says_what_wan_makes_by_default(pair):
    _, jova, _ = pair
    assert jova.config.prompt_format == "plain"
    is_5b = jova.transformer.config.out_channels == 48
    expected = (24.0, 121, 5.0, 704, 1280) if is_5b else (16.0, 81, 5.0, 480, 832)
    names = ("frame_rate", "num_frames", "guidance_scale", "height", "width")
    assert tuple(jova.config[name] for name in names) == expected
    assert type(jova.scheduler) is UniPCMultistepScheduler and jova.scheduler.config.flow_shift == 3.0
    assert type(jova.transformer) is JoVAWanTransformer3DModel and jova.transformer.dtype == torch.float32


def test_pipeline_straight_from_wans_folder_is_the_converted_one(pair, tmp_path):
    wan, jova, extra = pair
    copy.deepcopy(wan).save_pretrained(tmp_path / "wan")
    pipe = JoVAPipeline.from_wan(tmp_path / "wan")
    expected, found = jova.transformer.state_dict(), pipe.transformer.state_dict()
    assert expected.keys() == found.keys() and all(torch.equal(expected[name], found[name]) for name in found)
    assert public(pipe.transformer.config) == public(jova.transformer.config)
    names = ("frame_rate", "num_frames", "guidance_scale", "num_inference_steps", "prompt_format")
    assert [pipe.config[name] for name in names] == [jova.config[name] for name in names]
    pipe.set_progress_bar_config(disable=True)
    call = CALL | extra | {"output_type": "latent", "modalities": "video"}
    frames, reference = (x("A cat.", **call, generator=seeded()).frames for x in (pipe, jova))
    assert float(abs(frames - reference).max()) <= 1e-4 * float(abs(reference).max())


def test_expert_of_wan_is_chosen_by_name(tmp_path):
    wan = make_wan_pipeline(experts=True)
    wan.save_pretrained(tmp_path / "a14b")
    with pytest.raises(ValueError, match="two experts.*expert='high'.*expert='low'"):
        JoVAPipeline.from_wan(tmp_path / "a14b")
    pipe = JoVAPipeline.from_wan(tmp_path / "a14b", expert="low", dtype=torch.bfloat16)
    assert torch.equal(pipe.transformer.video.proj_out.weight, wan.transformer_2.proj_out.weight.bfloat16())
    assert pipe.transformer.audio.scale_shift_table.dtype == torch.float32 and pipe.config.guidance_scale == 3.0
    make_wan_pipeline().save_pretrained(tmp_path / "wan")
    with pytest.raises(ValueError, match="`expert='high'` goes with a Wan2.2-A14B"):
        JoVAPipeline.from_wan(tmp_path / "wan", expert="high")
    pipe.save_pretrained(tmp_path / "jova")
    with pytest.raises(ValueError, match="is a JoVAPipeline, not a WanPipeline"):
        JoVAPipeline.from_wan(tmp_path / "jova")


def test_plain_prompts_have_no_place_for_audio(pair):
    _, jova, extra = pair
    for texts in ({"audio_prompt": "wind"}, {"transcript": "hello"}, {"negative_audio_prompt": "noise"}):
        with pytest.raises(ValueError, match="reads plain prompts.*prompt_format='labelled'"):
            jova("A cat.", **texts, **CALL, **extra, modalities="video")


def test_labels_can_be_asked_for_when_the_folder_is_loaded(pair, tmp_path):
    jova = copy.deepcopy(pair[1])
    jova.save_pretrained(tmp_path)
    pipe = DiffusionPipeline.from_pretrained(tmp_path, prompt_format="labelled")
    assert json.loads((tmp_path / "model_index.json").read_text())["prompt_format"] == "plain"
    plain, labelled = (x.encode_prompt("A cat.", do_classifier_free_guidance=False)[0] for x in (jova, pipe))
    assert labelled.shape[1] > plain.shape[1]
    with pytest.raises(ValueError, match="`prompt_format` must be one of .*got 'json'"):
        JoVAPipeline.from_pretrained(tmp_path, prompt_format="json")


def test_schedulers_are_asked_only_for_what_they_know(pair):
    _, jova, extra = pair
    call = CALL | extra | {"output_type": "latent", "modalities": "video"}
    own = jova.scheduler
    try:
        first = jova("A cat.", **call, generator=seeded()).frames
        sigmas = (1 - 0.999 * np.arange(4) / 4).tolist()  # its own: from 1 to 1/1000, without the last
        given = jova("A cat.", **call | {"num_inference_steps": None}, sigmas=sigmas, generator=seeded()).frames
        assert float(abs(first - given).max()) <= 1e-4
        jova.scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
        assert torch.isfinite(jova("A cat.", **call, generator=seeded()).frames).all()
        jova.scheduler = DDIMScheduler()
        with pytest.raises(ValueError, match="`sigmas` was given, but DDIMScheduler takes none"):
            jova("A cat.", **call | {"num_inference_steps": None}, sigmas=[1.0, 0.5])
    finally:
        jova.scheduler = own
