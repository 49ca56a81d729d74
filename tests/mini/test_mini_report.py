# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The report of jova-mini: what it reads of a corpus, what it counts, and the whole of it with a random pipeline."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from drawn_faces import draw_talking_face, make_opening, make_sound
from PIL import Image

from diffusers_jova.media import write_video
from diffusers_jova.mini import corpus, report
from diffusers_jova.mini.articulation import articulate
from diffusers_jova.mini.corpus import FRAME_RATE, NUM_FRAMES, plan_clip
from diffusers_jova.mini.people import Person
from diffusers_jova.mini.recordings import (
    MINI,
    REGIONS,
    colour_asked,
    colour_seen,
    first_frame,
    read_clips,
    record,
    said_by,
    seed_of,
)
from diffusers_jova.mini.report import (
    DIRECTIONS,
    PHONES_HEADER,
    Numbers,
    check_sizes,
    loudness_table,
    open_words_lines,
    phones_row,
    worst_words_table,
    write_report,
)
from diffusers_jova.mini.voices import HELD_OUT_VOICES, Phone, Speech
from diffusers_jova.nano.directions import captioned, nearest_own, words_made
from diffusers_jova.nano.measuring import Measures, TalkingClips
from diffusers_jova.nano.report import Row, colour_table, grouped_table
from diffusers_jova.nano.speech import SAMPLING_RATE


NUM_CLIPS, SIZE = 2, 64


@pytest.fixture
def corpus_dir(monkeypatch, tmp_path):
    """A corpus of drawn faces; each word of it lasts 0.2 s."""

    def speak(voice, words, pace=1.0):
        phones = tuple(Phone(symbol, 0.1 * k, 0.1 * k + 0.1) for k, symbol in enumerate("ma" * len(words)))
        return Speech(np.full(round(0.2 * len(words) * SAMPLING_RATE), 0.1, np.float32), phones)

    monkeypatch.setattr(corpus, "speak", speak)
    split = tmp_path / "corpus" / "held_out"
    split.mkdir(parents=True)
    (split.parent / "corpus.json").write_text(json.dumps({"seed": 3}))
    rows = []
    for index in range(NUM_CLIPS):
        voice = ("emma", "george")[index]
        plan = plan_clip("held_out", index, seed=3, identity=100_000 + index, voice=voice)
        opening = make_opening(NUM_FRAMES, index)
        frames, _ = draw_talking_face(opening, (SIZE, SIZE), seed=index)
        audio = make_sound(opening, FRAME_RATE)
        write_video(split / plan.name, frames, FRAME_RATE, audio, SAMPLING_RATE, ai_generated=False)
        row = asdict(plan)
        phones = [(phone.symbol, phone.start_s, phone.end_s) for phone in plan.speech().phones]
        rows.append({"file_name": row.pop("name"), "transcript": plan.transcript, **row, "phones": phones})
    (split / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return split.parent


@pytest.fixture
def clips(corpus_dir):
    return read_clips(corpus_dir, NUM_CLIPS)


def test_clips_are_read_as_they_were_planned(corpus_dir, clips):
    assert seed_of(corpus_dir) == 3
    for index, clip in enumerate(clips):
        plan = plan_clip("held_out", index, 3, clip.identity, clip.voice)
        assert (clip.words, clip.voice, clip.person()) == (plan.words, plan.voice, plan.person())
        assert clip.phones == plan.speech().phones and clip.transcript == " ".join(plan.words)
        frames, waveform = record(clip)
        assert frames.shape == (NUM_FRAMES, SIZE, SIZE, 3) and frames.dtype == np.uint8
        assert waveform.shape == (round(NUM_FRAMES / FRAME_RATE * SAMPLING_RATE),) and waveform.dtype == np.float32
        np.testing.assert_array_equal(np.asarray(first_frame(clip.path)), frames[0])


def test_a_corpus_that_is_too_small_or_not_complete_is_refused(corpus_dir, tmp_path):
    assert len(read_clips(corpus_dir, 1)) == 1
    with pytest.raises(ValueError, match="has 2 clips, and 3 were asked for: ask for fewer, or make more"):
        read_clips(corpus_dir, 3)
    with pytest.raises(FileNotFoundError, match=r"metadata.jsonl` is not there: make the corpus"):
        read_clips(tmp_path, 1)


def test_another_voice_says_the_sentence_of_a_clip_for_the_same_person(clips):
    (clip,), (waveform,) = said_by(HELD_OUT_VOICES[0], clips[:1], 3)
    assert clip.voice == HELD_OUT_VOICES[0] and clip.path == clips[0].path
    assert MINI.who(clip) == MINI.who(clips[0]) and MINI.image(clip) is first_frame(clips[0].path)
    assert len(waveform) == round(NUM_FRAMES / FRAME_RATE * SAMPLING_RATE)
    loud = np.flatnonzero(waveform) / SAMPLING_RATE
    assert (loud[0], loud[-1]) == pytest.approx(MINI.spoken_s(clip), abs=0.06)  # Kokoro is late


def test_spans_begin_with_frames_and_audio_latents_and_captions_are_the_corpus_s(clips):
    assert {name: direction.seams for name, direction in DIRECTIONS.items() if direction.seams} == {
        "continuation": [12],
        "retake": [12, 24],
    }
    for edge_s in (MINI.kept_s, *MINI.retaken_s):
        assert edge_s * 31.25 == pytest.approx(round(edge_s * 31.25))
    texts = captioned(clips[0], MINI)
    assert texts["audio_prompt"] == "A calm British female voice." and texts["prompt"].startswith("A woman with ")
    start_s, end_s = MINI.spoken_s(clips[0])
    half = words_made(clips[0], (start_s, (start_s + end_s) / 2), MINI)
    assert half == pytest.approx(len(clips[0].words) / 2)
    frames = np.stack([record(clip)[0] for clip in clips])
    assert nearest_own(frames, clips, MINI) == 1 and nearest_own(frames[::-1], clips, MINI) == 0


def test_colours_are_asked_for_where_they_are_seen(monkeypatch, clips):
    words = {"person": "woman", "hair": "red", "shirt": "blue", "wall": "green"}
    frames = np.zeros((1, 128, 128, 3), np.uint8)
    for name, colour in {"wall": (60, 120, 85), "hair": (120, 50, 25), "shirt": (55, 95, 165)}.items():
        for top, bottom, left, right in REGIONS[name]:
            frames[:, round(top * 128) : round(bottom * 128), round(left * 128) : round(right * 128)] = colour
    assert {name: colour_seen(frames, name) for name in REGIONS} == {n: words[n] for n in REGIONS}

    for background, seen in {"wall": "green", "garden": None}.items():
        person = Person.from_seed(1, **words, background=background)
        monkeypatch.setattr(corpus.ClipPlan, "person", lambda clip, person=person: person)
        assert {name: colour_asked(clips[0], name) for name in REGIONS} == {
            "wall": seen,
            "hair": "red",
            "shirt": "blue",
        }
        row = Row("made", TalkingClips([], np.stack([frames]), None), None)
        cells = colour_table([row], clips[:1], REGIONS, colour_seen, colour_asked).split("\n")[-1]
        assert cells == f"| made | {'–' if seen is None else '100.0 %'} | 100.0 % | 100.0 % |"


def row_of(name: str, heard: list[str]) -> Row:
    said = ["anna sees three red flowers", "anna sees two red horses"]
    waveforms = np.stack([np.full(16000, 0.1, np.float32), np.zeros(16000, np.float32)])
    return Row(name, TalkingClips(said, None, waveforms), Measures(said, heard, None, None))


def test_words_are_counted_by_themselves_and_by_kind(clips):
    recordings = row_of("recordings", ["anna sees three red flowers", "anna sees two horses"])
    generated = row_of("generated", ["peter sees three red flowers", "peter sees two red houses"])
    table = worst_words_table(recordings, generated).split("\n")[2:]
    assert table == ["| anna | 2 | 2 | 0 |", "| horses | 1 | 1 | 0 |"]
    kinds = grouped_table([recordings, generated], clips, ("sentence", "place"), lambda clip: clip.held_out)
    assert kinds.split("\n")[2:] == ["| recordings | 0.000 | 0.200 |", "| generated | 0.200 | 0.400 |"]


class Ears:
    """Hears what it is told, as Whisper would write it."""

    english_spellings = {"colour": "color"}

    def transcribe(self, waveform):
        text = "Anna sees 3 red flowers." if waveform.any() else "Anna sees nothing"
        return type("Transcript", (), {"text": text})


def test_whisper_is_compared_as_it_writes_and_missed_where_it_is_not():
    assert open_words_lines([], None).startswith("Whisper was not run")
    line = open_words_lines([row_of("made", ["", ""])], Ears()).split("\n")[-1]
    assert line == "| made | 2 | 0.300 | 0.000–0.600 |"


def test_loudness_is_told_of_whole_clips():
    (line,) = loudness_table([row_of("made", [])]).split("\n")[2:]
    assert line == "| made | -70.0 dB | 50.0 dB | 0.05 | 50 % |"


def test_a_line_of_lips_and_phones_has_a_cell_for_each_column():
    gaps = np.tile(np.linspace(0, 1, NUM_FRAMES), (2, 1))
    number = PHONES_HEADER.split("\n")[0].count("|")
    for phones in ([None, None], [[Phone("m", 0.2, 0.3), Phone("a", 0.3, 0.5)]] * 2):
        line = phones_row("made", articulate(gaps, phones))
        assert line.count("|") == number and line.startswith(
            "| made | 2 | 0 %" if phones[0] is None else "| made | 2 | 1"
        )


def test_a_pipeline_of_another_size_is_refused(own_pipe):
    frames = np.zeros((1, NUM_FRAMES, 8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="clips of the corpus have 37 of 8 x 8: measure it on the corpus"):
        check_sizes(own_pipe, TalkingClips([], frames, None))


@pytest.mark.long
def test_the_report_is_written_with_its_plots(corpus_dir, tmp_path, own_pipe):
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    own_pipe.register_to_config(num_frames=NUM_FRAMES, height=SIZE, width=SIZE, num_inference_steps=2)
    numbers = Numbers(clips=2, pictured=2, given=2, voiced=1, steps=(1, 2))
    path = write_report(own_pipe, corpus_dir, tmp_path / "report", "the command", numbers, Ears())
    text = path.read_text(encoding="utf-8")
    assert "{" not in text and "| 2 | " in text and "real recordings, phones known" in text
    for direction in DIRECTIONS.values():
        assert f"| {direction.name} | 2 |" in text
    for voice in HELD_OUT_VOICES:
        assert f"| {report.VOICES[voice].caption} | 1 |" in text
    for name in ("mini_lags.png", "mini_steps.png", "mini_contact_sheet.jpg"):
        Image.open(tmp_path / "report" / "images" / name).verify()
    assert max(map(len, (line for line in text.split("\n") if not line.startswith(("|", "- "))))) < 120
