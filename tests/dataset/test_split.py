# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""From films to rows of clips."""

import json
from fractions import Fraction

import numpy as np
import pytest
from plain_films import COLOURS, RATE, SquareFinder, read_lines, scene, voice, write_film

from diffusers_jova.data.clips import Segment, Source, find_sources
from diffusers_jova.dataset import films
from diffusers_jova.dataset import split as split_module
from diffusers_jova.dataset.apply import apply
from diffusers_jova.dataset.films import Look, find_speakers
from diffusers_jova.dataset.journal import Journal
from diffusers_jova.dataset.split import SplitConfig, Splitter, split, windows_by_pauses, windows_of_words
from diffusers_jova.dataset.summary import StepSummary
from diffusers_jova.engines import LocalEngine
from diffusers_jova.media import write_wav


@pytest.fixture
def run(tmp_path):
    """Split tmp_path/films into tmp_path/split, in this process."""

    def run(**flags):
        config = SplitConfig(
            str(tmp_path / "films"), str(tmp_path / "split"), **{"num_workers": 0, "max_s": 2.0} | flags
        )
        return split(config, None if config.no_faces else SquareFinder())

    return run


def clips_of(tmp_path):
    rows = read_lines(tmp_path / "split" / "metadata.jsonl")
    return [(round(row["start"] * RATE), round(row["end"] * RATE)) for row in rows]


def reasons_of(summary):
    return {(name.partition("#t=")[2], *reasons) for name, _, reasons in summary.left_out}


def test_clips_begin_and_end_at_cuts_and_show_one_face_each(run, tmp_path):
    kinds = [(0.3,), (0.1, 0.6), (), (0.5,)]
    scenes = [scene(colour, 20, squares) for colour, squares in zip(COLOURS, kinds)]
    write_film(tmp_path / "films" / "talk.mp4", [*scenes, np.zeros_like(scenes[0]), scene(COLOURS[4], 5)])
    summary = run()
    assert clips_of(tmp_path) == [(0, 20), (60, 80)]
    assert reasons_of(summary) == {
        ("1.6,3.2", "several faces"),
        ("3.2,4.8", "no face"),
        ("6.4,8", "it is dark"),
        ("8,8.4", "it is shorter than 1 s"),
    }
    assert [source.problem for source in find_sources(tmp_path / "split")] == ["", ""]
    run(no_faces=True)
    assert clips_of(tmp_path) == [(0, 20), (20, 40), (40, 60), (60, 80)]


def test_of_two_faces_that_stay_each_becomes_a_clip_of_its_own(run, tmp_path):
    write_film(tmp_path / "films" / "talk.mp4", [scene(COLOURS[0], 20, (0.1, 0.6)), scene(COLOURS[1], 20, (0.4,))])
    run(crop_faces=True)
    rows = read_lines(tmp_path / "split" / "metadata.jsonl")
    left, right, alone = rows
    assert (left["start"], right["start"], alone["start"]) == (0, 0, 1.6) and "crop" not in alone
    assert left["crop"][0] == 0 and 45 < left["crop"][2] <= right["crop"][0] < 77 and right["crop"][2] > 109
    names = [source.name for source in find_sources(tmp_path / "split")]
    assert len(set(names)) == 3 and names[0].startswith("../films/talk.mp4#t=0,1.6&xywh=0,")


def test_faces_that_come_near_or_go_are_not_cropped():
    boxes = np.array([[10, 30, 40, 60], [80, 30, 110, 60]], float)
    looks = [Look(index, None, 2, (0, 0, 0, 0), tuple(boxes)) for index in range(3)]
    assert find_speakers(looks, (96, 128)) == [(0, 12, 58, 78), (62, 12, 128, 78)]
    gone = Look(3, boxes[0], 1, (0, 0, 0, 0), tuple(boxes[:1]))
    near = Look(3, None, 2, (0, 0, 0, 0), (boxes[0] + [20, 0, 50, 0], boxes[1]))
    assert find_speakers([*looks, gone], (96, 128)) == find_speakers([*looks, near], (96, 128)) == []


def test_black_bars_become_a_crop_and_a_dark_side_does_not(run, tmp_path):
    letterbox = np.pad(scene(COLOURS[0], 20), ((0, 0), (12, 12), (0, 0), (0, 0)))
    write_film(tmp_path / "films" / "bars.mp4", [letterbox])
    one_sided = scene(COLOURS[1], 20)
    one_sided[:, :, :20] = 0
    write_film(tmp_path / "films" / "night.mp4", [one_sided])
    run()
    bars, night = read_lines(tmp_path / "split" / "metadata.jsonl")
    assert bars["crop"] == [0, 13, 128, 107] and "crop" not in night


def test_a_long_shot_is_divided_at_its_pauses(run, tmp_path):
    write_film(tmp_path / "films" / "talk.mp4", [scene(COLOURS[0], 60)], voice(60, pause=19))
    run()
    first, second = clips_of(tmp_path)[:2]
    assert first[0] == 0 and abs(first[1] - 19) <= 1 and second[0] - first[1] in (0, 1)
    assert all(end - start <= 25 for start, end in clips_of(tmp_path))


def test_words_that_are_known_decide_and_are_handed_on(run, tmp_path):
    film = write_film(tmp_path / "films" / "talk.mp4", [scene(COLOURS[0], 40), scene(COLOURS[1], 40)])
    spoken = [(0.2, 1.2, "one"), (1.3, 2.4, "two"), (2.9, 3.6, "cut"), (4.0, 5.0, "three")]
    segments = [{"start": a, "end": b, "text": text} for a, b, text in spoken]
    described = {"segments": segments, "transcript": "one two cut three", "video_caption": "A square."}
    film.with_suffix(".json").write_text(json.dumps(described))
    run()
    rows = read_lines(tmp_path / "split" / "metadata.jsonl")
    assert [row["transcript"] for row in rows] == ["one", "two", "three"]
    assert {row["video_caption"] for row in rows} == {"A square."}
    for row, (start, end, _) in zip(rows, (spoken[0], spoken[1], spoken[3])):
        (segment,) = row["segments"]
        assert row["start"] + segment["start"] == pytest.approx(start, abs=0.04)
        assert row["start"] <= start + 0.04 and end <= row["end"] + 0.04 <= row["start"] + 2.08


def test_pieces_of_words_hold_whole_words_and_the_silence_around_them():
    words = [Segment(1.0, 1.5, "a"), Segment(1.6, 2.5, "b"), Segment(4.0, 7.0, "long"), Segment(8.0, 8.5, "c")]
    assert windows_of_words(0.0, 8.2, words, 2.0) == [(0.75, 2.75)]  # without what reaches beyond, and is too long
    for start, end in windows_of_words(0.0, 9.0, words, 4.0):
        assert end - start <= 4.0 + 1e-9
        assert not any(w.start < start < w.end or w.start < end < w.end for w in words)


def test_without_audio_pieces_are_as_long_as_they_may_be():
    assert windows_by_pauses(0.0, 5.0, np.zeros(0), 2.0, 0.08) == [(0.0, 2.0), (2.0, 4.0), (4.0, 5.0)]


def test_what_was_looked_through_is_not_again_and_a_changed_film_is(run, tmp_path, monkeypatch):
    write_film(tmp_path / "films" / "a.mp4", [scene(COLOURS[0], 20)])
    write_film(tmp_path / "films" / "b.mp4", [scene(COLOURS[1], 20)])
    assert run(dry_run=True).num_kept == 2 and not (tmp_path / "split" / "metadata.jsonl").exists()
    looked = []
    look_through = films.look_through
    monkeypatch.setattr(
        split_module, "look_through", lambda path, *args: looked.append(path.name) or look_through(path, *args)
    )
    write_film(tmp_path / "films" / "b.mp4", [scene(COLOURS[2], 30)])
    run()
    assert looked == ["b.mp4"] and clips_of(tmp_path) == [(0, 20), (0, 25)]


def test_a_film_that_breaks_off_in_the_middle_goes_on_behind_it(run, tmp_path):
    film = write_film(tmp_path / "films" / "talk.mp4", [scene(colour, 50) for colour in COLOURS])
    good = write_film(tmp_path / "films" / "good.mp4", [scene(COLOURS[0], 20)])
    content = bytearray(film.read_bytes())
    data = content.find(b"mdat")
    middle = range(data + (len(content) - data) * 4 // 10, data + (len(content) - data) * 5 // 10)
    content[middle.start : middle.stop] = bytes(len(middle))
    film.write_bytes(content)
    (tmp_path / "films" / "empty.mp4").touch()
    summary = run(min_s=0.5)
    rows = read_lines(tmp_path / "split" / "metadata.jsonl")
    assert [row["file_name"] for row in rows][0] == f"../films/{good.name}"
    starts = [row["start"] for row in rows[1:]]
    assert min(starts) == 0 and max(starts) > 20
    assert [name for name, _ in summary.skipped] == ["empty.mp4"]


def test_audio_alone_and_a_silent_film_have_clips_too(run, tmp_path):
    write_film(tmp_path / "films" / "silent.mp4", [scene(COLOURS[0], 20)], np.zeros(0))
    write_wav(tmp_path / "films" / "radio.wav", voice(40), 16000)
    run()
    assert clips_of(tmp_path) == [(0, 25), (25, 40), (0, 20)]


def test_a_result_that_was_not_written_to_its_end_does_not_count(tmp_path):
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.add("a", {"x": 1})
        journal.add("b", [2])
    with open(tmp_path / "journal.jsonl", "a") as file:
        file.write('["c", {"x"')
    with Journal(tmp_path / "journal.jsonl") as journal:
        assert journal.results == {"a": {"x": 1}, "b": [2]}
        journal.add("c", 3)
        journal.keep({"b", "c"})
    assert Journal(tmp_path / "journal.jsonl").results == {"b": [2], "c": 3}


def test_lengths_that_cannot_be_are_refused(run):
    with pytest.raises(ValueError, match="`--min_s` to `--max_s` seconds long, got 3 and 2"):
        run(min_s=3)


def test_a_film_that_is_gone_when_it_is_read_costs_itself_alone(tmp_path):
    path = write_film(tmp_path / "films" / "a.mp4", [scene(COLOURS[0], 20)])
    films = [Source("a.mp4", path=path), Source("b.mp4", path=tmp_path / "b.mp4")]
    summary = StepSummary("split", "films")
    found = apply(Splitter(1.0, 2.0, None), films, tmp_path / "journal.jsonl", LocalEngine(0), summary)
    assert [clip["end"] for clip in found["a.mp4"]["clips"]] == [1.6]
    assert summary.skipped == [("b.mp4", "it cannot be read: No such file or directory")]


def test_a_gap_in_the_audio_is_no_part_of_a_clip():
    loudness = np.full(100, 0.1)
    loudness[20:40] = np.nan
    assert split_module._unheard(loudness, Fraction(25, 2)) == [(5, 10, "its audio cannot be decoded")]
