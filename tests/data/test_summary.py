# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a run says: while it works, at its end, and in its report."""

import json
import logging
import shlex

import numpy as np
import pytest

from diffusers_jova import progress
from diffusers_jova.cli.dispatch import make_parser
from diffusers_jova.data import cache
from diffusers_jova.data.settings import PreprocessingConfig, command_of
from diffusers_jova.data.summary import Summary, kind_of
from diffusers_jova.media import write_video


def write_clips(folder, *names):
    for name in names:
        write_video(folder / f"{name}.mp4", np.full((5, 64, 64, 3), 100, np.uint8), 12.5)


def summary_of(num_sources, skipped):
    summary = Summary(num_sources=num_sources, command="diffusers-jova preprocess --data 'my clips'")
    for name, reason in skipped:
        summary.skip(name, reason)
    return str(summary).split("\n")


@pytest.mark.parametrize("num_sources, num_skipped, is_loud", [(1000, 2, False), (1000, 3, True), (200, 2, True)])
def test_many_clips_that_are_missing_for_one_reason_are_said_loudly_at_the_very_end(num_sources, num_skipped, is_loud):
    lines = summary_of(num_sources, [(f"{i}.mp4", f"only {i} of 25 frames") for i in range(num_skipped)])
    assert (lines[-1] == "!!! diffusers-jova preprocess --data 'my clips'") is is_loud
    assert any(line.startswith(f"!!! {num_skipped} of {num_sources} clips are missing") for line in lines) is is_loud


def write_speech(folder, name, num_frames, **texts):
    sound = 0.1 * np.sin(np.arange(num_frames * 1280) / 5)
    frames = np.full((num_frames, 64, 64, 3), 90, np.uint8)
    write_video(folder / f"{name}.mp4", frames, 12.5, sound, 16000)
    (folder / f"{name}.json").write_text(json.dumps(texts))


def test_words_that_many_clips_lose_are_said_loudly(cache_clips, tmp_path):
    for name in "ab":
        write_speech(tmp_path / "clips", name, 8, transcript="one two")
    write_speech(tmp_path / "clips", "c", 8, segments=[{"start": 0, "end": 0.3, "text": "one"}])
    summary = cache_clips(buckets=("32x32x5",))
    assert {row["source"]: row["transcript"] for row in summary.rows} == {"a.mp4": "", "b.mp4": "", "c.mp4": "one"}
    assert "transcript dropped, it says more than is heard: a.mp4, b.mp4" in str(summary)
    assert "!!! 2 of 3 clips train without their words" in str(summary)


def test_six_clips_that_only_lose_frames_to_4k_plus_1_keep_their_words_and_alarm_nobody(cache_clips, tmp_path):
    for name in "abcdef":
        write_speech(tmp_path / "clips", name, 8, transcript="one two", video_caption="A man.", audio_caption="Words.")
    summary = cache_clips(buckets=("32x32",))
    assert [(row["transcript"], row["num_frames"]) for row in summary.rows] == [("one two", 5)] * 6
    lines = str(summary).split("\n")
    at = lines.index("warnings: 6")
    assert lines[at + 1] == "  6 clips, like a.mp4: loses 3 of 8 frames (0.24 s): it has 4k + 1 frames then"
    assert lines[at + 2] == "    a.mp4, b.mp4, c.mp4, d.mp4, e.mp4 and 1 more (see report.json)"
    # the VAE of the tests is not trained, and says so
    assert lines[at + 3 :] == [f"!!! {line}." for line in summary.round_trip.alarm()]


def test_reasons_are_counted_apart():
    lines = summary_of(1000, [("a", "empty"), ("b", "empty"), ("c", "damaged"), ("d", "damaged")])
    assert not any(line.startswith("!!!") for line in lines)


def test_what_happened_to_many_clips_is_one_line_with_a_few_of_their_names():
    summary = Summary(num_sources=100)
    for i in range(40):
        summary.warn(f"{i:02d}.mp4", f"loses {i + 2} of {i + 25} frames ({i / 25:.2f} s): it is too long")
    summary.warn("x.mp4", "`x.txt` is odd")
    text = str(summary)
    assert "warnings: 41" in text and "  40 clips, like 00.mp4: loses 2 of 25 frames (0.00 s): it is too long" in text
    assert "00.mp4, 01.mp4, 02.mp4, 03.mp4, 04.mp4 and 35 more (see report.json)" in text and "20.mp4" not in text
    assert "  x.mp4: `x.txt` is odd" in text


def test_the_log_has_a_few_lines_for_each_reason(caplog):
    summary = Summary()
    for i in range(40):
        summary.skip(f"{i}.mp4", f"`{i}.txt` is not UTF-8 (at byte {i})")
    summary.warn("x.mp4", "is odd")
    assert len(caplog.messages) == 4 and "2.mp4" in caplog.messages[2]
    assert "more like this are counted at the end" in caplog.messages[2] and caplog.messages[3] == "x.mp4: is odd"


def test_messages_are_of_one_kind_whatever_their_names_and_numbers_are():
    assert kind_of("`a.txt`, line 3, loses 1.25 s of 'x'") == kind_of("`b c`, line 17, loses 4 s of 'y'")
    assert kind_of("empty") != kind_of("damaged")


def test_the_report_names_every_clip_and_the_command(cache_clips, tmp_path):
    write_clips(tmp_path / "clips", *"abcdefgh")
    for i in range(7):
        (tmp_path / "clips" / f"empty{i}.mp4").touch()
    summary = cache_clips(buckets=("32x32",))
    report = json.loads((tmp_path / "cache" / "report.json").read_text())
    assert [entry["clip"] for entry in report["skipped"]] == [f"empty{i}.mp4" for i in range(7)]
    assert report["facts"]["no video caption"] == [f"{name}.mp4" for name in "abcdefgh"]
    assert (report["clips"], report["samples"], report["seconds"]) == (15, 8, 3.2)
    assert str(summary).endswith(f"!!! {report['command']}")
    cache_clips(shard="1/2")
    cache_clips(shard="2/2")
    assert {path.name for path in (tmp_path / "cache").glob("report*")} == {
        "report.json",
        "report-0-of-2.json",
        "report-1-of-2.json",
    }


def test_the_command_of_settings_gives_these_settings():
    config = PreprocessingConfig(
        "my clips", "a'b", "out", buckets=("64x64", "32x64x9"), no_mouth=True, num_workers=0, frame_rate=12.5
    )
    words = shlex.split(command_of(config))
    assert words[:2] == ["diffusers-jova", "preprocess"]
    args = make_parser("preprocess", None).parse_args(words[2:])
    options = {name: value for name, value in vars(args).items() if name != "dry_run"}
    assert PreprocessingConfig(**options | {"buckets": tuple(args.buckets)}) == config


def test_damaged_samples_are_refused_with_the_command_that_makes_them_anew(cache_clips, tmp_path):
    write_clips(tmp_path / "clips", "a")
    summary = cache_clips()
    path = cache.sample_path(tmp_path / "cache", summary.rows[0]["key"])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ValueError) as caught:
        cache.read_sample(tmp_path / "cache", summary.rows[0]["key"])
    assert f"run `{summary.command}` again" in str(caught.value)


def test_a_cache_of_other_settings_is_refused_before_any_clip_is_read(cache_clips, tmp_path, caplog):
    write_clips(tmp_path / "clips", "a")
    cache_clips()
    (tmp_path / "clips" / "empty.mp4").touch()
    caplog.clear()
    with pytest.raises(ValueError, match="made with other settings"):
        cache_clips(num_frames=5)
    assert not caplog.text


def test_without_a_terminal_the_log_says_how_far_each_phase_is(cache_clips, tmp_path, caplog, monkeypatch):
    write_clips(tmp_path / "clips", "a", "b", "c")
    monkeypatch.setattr(progress, "LOG_EVERY_S", 0)
    with caplog.at_level(logging.INFO, "diffusers_jova"):
        cache_clips()
    for phase in ("plan", "verify", "video", "text", "text_2", "assemble"):
        assert f"{phase}: 3 to do" in caplog.messages
        assert any(message.startswith(f"{phase}: 1 of 3, about 00:") for message in caplog.messages)
        assert any(message.startswith(f"{phase}: done in 00:") for message in caplog.messages)
