# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How near samples are to clips, and what may be said of it."""

import math

import numpy as np
import pytest

from diffusers_jova.evaluation.likeness import (
    describe_faces,
    face_distance,
    find_face_network,
    picture_distance,
    some_frames,
)
from diffusers_jova.nano.faces import Identity, Pose, draw_face
from diffusers_jova.training.model_card import describe, describe_comparison
from diffusers_jova.training.proof import Proof, compare, compare_likeness


def portraits(identity, number=3, size=96):
    poses = [Pose(opening=0.3 * index, x=0.01 * index) for index in range(number)]
    return np.stack(
        [np.asarray(draw_face(Identity.from_seed(identity, person="woman"), pose, size)) for pose in poses]
    )


def test_pairs_that_all_get_smaller_are_nearer_and_the_interval_is_students():
    comparison = compare([1.0, 2.0, 3.0], [0.8, 1.81, 2.79])
    assert (comparison.verdict, comparison.number) == ("nearer", 3)
    # differences -0.2, -0.19, -0.21: mean -0.2, deviation 0.01, t of two degrees of freedom 4.30
    assert comparison.interval == pytest.approx((-0.2 - 4.30 * 0.01 / 3**0.5, -0.2 + 4.30 * 0.01 / 3**0.5))


@pytest.mark.parametrize(
    "lora, verdict",
    [
        ([0.5, 0.5, 0.5], "nearer"),
        ([1.5, 1.6, 1.5], "worse"),
        ([0.9, 1.2, 0.8], "no better"),
        ([1, 1, 1], "no better"),
    ],
)
def test_the_verdict_follows_the_interval(lora, verdict):
    assert compare([1.0, 1.01, 0.99] if verdict == "nearer" else [1.0, 1.0, 1.0], lora).verdict == verdict


def test_pairs_without_a_number_do_not_count_and_one_alone_does_not_tell():
    comparison = compare([1.0, math.nan, 2.0], [0.5, 0.4, math.nan])
    assert (comparison.base, comparison.lora, comparison.number) == (1.0, 0.5, 1)
    assert (comparison.interval, comparison.verdict) == (None, "unknown")
    assert "one alone does not tell" in describe_comparison(comparison)


def test_a_lora_that_moved_far_and_got_no_better_is_not_called_a_success():
    proof = Proof({"video": (6.7, 100.0)}, 7, 0, {"video": 8, "audio": 0}, num_judged=4, is_held_out=True)
    proof.losses = {"video": compare([0.2, 0.3, 0.2, 0.3], [0.21, 0.28, 0.22, 0.29])}
    text = describe(proof)
    assert "in short: video loss: no better than the base" in text and "nearer to the clips than" not in text
    assert text.index("no better than the base") < text.index("moved by 6.7")
    assert "how far it moved and not whether it got better" in text


def test_pictures_of_one_person_are_nearer_to_each_other_than_to_another():
    own, other = portraits(10_007), portraits(10_011)
    pictures = [own[0], own[2]]
    assert picture_distance(own[1:2], pictures) < 0.02 < picture_distance(other[1:2], pictures)
    assert picture_distance(portraits(10_007, size=64), pictures) < 0.02  # of any size
    likeness, _ = compare_likeness([other[:1], other[1:]], [own[:1], own[1:]], pictures)
    assert likeness["pictures"].verdict == "nearer"


@pytest.mark.skipif(find_face_network() is None, reason="needs pip install 'diffusers-jova[faces]'")
def test_faces_of_one_person_are_nearer_to_each_other_than_to_another():
    network = find_face_network()
    own, other = (describe_faces(portraits(identity), network) for identity in (10_007, 10_011))
    assert own.shape == other.shape == (3, 128)
    assert face_distance(own[:1], own[1:]) < 0.7 * face_distance(own, other)
    wall = np.full((1, 64, 64, 3), 128, np.uint8)
    assert describe_faces(wall, network).shape == (0, 128)
    assert math.isnan(face_distance(describe_faces(wall, network), own))


@pytest.mark.skipif(find_face_network() is None, reason="needs pip install 'diffusers-jova[faces]'")
def test_samples_that_lost_their_faces_are_counted():
    own, wall = portraits(10_007, number=1), np.full((1, 64, 64, 3), 128, np.uint8)
    likeness, faces_found = compare_likeness([own, own], [wall, wall], [own[0]])
    assert faces_found == {"base": 2, "lora": 0} and likeness.keys() == {"pictures"}
    proof = Proof({}, 7, 0, {"video": 1}, num_judged=1, likeness=likeness, faces_found=faces_found)
    assert "a face was found in 2 sample(s) of the base and 0 of the LoRA" in describe(proof)


def test_some_frames_are_the_first_the_last_and_two_between():
    frames = np.linspace(0, 1, 31)[:, None, None, None] * np.ones((1, 2, 2, 3))
    assert some_frames(frames)[:, 0, 0, 0].tolist() == [0, 85, 170, 255]
    assert len(some_frames(frames[:1])) == 1
