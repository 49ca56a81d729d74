# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The table of every direction: what is given, what of a clip is made, and what is measured of it."""

from dataclasses import replace

import numpy as np
import pytest

from diffusers_jova.nano.corpora import NANO
from diffusers_jova.nano.corpus import FRAME_RATE, NUM_FRAMES, ClipPlan
from diffusers_jova.nano.directions import (
    DIRECTIONS,
    HEADER,
    direction_row,
    directions_of,
    image_jumps,
    loudness_jumps,
    nearest_own,
    seam_and_inside,
    within,
    words_made,
)
from diffusers_jova.nano.faces import Pose, draw_face
from diffusers_jova.nano.measuring import Measures, TalkingClips
from diffusers_jova.nano.speech import SAMPLING_RATE, speak


NUM_SAMPLES = round(NUM_FRAMES / FRAME_RATE * SAMPLING_RATE)
PLAN = ClipPlan(
    name="clip.mp4",
    identity=10_000,
    voice="slt",
    digits=(3, 7, 1),
    text="three seven one",
    pace=0.85,
    pitch=1.0,
    onset_s=0.2,
    video_caption="A person is talking.",
    audio_caption="",
    motion=0,
)


def test_seams_are_the_borders_inside_of_the_clip():
    seams = {name: direction.seams for name, direction in DIRECTIONS.items() if direction.seams}
    assert seams == {"continuation": [8], "retake": [8, 16]}
    assert {name: direction.made for name, direction in DIRECTIONS.items() if direction.seams} == {
        "continuation": slice(8, 21),
        "retake": slice(8, 16),
    }
    for name in seams:  # whole audio latents too, so that nothing of a latent is both given and made
        assert all(edge_s * 31.25 == round(edge_s * 31.25) for edge_s in DIRECTIONS[name].made_s[:1])


def test_another_corpus_has_its_own_spans_captions_and_images():
    corpus = replace(
        NANO,
        num_frames=37,
        kept_s=0.96,
        retaken_s=(0.96, 1.92),
        voices={"slt": "A voice."},
        describe=lambda plan: "Somebody.",
        image=lambda plan: "an image",
        spoken_s=lambda plan: (0.0, 1.92),
    )
    directions = directions_of(corpus)
    assert {name: direction.seams for name, direction in directions.items() if direction.seams} == {
        "continuation": [12],
        "retake": [12, 24],
    }
    assert directions["t2av"].made == slice(0, 37) and directions["continuation"].made == slice(12, 37)
    texts = {"prompt": "Somebody.", "audio_prompt": "A voice.", "transcript": "three seven one"}
    assert directions["v2a"].request(PLAN, "frames", None) == texts | {"video": "frames"}
    assert directions["a2v_image"].request(PLAN, None, "audio")["image"] == "an image"
    assert words_made(PLAN, (0.96, 1.92), corpus) == pytest.approx(1.5)
    assert words_made(PLAN, None, corpus) == 3


def test_a_jump_at_the_seam_is_told_from_those_inside():
    frames = np.zeros((1, NUM_FRAMES, 4, 4, 3), np.uint8)
    frames += np.arange(NUM_FRAMES, dtype=np.uint8)[:, None, None, None]  # brighter by 1 each frame
    frames[:, 8:] += 5
    assert seam_and_inside(np.stack([image_jumps(clip) for clip in frames]), [8]) == (6.0, 1.0)

    waveform = np.full(NUM_SAMPLES, 0.1, np.float32)
    waveform[round(8 / FRAME_RATE * SAMPLING_RATE) :] *= 2
    seam, inside = seam_and_inside(loudness_jumps(waveform, NUM_FRAMES)[None], [8])
    assert seam == pytest.approx(6.02, abs=0.02) and inside == pytest.approx(0, abs=0.02)
    assert np.isnan(loudness_jumps(0 * waveform, NUM_FRAMES)).all()  # pauses have no level to compare
    assert np.isnan(seam_and_inside(loudness_jumps(0 * waveform, NUM_FRAMES)[None], [8])).all()


def test_a_clip_is_nearest_to_the_image_of_its_own_person_and_another_is_not():
    plans = [replace(PLAN, identity=10_000 + k) for k in range(3)]
    frames = np.stack([np.asarray(draw_face(plan.face(), Pose(opening=1.0), 64))[None] for plan in plans])
    assert nearest_own(frames, plans) == 1.0
    assert nearest_own(frames[[1, 0, 2]], plans) == pytest.approx(1 / 3)


@pytest.mark.needs_program("flite")
def test_words_are_counted_by_their_share_of_the_span():
    duration_s = len(speak(PLAN.voice, PLAN.text, PLAN.pace, PLAN.pitch)) / SAMPLING_RATE
    end_s = PLAN.onset_s + duration_s
    assert words_made(PLAN, (0, 10)) == pytest.approx(len(PLAN.digits))
    assert words_made(PLAN, (PLAN.onset_s + duration_s / 2, 10)) == pytest.approx(len(PLAN.digits) / 2)
    assert words_made(PLAN, (end_s, end_s + 1)) == 0.0


@pytest.mark.needs_program("flite")
def test_only_what_is_made_is_measured():
    plans, frames = [PLAN, replace(PLAN, identity=10_001, digits=(2,), text="two")], np.arange(NUM_FRAMES)
    clips = TalkingClips(
        [plan.transcript for plan in plans],
        np.stack([[np.asarray(draw_face(plan.face(), Pose(), 64))] * NUM_FRAMES for plan in plans]),
        np.full((2, NUM_SAMPLES), 0.1, np.float32),
    )
    loudness = np.stack([np.sin(frames), np.cos(frames)])
    gaps = np.where(frames < 8, -loudness, loudness)  # lips that follow from 0.64 s on, and do the opposite before
    measures = Measures(clips.transcripts, ["", clips.transcripts[1]], gaps, loudness)

    def row(name: str) -> dict[str, str]:
        columns = HEADER.split("\n")[0].split("|")[1:-1]
        line = direction_row("line", DIRECTIONS[name], plans, clips, measures)
        return dict(zip(map(str.strip, columns), map(str.strip, line.split("|")[1:-1])))

    continuation, v2a, a2v = row("continuation"), row("v2a"), row("a2v")
    assert continuation["lips: r"] == "1.00" and float(v2a["lips: r"]) < 0.8
    assert within(measures, slice(8, 16)).gaps.shape == (2, 8)
    errors, words = len(plans[0].digits), sum(len(plan.digits) for plan in plans)
    made = sum(words_made(plan, DIRECTIONS["continuation"].made_s) for plan in plans)
    assert made < words
    assert v2a["WER"] == f"{errors / words:.3f}" and continuation["WER"] == f"{errors / made:.3f}"
    assert continuation["own image nearest"] == "100 %" and continuation["seam: image"].startswith("0.0 / 0.0")
    assert a2v["WER"] == "" and v2a["face found"] == "" and v2a["own image nearest"] == v2a["loudness"] == ""
