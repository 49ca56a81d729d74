# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Clips that are pieces of films: rows with a start, an end and a crop."""

import json
from fractions import Fraction

import numpy as np
import pytest
from plain_clips import RATE, coloured, hum, rows_by_source, write_clip

from diffusers_jova.data import plan
from diffusers_jova.data.clips import examine, find_sources
from diffusers_jova.data.prepare import Preparation
from diffusers_jova.data.probe import Probe
from diffusers_jova.data.windows import Bucket, plan_windows
from diffusers_jova.media import read_audio, read_video, write_video


def write_rows(folder, *rows):
    folder.mkdir(exist_ok=True)
    lines = [json.dumps({"file_name": "../films/talk.mp4", **row}) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines))


@pytest.fixture
def film(tmp_path):
    (tmp_path / "films").mkdir()
    path = tmp_path / "films" / "talk.mp4"
    write_video(path, coloured(50), 12.5, hum(4) * np.linspace(0, 1, 64000), 16000)
    return path


def test_a_piece_has_the_frames_the_audio_and_the_crop_that_its_row_says(film, tmp_path):
    write_rows(tmp_path / "rows", {"start": 0.8, "end": 2.4, "crop": [8, 16, 40, 48], "transcript": "words"})
    (source,) = find_sources(tmp_path / "rows")
    assert source.name == "../films/talk.mp4#t=0.8,2.4&xywh=8,16,32,32"
    found = Probe(32, 32, True, Fraction(8, 5))
    (window,), _ = plan_windows(source, found, "hash", Bucket(32, 32, 25), RATE)
    assert (window.start_s, window.num_frames, window.texts["transcript"]) == (Fraction(4, 5), 17, "words")
    clip = Preparation(RATE, 16000)(window)
    whole, (audio, _) = read_video(film).frames, read_audio(film, 16000, 1)
    assert np.array_equal(clip.frames, whole[10:27, 16:48, 8:40])
    assert np.abs(clip.waveform - audio[0, 12800 : 12800 + len(clip.waveform)]).max() < 1e-3
    other = plan_windows(find_sources(film)[0], found, "hash", Bucket(32, 32, 25), RATE)[0][0]
    assert other.digest != window.digest


def test_segments_of_a_piece_count_from_its_start(film, tmp_path):
    segments = [{"start": 0.1, "end": 0.6, "text": "a"}, {"start": 1.0, "end": 1.5, "text": "b"}]
    write_rows(tmp_path / "rows", {"start": 1, "end": 3, "segments": segments})
    (source,) = find_sources(tmp_path / "rows")
    windows, _ = plan_windows(source, Probe(64, 64, True, Fraction(2)), "hash", Bucket(64, 64, 9), RATE)
    assert [window.texts["transcript"] for window in windows] == ["a", "b"]
    assert all(1 <= window.start_s and window.start_s + window.num_frames / RATE <= 3 for window in windows)


def test_a_film_with_many_pieces_is_read_once_and_what_cannot_be_used_is_named(
    film, cache_clips, tmp_path, monkeypatch
):
    read = []
    monkeypatch.setattr(plan, "examine", lambda source: read.append(source.name) or examine(source))
    write_rows(
        tmp_path / "rows",
        *[{"start": 0, "end": 1}, {"start": 1, "end": 2}, {"start": 2, "end": 2}, {"start": 3, "end": 9}],
        *[{"start": 2, "end": 3, "crop": [0, 0, 999, 9]}, {"start": 2, "end": 3.5, "crop": [9, 0, 4, 9]}],
        {"file_name": "gone.mp4", "start": 0, "end": 1},
    )
    write_clip(tmp_path / "rows" / "own.mp4")
    summary = cache_clips(data=tmp_path / "rows")
    assert len(read) == 2  # the film, and the clip beside the rows
    film_name = "../films/talk.mp4#t="
    rows = rows_by_source(tmp_path / "cache")
    assert set(rows) == {f"{film_name}0,1", f"{film_name}1,2", "own.mp4"}
    assert [rows[f"{film_name}{times}"]["start_s"] for times in ("0,1", "1,2")] == [0, 1]
    reasons = dict(summary.skipped)
    assert "`start` and `end` must be seconds" in reasons.pop(f"{film_name}2,2")
    assert "its file lasts 4.00 s" in reasons.pop(f"{film_name}3,9")
    assert "64x64 pixels" in reasons.pop(f"{film_name}2,3&xywh=0,0,999,9")
    assert "four whole pixels" in reasons.pop(f"{film_name}2,3.5")
    assert "no such file" in reasons.pop("gone.mp4#t=0,1") and not reasons


def test_a_film_beside_its_rows_is_not_also_a_clip_as_a_whole(film):
    (film.parent / "metadata.csv").write_text(
        'file_name,start,end,crop\ntalk.mp4,0,1,"[0, 0, 32, 32]"\ntalk.mp4,1,2,\n'
    )
    assert {source.name: source.crop for source in find_sources(film.parent)} == {
        "talk.mp4#t=0,1&xywh=0,0,32,32": (0, 0, 32, 32),
        "talk.mp4#t=1,2": None,
    }


def test_a_row_may_name_a_whole_clip_that_lies_elsewhere(film, tmp_path):
    write_rows(tmp_path / "rows", {"video_caption": "a face"})
    (source,) = find_sources(tmp_path / "rows")
    assert source.path.samefile(film) and source.start_s is None and source.texts == {"video_caption": "a face"}


def test_the_same_piece_twice_is_refused(film, tmp_path):
    write_rows(tmp_path / "rows", {"start": 0, "end": 1}, {"start": 0.0, "end": 1.0})
    with pytest.raises(ValueError, match="line 2, names .*#t=0,1` a second time"):
        find_sources(tmp_path / "rows")
