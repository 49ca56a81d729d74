# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json
import os
import struct
import subprocess
import wave
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from PIL import Image
from plain_clips import write_variable_rate

from diffusers_jova.media import (
    AI_GENERATED_COMMENT,
    check_output_path,
    exact_frame_rate,
    load_image,
    read_audio,
    read_video,
    video_writer,
    write_video,
    write_wav,
)


RED, GREEN = (230, 40, 30), (40, 190, 60)


def coloured_frames(num_frames=10, height=48, width=64):
    """`(F, H, W, 3)` uint8: red on the left, green on the right."""
    frames = np.empty((num_frames, height, width, 3), np.uint8)
    frames[:, :, : width // 2], frames[:, :, width // 2 :] = RED, GREEN
    return frames


def flash_and_clap(frame_rate, sampling_rate, at_s=2.0, duration_s=4.0):
    """Black frames and silence that become white frames and noise at `at_s`."""
    frames = np.zeros((round(duration_s * frame_rate), 48, 64, 3), np.uint8)
    frames[round(at_s * frame_rate) :] = 255
    audio = np.random.default_rng(0).uniform(-0.5, 0.5, round(duration_s * sampling_rate))
    audio[: round(at_s * sampling_rate)] = 0
    return frames, audio


def onsets(clip):
    """Return when the flash and when the clap begin, in seconds."""
    flash = np.argmax(clip.frames.mean(axis=(1, 2, 3)) > 128)
    clap = np.argmax(np.abs(clip.waveform[0]) > 0.25)  # AAC begins to murmur a little before
    return float(flash / clip.frame_rate), float(clap / clip.sampling_rate)


def stream_lengths(path):
    """Return what the file says: the lengths of its video and audio in seconds."""
    with av.open(str(path)) as container:
        return tuple(s.duration * s.time_base for s in (container.streams.video[0], container.streams.audio[0]))


def write_sound(path, audio, sampling_rate, codec="aac", gap_s=0.0):
    """Write one channel alone, in two halves with `gap_s` between them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=sampling_rate, layout="mono")
        for i, half in enumerate(np.split(audio.astype(np.float32)[None], 2, axis=1)):
            format = "fltp" if codec == "aac" else "flt"
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(half), format=format, layout="mono")
            frame.sample_rate, frame.time_base = sampling_rate, Fraction(1, sampling_rate)
            frame.pts = i * (half.shape[1] + round(gap_s * sampling_rate))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# --- writing ---


@pytest.mark.parametrize(
    "number, fraction",
    [
        (24, Fraction(24)),
        (25.0, Fraction(25)),
        (12.5, Fraction(25, 2)),
        (23.976, Fraction(24000, 1001)),
        (23.98, Fraction(24000, 1001)),
        (24000 / 1001, Fraction(24000, 1001)),
        (29.97, Fraction(30000, 1001)),
        (59.94, Fraction(60000, 1001)),
        (239.76, Fraction(240000, 1001)),
        (0.0001, Fraction(0.0001)),
        (23.9, Fraction(239, 10)),
        (np.float32(12.5), Fraction(25, 2)),
        (Fraction(15, 7), Fraction(15, 7)),
    ],
)
def test_a_number_means_the_frame_rate_that_people_mean_by_it(number, fraction):
    assert exact_frame_rate(number) == fraction


@pytest.mark.parametrize("number", [0, -24, float("nan"), float("inf")])
def test_impossible_frame_rate_is_refused(number):
    with pytest.raises(ValueError, match="frame_rate"):
        exact_frame_rate(number)


@pytest.mark.parametrize("frame_rate", [24, 12.5, 23.976, 29.97, Fraction(15, 7)])
def test_frame_rate_reads_back_exactly(frame_rate, tmp_path):
    path = write_video(tmp_path / "clip.mp4", coloured_frames(13), frame_rate)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == exact_frame_rate(frame_rate)
    assert len(read_video(path).frames) == 13


@pytest.mark.parametrize("frame_rate", [24, 12.5, 23.976])
@pytest.mark.parametrize("sampling_rate", [16000, 44100])
def test_both_streams_are_equally_long_to_the_sample(frame_rate, sampling_rate, tmp_path):
    num_samples = round(49 / exact_frame_rate(frame_rate) * sampling_rate)
    audio = np.random.default_rng(0).uniform(-0.1, 0.1, num_samples)
    path = write_video(tmp_path / "clip.mp4", coloured_frames(49), frame_rate, audio, sampling_rate)
    video_s, audio_s = stream_lengths(path)
    assert video_s == 49 / exact_frame_rate(frame_rate)
    assert audio_s == Fraction(num_samples, sampling_rate)


def test_a_long_clip_keeps_its_last_samples(tmp_path):
    frames, audio = flash_and_clap(5, 16000, at_s=29, duration_s=30)
    path = write_video(tmp_path / "clip.mp4", frames, 5, audio, 16000)
    assert stream_lengths(path) == (30, 30)
    assert onsets(read_video(path)) == pytest.approx((29, 29), abs=1e-3)


def test_sound_lies_beside_its_pictures_in_the_file(tmp_path):
    frames, audio = flash_and_clap(5, 16000, at_s=29, duration_s=30)
    path = write_video(tmp_path / "clip.mp4", frames, 5, audio, 16000)
    with av.open(str(path)) as container:
        packets = sorted((p for p in container.demux() if p.dts is not None), key=lambda packet: packet.pos)
        times = [float(packet.dts * packet.time_base) for packet in packets]
    assert np.abs(np.diff(times)).max() < 2


@pytest.mark.parametrize(
    "as_output_type",
    [
        lambda frames: [Image.fromarray(frame) for frame in frames],
        lambda frames: [[Image.fromarray(frame) for frame in frames]],
        lambda frames: frames,
        lambda frames: frames[None],
        lambda frames: frames / np.float32(255),
        lambda frames: (frames / np.float32(255))[None],
        lambda frames: list(frames),
        lambda frames: torch.from_numpy(frames),
        lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2) / 255,
        lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2)[None] / 255,
        lambda frames: (torch.from_numpy(frames).permute(0, 3, 1, 2) / 255).bfloat16().requires_grad_(),
        lambda frames: list(torch.from_numpy(frames).permute(0, 3, 1, 2) / 255),
    ],
    ids="pil pil-batch uint8 uint8-batch np np-batch list-of-np uint8-tensor pt pt-batch bfloat16 list-of-pt".split(),
)
def test_every_output_type_shows_the_same_colours(as_output_type, tmp_path):
    path = write_video(tmp_path / "clip.mp4", as_output_type(coloured_frames(3)), 24)
    frames = read_video(path).frames
    assert frames.shape == (3, 48, 64, 3)
    assert frames[1, 24, 10] == pytest.approx(RED, abs=4)
    assert frames[1, 24, 54] == pytest.approx(GREEN, abs=4)


def test_file_says_which_colours_it_means(tmp_path):
    path = write_video(tmp_path / "clip.mp4", coloured_frames(3), 24)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range) == (1, 1, 1, 1)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("shape, num_channels", [((16000,), 1), ((1, 16000), 1), ((2, 16000), 2)])
def test_sound_keeps_its_channels(shape, num_channels, as_tensor, tmp_path):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    audio = np.broadcast_to(tone, shape) * np.linspace(1, 0.5, num_channels)[:, None] if len(shape) == 2 else tone
    audio = torch.from_numpy(audio.copy()) if as_tensor else audio
    clip = read_video(write_video(tmp_path / "clip.mp4", coloured_frames(10), 10, audio, 16000))
    assert clip.waveform.shape == (num_channels, 16000)
    assert clip.waveform.dtype == np.float32
    assert clip.waveform[0, 3000:-3000] == pytest.approx(tone[3000:-3000], abs=0.02)
    assert clip.waveform[-1, 3000:-3000] == pytest.approx(tone[3000:-3000] / num_channels, abs=0.02)


def test_rate_that_aac_lacks_is_resampled_to_the_next_one(tmp_path):
    frames, audio = flash_and_clap(10, 17000)
    clip = read_video(write_video(tmp_path / "clip.mp4", frames, 10, audio, 17000))
    assert clip.sampling_rate == 22050
    assert clip.waveform.shape == (1, 4 * 22050)
    assert onsets(clip) == pytest.approx((2, 2), abs=1e-3)


def test_clip_without_sound_has_no_audio_stream(tmp_path):
    clip = read_video(write_video(tmp_path / "clip.mov", coloured_frames(5), 24))
    assert clip.waveform is None and clip.sampling_rate is None
    assert clip.frame_rate == 24


def test_odd_sizes_are_padded_by_repeating_the_edge(tmp_path):
    frames = read_video(write_video(tmp_path / "clip.mp4", coloured_frames(3, height=47, width=63), 24)).frames
    assert frames.shape == (3, 48, 64, 3)
    assert frames[1, 47, 63] == pytest.approx(GREEN, abs=6)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "sound.wav"])
def test_file_says_that_it_is_ai_generated(name, tmp_path):
    def write(**kwargs):
        if name.endswith(".wav"):
            path = write_wav(tmp_path / name, np.zeros(800), 16000, **kwargs)
        else:
            path = write_video(tmp_path / name, coloured_frames(3), 24, **kwargs)
        with av.open(str(path)) as container:
            return container.metadata

    assert write()["comment"] == AI_GENERATED_COMMENT
    metadata = write(title="Portrait", comment="seed 7")
    assert metadata["title"] == "Portrait"
    assert "seed 7" in metadata["comment"] and AI_GENERATED_COMMENT in metadata["comment"]
    assert "comment" not in write(ai_generated=False)


@pytest.mark.needs_program("ffprobe")
def test_another_reader_agrees(tmp_path):
    frames, audio = flash_and_clap(12.5, 16000)
    path = write_video(tmp_path / "clip.mp4", frames, 12.5, audio, 16000, title="Portrait")
    command = ["ffprobe", "-v", "error", "-show_streams", "-show_format", "-of", "json", str(path)]
    probe = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    video, sound = probe["streams"]
    assert (video["codec_name"], video["pix_fmt"], video["avg_frame_rate"]) == ("h264", "yuv420p", "25/2")
    assert (sound["codec_name"], sound["sample_rate"], sound["channels"]) == ("aac", "16000", 1)
    assert float(video["duration"]) == float(sound["duration"]) == 4
    assert float(video["start_time"]) == float(sound["start_time"]) == 0
    assert probe["format"]["tags"]["title"] == "Portrait"


@pytest.mark.parametrize("num_channels", [1, 2])
def test_wav_holds_the_samples(num_channels, tmp_path):
    audio = np.random.default_rng(0).uniform(-1, 1, (num_channels, 1000))
    path = write_wav(tmp_path / "sound.wav", torch.from_numpy(audio), 44100)
    with wave.open(str(path)) as file:
        assert file.getparams()[:4] == (num_channels, 2, 44100, 1000)
        samples = np.frombuffer(file.readframes(1000), "<i2").reshape(-1, num_channels).T
    assert samples / 32767 == pytest.approx(audio, abs=1 / 32767)


def test_wav_of_16_bits_that_was_read_is_written_as_the_same_bytes(tmp_path):
    audio = np.array([[-32768, -32767, -20001, -1, 0, 1, 30000, 32766, 32767]], np.float32) / 32768
    first = write_wav(tmp_path / "first.wav", audio, 16000)
    again = write_wav(tmp_path / "again.wav", read_audio(first)[0], 16000)
    assert first.read_bytes() == again.read_bytes()
    np.testing.assert_array_equal(read_audio(again)[0], audio)


@pytest.mark.parametrize("rate", [16000, 15000, 44100])
def test_a_clip_written_piece_by_piece_is_the_same_file(rate, tmp_path):
    frames, audio = coloured_frames(60), np.random.default_rng(0).uniform(-0.5, 0.5, (2, round(60 / 12.5 * rate)))
    whole = write_video(tmp_path / "whole.mp4", frames, 12.5, audio, rate)
    cuts = 0, audio.shape[1] // 3 - 320, audio.shape[1] // 2, audio.shape[1]  # audio may lag behind its frames
    with video_writer(tmp_path / "pieces.mp4", 12.5, rate) as write:
        for k in range(3):
            write(frames[20 * k : 20 * k + 20], audio[:, cuts[k] : cuts[k + 1]])
    assert (tmp_path / "pieces.mp4").read_bytes() == whole.read_bytes()


def test_pieces_that_do_not_fit_together_leave_no_file(tmp_path):
    pieces = [(coloured_frames(3), np.zeros(480)), (coloured_frames(3), None)]
    with pytest.raises(ValueError, match="Some pieces of this clip have audio and others have none"):
        with video_writer(tmp_path / "clip.mp4", 25, 4000) as write:
            for piece in pieces:
                write(*piece)
    with pytest.raises(ValueError, match="there is nothing to write"):
        with video_writer(tmp_path / "clip.mp4", 25):
            pass
    assert not list(tmp_path.iterdir())


# The encoder looks dozens of frames ahead: only after them there is a file to clean up.
NAN_AT_THE_END = np.zeros((100, 48, 64, 3), np.float32)
NAN_AT_THE_END[-1, 0, 0, 0] = np.nan


@pytest.mark.parametrize(
    "frames, message",
    [
        (NAN_AT_THE_END, "NaN"),
        (coloured_frames(3).astype(np.float32), r"\[0, 1\]"),
        (coloured_frames(3).astype(np.int64), "int64"),
        (np.stack([coloured_frames(3)] * 2), "2 clips"),
        ([[Image.new("RGB", (64, 48))]] * 3, "3 clips"),
        (np.zeros((3, 48, 64)), "frame must be"),
        ([], "empty"),
        ([Image.new("RGB", (64, 48)), Image.new("RGB", (32, 48))], "differ in size"),
        ("frames", "str"),
    ],
)
def test_bad_frames_raise_and_leave_nothing(frames, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "clip.mp4", frames, 24)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "audio, message",
    [
        (np.full(16000, np.nan), "NaN"),
        (np.zeros(16000, np.int16), "int16"),
        (np.zeros((16000, 2)), r"\(16000, 2\)"),
        (np.zeros(20000), "Cut or pad it to 16000 samples"),
    ],
)
def test_bad_sound_raises_and_leaves_nothing(audio, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "clip.mp4", coloured_frames(10), 10, audio, 16000)
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_file_that_was_there(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"older")
    with pytest.raises(ValueError, match="NaN"):
        write_video(tmp_path / "clip.mp4", NAN_AT_THE_END, 24)
    assert (tmp_path / "clip.mp4").read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 1


def test_file_appears_only_when_it_is_whole(tmp_path):
    class Frames(list):
        def __iter__(self):
            for frame in super().__iter__():
                assert not (tmp_path / "clip.mp4").exists()
                yield frame
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "clip.mp4", Frames(coloured_frames(100)), 24)
    assert list(tmp_path.iterdir()) == []


def test_output_in_a_missing_folder_names_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no/such"):
        check_output_path(tmp_path / "no" / "such" / "clip.mp4")


def test_output_in_a_read_only_folder_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    folder = "/proc" if os.geteuid() == 0 else tmp_path  # nothing on a disk is read-only to root
    with pytest.raises(PermissionError, match="Cannot write"):
        check_output_path(os.path.join(folder, "clip.mp4"))
    tmp_path.chmod(0o700)


def test_output_that_is_a_folder_or_in_a_file_is_refused(tmp_path):
    (tmp_path / "clip.mp4").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(IsADirectoryError):
        check_output_path(tmp_path / "clip.mp4")
    with pytest.raises(NotADirectoryError):
        check_output_path(tmp_path / "file" / "clip.mp4")


def test_checking_an_output_path_leaves_nothing(tmp_path):
    check_output_path(tmp_path / "clip.MP4")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.avi", "clip", "clip.wav"])
def test_other_suffix_is_refused_with_the_allowed_ones(name, tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4 or \.mov"):
        write_video(tmp_path / name, coloured_frames(1), 24)


# --- reading ---


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_image_is_turned_as_its_exif_says(suffix, tmp_path):
    image = Image.fromarray(coloured_frames(1)[0])
    exif = image.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image.save(tmp_path / f"image.{suffix}", exif=exif)
    loaded = load_image(tmp_path / f"image.{suffix}")
    assert loaded.mode == "RGB" and loaded.size == (48, 64)
    assert loaded.getpixel((24, 10)) == pytest.approx(RED, abs=10)  # the left went to the top


def test_image_in_memory_becomes_rgb():
    assert load_image(Image.new("L", (4, 6), 7)).getpixel((0, 0)) == (7, 7, 7)


@pytest.mark.parametrize("content", [b"", b"not a picture", None])
def test_unreadable_image_is_named(content, tmp_path):
    path = tmp_path / "face.png"
    if content is None:  # cut in the middle
        Image.effect_noise((64, 64), 50).save(path)
        content = path.read_bytes()[:1000]
    path.write_bytes(content)
    with pytest.raises(ValueError, match="face.png"):
        load_image(path)


def test_missing_image_is_named():
    with pytest.raises(ValueError, match="face.png"):
        load_image("no/face.png")


@pytest.mark.parametrize("frame_rate", [24, 25, 12.5, 8, 60])
@pytest.mark.parametrize("source_rate", [24, 30, 15])
def test_flash_and_clap_stay_within_half_a_frame(source_rate, frame_rate, tmp_path):
    frames, audio = flash_and_clap(source_rate, 16000, at_s=7 / 3)
    path = write_video(tmp_path / "clip.mp4", frames, source_rate, audio, 16000)
    clip = read_video(path, frame_rate, 44100)
    assert (clip.frame_rate, clip.sampling_rate) == (frame_rate, 44100)
    assert clip.waveform.shape[1] == round(len(clip.frames) / Fraction(frame_rate) * 44100)
    flash, clap = onsets(clip)
    shown = round(7 / 3 * source_rate) / source_rate  # when the file itself shows the flash
    assert clap == pytest.approx(7 / 3, abs=1e-3)
    assert abs(flash - shown) <= 0.5 / frame_rate + 1e-6


@pytest.mark.parametrize("frame_rate", [25, 12.5, 30])
def test_variable_frame_rate_is_read_by_its_timestamps(frame_rate, tmp_path):
    # 30 frames per second in bright light, 10 in the dark: by counting frames, the flash would be far from its clap
    times_ms = [33 * i for i in range(60)] + [1980 + 100 * i for i in range(20)]
    frames = np.zeros((80, 48, 64, 3), np.uint8)
    frames[70:] = 255  # at 2.98 s
    audio = flash_and_clap(25, 16000, at_s=2.98)[1]
    write_variable_rate(tmp_path / "phone.mp4", times_ms, frames, audio, 16000)
    flash, clap = onsets(read_video(tmp_path / "phone.mp4", frame_rate, 16000))
    assert clap == pytest.approx(2.98, abs=1e-3)
    assert abs(flash - 2.98) <= 0.5 / frame_rate + 1e-6


@pytest.mark.parametrize("delay_ms", [0, 300, 620])
def test_pictures_that_begin_later_than_the_sound_are_time_zero(delay_ms, tmp_path):
    frames, audio = flash_and_clap(25, 16000)
    times_ms = [delay_ms + 40 * i for i in range(len(frames))]
    write_variable_rate(tmp_path / "late.mp4", times_ms, frames, audio, 16000)
    flash, clap = onsets(read_video(tmp_path / "late.mp4", 25))
    assert flash == 2
    assert clap == pytest.approx(2 - delay_ms / 1000, abs=2e-3)


@pytest.mark.parametrize("start_s, duration_s", [(0.0, 3.0), (0.6, None), (1.48, 2.0), (1.8, 0.6)])
def test_window_starts_and_ends_where_asked(start_s, duration_s, tmp_path):
    frames, audio = flash_and_clap(25, 16000)
    path = write_video(tmp_path / "clip.mp4", frames, 25, audio, 16000)
    clip = read_video(path, 25, 16000, start_s=start_s, duration_s=duration_s)
    num_frames = round((duration_s or 4 - start_s) * 25)
    assert len(clip.frames) == num_frames
    assert clip.waveform.shape[1] == num_frames * 640
    assert onsets(clip) == pytest.approx((2 - start_s, 2 - start_s), abs=1e-3)


def test_resampling_moves_no_sample(tmp_path):
    audio = np.zeros(48000)
    audio[[24000, 47997]] = 1  # the second one is in the resampler until it is flushed
    clip = read_video(write_wav(tmp_path / "click.wav", audio, 48000), sampling_rate=16000)
    assert clip.waveform.shape == (1, 16000)
    assert set(np.argsort(clip.waveform[0])[-2:]) == {8000, 15999}
    assert clip.waveform[0, 8001:8100] == pytest.approx(clip.waveform[0, 7999:7900:-1], abs=1e-4)


def test_sound_alone_has_no_frames(tmp_path):
    clip = read_video(write_wav(tmp_path / "sound.wav", np.full((2, 1600), 0.25), 16000), duration_s=0.05)
    assert clip.frames is None and clip.frame_rate is None
    assert clip.waveform == pytest.approx(np.full((2, 800), 0.25), abs=1e-4)


def test_sound_has_no_padding_at_its_end(tmp_path):
    path = write_sound(tmp_path / "sound.m4a", np.zeros(10000), 16000)
    assert read_video(path).waveform.shape == (1, 10000)


def test_sound_after_a_gap_keeps_its_time(tmp_path):
    audio = np.full(16000, 0.5)
    path = write_sound(tmp_path / "sound.mkv", audio, 16000, codec="pcm_f32le", gap_s=0.25)
    waveform = read_video(path).waveform[0]
    assert waveform.shape == (20000,)
    assert np.flatnonzero(waveform == 0).tolist() == list(range(8000, 12000))


def test_window_sounds_as_the_same_part_of_the_whole(tmp_path):
    audio = 0.5 * np.sin(2 * np.pi * 440 * np.arange(64000) / 16000)
    path = write_sound(tmp_path / "sound.m4a", audio, 16000)
    window = read_video(path, start_s=1.9, duration_s=1).waveform
    assert window == pytest.approx(read_video(path).waveform[:, 30400:46400], abs=1e-5)


@pytest.mark.parametrize(
    "matrix, corner",  # of the picture on the screen that the top left one goes to
    [
        ((0, 1, 0, -1, 0, 0, 48, 0, 1), (0, -1)),
        ((-1, 0, 0, 0, -1, 0, 64, 48, 1), (-1, -1)),
        ((0, -1, 0, 1, 0, 0, 0, 64, 1), (-1, 0)),
    ],
    ids=["clockwise", "upside-down", "counterclockwise"],
)
def test_rotation_flag_is_obeyed(matrix, corner, tmp_path):
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    frames[:, :16, :16] = 255

    def boxed(matrix):  # ISO 14496-12, section 8.3.2: 16.16 fixed point, the third column 2.30
        return struct.pack(">9i", *(value << (30 if i % 3 == 2 else 16) for i, value in enumerate(matrix)))

    path = write_video(tmp_path / "clip.mp4", frames, 24)
    content = path.read_bytes()
    at = content.index(boxed((1, 0, 0, 0, 1, 0, 0, 0, 1)), content.index(b"tkhd"))
    path.write_bytes(content[:at] + boxed(matrix) + content[at + 36 :])

    shown = read_video(path).frames[1, :, :, 0]
    assert shown.shape == ((48, 64) if matrix[0] else (64, 48))
    assert shown[corner] > 200
    assert [shown[y, x] > 200 for y in (0, -1) for x in (0, -1)].count(True) == 1


@pytest.mark.parametrize("keep", [0, 10, 2000, 0.5, 0.9])
def test_damaged_file_is_named(keep, tmp_path):
    frames, audio = flash_and_clap(25, 16000)
    path = write_video(tmp_path / "clip.mp4", frames, 25, audio, 16000)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(ValueError, match="clip.mp4"):
        read_video(path)


def test_text_file_is_named(tmp_path):
    (tmp_path / "notes.mp4").write_text("no video at all\n" * 100)
    with pytest.raises(ValueError, match="notes.mp4"):
        read_video(tmp_path / "notes.mp4")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="clip.mp4"):
        read_video(tmp_path / "clip.mp4")


def test_window_after_the_end_is_refused(tmp_path):
    path = write_video(tmp_path / "clip.mp4", coloured_frames(10), 10)
    with pytest.raises(ValueError, match="clip.mp4.*from 5 s"):
        read_video(path, start_s=5)
