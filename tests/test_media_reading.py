# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Reading other people's files: what they say about themselves is checked, what they show is what a player shows."""

from fractions import Fraction

import av
import numpy as np
import pytest

from diffusers_jova.media import iter_frames, read_audio, read_video, write_video, write_wav


def ramp(num_frames, height=48, width=64, last=220):
    """`(F, H, W, 3)` uint8, grey, brighter with each frame: a frame says when it is shown."""
    levels = np.rint(np.linspace(20, last, num_frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3))


def noise(num_samples, num_channels=1):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (num_channels, num_samples)).astype(np.float32)


# --- one frame at a time ---


@pytest.mark.parametrize("window", [{}, {"start_s": 1.2, "duration_s": 0.5}])
def test_frames_one_at_a_time_are_those_of_the_whole(window, tmp_path):
    path = write_video(tmp_path / "clip.mp4", ramp(50), 25, noise(32000)[0], 16000)
    frames = list(iter_frames(path, 12.5, **window))
    assert np.array_equal(np.stack(frames), read_video(path, 12.5, **window).frames)


def test_frames_come_before_the_rest_of_the_file_is_decoded(tmp_path):
    path = write_video(tmp_path / "clip.mkv.mp4", np.tile(ramp(50), (4, 1, 1, 1)), 25, crf=0)
    content = path.read_bytes()
    path.write_bytes(content[:-2000] + bytes(2000))
    frames = iter_frames(path)
    assert next(frames).shape == (48, 64, 3)
    frames.close()


def test_frames_of_a_file_without_video_are_refused_by_name(tmp_path):
    path = write_wav(tmp_path / "sound.wav", noise(1600), 16000)
    with pytest.raises(ValueError, match="sound.wav.*no video"):
        iter_frames(path)


def test_audio_alone_has_the_timeline_of_the_frames(tmp_path):
    path = write_video(tmp_path / "clip.mp4", ramp(50), 25, noise(32000)[0], 16000)
    clip = read_video(path, 25, 16000, start_s=1.2, duration_s=0.6)
    waveform, sampling_rate = read_audio(path, 16000, start_s=1.2, duration_s=Fraction(15, 25))
    assert sampling_rate == 16000
    assert np.array_equal(waveform, clip.waveform)
    assert read_audio(path)[0].shape == (1, 32000)
    assert read_audio(path, duration_s=3)[0].shape == (1, 48000)  # silence fills up what is missing


def test_silent_file_has_no_audio(tmp_path):
    assert read_audio(write_video(tmp_path / "clip.mp4", ramp(5), 25)) == (None, None)


def test_stereo_becomes_mono_as_the_mean(tmp_path):
    path = write_wav(tmp_path / "sound.wav", noise(16000, 2), 16000)
    mono, _ = read_audio(path, 8000, 1)
    assert np.array_equal(mono, read_video(path, sampling_rate=8000).waveform.mean(axis=0, keepdims=True))


@pytest.mark.parametrize("num_channels", [0, 3, 6])
def test_other_numbers_of_channels_are_refused(num_channels, tmp_path):
    with pytest.raises(ValueError, match="num_channels"):
        read_audio(write_wav(tmp_path / "sound.wav", noise(1600), 16000), num_channels=num_channels)


def write_channels(path, waveform, layout, codec="pcm_f32le", sampling_rate=48000):
    """Write `(C, N)` float32 with a layout of channels."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sampling_rate, layout=layout)
        packed = np.ascontiguousarray(waveform.T, dtype=np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts = sampling_rate, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# FFmpeg's own, `ffmpeg -i x -f f32le -ac 1`: front, centre, low frequencies, back or side
IN_MONO = {"FL": 0.7071, "FR": 0.7071, "FC": 1, "LFE": 0, "BL": 0.5, "BR": 0.5, "BC": 0.5, "SL": 0.5, "SR": 0.5}


@pytest.mark.parametrize("layout", ["3.0", "quad", "5.0", "5.1", "5.1(side)", "6.1", "7.1"])
@pytest.mark.parametrize("num_channels", [None, 1])
def test_surround_sound_becomes_mono_with_its_centre_in_full(layout, num_channels, tmp_path):
    names = [channel.name for channel in av.AudioLayout(layout).channels]
    channels = noise(4800, len(names))
    path = write_channels(tmp_path / "surround.wav", channels, layout)
    waveform, _ = read_audio(path, num_channels=num_channels)
    assert waveform.shape == (1, 4800)
    expected = sum(IN_MONO[name] * channel for name, channel in zip(names, channels, strict=True))
    assert waveform[0] == pytest.approx(expected, abs=1e-4)
    assert np.array_equal(read_video(path).waveform, waveform)


@pytest.mark.parametrize("codec, suffix", [("aac", "mp4"), ("libopus", "mkv"), ("flac", "flac"), ("pcm_s16le", "wav")])
def test_eight_channels_are_read_by_every_decoder(codec, suffix, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000)
    channels = np.zeros((8, 48000))
    channels[2] = tone  # the centre
    path = write_channels(tmp_path / f"cinema.{suffix}", channels, "7.1", codec)
    waveform, _ = read_audio(path, num_channels=1)
    assert waveform[0, 4800:-4800] == pytest.approx(tone[4800:-4800], abs=0.03)


def test_nine_channels_without_a_place_are_heard_equally(tmp_path):
    channels = noise(4800, 9)
    path = write_channels(tmp_path / "many.wav", channels, "9 channels")
    assert read_audio(path)[0][0] == pytest.approx(channels.mean(axis=0), abs=1e-5)
