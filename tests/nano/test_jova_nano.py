# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The checkpoint that comes with the project talks; one with random weights does not pass the same tests."""

import numpy as np
import pytest
import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.nano.corpus import is_held_out
from diffusers_jova.nano.faces import Pose, draw_face
from diffusers_jova.nano.measuring import (
    Measures,
    TalkingClips,
    generate,
    held_out_plans,
    measure,
    record,
    to_uint8,
)
from diffusers_jova.nano.pictures import colour_word
from diffusers_jova.nano.speech import DIGITS, SAMPLING_RATE
from diffusers_jova.pipelines.random_pipeline import draw_zero_parameters


pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")

REQUESTS = [  # combinations of digits that no training clip says
    {
        "prompt": "A woman with long red hair, blue shirt, green wall.",
        "audio_prompt": "A clear female voice.",
        "transcript": "three seven eight",
    },
    {
        "prompt": "A man with short black hair, yellow shirt, grey wall.",
        "audio_prompt": "A calm male voice.",
        "transcript": "four eight four",
    },
]
COLOURS = [{"hair": "red", "shirt": "blue", "wall": "green"}, {"hair": "black", "shirt": "yellow", "wall": "grey"}]


@pytest.fixture(scope="module")
def nano():
    pipe = JoVAPipeline.from_pretrained("jova-nano")
    pipe.set_progress_bar_config(disable=True)
    return pipe


def talks(measures: Measures) -> bool:
    """Whether no more than one word in five is wrong, a face is there, and its lips move with the sound."""
    return bool(
        measures.word_error_rate <= 0.2
        and measures.faces_found >= 0.9
        and measures.lips_in_time >= 0.5
        and measures.lips_in_time >= measures.shuffled + 0.2
    )


def test_the_requests_are_held_out():
    for request in REQUESTS:
        assert is_held_out(tuple(DIGITS.index(word) for word in request["transcript"].split()))


def test_it_says_the_words_with_moving_lips_and_shows_what_the_caption_names(nano):
    clips = generate(nano, REQUESTS)
    measures = measure(clips)
    assert talks(measures), (measures.heard, measures.faces_found, measures.lips_in_time, measures.shuffled)
    for frames, colours in zip(clips.frames, COLOURS):
        assert {name: colour_word(frames, name) for name in colours} == colours


def test_lips_follow_recordings_that_it_never_saw_with_an_image_and_no_text(nano):
    plans = held_out_plans(2)
    recordings = record(plans)
    output = nano(
        prompt=[""] * 2,
        audio=list(recordings.waveforms),
        audio_sampling_rate=SAMPLING_RATE,
        image=[draw_face(plan.face(), Pose(), 64) for plan in plans],
        generator=[torch.Generator().manual_seed(k) for k in range(2)],
        output_type="np",
    )
    np.testing.assert_array_equal(output.audio, recordings.waveforms)
    measures = measure(TalkingClips(recordings.transcripts, to_uint8(output.frames), output.audio))
    assert measures.faces_found >= 0.9
    assert measures.lips_in_time >= max(0.7, measures.shuffled + 0.2), (measures.lips_in_time, measures.shuffled)


def test_random_weights_do_not_talk(nano):
    torch.manual_seed(0)
    transformer = type(nano.transformer).from_config(nano.transformer.config)
    draw_zero_parameters(transformer)
    silent = JoVAPipeline(**(nano.components | {"transformer": transformer}), **settings_of(nano))
    silent.set_progress_bar_config(disable=True)
    measures = measure(generate(silent, REQUESTS))
    assert not talks(measures)
    assert measures.word_error_rate > 0.5 and measures.lips_in_time < 0.4


def test_it_brings_its_own_settings(nano):
    output = nano(**REQUESTS[0], num_inference_steps=1, output_type="np")
    assert output.frames.shape == (1, 21, 64, 64, 3) and output.audio.shape == (1, 26880)
    assert output.frame_rate == 12.5 and output.audio_sampling_rate == 16000
    assert np.isfinite(output.audio).all()


def test_every_part_loads_in_float32(nano):
    models = {name: part for name, part in nano.components.items() if isinstance(part, torch.nn.Module)}
    assert {name: part.dtype for name, part in models.items()} == dict.fromkeys(models, torch.float32)


def settings_of(pipe: JoVAPipeline) -> dict:
    names = ("height", "width", "num_frames", "frame_rate", "num_inference_steps", "guidance_scale")
    return {name: pipe.config[name] for name in names} | {"audio_guidance_scale": pipe.config["audio_guidance_scale"]}
