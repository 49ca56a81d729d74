# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which clips stay, and why others do not."""

import base64
import io
import json
import re

import av
import numpy as np
import pytest
from PIL import Image, ImageDraw
from plain_films import COLOURS, RATE, SquareFinder, read_lines, scene, voice, write_film

from diffusers_jova.cli.dispatch import main
from diffusers_jova.dataset import filter as filter_module
from diffusers_jova.dataset.duplicates import find_duplicates
from diffusers_jova.dataset.filter import FilterConfig, filter_clips, read_thresholds
from diffusers_jova.dataset.filters import FILTERS, choose_thresholds, reasons_against
from diffusers_jova.dataset.measures import clipped_part, head_turns, measure_audio, measure_sync, text_area


# of squares that do not speak: what is left is the same as in any film
EASY = {"min_resolution": 90, "min_sharpness": None, "min_speech": None, "max_other": None, "min_snr": None}
EASY |= {"min_lips": None, "max_lag_s": None, "max_motion": None, "min_motion": 0.01}


@pytest.fixture
def clips(tmp_path):
    """Rows of six pieces of one film, four with a fault each."""
    scenes = [scene(colour, 15) for colour in COLOURS[:4]]
    scenes[1] = np.repeat(scenes[1][:1], 15, axis=0)
    audio = np.concatenate([voice(15), voice(15), 0 * voice(15), (9 * voice(15)).clip(-1, 1)])
    write_film(tmp_path / "films" / "talk.mp4", scenes, audio, crf=8)
    write_film(tmp_path / "films" / "copy.mp4", scenes[:1], voice(15), crf=12)
    spans = [("copy", 0), *(("talk", start) for start in (0, 15, 30, 45)), ("gone", 0)]
    (tmp_path / "split").mkdir()
    rows = [
        {"file_name": f"../films/{name}.mp4", "start": start / RATE, "end": (start + 15) / RATE, "mine": name}
        for name, start in spans
    ]
    (tmp_path / "split" / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


@pytest.fixture
def run(clips):
    def run(thresholds=EASY, **flags):
        config = FilterConfig(str(clips / "split"), str(clips / "filtered"), thresholds, num_workers=0, **flags)
        return filter_clips(config, SquareFinder())

    return run


def test_each_fault_is_named_and_the_page_shows_both_sides_of_a_threshold(run, clips, monkeypatch):
    summary = run(report=True)
    reasons = {name.rpartition("/")[2]: found for name, _, found in summary.left_out}
    assert reasons.pop("talk.mp4#t=0,1.2") == ["it is nearly the same as another clip"]
    assert "nothing moves" in reasons.pop("talk.mp4#t=1.2,2.4")
    assert "it is mostly silent" in reasons.pop("talk.mp4#t=2.4,3.6")
    assert "its audio is clipped" in reasons.pop("talk.mp4#t=3.6,4.8") and not reasons
    assert [name for name, _ in summary.skipped] == ["../films/gone.mp4#t=0,1.2"]
    (row,) = read_lines(clips / "filtered" / "metadata.jsonl")
    assert (row["file_name"], row["mine"], row["measures"]["faces"]) == ("../films/copy.mp4", "copy", 1)
    report = json.loads((clips / "filtered" / "report.json").read_text())
    assert report["left_out"]["nothing moves"]["clips"] == 1 and len(report["histograms"]["loudness"]) == 20

    page = (clips / "filtered" / "report.html").read_text(encoding="utf-8")
    motion = page.split("<h2>min_motion")[1].split("<h2>")[0]
    left_out, stay = motion.split("Stay, nearest first")
    assert left_out.count("<video") == 1 and stay.count("<video") == 3
    with av.open(io.BytesIO(base64.b64decode(re.search(r"video/mp4;base64,([^\"]+)", stay)[1]))) as video:
        assert [stream.type for stream in video.streams] == ["video", "audio"]

    monkeypatch.setattr(filter_module.Measurer, "__call__", None)  # what was measured is not again
    journal = (clips / "filtered" / "measures.jsonl").read_bytes()
    assert run(EASY | {"max_clipping": None}, max_distance=None).num_kept == 3
    assert run(dry_run=True).num_kept == 1
    assert len(read_lines(clips / "filtered" / "metadata.jsonl")) == 3
    assert (clips / "filtered" / "measures.jsonl").read_bytes() == journal


def test_a_threshold_has_two_sides_and_none_switches_it_off():
    thresholds = choose_thresholds({"min_loudness": -40, "max_cuts": None})
    assert reasons_against({"loudness": -41.0, "cuts": 9}, thresholds) == ["it is too quiet"]
    assert reasons_against({"loudness": -39.0, "sharpness": None}, thresholds) == []
    assert reasons_against({"lag_s": -0.2}, thresholds) == ["its lips are early or late"]
    assert choose_thresholds({}, has_faces=False)["min_face_size"] is None
    with pytest.raises(ValueError, match="There is no filter `min_beauty`"):
        choose_thresholds({"min_beauty": 1})


def test_clips_in_another_language_are_left_out_where_it_is_known(run, clips):
    path = clips / "split" / "metadata.jsonl"
    rows = [row | {"language": code} for row, code in zip(read_lines(path), ("EN", "pt", None))]
    path.write_text("\n".join(map(json.dumps, rows)))
    off = dict.fromkeys(choose_thresholds({}))
    summary = run(off, max_distance=None, languages=("en",))
    assert [found for _, _, found in summary.left_out] == [
        ["it is in another language (pt)"]
    ] and summary.num_kept == 2
    report = json.loads((clips / "filtered" / "report.json").read_text())
    assert report["languages"] == {"en": 1, "pt": 1, "unknown": 1}


def test_near_duplicates_are_found_by_frames_and_audio_together():
    rng = np.random.default_rng(0)
    audio, picture, other = (rng.integers(0, 2, 256, np.uint8) for _ in range(3))

    def clip(audio, picture, flips=0):
        flipped = [None if bits is None else bits ^ (np.arange(256) < flips) for bits in (audio, picture)]
        texts = [None if bits is None else np.packbits(bits).tobytes().hex() for bits in flipped]
        return dict(zip(("audio_hash", "image_hash"), texts))

    clips = [clip(audio, picture), clip(audio, picture, 20), clip(other, picture), clip(None, picture)]
    clips += [clip(audio, picture, 40), clip(None, picture, 5), {"audio_hash": None}]
    assert find_duplicates(clips) == {1: 0, 5: 3}


@pytest.mark.parametrize("max_distance", [0, 0.1, 0.3])
@pytest.mark.parametrize("kind, size", [("audio_hash", 256), ("image_hash", 768)])
def test_near_duplicates_are_found_wherever_their_bits_differ_and_no_others(kind, size, max_distance):
    rng, most = np.random.default_rng(0), int(max_distance * size)

    def flipped(number, in_a_row):
        bits = np.zeros(size, np.uint8)
        bits[np.arange(number) if in_a_row else rng.permutation(size)[:number]] = 1
        return bits

    first, *others = [rng.integers(0, 2, size, np.uint8) for _ in range(20)]
    near = [first ^ flips for flips in (flipped(most, True), flipped(most, True)[::-1], flipped(most, False))]
    far = [first ^ flipped(most + 1, in_a_row) for in_a_row in (True, False)]
    clips = [{kind: np.packbits(bits).tobytes().hex()} for bits in (first, *others, *near, *far)]
    assert find_duplicates(clips, max_distance) == dict.fromkeys(range(20, 23), 0)


def test_text_is_seen_and_a_plain_frame_and_a_face_have_none():
    plain = scene(COLOURS[0], 1, size=(180, 240))[0]
    assert text_area(plain) == 0
    image = Image.fromarray(plain)
    ImageDraw.Draw(image).text((20, 150), "SUBSCRIBE NOW, PLEASE DO", fill="white")
    assert 0.01 < text_area(np.asarray(image)) < 0.1


def test_audio_is_measured_in_values_known_by_hand():
    hum = voice(20)
    assert measure_audio(None)["audio"] == 0 and measure_audio(None)["loudness"] is None
    assert measure_audio(0 * hum)["silence"] == 1 and measure_audio(0 * hum)["audio_hash"] is None
    assert measure_audio(hum)["loudness"] == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.05)
    noisy = hum * (np.arange(len(hum)) < len(hum) // 2) + np.random.default_rng(0).normal(0, 0.0212, len(hum))
    assert measure_audio(noisy)["snr"] == pytest.approx(20, abs=1.5)
    assert clipped_part(hum) == 0 and clipped_part(np.ones(10)) == 1
    assert measure_audio(hum)["speech"] == 0  # a hum is no voice


@pytest.mark.parametrize("loudest, is_clipped", [(1, False), (3, True), (10, True)])
def test_clipping_is_found_where_a_codec_has_rounded_it_off(loudest, is_clipped):
    seconds, rng = np.arange(16000) / 16000, np.random.default_rng(0)
    tones = [np.sin(2 * np.pi * (110 * k * seconds + rng.random())) / k for k in range(1, 21)]
    speech = sum(tones) * (1.2 + np.sin(2 * np.pi * 4 * seconds))
    spectrum = np.fft.rfft((loudest * speech / np.abs(speech).max()).clip(-1, 1))
    spectrum[5000:] = 0  # as codecs do: what is above 5 kHz is gone, all is a little quieter, and noise comes
    coded = 0.97 * np.fft.irfft(spectrum) + rng.normal(0, 0.01, 16000)
    assert (clipped_part(coded) > choose_thresholds({})["max_clipping"]) == is_clipped
    assert clipped_part(coded / 2) == 0  # a quiet tone may be flat, too


def test_syncnet_says_nothing_of_a_clip_that_is_too_short_for_it():
    found = measure_sync(scene(COLOURS[0], 10), RATE, voice(10), SquareFinder(), network=None)
    assert found == {"sync": None, "sync_lag_s": None}


def test_a_head_from_the_front_is_not_turned():
    points = np.zeros((2, 68, 2))
    points[:, 0], points[:, 16], points[:, 30] = (-50, 0), (50, 0), [(0, 0), (25, 0)]
    assert head_turns(points) == pytest.approx([0, 0.5])


def test_settings_come_from_a_file_and_a_wrong_one_is_named(tmp_path, capsys):
    path = tmp_path / "filter.yaml"
    path.write_text("min_sharpness: 0.4\nmax_cuts: null\n")
    assert read_thresholds(path) == {"min_sharpness": 0.4, "max_cuts": None}
    path.write_text("min_sharpnes: 0.4\n")
    assert main(["filter", "--data", str(tmp_path), "--output_dir", str(tmp_path / "x"), "--config", str(path)]) == 2
    assert "there is no threshold `min_sharpnes`. Did you mean `min_sharpness`?" in capsys.readouterr().err
    path.write_text("min_sharpness: high\n")
    with pytest.raises(ValueError, match="`min_sharpness` must be a number, or null"):
        read_thresholds(path)


def test_each_filter_has_a_name_of_its_own():
    assert len({each.name for each in FILTERS}) == len(FILTERS)
