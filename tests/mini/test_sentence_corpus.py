# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The corpus of spoken sentences: plans, captions, motion and files, with voices that hum and a head of balls."""

import json
from dataclasses import replace

import numpy as np
import pytest
from ball_head import make_ball_head

from diffusers_jova.data.clips import find_sources
from diffusers_jova.media import read_audio, read_video
from diffusers_jova.mini import corpus, portraits
from diffusers_jova.mini.corpus import (
    CLIPS_OF_ONE,
    DURATION_S,
    EARLY_S,
    HELD_OUT_PEOPLE,
    LATE_S,
    MARGIN_S,
    NUM_FRAMES,
    NUM_MOMENTS,
    NUM_PEOPLE,
    describe,
    make_captions,
    make_corpus,
    make_poses,
    plan_clip,
    write_clip,
    write_joint,
)
from diffusers_jova.mini.hair import Style
from diffusers_jova.mini.people import Person
from diffusers_jova.mini.sentences import PATTERNS, kind_held_out, measured_words
from diffusers_jova.mini.voices import HELD_OUT_VOICES, PACES, VOICES, Phone, Speech, transcribe
from diffusers_jova.nano.speech import SAMPLING_RATE


TEMPO = {"phone_s": 0.06}


@pytest.fixture
def hums(monkeypatch):
    """Whoever speaks hums, 60 ms a phone."""

    def speak(voice, words, pace=1.0):
        symbols = transcribe(words, VOICES[voice].is_british)
        step = TEMPO["phone_s"] / pace
        phones = tuple(Phone(symbol, k * step, (k + 1) * step) for k, symbol in enumerate(symbols))
        time = np.arange(round(len(symbols) * step * SAMPLING_RATE)) / SAMPLING_RATE
        return Speech((0.2 * np.sin(2 * np.pi * 200 * time)).astype(np.float32), phones)

    monkeypatch.setattr(corpus, "speak", speak)


@pytest.fixture
def plans(hums):
    return {split: [plan_clip(split, index) for index in range(8)] for split in ("train", "held_out")}


def test_the_splits_share_neither_sentences_nor_people(plans):
    patterns = {tuple(kinds): number for number, kinds in enumerate(PATTERNS)}
    for split, people in (("train", range(NUM_PEOPLE)), ("held_out", HELD_OUT_PEOPLE)):
        for plan in plans[split]:
            pattern = patterns[tuple(measured_words()[word].kind for word in plan.words)]
            assert plan.held_out == kind_held_out(pattern, plan.words)
            assert (plan.held_out is None) == (split == "train") and plan.identity in people
    assert [plan.held_out for plan in plans["held_out"][:4]] == ["sentence", "place", "sentence", "place"]


def test_a_plan_depends_on_its_number_and_seed_alone(plans):
    assert plan_clip("train", 7) == plans["train"][7] != plan_clip("train", 7, seed=1)
    one = plan_clip("train", 7, identity=12, voice="emma")
    assert (one.identity, one.voice, one.name) == (12, "emma", "train-00007.mp4")
    assert one.person() == Person.from_seed(12, person="woman")


def test_speech_begins_at_random_moments_and_fits(plans):
    onsets = []
    for plan in plans["train"]:
        speech = plan.speech()
        loud = np.flatnonzero(np.abs(speech.waveform) > 0.01) / SAMPLING_RATE
        assert len(speech.waveform) == round(DURATION_S * SAMPLING_RATE)
        assert loud[0] == pytest.approx(speech.phones[0].start_s + LATE_S, abs=0.01) and loud[-1] < DURATION_S
        onsets.append(loud[0])
    assert np.std(onsets) > 0.05


def test_audio_alone_begins_at_once(hums):
    plans = [plan_clip("speech", index) for index in range(40)]
    onsets = [plan.onset_s for plan in plans]
    assert min(onsets) >= MARGIN_S and max(onsets) <= MARGIN_S + EARLY_S and np.ptp(onsets) > 0.8 * EARLY_S
    assert all(plan.speech().phones[-1].end_s < DURATION_S for plan in plans)


def test_each_recording_begins_again_at_moments_that_share_out_the_clip(hums):
    at_once = [plan_clip("speech", index) for index in range(20)]
    again = [plan_clip("moments", index) for index in range(NUM_MOMENTS * len(at_once))]
    assert again == [plan_clip("moments", index) for index in range(len(again))]
    for index, plan in enumerate(again):
        own = at_once[index // NUM_MOMENTS]
        assert plan == replace(own, name=f"moments-{index:05d}.wav", onset_s=plan.onset_s)
        said_s = len(corpus.speak(plan.voice, plan.words, plan.pace).waveform) / SAMPLING_RATE
        part = (plan.onset_s - MARGIN_S) / (DURATION_S - 2 * MARGIN_S - said_s) * NUM_MOMENTS
        assert 0 <= part - index % NUM_MOMENTS <= 1
    assert np.std([plan.onset_s for plan in again]) > 3 * np.std([plan.onset_s for plan in at_once])


def test_a_sentence_that_is_too_long_is_said_faster(hums, monkeypatch):
    monkeypatch.setitem(TEMPO, "phone_s", 0.1)
    plans = [plan_clip("train", index) for index in range(4)]
    assert max(plan.pace for plan in plans) > 1.1 * PACES[1]
    assert all(plan.speech().phones[-1].end_s < DURATION_S for plan in plans)


def test_captions_say_what_is_seen():
    words = {"person": "man", "hair": "red", "hair_style": "short", "clothes": "sweater", "shirt": "orange"}
    person = Person.from_seed(1, **words, background="wall", wall="green", glasses=True, beard="beard")
    assert describe(person) == (
        "A man with short red hair, a beard and glasses, in an orange sweater, before a green wall."
    )
    plain = Person.from_seed(1, **words, background="evening lights", glasses=False, beard="no beard")
    assert describe(plain) == "A man with short red hair, in an orange sweater, before evening lights."
    rng = np.random.default_rng(0)
    captions = [make_captions(person, "A voice.", rng) for _ in range(300)]
    assert 15 < sum(video == "A person is talking." for video, _ in captions) < 60
    assert 40 < sum(audio == "" for _, audio in captions) < 120


def test_mouth_head_and_lids_move_and_the_eyes_stay_on_the_camera(plans):
    plan = max(plans["train"], key=lambda plan: plan.onset_s)
    poses = make_poses(plan.speech().phones, plan.motion)
    assert len(poses) == NUM_FRAMES and poses == make_poses(plan.speech().phones, plan.motion)
    jaw = np.array([pose.units["jawOpen"] for pose in poses])
    first = round(plan.speech().phones[0].start_s * corpus.FRAME_RATE)
    assert jaw.max() > 0.15 > 0.02 > jaw[: first - 2].max()
    yaw, gaze = np.array([pose.yaw for pose in poses]), np.array([pose.gaze[0] for pose in poses])
    assert np.ptp(yaw) > 0.01 and np.abs(yaw + gaze).mean() < 0.15


def test_people_blink_now_and_then():
    lids = [corpus._blinks(np.random.default_rng(seed)) for seed in range(200)]
    assert 0.4 < np.mean([frames.max() == 1 for frames in lids]) < 0.8


@pytest.fixture
def quick_heads(monkeypatch):
    ball_head = make_ball_head()
    style = Style(0.16, 0.07, 0.05, 0.55, "forward", number=200)
    monkeypatch.setattr(portraits, "head_model", lambda: ball_head)
    monkeypatch.setattr(portraits, "STYLES", dict.fromkeys(portraits.STYLES, style))
    monkeypatch.setattr(portraits, "NUM_DIRECTIONS", 2)
    monkeypatch.setattr(Person, "weights", lambda person: {})
    monkeypatch.setattr(corpus, "SIZE", 32)
    yield
    corpus._portrait.cache_clear()


def test_a_clip_is_written_once_with_its_texts(hums, quick_heads, monkeypatch, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    row = write_clip(folder, "train", 0, seed=0, identity=None, voice=None)
    plan = plan_clip("train", 0)
    assert row["file_name"] == "train-00000.mp4" and row["transcript"] == " ".join(plan.words)
    assert (row["video_caption"], row["audio_caption"]) == (plan.video_caption, plan.audio_caption)
    clip = read_video(folder / "train-00000.mp4")
    assert clip.frames.shape == (NUM_FRAMES, 32, 32, 3) and clip.frame_rate == 12.5
    assert [(symbol, pytest.approx(start, abs=1e-4)) for symbol, start, _ in row["phones"]] == [
        (phone.symbol, phone.start_s) for phone in plan.speech().phones
    ]
    monkeypatch.setattr(corpus, "plan_clip", lambda *args: pytest.fail("planned again"))
    assert write_clip(folder, "train", 0, seed=0, identity=None, voice=None) == json.loads(json.dumps(row))


def test_audio_alone_is_planned_and_written_without_a_person_to_see(hums, tmp_path):
    folder = tmp_path / "speech"
    folder.mkdir()
    row = write_clip(folder, "speech", 5, seed=0, identity=None, voice=None)
    plan = plan_clip("speech", 5)
    assert (row["file_name"], row["video_caption"], row["held_out"]) == ("speech-00005.wav", "", None)
    waveform, rate = read_audio(folder / "speech-00005.wav")
    np.testing.assert_allclose(waveform[0], plan.speech().waveform, atol=1e-4)
    assert rate == SAMPLING_RATE and plan.words != plan_clip("train", 5).words


def test_a_clip_that_was_deleted_is_written_again(hums, tmp_path):
    folder = tmp_path / "speech"
    folder.mkdir()
    row = write_clip(folder, "speech", 5, seed=0, identity=None, voice=None)
    made = (folder / row["file_name"]).read_bytes()
    (folder / row["file_name"]).unlink()
    write_clip(folder, "speech", 5, seed=0, identity=None, voice=None)
    assert (folder / row["file_name"]).read_bytes() == made


def test_clips_in_a_row_show_one_person_in_voices_that_are_trained_on(hums):
    plans = [plan_clip("train", index) for index in range(4 * CLIPS_OF_ONE)]
    people = [plan.person() for plan in plans]
    assert all(person == people[index - index % CLIPS_OF_ONE] for index, person in enumerate(people))
    assert len({plan.identity for plan in plans}) == 4 and len({plan.voice for plan in plans}) > 3
    assert not {plan.voice for plan in plans} & set(HELD_OUT_VOICES)


def test_one_folder_names_clips_and_recordings_to_train_on(tmp_path):
    names = {"train": "train-00000.mp4", "moments": "moments-00000.wav"}
    for split, name in names.items():
        (tmp_path / split).mkdir()
        (tmp_path / split / name).touch()
        row = {"file_name": name, "transcript": f"of {split}"}
        (tmp_path / split / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    write_joint(tmp_path)
    found = find_sources(tmp_path / "joint")
    assert {clip.path.resolve(): clip.texts["transcript"] for clip in found} == {
        (tmp_path / split / name).resolve(): f"of {split}" for split, name in names.items()
    }


def test_another_corpus_in_the_folder_and_unknown_voices_are_refused(tmp_path):
    make_corpus(tmp_path, 0, 0, num_workers=1)
    assert all((tmp_path / split / "metadata.jsonl").read_text() == "" for split in ("held_out", "joint"))
    with pytest.raises(ValueError, match="holds a corpus of .*, not of corpus sentences, seed 1"):
        make_corpus(tmp_path, 0, 0, seed=1)
    with pytest.raises(ValueError, match="`voice` must be one of heart, bella"):
        make_corpus(tmp_path / "other", 0, 0, voice="slt")
