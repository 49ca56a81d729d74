# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Texts and file names of other people: what is found in a folder, and what is said about it."""

import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from diffusers_jova.data import cache
from diffusers_jova.data.clips import find_sources, parse_labelled
from diffusers_jova.data.names import FileNames
from diffusers_jova.data.probe import is_still_picture
from diffusers_jova.media import write_video, write_wav
from diffusers_jova.pipelines.prompts import format_prompt, is_labelled
from diffusers_jova.training.validation_prompts import read_validation_prompts


NFC, NFD = (unicodedata.normalize(form, "René.mp4") for form in ("NFC", "NFD"))


def write_clip(path, value=100):
    return write_video(path, np.full((5, 64, 64, 3), value, np.uint8), 12.5)


def texts_by_name(folder):
    return {source.name: dict(source.texts) for source in find_sources(folder)}


# --- texts ---


def test_line_feeds_in_the_cells_of_a_table_make_no_rows(tmp_path):
    for name in ("a", "b", "c"):
        write_clip(tmp_path / f"{name}.mp4")
    table = (
        '\ufefffile_name, transcript ,video_caption,\r\na.mp4,"one\r\ntwo",A woman\u2028in red.,\r\n'
        'b.mp4,"say ""three"", four","A\x0bman\x85now",\r\nc.mp4,,"x, y",,\r\n'
    )
    (tmp_path / "Metadata.CSV").write_bytes(table.encode())
    assert texts_by_name(tmp_path) == {
        "a.mp4": {"transcript": "one two", "video_caption": "A woman in red."},
        "b.mp4": {"transcript": 'say "three", four', "video_caption": "A man now"},
        "c.mp4": {"video_caption": "x, y"},
    }


@pytest.mark.parametrize(
    "table, message",
    [
        ("file_name,transcript,transcript\na.mp4,one,two\n", "line 1, has the column `transcript` twice"),
        ("file_name,transcript\na.mp4,one, two\n", 'line 2, has more cells than the 2 columns.*in "quotes"'),
        ('file_name,transcript\na.mp4,"one\nb.mp4,two\n', "row at line 2 is not CSV: unexpected end of data"),
    ],
)
def test_a_table_that_would_lose_texts_is_refused_with_its_line(table, message, tmp_path):
    write_clip(tmp_path / "a.mp4")
    (tmp_path / "metadata.csv").write_text(table)
    with pytest.raises(ValueError, match=message):
        find_sources(tmp_path)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85"])
def test_only_line_feeds_and_carriage_returns_end_a_line_of_a_prompt(separator, tmp_path):
    quoted = f"A sign that says{separator}<Transcript>: stop"
    assert not is_labelled(quoted)
    assert format_prompt(quoted).count("\n") == 2
    prompt = f"<Video Caption>: a{separator}b\r\n<Transcript>: one\rtwo"
    assert is_labelled(prompt)
    assert parse_labelled(prompt) == {"video_caption": f"a{separator}b", "transcript": "one two"}
    entries = [{"prompt": f"a{separator}b"}, {"prompt": "c"}]
    lines = "".join(json.dumps(entry, ensure_ascii=False) + "\r\n" for entry in entries)
    (tmp_path / "prompts.jsonl").write_text("\ufeff" + lines, encoding="utf-8", newline="")
    assert read_validation_prompts([str(tmp_path / "prompts.jsonl")]) == entries


def test_half_a_character_in_a_text_is_a_problem_of_its_clip_alone(cache_clips, tmp_path):
    for name in ("a", "b"):
        write_clip(tmp_path / f"{name}.mp4")
    (tmp_path / "a.json").write_text('{"transcript": "one \\ud83d"}')
    summary = cache_clips(tmp_path)
    assert summary.skipped == [("a.mp4", "`transcript` holds half a character, '\\ud83d'")]
    assert [row["source"] for row in summary.rows] == ["b.mp4"]


# --- names ---


@pytest.mark.parametrize("written, named", [(NFD, NFC), (NFC, NFD), ("ﬁlm①.mp4", "film1.mp4"), ("a.MP4", "a.mp4")])
def test_a_clip_gets_its_row_and_its_files_under_any_form_of_its_name(written, named, tmp_path):
    write_clip(tmp_path / written)
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": f"./{named}", "transcript": "one"}))
    (tmp_path / named).with_suffix(".TXT").write_text("A man.")
    (tmp_path / named).with_suffix(".json").write_text('{"audio_caption": "rain"}')
    texts = {"transcript": "one", "video_caption": "A man.", "audio_caption": "rain"}
    assert texts_by_name(tmp_path) == {written: texts}


def test_the_exact_name_comes_first_and_a_name_for_two_files_is_a_problem(tmp_path):
    paths = {name: tmp_path / name for name in (NFC, NFD, "x①.mp4", "x１.mp4")}
    for path in paths.values():
        write_clip(path)
    rows = [{"file_name": NFC, "transcript": "c"}, {"file_name": NFD, "transcript": "d"}, {"file_name": "x1.mp4"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert {n: t for n, t in texts_by_name(tmp_path).items() if t} == {
        NFC: {"transcript": "c"},
        NFD: {"transcript": "d"},
    }
    problems = {source.name: source.problem for source in find_sources(tmp_path) if source.problem}
    assert list(problems) == ["x1.mp4"] and "may mean any of 'x\\u2460.mp4', 'x\\uff11.mp4'" in problems["x1.mp4"]


def test_file_names_are_found_by_the_nearest_form():
    names = FileNames(dict.fromkeys(["①.mp4", "1.mp4", "B.txt"], Path()))
    assert [names.find(name) for name in ("1.mp4", "①.mp4", "１.mp4"[:0] + "B.TXT", "b.txt")] == [
        "1.mp4",
        "①.mp4",
        "B.txt",
        None,
    ]


def test_names_that_cannot_be_printed_or_are_very_long_do_not_stop_a_run(cache_clips, tmp_path, capsys):
    clips = tmp_path / "clips"
    names = [b"caf\xe9.mp4", b"a\nb\x1b[31m.mp4", b"x" * 251 + b".mp4", "ü".encode() * 125 + b".mp4"]
    for value, name in enumerate(names):
        write_clip(tmp_path / "plain.mp4", 20 * value)
        os.rename(tmp_path / "plain.mp4", os.path.join(os.fsencode(clips), name))
    (clips / os.fsdecode(b"caf\xe9.txt")).write_text("A café.")
    Path(os.fsdecode(os.path.join(os.fsencode(clips), b"broken\xff\x1b.mp4"))).touch()
    summary = cache_clips(preview=True)
    assert [row["video_caption"] for row in summary.rows if row["source"] == "caf\\udce9.mp4"] == ["A café."]
    assert len(cache.read_index(tmp_path / "cache")) == len(names)
    assert len(list((tmp_path / "cache" / "previews").iterdir())) == len(names)
    assert "\x1b" not in str(summary)
    print(summary)
    assert "broken\\udcff\\x1b.mp4" in capsys.readouterr().out
    assert str(cache_clips(preview=True)) == str(summary)


# --- folders ---


def test_linked_folders_are_followed_once_and_broken_links_are_named(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    for folder in (data / "real", other):
        folder.mkdir(parents=True)
    write_clip(data / "real" / "a.mp4")
    write_clip(other / "b.mp4")
    (other / "metadata.jsonl").write_text('{"file_name": "b.mp4", "transcript": "one"}')
    (data / "elsewhere").symlink_to(other)
    (data / "again").symlink_to(data / "real")
    (data / "real" / "loop").symlink_to(data)
    (data / "circle").symlink_to(data / "circle")
    (data / "gone.mp4").symlink_to(tmp_path / "nothing.mp4")
    found = {source.name: (dict(source.texts), source.problem) for source in find_sources(data)}
    broken = ({}, "it is a link to something that is not there")
    assert found == {
        "circle": broken,
        "elsewhere/b.mp4": ({"transcript": "one"}, ""),
        "gone.mp4": broken,
        "real/a.mp4": ({}, ""),
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path):
    write_clip(tmp_path / "a.mp4")
    (tmp_path / "secret").mkdir(mode=0)
    problems = {source.name: source.problem for source in find_sources(tmp_path)}
    (tmp_path / "secret").chmod(0o700)
    assert problems == {"a.mp4": "", "secret": "the folder cannot be read: Permission denied"}


# --- pictures ---

AVIF = pytest.param("AVIF", marks=pytest.mark.skipif(not features.check("avif"), reason="Pillow has no AVIF"))


@pytest.mark.parametrize("format", ["GIF", "PNG", "JPEG", "TIFF", "BMP", AVIF])
def test_one_picture_is_not_a_clip_whatever_its_name_and_moving_pictures_are(format, cache_clips, tmp_path):
    pictures = [Image.new("RGB", (64, 64), (shade, 0, 200)) for shade in (0, 100, 200)]
    data = tmp_path / "clips"
    pictures[0].save(data / "picture.mp4", format=format)
    write_clip(data / "clip.mp4").rename(data / "clip.jfif")
    write_wav(data / "sound.wav", np.zeros(8000), 16000)
    assert is_still_picture(data / "picture.mp4")
    assert not is_still_picture(data / "clip.jfif") and not is_still_picture(data / "sound.wav")
    if format in ("GIF", "PNG"):
        options = {"save_all": True, "append_images": pictures[1:], "duration": 80}
        pictures[0].save(data / "moving", format=format, **options)
        assert not is_still_picture(data / "moving")
    summary = cache_clips()
    assert ("picture.mp4", "it is an image, not a video") in summary.skipped
    assert {"clip.jfif", "sound.wav"} <= {row["source"] for row in summary.rows}
