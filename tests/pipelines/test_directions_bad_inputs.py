# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What cannot be given is named, with what is allowed, before a text encoder, an encoder or the transformer runs."""

import copy

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_jova import JoVAPipeline, write_video, write_wav


RATE = 16000


def speech(seconds: float, channels: int = 1) -> np.ndarray:
    shape = (channels, round(seconds * RATE))
    return np.random.default_rng(0).uniform(-0.2, 0.2, shape).astype(np.float32)


SPEECH, FRAMES = speech(0.4), np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
AUDIO, VIDEO = {"audio": SPEECH, "audio_sampling_rate": RATE}, {"video": FRAMES}
NAN = SPEECH.copy()
NAN[0, 7] = np.nan

CASES = {
    # the recording itself
    "silent": (AUDIO | {"audio": np.zeros(6400, np.float32)}, "`audio` is silent: .* keep its mouth shut"),
    "one is silent": (
        AUDIO | {"audio": [SPEECH, 0 * SPEECH], "prompt": ["A", "B"]},
        r"`audio` is silent \(recording 1\)",
    ),
    "empty": (AUDIO | {"audio": SPEECH[:, :0]}, "`audio` is silent"),
    "too short": (AUDIO | {"audio": SPEECH[:, :1000]}, "too short: 0.062 s, less than the 0.080 s of one frame"),
    "too long": (
        AUDIO | {"audio": speech(21.0)},
        "too long for one piece: 20.9 s are 261 frames, 66 latent frames, .* has learned to place 64. .*window_num_f",
    ),
    "NaN": (AUDIO | {"audio": NAN}, "`audio` has NaN or infinite samples"),
    "integers": (AUDIO | {"audio": np.ones(6400, np.int16)}, r"float in \[-1, 1\], got int16. Divide integers"),
    "not divided": (AUDIO | {"audio": SPEECH * 32768}, "got samples up to 6.*Divide by their range"),
    "no rate": ({"audio": SPEECH}, "give its samples per second as `audio_sampling_rate`"),
    "rate of nothing": ({"audio_sampling_rate": RATE}, "`audio_sampling_rate` is the rate of `audio`, which was not"),
    "rate of 0": (AUDIO | {"audio_sampling_rate": 0}, "`audio_sampling_rate` must be a whole number of 1 or more"),
    "transposed": (AUDIO | {"audio": SPEECH.T}, r"must be \(N,\), \(1, N\) or \(2, N\), got \(6400, 1\). Transpose"),
    "surround": (AUDIO | {"audio": speech(0.4, 6)}, r"got \(6, 6400\). Mix other channels into one or two"),
    "another kind": (AUDIO | {"audio": 7}, "`audio` holds a int: pass a path"),
    "no recordings": (AUDIO | {"audio": []}, "`audio` is an empty list"),
    "mono and stereo": (
        AUDIO | {"audio": [SPEECH, speech(0.4, 2)], "prompt": ["A", "B"]},
        "same sampling rate and number of channels, got 16000 Hz with 1 and 16000 Hz with 2",
    ),
    "number of recordings": (AUDIO | {"audio": [SPEECH] * 3}, "Got 3 recordings for 1 prompts"),
    "no file": ({"audio": "missing.wav"}, "There is no file `missing.wav`"),
    # the clip itself
    "short clip": (VIDEO | {"num_frames": 13}, "`video` has 9 frames at 12.5 frames/s, but 13 are needed"),
    "no clip": ({"video": "missing.mp4"}, "There is no file `missing.mp4`"),
    "one frame": ({"video": FRAMES[0]}, r"`video` must be a path, .* got ndarray \(32, 32, 3\)"),
    "NaN frames": ({"video": np.full((5, 32, 32, 3), np.nan, np.float32)}, "`video` holds NaN"),
    "frames of two sizes": (
        {"video": [Image.new("RGB", (32, 32)), Image.new("RGB", (16, 32))]},
        "The frames of `video` differ in size: 32 x 16 and 32 x 32",
    ),
    "number of clips": ({"video": [FRAMES] * 3}, "Got 3 clips for 1 prompts"),
    "frames without audio": (VIDEO | {"keep": 0.2}, "`video` has no audio: frames alone have none"),
    # what contradicts what
    "audio for audio": (AUDIO | {"modalities": ("audio",)}, "asks for nothing but audio: nothing is left to make"),
    "audio for video": (AUDIO | {"modalities": "video"}, "`audio` was given, but .* leaves it out. Use both"),
    "video for video": (VIDEO | {"modalities": ("video",)}, "`video` was given whole, and .* nothing is left to make"),
    "video for audio": (VIDEO | {"modalities": ("audio",)}, "`video` was given, but .* leaves it out. Use both"),
    "both whole": (AUDIO | VIDEO, "both given whole: nothing is left to make. Leave one of them out, or say with"),
    "image and video": (VIDEO | {"image": Image.new("RGB", (8, 8))}, "leave out one of them"),
    "keep and retake": (VIDEO | {"keep": 0.1, "retake": (0, 0.1)}, "`keep` and `retake` were both given"),
    "keep of nothing": ({"keep": 0.1}, "`keep` is about a clip: give it as `video`"),
    "retake of nothing": (AUDIO | {"retake": (0, 0.1)}, "`retake` is about a clip: give it as `video`"),
    "retake of given audio": (AUDIO | VIDEO | {"retake": (0, 0.1)}, "`retake` asks for the audio anew: say"),
    "keep no time": (VIDEO | {"keep": 0.0, "modalities": "video"}, "`keep` must be a number of seconds above 0"),
    "keep part of a frame": (VIDEO | {"keep": 0.01, "modalities": "video"}, "less than the 0.08 s of one frame"),
    "keep all": (VIDEO | {"keep": 0.4, "modalities": "video"}, "0.4 s to 0.4 s of a clip of 0.4 s"),
    "retake outside": (
        VIDEO | {"retake": (0.6, 0.8), "modalities": "video"},
        r"0.6 s to 0.8 s of a clip of 0.72 s \(9 frames at 12.5 frames/s\). .* must lie inside",
    ),
    "retake backwards": (VIDEO | {"retake": (0.4, 0.2)}, "must go from 0 s or later to a later time, got 0.4 s to"),
    "retake before": (VIDEO | {"retake": (-0.1, 0.2)}, "must go from 0 s or later"),
    "retake of three": (VIDEO | {"retake": 0.3}, r"`retake` must be \(start_s, end_s\) or"),
    "retake smells": (VIDEO | {"retake": (0, 0.2, "smell")}, r"one or both of \('video', 'audio'\), got \('smell',\)"),
    "retake what is not made": (VIDEO | {"retake": (0, 0.2, "audio"), "modalities": "video"}, "asks for nothing of"),
}


def assert_refused(pipe, record, arguments, message):
    parts = (pipe.text_encoder, pipe.text_encoder_2, pipe.transformer, pipe.vae.encoder)
    calls = [record(part) for part in parts]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        pipe(**({"prompt": "A face."} | arguments))
    assert calls == [[], [], [], []]


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_given_is_refused_before_any_work(case, pipe, record):
    assert_refused(pipe, record, *CASES[case])


def test_a_file_without_audio_is_named(pipe, record, tmp_path):
    silent = write_video(tmp_path / "silent.mp4", FRAMES, 12.5)
    for arguments in ({"audio": silent}, {"video": silent, "keep": 0.2}, {"video": str(silent), "retake": (0, 0.2)}):
        assert_refused(pipe, record, arguments, "silent.mp4` has no audio")


def test_a_file_says_its_own_rate(pipe, record, tmp_path):
    path = write_wav(tmp_path / "talk.wav", SPEECH, RATE)
    assert_refused(pipe, record, {"audio": path, "audio_sampling_rate": RATE}, "talk.wav` says its own. Leave it out")


def test_a_file_that_is_no_recording_is_named(pipe, record, tmp_path):
    (tmp_path / "talk.wav").write_text("no samples")
    assert_refused(pipe, record, {"audio": tmp_path / "talk.wav"}, "talk.wav")


def test_audio_cannot_be_given_without_the_weights_that_read_it(own_pipe, record):
    own_pipe.audio_vae = copy.deepcopy(own_pipe.audio_vae)
    own_pipe.audio_vae.encoder = None
    assert_refused(own_pipe, record, AUDIO, "the pipeline's `audio_vae` has no weights of its encoder. Load one that")
    own_pipe(**VIDEO, num_frames=5, num_inference_steps=1)  # needs no such weights


def test_audio_cannot_be_given_to_a_pipeline_without_an_audio_vae_but_needs_no_vocoder(pipe, record):
    settings = {name: pipe.config[name] for name in ("height", "width", "num_frames", "frame_rate")}
    silent = JoVAPipeline(**pipe.components | {"audio_vae": None, "vocoder": None}, **settings)
    assert_refused(silent, record, AUDIO, "needs `audio_vae`, which this pipeline was loaded without")
    no_vocoder = JoVAPipeline(**pipe.components | {"vocoder": None}, **settings)
    no_vocoder.set_progress_bar_config(disable=True)
    output = no_vocoder(**AUDIO, num_inference_steps=1, guidance_scale=1.0, output_type="pt")
    assert torch.equal(output.audio[0], torch.from_numpy(SPEECH[0]))


def test_a_mode_that_no_checkpoint_can_have_is_refused(make_pipeline):
    with pytest.raises(ValueError, match=r"`condition_mode` must be one of \('clean', 'noised'\) or None, got 'loud'"):
        make_pipeline(condition_mode="loud")
