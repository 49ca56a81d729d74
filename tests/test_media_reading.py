# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Reading other people's files: what they say about themselves is checked, what they show is what a player shows."""

import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from diffusers_jova.media import iter_frames, probe_media, read_audio, read_video, write_video, write_wav


def ramp(num_frames, height=48, width=64, last=220):
    """`(F, H, W, 3)` uint8, grey, brighter with each frame: a frame says when it is shown."""
    levels = np.rint(np.linspace(20, last, num_frames)).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (num_frames, height, width, 3))


def noise(num_samples, num_channels=1):
    return np.random.default_rng(0).uniform(-0.5, 0.5, (num_channels, num_samples)).astype(np.float32)


def chirp(duration_s, sampling_rate=48000):
    """`(1, N)` float32: a tone that rises by 100 Hz per second, which codecs keep as it is, unlike noise."""
    time = np.arange(round(duration_s * sampling_rate)) / sampling_rate
    return (0.4 * np.sin(2 * np.pi * (200 + 50 * time) * time)).astype(np.float32)[None]


# --- one frame at a time ---


@pytest.mark.parametrize("window", [{}, {"start_s": 1.2, "duration_s": 0.5}])
def test_frames_one_at_a_time_are_those_of_the_whole(window, tmp_path):
    path = write_video(tmp_path / "clip.mp4", ramp(50), 25, noise(32000)[0], 16000)
    frames = list(iter_frames(path, 12.5, **window))
    assert np.array_equal(np.stack(frames), read_video(path, 12.5, **window).frames)


@pytest.mark.parametrize("frame_rate", [12.5, 25, 10])
def test_a_frame_is_let_go_where_it_is_used_unless_it_is_shown_again(frame_rate, tmp_path):
    values = np.arange(5, dtype=np.uint8) * 50
    path = write_video(tmp_path / "a.mp4", np.full((5, 32, 32, 3), values[:, None, None, None]), 12.5)
    frames, alive, means = iter_frames(path, frame_rate), [], []
    for frame in frames:
        means.append(frame.mean())
        reference = weakref.ref(frame.base if frame.base is not None else frame)
        del frame
        alive.append(reference() is not None)
    is_shown_again = np.append(np.abs(np.diff(means)) < 10, False)
    assert alive == is_shown_again.tolist()
    assert len(alive) == round(5 / 12.5 * frame_rate)


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


# --- seeking ---


def write_clip(path, frames, codec="libx264", audio_codec=None, frame_rate=25, audio=None, **options):
    """Write frames, and mono audio at 48 kHz if a codec is named, with the encoder's options."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=frame_rate, options={"g": "100", **options})
        video.height, video.width, video.pix_fmt = *frames.shape[1:3], "yuv420p"
        video.bit_rate = 2_000_000
        sound = container.add_stream(audio_codec, rate=48000, layout="mono") if audio_codec else None
        for index, array in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array))
            frame.pts, frame.time_base = index, Fraction(1, frame_rate)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            audio = chirp(len(frames) / frame_rate) if audio is None else audio
            frame = av.AudioFrame.from_ndarray(audio, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48000, 0
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
    return path


OPEN_GOP = {"bf": "3", "x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0"}


@pytest.mark.parametrize(
    "suffix, codec, audio_codec, options",
    [
        ("ts", "libx264", "aac", {}),
        ("ts", "libx264", "aac", OPEN_GOP),
        ("ts", "mpeg2video", "mp2", {"bf": "2"}),
        ("mpg", "mpeg2video", "mp2", {"bf": "2"}),
        ("vob", "mpeg2video", "ac3", {"bf": "2"}),
        ("m2v", "mpeg2video", None, {"bf": "2"}),
        ("h264", "libx264", None, OPEN_GOP),
        ("mkv", "libx264", "aac", OPEN_GOP),
        ("mp4", "libx264", "aac", OPEN_GOP),
        ("avi", "libx264", "mp3", OPEN_GOP),
        ("flv", "libx264", "aac", {}),
    ],
)
def test_window_is_a_piece_of_the_whole_in_every_container(suffix, codec, audio_codec, options, tmp_path):
    path = write_clip(tmp_path / f"clip.{suffix}", ramp(200), codec, audio_codec, g="110", **options)
    whole = read_video(path, 25, 16000)
    assert len(whole.frames) in (198, 199, 200)  # MPEG-PS as FFmpeg writes it repeats two timestamps
    levels = whole.frames[:, 24, 32].mean(axis=1)
    assert np.all(np.diff(levels) > -2) and levels[0] < 24 and levels[-1] > 216
    for start in (38, 90, 172):
        window = read_video(path, 25, 16000, start_s=Fraction(start, 25), duration_s=1)
        difference = window.frames.astype(int) - whole.frames[start : start + 25]
        assert np.abs(difference).max() <= (1 if suffix in ("mpg", "vob") else 0)  # one level is one frame
        if audio_codec:
            # the clocks of mkv and flv count milliseconds, 16 samples
            pieces = (whole.waveform[:, start * 640 + lag :][:, 400:15600] for lag in range(-16, 17))
            assert min(np.abs(window.waveform[:, 400:15600] - piece).max() for piece in pieces) < 0.1


def test_broadcast_cut_before_its_first_key_frame_begins_at_the_key_frame(tmp_path):
    path = write_clip(tmp_path / "clip.ts", ramp(300), "mpeg2video", "mp2", g="50")
    content = path.read_bytes()
    path.write_bytes(content[len(content) // 2 // 188 * 188 :])
    clip = read_video(path, 25)
    assert 100 < len(clip.frames) <= 150
    assert np.all(np.diff(clip.frames[:, 24, 32].mean(axis=1)) > -2)
    assert probe_media(path).duration_s == Fraction(len(clip.frames), 25)


# --- durations ---


def spoken_once(num_samples):
    """Noise at the beginning and silence after it: by its first bytes, a much shorter file."""
    audio = noise(num_samples)
    audio[:, 4800:] = 0
    return audio


def lengths(path):
    """Return how long a file is by `probe_media` and by what `read_video` gives."""
    clip = read_video(path)
    if clip.frames is not None:
        return float(probe_media(path).duration_s), float(len(clip.frames) / clip.frame_rate)
    return float(probe_media(path).duration_s), clip.waveform.shape[1] / clip.sampling_rate


@pytest.mark.parametrize(
    "suffix, codec, audio_codec",
    [
        ("h264", "libx264", None),
        ("hevc", "libx265", None),
        ("m2v", "mpeg2video", None),
        ("mpeg", "mpeg2video", "mp2"),
        ("ts", "libx264", "aac"),
        ("avi", "libx264", "mp3"),
        ("flv", "libx264", "aac"),
        ("webm", "libvpx", "libopus"),
    ],
)
def test_probe_and_reading_agree_on_how_long_a_video_is(suffix, codec, audio_codec, tmp_path):
    options = {"x265-params": "log-level=error"} if codec == "libx265" else {}
    path = write_clip(tmp_path / f"clip.{suffix}", ramp(50), codec, audio_codec, **options)
    assert lengths(path) == (2, 2)


@pytest.mark.parametrize("suffix, codec", [("aac", "aac"), ("mp3", "mp3"), ("ac3", "ac3"), ("mka", "libopus")])
def test_probe_and_reading_agree_on_how_long_audio_is(suffix, codec, tmp_path):
    path = tmp_path / f"sound.{suffix}"
    options = {"write_xing": "0"} if suffix == "mp3" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(spoken_once(96000), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    measured, read = lengths(path)
    assert measured == pytest.approx(read, abs=0.021)
    assert measured == pytest.approx(2, abs=0.08)  # encoders fill their frames up


def test_file_cut_off_is_as_long_as_what_is_there_and_says_so(tmp_path):
    path = write_clip(tmp_path / "clip.mkv", ramp(300), "mpeg4", "mp3", g="10")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    measured, read = lengths(path)
    assert measured == read < 9
    assert "cut off" in probe_media(path).warnings[0]


def test_header_that_promises_too_much_is_not_believed(tmp_path):
    path = write_video(tmp_path / "clip.mp4", ramp(50), 25)
    content = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"mdhd", 20)):  # ISO 14496-12, version 0: the duration in units of the clock
        at = content.index(box) + offset
        content[at : at + 4] = (int.from_bytes(content[at : at + 4], "big") * 5).to_bytes(4, "big")
    path.write_bytes(content)
    assert lengths(path) == (2, 2)


# --- what a clip's warnings are ---


def warnings_of(path):
    return " | ".join(probe_media(path).warnings)


def test_healthy_clip_has_no_warnings(tmp_path):
    assert warnings_of(write_video(tmp_path / "clip.mp4", ramp(50), 25, noise(32000)[0], 16000)) == ""


def test_silent_track_is_mentioned(tmp_path):
    path = write_video(tmp_path / "clip.mp4", ramp(50), 25, np.zeros(32000, np.float32), 16000)
    assert "silent from beginning to end" in warnings_of(path)


@pytest.mark.parametrize("num_samples, words", [(48000, "1.04 s before its video ends"), (144000, "after its video")])
def test_audio_of_another_length_is_mentioned(num_samples, words, tmp_path):
    path = write_clip(tmp_path / "clip.mkv", ramp(51), audio_codec="flac", audio=noise(num_samples))
    assert words in warnings_of(path)


# --- audio of every kind ---


def clap(sampling_rate, num_channels, at_s=0.5):
    """One second of silence with a clap in it."""
    waveform = np.zeros((num_channels, sampling_rate), np.float32)
    waveform[:, round(at_s * sampling_rate) :][:, : sampling_rate // 400] = 0.9
    return waveform


def first_loud(waveform, sampling_rate, after_s=0.0):
    start = round(after_s * sampling_rate)
    return (start + np.argmax(np.abs(waveform[0, start:]) > 0.3)) / sampling_rate


def two_parts(tmp_path, suffix):
    """Write a second of silence at 48 kHz mono, and one with a clap at 32 kHz stereo."""
    first = write_channels(tmp_path / f"first.{suffix}", clap(48000, 1) * 0, "mono", "aac", 48000)
    return first, write_channels(tmp_path / f"second.{suffix}", clap(32000, 2), "stereo", "aac", 32000)


def test_rate_and_channels_that_change_in_a_bare_stream_move_no_sound(tmp_path):
    first, second = two_parts(tmp_path, "aac")
    path = tmp_path / "both.aac"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    (before, _), (alone, _) = read_audio(first, 16000), read_audio(second, 16000)
    waveform, _ = read_audio(path, 16000)
    seconds = before.shape[1] / 16000
    assert waveform.shape == (1, before.shape[1] + alone.shape[1])
    assert first_loud(waveform, 16000) - seconds == pytest.approx(first_loud(alone, 16000), abs=2e-3)
    assert float(probe_media(path).duration_s) == pytest.approx(waveform.shape[1] / 16000, abs=1e-3)


def test_rate_and_channels_that_change_in_a_container_move_no_sound(tmp_path):
    parts = two_parts(tmp_path, "aac")
    path = tmp_path / "both.ts"
    with av.open(str(path), "w") as output, av.open(str(parts[0])) as template:
        stream = output.add_stream_from_template(template.streams.audio[0])
        for part, delay_s in zip(parts, (0, Fraction(3, 2)), strict=True):
            with av.open(str(part)) as container:
                for packet in container.demux(audio=0):
                    if packet.pts is None:
                        continue
                    packet.pts = packet.dts = packet.pts + int(delay_s / packet.time_base)
                    packet.stream = stream
                    output.mux(packet)
    (alone, _), (waveform, _) = read_audio(parts[1], 16000), read_audio(path, 16000)
    assert first_loud(waveform, 16000, after_s=0.5) == pytest.approx(1.5 + first_loud(alone, 16000), abs=0.025)


def test_several_recordings_in_one_file_are_refused_by_name(tmp_path):
    path = write_clip(tmp_path / "both.ts", ramp(50), "mpeg2video", "mp2")
    path.write_bytes(path.read_bytes() * 2)
    for read in (read_video, probe_media, read_audio):
        with pytest.raises(ValueError, match="both.ts.*several recordings"):
            read(path)


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le", "pcm_alaw", "adpcm_ima_wav"]
)
@pytest.mark.parametrize("num_channels", [1, 2])
def test_every_kind_of_sample_is_read(codec, num_channels, tmp_path):
    tone = np.repeat(chirp(0.5, 16000), num_channels, axis=0)
    path = write_channels(tmp_path / "sound.wav", tone, {1: "mono", 2: "stereo"}[num_channels], codec, 16000)
    waveform, sampling_rate = read_audio(path)
    assert sampling_rate == 16000 and waveform.shape[0] == num_channels
    assert waveform[:, :8000] == pytest.approx(tone, abs={"adpcm_ima_wav": 0.2}.get(codec, 0.02))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_no_numbers_are_refused_by_name(value, tmp_path):
    samples = noise(1600)
    samples[0, 800] = value
    path = write_channels(tmp_path / "broken.wav", samples, "mono", "pcm_f32le", 16000)
    with pytest.raises(ValueError, match="broken.wav.*not finite"):
        read_audio(path)


def write_tracks(path, levels, default=None):
    """Write a mono track per level, of one second, and flag one of them default."""
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16000, layout="mono") for _ in levels]
        for index, stream in enumerate(streams):
            stream.disposition = Disposition.default if index == default else Disposition(0)
        for stream, level in zip(streams, levels, strict=True):
            samples = np.full((1, 16000), round(level * 32767), np.int16)
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, 0
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("default, level", [(0, 0.1), (1, 0.3), (None, 0.1)])
def test_the_default_track_is_read(default, level, tmp_path):
    path = write_tracks(tmp_path / "tracks.mkv", [0.1, 0.3], default)
    assert read_audio(path)[0] == pytest.approx(np.full((1, 16000), level), abs=1e-3)
    assert "2 audio tracks" in warnings_of(path)
