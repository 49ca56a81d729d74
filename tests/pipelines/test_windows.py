# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Long clips, window by window."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_jova.pipelines.windows import Window, default_overlap, plan_windows


RATE = 22050


def speech(seconds: float, channels: int = 1, seed: int = 0) -> np.ndarray:
    shape = (channels, round(seconds * RATE))
    return np.random.default_rng(seed).uniform(-0.2, 0.2, shape).astype(np.float32)


def run(pipe, **kwargs):
    defaults = {"prompt": "A face.", "generator": torch.Generator().manual_seed(0), "output_type": "np"}
    return pipe(**(defaults | {"num_inference_steps": 1, "guidance_scale": 1.0} | kwargs))


# --- the plan


def test_windows_overlap_and_cover_the_clip_once():
    plan = plan_windows(30, 12.5, 13, 5, 4)
    assert plan.windows == [Window(0, 0, 13), Window(8, 13, 21), Window(16, 21, 29), Window(24, 29, 30)]
    assert plan_windows(13, 12.5, 13, 5, 4).windows == [Window(0, 0, 13)]
    assert plan_windows(9, 12.5, 13, 5, 4).windows == [Window(0, 0, 9)]
    for num_frames in range(1, 80):
        plan = plan_windows(num_frames, Fraction(24000, 1001), 21, 1, 4)
        new = [frame for window in plan.windows for frame in range(window.first_new, window.stop)]
        assert new == list(range(num_frames))


def test_the_overlap_is_a_reference_image_unless_the_transformer_learned_to_go_on_from_more():
    assert default_overlap(121, 4, None) == 1
    assert default_overlap(121, 4, "noised") == 29
    assert default_overlap(5, 4, "clean") == 1


def test_the_plan_says_what_is_made_when_and_with_which_words():
    plan = plan_windows(20, 10.0, 13, 5, 4)
    assert plan.describe(plan.words(["one two", ""])).splitlines() == [
        "window 1: 0.00 s to 1.30 s: one two",
        "window 2: 0.80 s to 2.00 s, the first 0.50 s from the window before: (no words)",
    ]


# --- a recording


@pytest.mark.parametrize("output_type", ["np", "pt", "pil"])
def test_a_long_recording_comes_out_sample_for_sample_over_all_seams(output_type, pipe):
    audio = speech(1.3, channels=2)  # 17 frames
    output = run(pipe, audio=audio, audio_sampling_rate=RATE, window_num_frames=9, output_type=output_type)
    assert len(output.frames[0]) == 17 and output.audio_sampling_rate == RATE
    samples = np.asarray(output.audio)
    assert samples.shape == (1, 2, round(17 / 12.5 * RATE))
    np.testing.assert_array_equal(samples[0, :, : audio.shape[1]], audio)
    assert not samples[0, :, audio.shape[1] :].any()


def test_each_window_sees_its_part_of_the_recording_and_the_last_frames_before_it(pipe, record):
    encoded, calls = record(pipe.audio_vae.encoder), record(pipe.transformer)
    audio = speech(1.04)  # 13 frames: 0 to 9 and 4 to 13
    images = [Image.new("RGB", (32, 32), "red")]
    output = run(pipe, audio=audio, audio_sampling_rate=RATE, window_num_frames=9, overlap_num_frames=5, image=images)
    assert output.frames.shape == (1, 13, 32, 32, 3)
    assert len(encoded) == len(calls) == 2
    masks = [call["hidden_states"][0, 32:, :, 0, 0].mean(dim=0).tolist() for call, _ in calls]
    assert masks == [[1, 0, 0], [1, 1, 0]]  # the image; then two latent frames, which are five frames
    alone = run(
        pipe,
        audio=audio[:, round(0.32 * RATE) :],
        audio_sampling_rate=RATE,
        video=output.frames[0, 4:9],
        keep=0.4,
        generator=_advanced(),
    )
    np.testing.assert_allclose(output.frames[0, 9:], alone.frames[0, 5:], atol=2 / 255)


def _advanced() -> torch.Generator:
    """The generator of seed 0 after the noise of one window of nine frames."""
    generator = torch.Generator().manual_seed(0)
    torch.randn(1, 16, 3, 4, 4, generator=generator), torch.randn(1, 20, 23, generator=generator)
    return generator


def test_a_silent_part_of_a_recording_is_no_reason_to_stop(pipe):
    audio = speech(1.04)
    audio[:, : round(0.5 * RATE)] = 0
    output = run(pipe, audio=audio, audio_sampling_rate=RATE, window_num_frames=5)
    np.testing.assert_array_equal(output.audio[0, : audio.shape[1]], audio[0])


# --- words


def test_each_window_has_its_words(pipe, record):
    calls = record(pipe.text_encoder)
    words = ["one", "two three", "four five six"]
    output = run(pipe, window_transcripts=words, num_frames=13)  # windows of the checkpoint's five frames
    lengths = [int(call["attention_mask"].sum()) for call, _ in calls]
    assert output.frames.shape[1] == 13 and output.audio.shape == (1, round(13 / 12.5 * 16000))
    assert len(calls) == 3 and lengths[0] < lengths[1] < lengths[2]


def test_a_batch_in_windows_equals_its_samples_made_alone(pipe):
    words = [["one", "two"], ["three four", "five"]]
    settings = {"num_frames": 9, "window_transcripts": words}
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    together = run(pipe, prompt=["A face.", "A dog."], **settings, generator=generators)
    for k, prompt in enumerate(("A face.", "A dog.")):
        alone = run(
            pipe,
            prompt=prompt,
            **(settings | {"window_transcripts": words[k]}),
            generator=torch.Generator().manual_seed(k),
        )
        np.testing.assert_allclose(together.frames[k], alone.frames[0], atol=2 / 255)
        np.testing.assert_allclose(together.audio[k], alone.audio[0], atol=1e-2)


def test_windows_one_at_a_time_are_the_clip(pipe):
    settings = {"num_frames": 13, "window_num_frames": 5, "modalities": ("video", "audio")}
    whole = run(pipe, **settings)
    defaults = {"prompt": "A face.", "output_type": "np", "num_inference_steps": 1, "guidance_scale": 1.0}
    windows = list(pipe.iter_windows(**defaults, **settings, generator=torch.Generator().manual_seed(0)))
    assert [window.frames.shape[1] for window in windows] == [5, 4, 4]
    np.testing.assert_array_equal(np.concatenate([window.frames for window in windows], axis=1), whole.frames)
    np.testing.assert_array_equal(np.concatenate([window.audio for window in windows], axis=1), whole.audio)
    behind = round(0.4 * 16000) - windows[0].audio.shape[1]
    assert behind == 320  # the 20 ms that go over into the next window


def test_no_window_is_made_before_it_is_asked_for(pipe, record):
    calls = record(pipe.transformer)
    windows = pipe.iter_windows(prompt="A face.", num_frames=13, num_inference_steps=1, guidance_scale=1.0)
    assert not calls
    for number in (1, 2, 3):
        next(windows)
        assert len(calls) == number
    with pytest.raises(StopIteration):
        next(windows)


def test_a_callback_that_interrupts_a_window_ends_the_clip_with_it(own_pipe):
    steps = []

    def callback(pipe, step, timestep, tensors):
        steps.append(step)
        pipe._interrupt = len(steps) == 3
        return {}

    output = run(own_pipe, num_frames=13, window_num_frames=5, num_inference_steps=2, callback_on_step_end=callback)
    assert steps == [0, 1, 0] and output.frames.shape[1] == 9


def test_a_video_alone_in_windows_has_no_audio(pipe):
    output = run(pipe, num_frames=9, window_num_frames=5, modalities="video")
    assert output.frames.shape[1] == 9 and output.audio is None


# --- what does not go


BAD = {
    "number of texts": (
        {"window_transcripts": ["one", "two"], "num_frames": 13},
        "has 2 texts, but a clip of 13 frames has 3 windows of 5 frames",
    ),
    "number in a batch": (
        {"prompt": ["A", "B"], "window_transcripts": [["one"] * 3, ["two"] * 2], "num_frames": 13},
        "has 2 texts, but a clip of 13 frames has 3 windows",
    ),
    "number of lists": (
        {"prompt": ["A", "B"], "window_transcripts": [["one"] * 3] * 3, "num_frames": 13},
        "has 3 lists, but there are 2 prompts",
    ),
    "one text": ({"window_transcripts": "one", "num_frames": 13}, "a list with a text for each window, got one text"),
    "texts and lists": ({"window_transcripts": ["one", ["two"]], "num_frames": 9}, "mixes texts and lists"),
    "transcript": ({"window_num_frames": 5, "transcript": "one"}, "`transcript` is what one piece says"),
    "window": ({"window_num_frames": 6}, r"`window_num_frames` must be 4k \+ 1 .*, got 6. Nearest: 5 or 9"),
    "overlap": ({"overlap_num_frames": 0}, r"`overlap_num_frames` must be 4k \+ 1 .*, got 0. Nearest: 1 or 5"),
    "no frames": ({"window_num_frames": 5, "num_frames": 0}, "`num_frames` must be at least 1, got 0"),
    "overlap of all": ({"overlap_num_frames": 5}, "`overlap_num_frames=5` must be less than `window_num_frames=5`"),
    "latents": (
        {"window_num_frames": 5, "output_type": "latent"},
        "`output_type='latent'` is for a clip in one piece",
    ),
    "noise": ({"window_num_frames": 5, "latents": torch.zeros(1)}, "`latents` is for a clip in one piece"),
    "samples": ({"window_num_frames": 5, "num_videos_per_prompt": 2}, "`num_videos_per_prompt` must be 1"),
    "audio alone": ({"window_num_frames": 5, "modalities": "audio"}, "asks for audio alone"),
    "whole video": (
        {"window_num_frames": 5, "video": np.zeros((9, 32, 32, 3), np.uint8)},
        "given whole as `video` is not cut into windows",
    ),
    "silent": (
        {"window_num_frames": 5, "audio": np.zeros(9999, np.float32), "audio_sampling_rate": RATE},
        "`audio` is silent",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_in_windows_is_refused_before_any_work(case, pipe, record):
    arguments, message = BAD[case]
    calls = record(pipe.transformer)
    with pytest.raises(ValueError, match=message):
        run(pipe, **arguments)
    assert not calls
