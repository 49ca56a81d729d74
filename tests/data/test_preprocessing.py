# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import json
import os
import signal
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from drawn_faces import FaceInTheMiddle, draw_talking_face, make_opening, make_sound, write_talking_clip
from odd_items import Crashing

from diffusers_jova.cli.dispatch import main
from diffusers_jova.data import cache, preprocessing
from diffusers_jova.data.clips import (
    Bucket,
    Probe,
    Segment,
    Source,
    Window,
    choose_bucket,
    find_sources,
    parse_labelled,
    plan_windows,
    probe,
)
from diffusers_jova.data.preparation import Preparation, centre_crop, prepare_all, resize_frames
from diffusers_jova.data.preprocessing import (
    COMPONENTS_OF,
    PreprocessingConfig,
    dry_run,
    preprocess,
)
from diffusers_jova.faces import Face, intersection_over_union
from diffusers_jova.latents import num_audio_latents
from diffusers_jova.media import read_video, write_video, write_wav
from diffusers_jova.pipelines.pipeline_jova import JoVAPipeline
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.shards import parse_shard


RATE, BUCKET = Fraction(25, 2), Bucket(64, 64, 25)

needs_dlib = pytest.mark.skipif(
    importlib.util.find_spec("dlib") is None or importlib.util.find_spec("face_recognition_models") is None,
    reason="needs dlib and its landmark file",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # and forks are safe
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny pipeline; of its transformer only the config is there: preprocessing never loads it."""
    folder = tmp_path_factory.mktemp("model") / "nano"
    pipe = create_pipeline(num_layers=1, num_single_layers=1)
    pipe.register_modules(vae=AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1))
    pipe.save_pretrained(folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return folder


class MouthInTheMiddle:
    """A detector that needs no dlib: one face fills the picture."""

    def detect(self, image):
        return [Face(np.array([0, 0, image.shape[1], image.shape[0]], float), 1.0)]

    def landmarks(self, image, box):
        points = np.zeros((68, 2))
        points[17:48] = np.linspace((0, 0), (box[2], box[3] / 2), 31)
        points[48:] = np.linspace((box[2] * 0.4, box[3] * 0.6), (box[2] * 0.6, box[3] * 0.8), 20)
        return points


@pytest.fixture
def run(model, tmp_path):
    """Preprocess tmp_path/clips to tmp_path/cache; flags as keyword arguments."""

    def run(detector=None, data=tmp_path / "clips", output_dir=tmp_path / "cache", **flags):
        flags = {"device": "cpu", "num_workers": 0} | flags
        config = PreprocessingConfig(str(data), str(model), str(output_dir), **flags)
        return preprocess(config, detector or MouthInTheMiddle())

    (tmp_path / "clips").mkdir()
    return run


@pytest.fixture
def clips(tmp_path):
    """Where `run` looks for clips."""
    return tmp_path / "clips"


def coloured(num_frames=9, height=64, width=64, value=100):
    frames = np.full((num_frames, height, width, 3), value, np.uint8)
    frames[:, : height // 2, : width // 2] = np.linspace(0, 255, num_frames, dtype=np.uint8)[:, None, None, None]
    return frames


def hum(duration_s, rate=16000):
    return 0.3 * np.sin(2 * np.pi * 220 * np.arange(round(duration_s * rate)) / rate)


def write_clip(path, num_frames=9, sound=True, caption=None, **kwargs):
    audio = hum(num_frames / 12.5) if sound else None
    write_video(path, coloured(num_frames, **kwargs), 12.5, audio, 16000 if sound else None)
    if caption is not None:
        path.with_suffix(".txt").write_text(caption)


def content(folder):
    """What is in a cache, but for the reports, which name its folder and the run."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("report"))
    return {path.relative_to(folder): path.read_bytes() for path in files}


def rows_by_source(cache_dir):
    return {row["source"]: row for row in cache.read_index(cache_dir)}


# --- what is cached ---


def test_each_kind_of_clip_becomes_the_tensors_that_the_encoders_give(run, clips, model, tmp_path):
    write_clip(clips / "both.mp4", 11)  # two frames more than 4k + 1
    write_clip(clips / "silent.webm.mp4", 9, sound=False)
    write_wav(clips / "sound.wav", hum(0.6), 16000)
    summary = run()
    rows = rows_by_source(tmp_path / "cache")
    assert [rows[name]["kind"] for name in sorted(rows)] == ["both", "video", "audio"]

    pipe = JoVAPipeline.from_pretrained(model, transformer=None, scheduler=None, vocoder=None)
    row, clip = rows["both.mp4"], read_video(clips / "both.mp4", 12.5, 16000)
    sample = cache.read_sample(tmp_path / "cache", row["key"])
    assert (row["num_frames"], row["height"], row["width"], row["num_samples"]) == (9, 64, 64, 11520)
    assert (row["frame_rate"], row["duration_s"], row["has_mouth"], row["faces"]) == (12.5, 0.72, True, 1)
    pixels = torch.from_numpy(clip.frames[:9]).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(sample["video_moments"], pipe.vae.encode(pixels).latent_dist.parameters[0])
        torch.testing.assert_close(
            sample["image_moments"], pipe.vae.encode(pixels[:, :, :1]).latent_dist.parameters[0]
        )
        num_latents = num_audio_latents(9, 12.5, 31.25)
        waveform = torch.nn.functional.pad(torch.from_numpy(clip.waveform[:, :11520]), (0, num_latents * 512 - 11520))
        torch.testing.assert_close(sample["audio_moments"], pipe.audio_vae.encode(waveform).latent_dist.parameters[0])
        black = pipe.vae.encode(torch.full((1, 3, 1, 64, 64), -1.0)).latent_dist.parameters[0]
    assert sample["audio_moments"].shape == (40, num_latents)
    assert sample["mouth_boxes"].shape == (9, 4) and sample["mouth_boxes"].dtype == torch.float32
    torch.testing.assert_close(cache.read_shared(tmp_path / "cache")["black.64x64"], black)

    assert "audio_moments" not in cache.read_sample(tmp_path / "cache", rows["silent.webm.mp4"]["key"])
    sound = cache.read_sample(tmp_path / "cache", rows["sound.wav"]["key"])
    assert not {"video_moments", "image_moments", "mouth_boxes"} & set(sound)
    # 7.5 frames long, filled up with silence to 9
    assert (rows["sound.wav"]["num_frames"], rows["sound.wav"]["num_samples"]) == (9, 11520)
    assert "cached: 3 samples of 3 of 3 clips, 2.16 s" in str(summary)


def test_texts_are_encoded_unpadded_with_every_variant_that_differs(run, clips, model, tmp_path):
    write_clip(clips / "a.mp4", 5)
    (clips / "a.json").write_text(json.dumps({"video_caption": "A man.", "transcript": "one two"}))
    run()
    sample = cache.read_sample(tmp_path / "cache", cache.read_index(tmp_path / "cache")[0]["key"])
    names = {name for name in sample if name.startswith("prompt_embeds")}
    assert names == {f"prompt_embeds{number}{suffix}" for number in ("", "_2") for suffix in ("", ".100", ".001")}
    pipe = JoVAPipeline.from_pretrained(
        model, transformer=None, scheduler=None, vocoder=None, vae=None, audio_vae=None
    )
    shared = cache.read_shared(tmp_path / "cache")
    with torch.no_grad():
        for suffix, lines in (
            ("", ("A man.", "", "one two")),
            (".100", ("A man.", "", "")),
            (".001", ("", "", "one two")),
        ):
            embeds = pipe.encode_prompt(*lines)
            torch.testing.assert_close(sample[f"prompt_embeds{suffix}"], embeds[0][0])
            torch.testing.assert_close(sample[f"prompt_embeds_2{suffix}"], embeds[2][0])
        torch.testing.assert_close(shared["unconditional.prompt_embeds"], embeds[4][0])
        torch.testing.assert_close(shared["unconditional.prompt_embeds_2"], embeds[6][0])


def test_variants_can_be_left_away(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5, caption="A man.")
    (clips / "a.json").write_text(json.dumps({"transcript": "one"}))
    run(no_line_dropout_variants=True)
    sample = cache.read_sample(tmp_path / "cache", cache.read_index(tmp_path / "cache")[0]["key"])
    assert not [name for name in sample if "." in name]


def test_one_component_is_in_memory_at_a_time_and_never_the_transformer(run, clips, monkeypatch):
    import weakref

    write_clip(clips / "a.mp4", 5, caption="a")
    loaded, original = [], JoVAPipeline.from_pretrained

    def from_pretrained(*args, **kwargs):
        assert all(reference() is None for _, reference in loaded)  # what was loaded before is gone
        pipe = original(*args, **kwargs)
        modules = {k: v for k, v in pipe.components.items() if isinstance(v, torch.nn.Module)}
        loaded.extend((name, weakref.ref(module)) for name, module in modules.items())
        return pipe

    monkeypatch.setattr(preprocessing.JoVAPipeline, "from_pretrained", from_pretrained)
    run()
    assert [name for name, _ in loaded] == ["vae", "audio_vae", "text_encoder", "text_encoder_2"]


# --- time ---


@pytest.mark.parametrize("source_rate", [30, 8])
def test_flash_and_clap_stay_within_half_a_target_frame(source_rate, tmp_path):
    at_s = 0.875
    frames = np.zeros((round(2 * source_rate), 64, 64, 3), np.uint8)
    frames[round(at_s * source_rate) :] = 255
    audio = np.where(np.arange(96000) < at_s * 48000, 0, np.random.default_rng(0).uniform(-0.5, 0.5, 96000))
    write_video(tmp_path / "a.mp4", frames, source_rate, np.stack([audio, audio]), 48000)
    source = Source("a.mp4", path=tmp_path / "a.mp4")
    window = Window(source, "a", BUCKET, Fraction(1, 10), 21, {}, "")
    clip = Preparation(RATE, 16000)(window)
    assert len(clip.waveform) == round(21 / RATE * 16000)
    flash = (clip.frames.mean(axis=(1, 2, 3)) > 128).argmax() / RATE
    clap = (np.abs(clip.waveform) > 0.25).argmax() / 16000
    shown = round(at_s * source_rate) / source_rate - 0.1
    assert clap == pytest.approx(at_s - 0.1, abs=2e-3)
    assert abs(float(flash) - shown) <= 0.5 / RATE + 1e-6


def plan(num_frames, segments=(), transcript="", bucket=BUCKET, has_video=True):
    found = Probe(64 * has_video, 64 * has_video, True, num_frames / RATE)
    texts = {"transcript": transcript} if transcript else {}
    return plan_windows(Source("clip.mp4", texts, tuple(segments)), found, "", bucket, RATE)


@pytest.mark.parametrize("num_frames, kept, warned", [(25, 25, 0), (26, 25, 0), (27, 25, 1), (22, 21, 0), (24, 21, 1)])
def test_the_longest_4k_plus_1_frames_are_kept_and_a_loss_of_more_than_one_is_said(num_frames, kept, warned):
    windows, warnings = plan(num_frames, transcript="one two")
    assert [(w.start_s, w.num_frames) for w in windows] == [(0, kept)]
    assert len(warnings) == warned


def test_4k_plus_1_costs_no_words_and_a_real_cut_without_segments_costs_them():
    def words(num_frames, *segments):
        windows, warnings = plan(num_frames, segments, transcript="one two")
        is_said = any("the transcript may say more than is heard, and is dropped" in warning for warning in warnings)
        assert is_said == (windows[0].texts["transcript"] == "")
        return windows[0].texts["transcript"]

    assert [words(n) for n in (22, 23, 24, 25, 26)] == ["one two"] * 5  # up to 3 lost; 26: one, as rounding is
    assert [words(n) for n in (27, 28, 100)] == [""] * 3  # longer than the bucket
    assert words(24, Segment(0.1, 1.9, "one two")) == "one two"
    assert words(100, Segment(0.1, 0.8, "one two")) == "one two"  # split by segments instead


def test_a_long_clip_is_split_where_segments_say_so_each_window_with_its_own_words():
    segments = [Segment(0.5, 1.2, "a"), Segment(1.3, 1.9, "b"), Segment(2.4, 3.9, "c"), Segment(4.0, 5.9, "d")]
    windows, warnings = plan(100, segments, transcript="all of it")
    assert [w.texts["transcript"] for w in windows] == ["a b", "c", "d"]
    assert len({w.key for w in windows}) == 3 and not warnings
    for window, (own, before, after) in zip(
        windows, (((0.5, 1.9), 0, 2.4), ((2.4, 3.9), 1.9, 4.0), ((4.0, 5.9), 3.9, 8))
    ):
        assert window.num_frames % 4 == 1 and window.num_frames <= 25
        end_s = float(window.start_s + window.num_frames / RATE)
        assert before <= window.start_s <= own[0] + 1e-6
        assert own[1] - 1 / 12.5 <= end_s <= after + 1e-6  # all of its words, none of the next
    assert (windows[0].num_frames, windows[0].start_s) == (25, Fraction(2, 5))  # earlier, to end before "c"


def test_words_between_words_are_kept_whole_and_the_overlap_is_said():
    segments = [Segment(i, i + 1, str(i)) for i in range(6)]  # 12.5 frames each: 9 would lose 3.5, 13 reach over 0.5
    windows, warnings = plan(75, segments, bucket=Bucket(64, 64, 17))
    assert [w.num_frames for w in windows] == [13] * 6
    assert not warnings  # half a frame
    segments = [Segment(0.8 * i, 0.8 * (i + 1), str(i)) for i in range(6)]  # 10 frames: 9 lose only one
    windows, warnings = plan(75, segments, bucket=Bucket(64, 64, 13))
    assert [w.num_frames for w in windows] == [9] * 5 + [13] and not warnings  # silence follows the last
    segments = [Segment(0.88 * i, 0.88 * (i + 1), str(i)) for i in range(6)]  # 11 frames: 9 lose two
    windows, warnings = plan(75, segments, bucket=Bucket(64, 64, 13))
    assert [w.num_frames for w in windows] == [13] * 6
    assert len(warnings) == 5 and "0.16 s into the words beside it" in warnings[0]


def test_a_segment_longer_than_the_bucket_is_left_out_and_said():
    windows, warnings = plan(100, [Segment(0, 1, "short"), Segment(2, 7, "long"), Segment(9, 10, "beyond")])
    assert [w.texts["transcript"] for w in windows] == ["short"]
    assert "longer than the bucket's 2.00 s" in warnings[0] and "the clip lasts 8.00 s" in warnings[1]


def test_a_clip_that_fits_is_one_window_with_all_its_words():
    windows, warnings = plan(25, [Segment(0, 1, "one"), Segment(1, 2, "two")])
    assert [w.texts["transcript"] for w in windows] == ["one two"] and not warnings


def test_sound_alone_is_filled_up_and_loses_nothing():
    assert [w.num_frames for w in plan(18, has_video=False)[0]] == [21]
    windows, warnings = plan(40, has_video=False)
    assert windows[0].num_frames == 25 and "loses 15 of 40 frames" in warnings[0]


def test_windows_show_and_sound_what_happens_in_them(model, run, clips, tmp_path):
    num_frames, audio = 75, np.zeros(96000)
    frames = np.zeros((num_frames, 64, 64, 3), np.uint8)
    frames[38:50], audio[38 * 1280 : 50 * 1280] = 255, 0.5  # from 3.04 to 4 s, both
    write_video(clips / "a.mp4", frames, 12.5, audio, 16000)
    segments = [{"start": 0, "end": 2.9, "text": "dark"}, {"start": 3.04, "end": 4, "text": "light"}]
    (clips / "metadata.jsonl").write_text(json.dumps({"file_name": "a.mp4", "segments": segments}))
    run(num_frames=13, output_dir=tmp_path / "short")
    rows = cache.read_index(tmp_path / "short")
    assert [(row["transcript"], row["num_frames"], row["start_s"]) for row in rows] == [("light", 13, 3.04)]
    config = PreprocessingConfig(
        str(clips), str(model), str(tmp_path / "short"), num_frames=13, num_workers=0, device="cpu"
    )
    (window,) = preprocessing._Run(config).plan()
    clip = Preparation(RATE, 16000)(window)
    assert (clip.frames[:12] > 200).all() and (clip.frames[12] < 50).all()
    assert np.abs(clip.waveform[1000 : 12 * 1280 - 1000] - 0.5).max() < 0.1
    assert np.abs(clip.waveform[12 * 1280 + 1000 :]).max() < 0.1


# --- space ---


def test_pictures_are_cropped_around_the_centre_and_resized():
    assert centre_crop(60, 100, 64, 64) == (20, 0, 80, 60)
    assert centre_crop(100, 60, 32, 64) == (0, 35, 60, 65)
    frames = np.zeros((1, 60, 100, 3), np.uint8)
    frames[:, :30, 20:50] = 255
    resized = resize_frames(frames, centre_crop(60, 100, 64, 64), 64, 64)
    assert resized.shape == (1, 64, 64, 3)
    assert (resized[0, :31, :31] > 250).all() and (resized[0, 33:] < 5).all() and (resized[0, :, 33:] < 5).all()


def test_the_bucket_of_the_nearest_shape_is_chosen_then_the_longest():
    buckets = (Bucket(64, 112, 17), Bucket(112, 64, 17), Bucket(112, 64, 25), Bucket(224, 128, 25))

    def choose(height, width, frames):
        return choose_bucket(Probe(height, width, True, frames / RATE), buckets, RATE)

    assert choose(480, 832, 100) == buckets[0]
    assert choose(832, 480, 100) == buckets[3]
    assert choose(112, 64, 100) == buckets[2]  # does not enlarge
    assert choose(112, 64, 18) in buckets[1:3]
    assert choose(0, 0, 100).num_frames == 25


def test_several_buckets_and_their_black_frames(run, clips, tmp_path):
    write_clip(clips / "wide.mp4", 9, height=64, width=112)
    write_clip(clips / "tall.mp4", 9, height=112, width=64)
    run(buckets=("64x112x9", "112x64"), num_frames=5)
    rows = rows_by_source(tmp_path / "cache")
    assert [(rows[n]["height"], rows[n]["width"], rows[n]["num_frames"]) for n in ("wide.mp4", "tall.mp4")] == [
        (64, 112, 9),
        (112, 64, 5),
    ]
    assert {"black.64x112", "black.112x64"} <= set(cache.read_shared(tmp_path / "cache"))


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"buckets": ("64by64",)}, "HEIGHTxWIDTH"),
        ({"height": 60}, "multiple of 16, got 60: try 64"),
        ({"num_frames": 24}, "4k \\+ 1, got 24: try 21 or 25"),
        ({"buckets": ("64x64",), "height": 64}, "either as"),
        ({"detect_every": 0}, "--detect_every"),
        ({"num_workers": -1}, "--num_workers"),
        ({"frame_rate": 0.0}, "frame_rate"),
        ({"crop": "middle"}, "`--crop` must be one of .* got 'middle'"),
        ({"crop": "face", "no_mouth": True}, "`--crop face` needs the faces"),
        ({"shard": "3/2"}, "i/n"),
        ({"shard": "2"}, "i/n"),
    ],
)
def test_bad_settings_are_refused(flags, message, run):
    with pytest.raises(ValueError, match=message):
        run(**flags)


def rotated(path):
    """Set the flag that says: show turned by 90 degrees clockwise (ISO 14496-12, section 8.3.2)."""

    def boxed(matrix):
        return struct.pack(">9i", *(value << (30 if i % 3 == 2 else 16) for i, value in enumerate(matrix)))

    data = path.read_bytes()
    at = data.index(boxed((1, 0, 0, 0, 1, 0, 0, 0, 1)), data.index(b"tkhd"))
    path.write_bytes(data[:at] + boxed((0, 1, 0, -1, 0, 0, 256, 0, 1)) + data[at + 36 :])


@needs_dlib
def test_mouths_of_phone_clips_with_a_rotation_flag_are_where_they_are_seen(run, clips, tmp_path):
    frames, boxes = draw_talking_face(np.full(5, 0.6), size=(384, 256), seed=2, faces=((0.5, 0.5, 0.45),))
    path = write_video(clips / "phone.mp4", np.rot90(frames, 1, axes=(1, 2)), 12.5)  # as the sensor lies
    rotated(path)
    assert (probe(path).height, probe(path).width) == (384, 256)
    run(preprocessing.DlibFaceDetector(preprocessing.find_landmarks_file()), height=192, width=128)
    row = cache.read_index(tmp_path / "cache")[0]
    found = cache.read_sample(tmp_path / "cache", row["key"])["mouth_boxes"].numpy()
    assert row["has_mouth"] and row["faces"] == 1
    assert min(intersection_over_union(*pair) for pair in zip(found, boxes / 2)) > 0.4


# --- finding clips ---


def test_captions_come_from_metadata_and_from_files_beside_the_clip(clips, run):
    for name in ("a", "b", "c", "d"):
        write_clip(clips / f"{name}.mp4", 1)
    (clips / "sub").mkdir()
    write_wav(clips / "sub" / "e.wav", hum(0.2), 16000)
    (clips / "a.txt").write_text("\ufeffA woman. \n", encoding="utf-8")  # with the mark that Notepad writes
    (clips / "b.txt").write_text("<Video Caption>: A man.\n<Audio Caption>:\n<Transcript>: three\nfour")
    (clips / "c.json").write_text('{"video_caption": "from json", "transcript": "c"}')
    (clips / "c.txt").write_text("from txt")
    (clips / "metadata.jsonl").write_text('{"file_name": "c.mp4", "transcript": "from metadata", "other": 1}\n\n')
    (clips / "sub" / "metadata.csv").write_text('file_name,audio_caption,segments\ne.wav,rain,"[]"\n')
    (clips / "sub" / "e.txt").write_text("not needed")
    (clips / ".hidden.mp4").write_text("x")
    (clips / "poster.jpg").write_text("x")
    texts = {source.name: dict(source.texts) for source in find_sources(clips)}
    assert texts == {
        "a.mp4": {"video_caption": "A woman."},
        "b.mp4": {"video_caption": "A man.", "transcript": "three four"},
        "c.mp4": {"video_caption": "from json", "transcript": "from metadata"},
        "d.mp4": {},
        "sub/e.wav": {"audio_caption": "rain"},
    }


def test_labelled_prompts_are_taken_apart():
    assert parse_labelled("<Transcript>: one\n<Video Caption>: a\nb") == {"transcript": "one", "video_caption": "a b"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"file_name": "a.mp4"}\n{"file_name"', "line 2, is not JSON"),
        (b'{"video_caption": "x"}', "line 1, has no `file_name`.*video_caption"),
        (b'["a.mp4"]', "line 1, must be an object"),
        (b'{"file_name": "a.mp4"}\n\n{"file_name": "a.mp4"}', "line 3, names `a.mp4` a second time"),
        ('{"file_name": "ä.mp4"}'.encode("latin-1"), "metadata.jsonl.*not UTF-8"),
    ],
)
def test_bad_metadata_is_named_with_its_line(content, message, clips, run):
    write_clip(clips / "a.mp4", 1)
    (clips / "metadata.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        find_sources(clips)


@pytest.mark.parametrize("stored_as", ["disk", "parquet"])
def test_clips_in_a_dataset_are_read_without_decoding_them_there(stored_as, run, clips, tmp_path):
    import datasets

    write_clip(clips / "a.mp4", 9)
    write_clip(clips / "b.mp4", 5)
    entries = [{"path": f"{name}.mp4", "bytes": (clips / f"{name}.mp4").read_bytes()} for name in "ab"]
    dataset = datasets.Dataset.from_dict({"video": entries, "video_caption": ["A", "B"], "transcript": ["one", None]})
    dataset = dataset.cast_column("video", datasets.Video(decode=False)).cast_column("video", datasets.Video())
    if stored_as == "disk":
        dataset.save_to_disk(tmp_path / "data")
    else:
        (tmp_path / "data").mkdir()
        dataset.to_parquet(tmp_path / "data" / "train.parquet")
    data = tmp_path / "data" if stored_as == "disk" else tmp_path / "data" / "train.parquet"
    run(data=data)
    rows = rows_by_source(tmp_path / "cache")
    found = [(r["source"], r["num_frames"], r["video_caption"], r["transcript"]) for r in rows.values()]
    assert found == [("train/000000-a.mp4", 9, "A", "one"), ("train/000001-b.mp4", 5, "B", "")]
    direct = run(data=clips / "a.mp4", output_dir=tmp_path / "direct")
    sample = cache.read_sample(tmp_path / "direct", direct.rows[0]["key"])
    other = cache.read_sample(tmp_path / "cache", rows["train/000000-a.mp4"]["key"])
    assert torch.equal(sample["video_moments"], other["video_moments"])


def test_dataset_without_clips_is_refused(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "data")
    with pytest.raises(ValueError, match="no column of clips.*text"):
        find_sources(tmp_path / "data")


def test_nothing_to_train_on_is_said(clips, run, tmp_path):
    with pytest.raises(ValueError, match="no clip in"):
        run()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(data=tmp_path / "nowhere")
    assert not (tmp_path / "cache").exists()


# --- bad clips ---


def test_broken_clips_are_skipped_with_their_reasons_and_the_others_are_cached(run, clips, tmp_path, caplog):
    write_clip(clips / "good.mp4", 5)
    whole = (clips / "good.mp4").read_bytes()
    (clips / "empty.mp4").touch()
    (clips / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "text.mkv").write_text("no video at all\n" * 100)
    for name, caption in (("latin", "Grüße".encode("latin-1")), ("json", None)):
        (clips / f"{name}.mp4").write_bytes(whole)
        if caption:
            (clips / f"{name}.txt").write_bytes(caption)
    (clips / "json.json").write_text("{not json")
    (clips / "segments.mp4").write_bytes(whole)
    (clips / "segments.json").write_text('{"segments": [{"start": 2, "end": 1, "text": "x"}]}')
    (clips / "metadata.jsonl").write_text('{"file_name": "good.mp4"}\n{"file_name": "missing.mp4"}\n')
    summary = run()
    reasons = dict(summary.skipped)
    assert sorted(reasons) == [
        "cut.mp4",
        "empty.mp4",
        "json.mp4",
        "latin.mp4",
        "missing.mp4",
        "segments.mp4",
        "text.mkv",
    ]
    assert "0 bytes" in reasons["empty.mp4"]
    assert "damaged" in reasons["cut.mp4"] and "damaged" in reasons["text.mkv"]
    assert "latin.txt` is not UTF-8 (at byte 2)" in reasons["latin.mp4"]
    assert "json.json` is no JSON" in reasons["json.mp4"]
    assert "start at 0 s or later and before it ends" in reasons["segments.mp4"]
    assert "there is no such clip" in reasons["missing.mp4"]
    assert list(rows_by_source(tmp_path / "cache")) == ["good.mp4"]
    text = str(summary)
    assert "skipped: 7" in text and all(f"  {name}: {reason}" in text for name, reason in reasons.items())


def test_a_clip_whose_frames_run_out_early_is_damaged(tmp_path):
    write_clip(tmp_path / "a.mp4", 9)
    window = Window(Source("a.mp4", path=tmp_path / "a.mp4"), "a", BUCKET, Fraction(0), 25, {}, "")
    with pytest.raises(ValueError, match="only 9 of 25 frames"):
        Preparation(RATE, 16000)(window)


def test_silent_clips_are_skipped_where_sound_is_asked_for(run, clips, tmp_path):
    write_clip(clips / "silent.mp4", 5, sound=False)
    write_clip(clips / "loud.mp4", 5)
    summary = run(require_audio=True)
    assert [name for name, reason in summary.skipped if "no sound track" in reason] == ["silent.mp4"]
    assert list(rows_by_source(tmp_path / "cache")) == ["loud.mp4"]


def test_what_is_missing_is_in_the_summary(run, clips, tmp_path):
    write_clip(clips / "named.mp4", 5, caption="A man.")
    write_clip(clips / "other.mp4", 5)
    (clips / "mute.json").write_text('{"transcript": "words", "video_caption": "x"}')
    write_clip(clips / "mute.mp4", 5, sound=False)
    write_wav(clips / "rain.wav", hum(0.4), 16000)
    summary = str(run(instance_prompt="a photo of sks"))
    captions = {name: row["video_caption"] for name, row in rows_by_source(tmp_path / "cache").items()}
    assert captions == {"named.mp4": "A man.", "other.mp4": "a photo of sks", "mute.mp4": "x", "rain.wav": ""}
    assert "sound but no transcript: named.mp4, other.mp4, rain.wav" in summary
    assert "a transcript but no sound: mute.mp4" in summary
    assert "no video caption" not in summary


def test_clips_without_a_face_train_without_mouth_loss(run, clips, tmp_path):
    class NoFace(MouthInTheMiddle):
        def detect(self, image):
            return []

    write_clip(clips / "a.mp4", 5)
    summary = run(NoFace())
    row = cache.read_index(tmp_path / "cache")[0]
    assert (row["has_mouth"], row["faces"]) == (False, 0)
    assert cache.read_sample(tmp_path / "cache", row["key"])["mouth_boxes"].isnan().all()
    assert "no mouth found, no mouth loss: a.mp4" in str(summary)


# --- again ---


def test_a_second_run_writes_no_sample_again(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5, caption="a")
    first = str(run())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "samples").iterdir()}
    assert str(run()) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "samples").iterdir()} == before


def in_a_fork(function):
    """Run `function` in a process of its own and return how that ended: negative is the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_run_killed_again_and_again_ends_like_one_that_was_not(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 9, caption="a")
    write_clip(clips / "b.mp4", 5, caption="b", sound=False)
    write_wav(clips / "c.wav", hum(0.5), 16000)
    (clips / "broken.mp4").touch()
    uninterrupted = str(run(output_dir=tmp_path / "whole", preview=True))

    def run_until(num_writes):
        replace, written = os.replace, []

        def replace_or_die(*args):
            written.append(args)
            if len(written) > num_writes:
                os.kill(os.getpid(), signal.SIGKILL)  # the file is written, but still has its temporary name
            replace(*args)

        os.replace = replace_or_die
        run(preview=True)

    endings = []
    while not endings or endings[-1] == -signal.SIGKILL:
        endings.append(in_a_fork(lambda: run_until(4)))  # one of them is the fingerprint
        assert len(endings) < 20
    assert endings[-1] == 0 and len(endings) > 4
    assert str(run(preview=True)) == uninterrupted.replace(str(tmp_path / "whole"), str(tmp_path / "cache"))
    assert content(tmp_path / "cache") == content(tmp_path / "whole")
    assert not [path for path in content(tmp_path / "cache") if "partial" in path.name or "parts" in path.parts]


def test_a_full_disk_stops_the_run_and_loses_nothing(run, clips, tmp_path, monkeypatch):
    write_clip(clips / "a.mp4", 5, caption="a")
    write_clip(clips / "b.mp4", 5, caption="b")
    save_file = cache.save_file

    def save_on_a_full_disk(tensors, path, **kwargs):
        if path.name.startswith(".b-") and "text" in path.name:
            raise OSError(28, "No space left on device")
        save_file(tensors, path, **kwargs)

    monkeypatch.setattr(cache, "save_file", save_on_a_full_disk)
    with pytest.raises(OSError, match="the disk is full.*start the same command again"):
        run()
    monkeypatch.undo()
    write_clip(clips / "a.mp4", 9, value=200)  # what is left of the older clip is not used
    run()
    run(output_dir=tmp_path / "whole")
    assert content(tmp_path / "cache") == content(tmp_path / "whole")


def test_a_changed_clip_under_the_same_name_is_cached_again_and_said(run, clips, tmp_path, caplog):
    write_clip(clips / "a.mp4", 5, caption="a")
    write_clip(clips / "b.mp4", 5, caption="b")
    run()
    before = content(tmp_path / "cache" / "samples")
    write_clip(clips / "a.mp4", 9, value=200)
    run()
    assert "a.mp4: has changed since it was cached" in caplog.text and "b.mp4: has changed" not in caplog.text
    rows = rows_by_source(tmp_path / "cache")
    assert (rows["a.mp4"]["num_frames"], rows["b.mp4"]["num_frames"]) == (9, 5)
    after = content(tmp_path / "cache" / "samples")
    assert [name for name in before if before[name] != after[name]] == [Path(f"{rows['a.mp4']['key']}.safetensors")]


def test_a_changed_caption_is_encoded_again(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5, caption="a")
    run()
    (clips / "a.txt").write_text("another")
    run()
    assert cache.read_index(tmp_path / "cache")[0]["video_caption"] == "another"


def test_windows_that_a_clip_no_longer_has_leave_the_cache(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 60)
    write_clip(clips / "b.mp4", 5)
    segments = [{"start": 0, "end": 1, "text": "x"}, {"start": 3, "end": 4, "text": "y"}]
    (clips / "a.json").write_text(json.dumps({"segments": segments}))
    run()
    assert len(cache.read_index(tmp_path / "cache")) == 3
    (clips / "a.json").write_text(json.dumps({"segments": segments[:1]}))
    run()
    assert [row["transcript"] for row in cache.read_index(tmp_path / "cache")] == ["x", ""]


def test_damaged_samples_are_made_anew(run, clips, tmp_path, caplog):
    write_clip(clips / "a.mp4", 5)
    path = cache.sample_path(tmp_path / "cache", run().rows[0]["key"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    run()
    assert path.read_bytes() == whole and path.name in caplog.text


def test_a_cache_of_other_settings_or_models_is_refused(run, clips, tmp_path, monkeypatch):
    write_clip(clips / "a.mp4", 5)
    run()
    before = content(tmp_path / "cache")
    with pytest.raises(ValueError, match="64x64x21.*now.*64x64x17"):
        run(num_frames=17)
    models = cache.model_fingerprint
    monkeypatch.setattr(cache, "model_fingerprint", lambda folder: models(folder) | {"vae": {"class": "Other"}})
    with pytest.raises(ValueError, match="other models; it differs in models.vae"):
        run()
    assert content(tmp_path / "cache") == before


@pytest.mark.parametrize("flags", [{}, {"crop": "centre"}])
def test_the_crop_keeps_the_mouth_or_its_loss_is_counted_and_said(flags, run, clips, tmp_path):
    write_clip(clips / "tall.mp4", 5, height=192, width=64)  # its mouth is at 115 to 154
    write_clip(clips / "wide.mp4", 5)
    summary = run(**flags)
    rows = rows_by_source(tmp_path / "cache")
    assert "mouth_outside" not in rows["wide.mp4"]
    assert rows["tall.mp4"].get("mouth_outside", 0) == (5 if flags else 0)
    assert rows["tall.mp4"]["has_mouth"] == (not flags)
    assert ("leaves the mouth out of some frames" in str(summary)) == bool(flags)
    assert ("tall.mp4 (5 of 5)" in str(summary)) == bool(flags)
    assert cache.read_fingerprint(tmp_path / "cache")["settings"]["crop"] == flags.get("crop", "face")


def test_a_cache_from_before_there_was_a_crop_goes_on_around_the_centre(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5)
    run(crop="centre")
    fingerprint = cache.read_fingerprint(tmp_path / "cache")
    before = content(tmp_path / "cache" / "samples")
    del fingerprint["settings"]["crop"], fingerprint["version"]
    cache.write_fingerprint(tmp_path / "cache", fingerprint)
    with pytest.raises(ValueError, match=r"settings.crop \(centre, now face\).*what is not given is the cache's own"):
        run(crop="face")
    assert "settings taken from the cache: crop centre\n" in str(run())
    assert content(tmp_path / "cache" / "samples") == before
    assert cache.read_fingerprint(tmp_path / "cache")["settings"]["crop"] == "centre"


def test_without_faces_the_crop_is_the_centre(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5)
    run(no_mouth=True)
    assert cache.read_fingerprint(tmp_path / "cache")["settings"]["crop"] == "centre"


def test_a_face_in_the_middle_gives_the_same_samples_with_either_crop(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 9)
    write_clip(clips / "wide.mp4", 9, height=64, width=96)
    for crop in ("face", "centre"):
        run(crop=crop, output_dir=tmp_path / crop)
    assert content(tmp_path / "face" / "samples") == content(tmp_path / "centre" / "samples")


def test_shards_together_are_the_whole(run, clips, tmp_path):
    for name in "abc":
        write_clip(clips / f"{name}.mp4", 5, caption=name)
    for shard in ("0/2", "1/2"):
        run(shard=shard)
    run(output_dir=tmp_path / "whole")
    assert content(tmp_path / "cache") == content(tmp_path / "whole")
    assert [parse_shard(text) for text in ("0/4", "3/4", "4/4", "1/1")] == [(0, 4), (3, 4), (0, 4), (0, 1)]


# --- many processes ---


def test_workers_give_what_one_process_gives_and_survive_a_clip_that_kills_them(tmp_path):
    write_clip(tmp_path / "a.mp4", 9)
    source = Source("a.mp4", path=tmp_path / "a.mp4")
    keys = ["one", "bad", "crash", "two", "three"]
    windows = [Window(source, key, BUCKET, Fraction(0), 9, {}, "") for key in keys]
    prepare = Crashing(RATE, 16000, detector=FaceInTheMiddle())
    results = {window.key: clip for window, clip in prepare_all(windows, prepare, num_workers=2)}
    assert list(results) == keys
    assert results["crash"] == "reading it crashed the process" and results["bad"] == "out of range"
    expected = Preparation(RATE, 16000, detector=FaceInTheMiddle())(windows[0])
    for key in ("one", "two", "three"):
        np.testing.assert_array_equal(results[key].frames, expected.frames)
        np.testing.assert_array_equal(results[key].waveform, expected.waveform)
        np.testing.assert_array_equal(results[key].boxes, expected.boxes)


# --- commands ---


@pytest.fixture
def command(model, clips, tmp_path):
    """Run `diffusers-jova preprocess` with flags and return its exit status."""

    def command(*flags, data=clips):
        arguments = ["--data", str(data), "--model", str(model), "--output_dir", str(tmp_path / "cache")]
        return main(["preprocess", *arguments, "--num_workers", "0", *flags])

    return command


@needs_dlib
def test_command_makes_a_cache_of_talking_faces_with_previews(command, run, clips, tmp_path, capsys):
    write_talking_clip(clips / "face.mp4", 5, seed=1)
    assert command("--preview", "--detect_every", "4", "--instance_prompt", "A man.", "--shard", "1/1") == 0
    assert "with a mouth: 1 of 1" in capsys.readouterr().out
    assert [path.suffix for path in (tmp_path / "cache" / "previews").iterdir()] == [".png"]
    assert rows_by_source(tmp_path / "cache")["face.mp4"]["video_caption"] == "A man."


def test_status_is_zero_only_if_a_clip_was_cached(command, run, clips, tmp_path, capsys):
    assert command("--no_mouth") == 2
    assert "no clip in" in capsys.readouterr().err
    (clips / "broken.mp4").touch()
    assert command("--no_mouth") == 1
    assert "skipped: 1" in capsys.readouterr().out
    write_clip(clips / "good.mp4", 5)
    assert command("--no_mouth") == 0
    assert "settings taken" not in capsys.readouterr().out
    write_clip(clips / "more.mp4", 5)
    assert command() == 0
    assert "2 samples" in (printed := capsys.readouterr().out)
    assert "settings taken from the cache: no mouth, crop centre" in printed


def test_missing_landmark_file_stops_before_any_work(command, run, clips, tmp_path, capsys):
    write_clip(clips / "a.mp4", 5)
    assert command("--landmarks", str(tmp_path / "no.dat")) == 2
    assert "no.dat" in (message := capsys.readouterr().err) and "pip install" in message
    assert not (tmp_path / "cache").exists()


def test_dry_run_prints_the_peak_of_each_phase_and_writes_nothing(command, run, clips, tmp_path, capsys):
    write_clip(clips / "a.mp4", 9)
    (clips / "broken.mp4").touch()
    assert command("--dry_run", "--no_mouth") == 0
    printed = capsys.readouterr().out
    assert "1 samples of 2 clips, 0.72 s" in printed and "broken.mp4: the file is empty" in printed
    for components in COMPONENTS_OF.values():
        assert f"({', '.join(components)})" in printed
    assert not (tmp_path / "cache").exists()


def test_weights_in_the_dry_run_are_those_in_the_model(model, clips, run, tmp_path):
    write_clip(clips / "a.mp4", 9)
    pipe = JoVAPipeline.from_pretrained(model, transformer=None, scheduler=None, vocoder=None)
    config = PreprocessingConfig(
        str(clips), str(model), str(tmp_path / "cache"), no_mouth=True, num_workers=0, device="cpu"
    )
    planned = preprocessing._Run(config)
    for phase, components in COMPONENTS_OF.items():
        parameters = sum(p.numel() for p in getattr(pipe, components[-1]).parameters())
        assert planned.phase_memory(phase, planned.plan())[0] == pytest.approx(4 * parameters, rel=0.01)
    assert "video" in dry_run(config)


@needs_dlib
def test_mouth_mask_command_writes_the_figure_and_says_what_changed(run, model, clips, tmp_path, capsys):
    write_talking_clip(clips / "face.mp4", 5, seed=1)

    def command(video):
        flags = ["--video", str(video), "--model", str(model), "--output", str(tmp_path / "mouth.png")]
        return main(["validate-mouth-mask", *flags, "--device", "cpu"])

    assert command(clips / "face.mp4") == 0
    assert "inside the mouth" in capsys.readouterr().out
    assert (tmp_path / "mouth.png").is_file()
    write_clip(clips / "nobody.mp4", 5)
    assert command(clips / "nobody.mp4") == 2
    assert "No mouth was found" in capsys.readouterr().err


def test_sound_that_follows_the_mouth_is_as_long_as_the_clip():
    opening = make_opening(25, 0)
    sound = make_sound(opening, 12.5)
    loudness = np.abs(sound.reshape(25, -1)).mean(axis=1)
    assert len(sound) == 32000 and np.corrcoef(loudness, opening)[0, 1] > 0.9


def test_what_is_unusual_about_a_clip_is_in_the_summary_by_its_name(run, clips):
    write_video(clips / "silent.mp4", coloured(13), 12.5, np.zeros(16640), 16000)
    (clips / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{clips / 'silent.mp4'}\n#EXT-X-ENDLIST\n"
    )
    summary = run(no_mouth=True)
    assert ("silent.mp4", "its audio track is silent from beginning to end") in summary.warnings
    assert [name for name, reason in summary.skipped if "playlists" in reason] == ["list.m3u8"]
    assert [row["source"] for row in summary.rows] == ["silent.mp4"]
