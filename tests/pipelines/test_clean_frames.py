# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""On a base like Wan2.2-TI2V-5B, frames that are given stand clean, at timestep 0, in every direction."""

import pytest
import torch

from .test_directions import clip_of, encoded_audio, encoded_video, noise_like_speech, run


NUM_FRAMES = {"num_frames": 9, "guidance_scale": 1.0}  # 3 latent frames
CLIP = clip_of(9)
RECORDING = {"audio": noise_like_speech(0.72), "audio_sampling_rate": 16000}
# the arguments of a call, and which latent frames it is given
DIRECTIONS = {
    "image": ({"image": CLIP.frames[0]}, [1, 0, 0]),
    "image without audio": ({"image": CLIP.frames[0], "modalities": "video"}, [1, 0, 0]),
    "image and recording": ({"image": CLIP.frames[0]} | RECORDING, [1, 0, 0]),
    "clip": ({"video": CLIP}, [1, 1, 1]),
    "beginning": ({"video": CLIP, "keep": 0.4}, [1, 1, 0]),
    "retake": ({"video": CLIP, "retake": (0.1, 0.4)}, [1, 0, 1]),
    "retake of the video": ({"video": CLIP, "retake": (0.1, 0.4, "video")}, [1, 0, 1]),
}


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_frames_that_are_given_are_clean_at_timestep_0_and_come_out_as_they_were(direction, clean_frames_pipe, record):
    pipe, (arguments, mask) = clean_frames_pipe, DIRECTIONS[direction]
    is_given = torch.tensor(mask, dtype=torch.bool)
    calls = record(pipe.transformer)
    output = run(pipe, **NUM_FRAMES | arguments)
    clean = encoded_video(pipe, CLIP.frames)[:, :, is_given]
    torch.testing.assert_close(output.frames[:, :, is_given], clean, atol=1e-4, rtol=1e-4)
    timesteps = [call["timestep"] for call, _ in calls]
    assert calls and all(len(call["hidden_states"][0]) == 48 for call, _ in calls)
    for call, _ in calls:
        torch.testing.assert_close(call["hidden_states"][:, :, is_given], clean, atol=1e-4, rtol=1e-4)
    if is_given.all():
        assert all(not timestep.any() for timestep in timesteps)
    else:
        rest = [call["hidden_states"][:, :, ~is_given] for call, _ in calls]
        assert all(timestep.shape == (1, 3) and not timestep[:, is_given].any() for timestep in timesteps)
        assert all((timestep[:, ~is_given] > 0).all() for timestep in timesteps) and not rest[0].equal(rest[1])


def test_audio_that_is_given_keeps_its_own_mode(clean_frames_pipe, record):
    calls = record(clean_frames_pipe.transformer)
    output = run(clean_frames_pipe, **NUM_FRAMES, **DIRECTIONS["image and recording"][0])
    clean = encoded_audio(clean_frames_pipe, RECORDING["audio"], 23)
    torch.testing.assert_close(output.audio, clean, atol=1e-4, rtol=1e-4)
    for call, _ in calls:  # noised with the frames that are made, as in a transformer that was taught nothing else
        assert call["audio_timestep"].shape == (1,) and call["audio_timestep"] == call["timestep"].max()


def test_each_image_of_a_batch_begins_its_own_clips(clean_frames_pipe):
    frames = [CLIP.frames[0], CLIP.frames[4]]
    call = NUM_FRAMES | {"prompt": ["A face.", "Rain."], "num_videos_per_prompt": 2, "num_inference_steps": 1}
    first = run(clean_frames_pipe, **call, image=frames).frames[:, :, :1]
    expected = torch.cat([encoded_video(clean_frames_pipe, frame[None]) for frame in frames])
    torch.testing.assert_close(first, expected.repeat_interleave(2, dim=0), atol=1e-4, rtol=1e-4)


def test_an_image_changes_the_frames_behind_it_and_the_audio(clean_frames_pipe):
    one, other, none = (run(clean_frames_pipe, **NUM_FRAMES, image=x) for x in (*CLIP.frames[[0, 4]], None))
    assert min((one.frames - x.frames)[:, :, 1:].abs().max() for x in (other, none)) > 1e-5
    assert min((one.audio - x.audio).abs().max() for x in (other, none)) > 1e-5


def test_sizes_are_multiples_of_32(clean_frames_pipe):
    with pytest.raises(ValueError, match="divisible by 32 but are 48 and 32. Nearest: 64 and 32"):
        run(clean_frames_pipe, height=48, width=32)


def test_windows_go_on_from_the_frames_before_them(clean_frames_pipe):
    call = {"prompt": "A face.", "image": CLIP.frames[0], "generator": torch.Generator().manual_seed(0)}
    call |= {"num_frames": 13, "window_num_frames": 9, "num_inference_steps": 1, "output_type": "np"}
    windows = list(clean_frames_pipe.iter_windows(**call))
    assert [window.frames.shape[1] for window in windows] == [9, 4]
