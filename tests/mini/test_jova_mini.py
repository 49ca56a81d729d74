# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint that says sentences: words, lips and faces of sentences that no training clip says."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.evaluation.words import word_error_rate
from diffusers_jova.mini.recipe import MINI as RECIPE
from diffusers_jova.mini.recordings import MINI as CORPUS
from diffusers_jova.mini.sentences import PATTERNS, kind_held_out, measured_words, vocabulary
from diffusers_jova.nano.measuring import generate, measure
from diffusers_jova.pipeline_folder import find_model


pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")

REQUESTS = [
    {
        "prompt": "A woman with long brown hair, in a red sweater, before a green wall.",
        "audio_prompt": "A calm British female voice.",
        "transcript": "the angry spider sings outside",
    },
    {
        "prompt": "A man with short black hair, in a blue T-shirt, before a yellow wall.",
        "audio_prompt": "A calm American male voice.",
        "transcript": "every golden tiger sings upstairs tonight",
    },
]


@pytest.fixture(scope="module")
def mini():
    pipe = JoVAPipeline.from_pretrained("jova-mini")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def made(mini):
    clips = generate(mini, REQUESTS, num_inference_steps=12)
    return clips, measure(clips, num_workers=1, corpus=CORPUS)


def test_the_requests_are_held_out():
    patterns = {tuple(kinds): number for number, kinds in enumerate(PATTERNS)}
    for request in REQUESTS:
        words = request["transcript"].split()
        assert kind_held_out(patterns[tuple(measured_words()[word].kind for word in words)], words)


def test_it_says_sentences_that_no_clip_of_its_training_says(made):
    _, measures = made
    assert word_error_rate(measures.transcripts, measures.heard) <= 0.4, measures.heard


def test_faces_are_there_and_their_lips_follow_what_they_say(made):
    _, measures = made
    assert measures.faces_found >= 0.9
    assert measures.lips_in_time >= 0.35, measures.lips_in_time


def test_it_shows_the_colours_that_the_caption_names(made):
    clips, _ = made
    corners = clips.frames[:, :, :24, :24].reshape(2, -1, 3).mean(1)
    red, green, blue = corners[0]
    assert green > red and green > blue
    red, green, blue = corners[1]
    assert min(red, green) > 1.3 * blue


def test_it_brings_its_own_settings(mini):
    output = mini(**REQUESTS[0], num_inference_steps=1, output_type="np")
    assert output.frames.shape == (1, 37, 128, 128, 3) and output.frame_rate == 12.5
    assert output.audio.shape[-1] == 47360 and output.audio_sampling_rate == 16000
    assert np.isfinite(output.audio).all()
    assert (mini.guidance_scale, mini.audio_guidance_scale, mini.modality_scale) == (2.0, 3.0, 3.0)
    assert {name: mini.config[name] for name in RECIPE.settings} == RECIPE.settings
    assert {name: mini.scheduler.config[name] for name in RECIPE.scheduler} == RECIPE.scheduler
    models = {name: part for name, part in mini.components.items() if isinstance(part, torch.nn.Module)}
    assert {name: part.dtype for name, part in models.items()} == dict.fromkeys(models, torch.float32)


def test_its_examples_say_words_that_it_knows():
    lines = (Path(find_model("jova-mini")) / "examples.jsonl").read_text(encoding="utf-8").splitlines()
    words = {word for line in lines for word in json.loads(line)["speech_text"].split()}
    assert words and words <= set(vocabulary())
