# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which clips become samples, and what is said of the others."""

import json

import numpy as np
import pytest
from plain_clips import RATE, coloured, hum, rows_by_source, write_clip

from diffusers_jova.data import cache
from diffusers_jova.data.plan import make_plan
from diffusers_jova.data.prepare import Preparation
from diffusers_jova.data.preprocessing import PreprocessingConfig
from diffusers_jova.data.run import prepare_run
from diffusers_jova.engines import LocalEngine
from diffusers_jova.media import write_video, write_wav


def test_nothing_to_train_on_is_said(clips, run, tmp_path):
    with pytest.raises(ValueError, match="no clip in"):
        run()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        run(data=tmp_path / "nowhere")
    assert not (tmp_path / "cache").exists()


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
    assert "json.json` is not JSON" in reasons["json.mp4"]
    assert "start at 0 s or later and before it ends" in reasons["segments.mp4"]
    assert "there is no such file" in reasons["missing.mp4"]
    assert list(rows_by_source(tmp_path / "cache")) == ["good.mp4"]
    text = str(summary)
    assert "skipped: 7" in text and all(f"  {name}: {reason}" in text for name, reason in reasons.items())


def test_silent_clips_are_skipped_where_sound_is_asked_for(run, clips, tmp_path):
    write_clip(clips / "silent.mp4", 5, sound=False)
    write_clip(clips / "loud.mp4", 5)
    summary = run(require_audio=True)
    assert [name for name, reason in summary.skipped if "no audio track" in reason] == ["silent.mp4"]
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
    assert "audio but no transcript: named.mp4, other.mp4, rain.wav" in summary
    assert "a transcript but no audio: mute.mp4" in summary
    assert "no video caption" not in summary


def test_what_is_unusual_about_a_clip_is_in_the_summary_by_its_name(run, clips):
    write_video(clips / "silent.mp4", coloured(13), 12.5, np.zeros(16640), 16000)
    (clips / "list.m3u8").write_text(
        f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{clips / 'silent.mp4'}\n#EXT-X-ENDLIST\n"
    )
    summary = run(no_mouth=True)
    assert ("silent.mp4", "its audio track is silent from beginning to end") in summary.warnings
    assert [name for name, reason in summary.skipped if "playlists" in reason] == ["list.m3u8"]
    assert [row["source"] for row in summary.rows] == ["silent.mp4"]


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
    (window,) = make_plan(prepare_run(config), LocalEngine(0)).windows
    clip = Preparation(RATE, 16000)(window)
    assert (clip.frames[:12] > 200).all() and (clip.frames[12] < 50).all()
    assert np.abs(clip.waveform[1000 : 12 * 1280 - 1000] - 0.5).max() < 0.1
    assert np.abs(clip.waveform[12 * 1280 + 1000 :]).max() < 0.1
