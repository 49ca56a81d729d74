# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The corpus of talking digits: faces, speech, files; the same for the same seed."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusers_jova.evaluation.loudness import frame_loudness
from diffusers_jova.media import read_video
from diffusers_jova.nano.corpus import (
    DURATION_S,
    HELD_OUT_IDENTITIES,
    NUM_FRAMES,
    NUM_IDENTITIES,
    is_held_out,
    make_captions,
    make_corpus,
    make_frames,
    make_poses,
    make_waveform,
    plan_clip,
)
from diffusers_jova.nano.faces import Identity, Pose, draw_face
from diffusers_jova.nano.pictures import colour_word, identity_distance
from diffusers_jova.nano.speech import DIGITS, FASTEST, PITCHES, SAMPLING_RATE, VOICES, speak


NUM_PLANS = 30
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plans():
    return {split: [plan_clip(split, index) for index in range(NUM_PLANS)] for split in ("train", "held_out")}


# --- faces ---


def test_a_face_shows_what_its_words_say():
    for seed in range(20):
        identity = Identity.from_seed(seed)
        frames = np.asarray(draw_face(identity))[None]
        words = {name: colour_word(frames, name) for name in ("wall", "hair", "shirt")}
        assert words == {"wall": identity.wall, "hair": identity.hair, "shirt": identity.shirt}


def test_seeds_are_different_people_and_words_can_be_fixed():
    pictures = [np.asarray(draw_face(Identity.from_seed(seed))) for seed in range(10)]
    assert all(identity_distance(a[None], b) > 0.01 for i, a in enumerate(pictures) for b in pictures[:i])
    assert Identity.from_seed(3, hair="red", person="man").hair == "red"
    assert Identity.from_seed(3) == Identity.from_seed(3) != Identity.from_seed(4)
    with pytest.raises(ValueError, match="There is no hair 'mauve': choose one of"):
        Identity.from_seed(3, hair="mauve")


def test_the_portrait_is_the_person_whose_clips_the_readme_makes():
    with Image.open(REPOSITORY / "training" / "portrait.png") as portrait:
        face = draw_face(Identity.from_seed(10_007, person="woman"), Pose(), portrait.width)
        assert np.abs(np.asarray(portrait.convert("RGB"), float) - np.asarray(face)).mean() < 1


def test_the_mouth_opens_and_little_else_moves():
    identity = Identity.from_seed(0)
    closed, open_ = (np.asarray(draw_face(identity, Pose(opening=x)), dtype=float) for x in (0, 1))
    moved = np.abs(open_ - closed).max(axis=2) > 20
    assert moved[36:60, 20:44].sum() == moved.sum() > 30


def test_a_size_out_of_range_is_refused():
    with pytest.raises(ValueError, match="drawn at 256 pixels; `size` must be 1 to that, got 512"):
        draw_face(Identity.from_seed(0), size=512)


# --- captions ---


def test_some_captions_are_neutral():
    rng = np.random.default_rng(0)
    captions = [make_captions(Identity.from_seed(0), "A voice.", rng) for _ in range(300)]
    assert 15 < sum(video == "A person is talking." for video, _ in captions) < 60
    assert 40 < sum(audio == "" for _, audio in captions) < 120


def test_one_combination_in_eight_is_held_out_and_single_digits_never():
    pairs = [is_held_out((a, b)) for a in range(10) for b in range(10)]
    assert 5 < sum(pairs) < 25 and not any(is_held_out((digit,)) for digit in range(10))


# --- plans and sounds ---


@pytest.mark.needs_program("flite")
def test_the_splits_share_neither_combinations_nor_faces(plans):
    assert all(not is_held_out(plan.digits) and plan.identity < NUM_IDENTITIES for plan in plans["train"])
    assert all(is_held_out(plan.digits) and plan.identity in HELD_OUT_IDENTITIES for plan in plans["held_out"])
    assert {plan.voice for plan in plans["train"]} == set(VOICES)
    assert plans["train"][0].transcript == " ".join(DIGITS[digit] for digit in plans["train"][0].digits)


@pytest.mark.needs_program("flite")
def test_a_plan_depends_on_its_number_and_seed_alone(plans):
    assert plan_clip("train", 7) == plans["train"][7] != plan_clip("train", 7, seed=1)


@pytest.mark.needs_program("flite")
def test_speech_starts_at_random_moments_and_ends_in_time(plans):
    waveforms = [make_waveform(plan) for plan in plans["train"]]
    assert all(len(waveform) == round(DURATION_S * SAMPLING_RATE) for waveform in waveforms)
    onsets = [np.flatnonzero(np.abs(waveform) > 1e-3)[0] / SAMPLING_RATE for waveform in waveforms]
    assert np.std(onsets) > 0.1
    ends = [np.flatnonzero(np.abs(waveform) > 1e-3)[-1] / SAMPLING_RATE for waveform in waveforms]
    assert max(ends) < DURATION_S - 0.02
    envelopes = [frame_loudness(waveform, NUM_FRAMES, 12.5, SAMPLING_RATE) for waveform in waveforms]
    between = np.corrcoef(envelopes)[np.triu_indices(len(envelopes), 1)]
    assert between.mean() < 0.3  # clips that all start together correlate at 0.6


@pytest.mark.needs_program("flite")
@pytest.mark.parametrize("voice", VOICES)
def test_the_longest_text_fits_and_is_evenly_loud(voice):
    for word in ("zero", "seven"):
        sound = speak(voice, " ".join([word] * 3), FASTEST, PITCHES[0])
        assert len(sound) / SAMPLING_RATE < DURATION_S
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(0.12, abs=1e-3)


@pytest.mark.needs_program("flite")
def test_a_comma_is_a_silent_pause():
    with_pause, without = speak("rms", "one, two"), speak("rms", "one two")
    assert len(with_pause) > len(without) + 0.05 * SAMPLING_RATE
    assert np.convolve(with_pause == 0, np.ones(2320), mode="valid").max() > 2319.5  # 145 ms of nothing


@pytest.mark.needs_program("flite")
def test_the_mouth_follows_the_sound(plans):
    plan = replace(plans["train"][0])
    waveform = make_waveform(plan)
    openings = np.array([pose.opening for pose in make_poses(waveform, plan.motion)])
    loudness = frame_loudness(waveform, NUM_FRAMES, 12.5, SAMPLING_RATE)
    assert np.corrcoef(openings, loudness)[0, 1] > 0.9
    assert openings[loudness < 1e-4].max() < 0.05


# --- files ---


@pytest.mark.needs_program("flite")
def test_a_corpus_is_written_continued_and_guarded(tmp_path):
    make_corpus(tmp_path, num_train=2, num_held_out=1)
    rows = [json.loads(line) for line in (tmp_path / "train" / "metadata.jsonl").read_text().splitlines()]
    assert [row["file_name"] for row in rows] == ["train-00000.mp4", "train-00001.mp4"]
    plan = plan_clip("train", 1)
    assert (rows[1]["transcript"], rows[1]["video_caption"]) == (plan.transcript, plan.video_caption)
    clip = read_video(tmp_path / "train" / "train-00001.mp4")
    assert clip.frames.shape == (NUM_FRAMES, 128, 128, 3) and clip.frame_rate == 12.5
    drawn = make_frames(plan, make_waveform(plan))
    assert np.abs(clip.frames.astype(float) - drawn).mean() < 4

    made = (tmp_path / "train" / "train-00000.mp4").stat().st_mtime_ns
    make_corpus(tmp_path, num_train=3, num_held_out=1)
    assert (tmp_path / "train" / "train-00000.mp4").stat().st_mtime_ns == made
    assert len((tmp_path / "train" / "metadata.jsonl").read_text().splitlines()) == 3
    with pytest.raises(ValueError, match="holds a corpus of {'seed': 0}, not of seed 1"):
        make_corpus(tmp_path, num_train=1, num_held_out=1, seed=1)


@pytest.mark.needs_program("flite")
def test_a_corpus_of_one_person_shows_nobody_else(tmp_path):
    plans = [plan_clip("train", index, identity=10_007, voice="awb") for index in range(NUM_PLANS)]
    assert {plan.face() for plan in plans} == {Identity.from_seed(10_007, person="man")}
    assert {plan.audio_caption for plan in plans} == {"", VOICES["awb"].caption}
    many = [plan_clip("train", index) for index in range(NUM_PLANS)]
    assert [plan.digits for plan in plans] == [plan.digits for plan in many]
    assert len({plan.identity for plan in many}) > 1
    assert all(0 <= plan.onset_s + len(speak(plan.voice, plan.text, plan.pace, plan.pitch)) / SAMPLING_RATE
               <= DURATION_S for plan in plans)  # fmt: skip
    with pytest.raises(ValueError, match="`voice` must be one of slt, rms, awb, kal16, got 'anna'"):
        make_corpus(tmp_path, num_train=1, num_held_out=0, voice="anna")


def test_a_missing_flite_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="apt install flite"):
        speak("slt", "a text that no test has spoken")
