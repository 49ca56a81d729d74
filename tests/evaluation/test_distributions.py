# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from name_seeded import golden

from diffusers_jova.evaluation.distributions import (
    frechet,
    inception_score,
    kl_of_logits,
    mova_inception_score,
    mova_probabilities,
)


def test_frechet_distance_equals_av_benchmark():
    expected = golden("fd_kl_is")
    a, b = expected["fd_a"], expected["fd_b"]
    assert frechet(a, b) == pytest.approx(float(expected["fd_full_rank"]), rel=1e-7)
    assert frechet(a[:12], b[:15]) == pytest.approx(float(expected["fd_rank_deficient_eigen"]), rel=1e-6)


def test_frechet_distance_of_normal_distributions_is_the_closed_form():
    generator = np.random.default_rng(0)
    a = generator.standard_normal((200, 3))
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a, a + [3, 0, 4]) == pytest.approx(25)
    assert frechet(a, 2 * a) == pytest.approx(np.trace(np.cov(a, rowvar=False)) + np.square(a.mean(axis=0)).sum())
    assert frechet(a, a[:50]) == pytest.approx(frechet(a[:50], a))


def test_frechet_distance_of_one_clip_is_refused():
    with pytest.raises(ValueError, match="2 clips or more in each set, got 1, 3"):
        frechet(np.zeros((1, 4)), np.zeros((3, 4)))


def test_kl_equals_av_benchmark():
    expected = golden("fd_kl_is")
    kl = kl_of_logits(expected["gen_logits"], expected["gt_logits"])
    assert kl.mean() == pytest.approx(float(expected["kl_softmax"]), rel=1e-5)


def test_kl_is_zero_for_equal_clips_and_not_symmetric():
    logits = np.array([[0.0, 1, 3]])
    assert kl_of_logits(logits, logits) == pytest.approx(0)
    assert kl_of_logits(logits, logits[:, ::-1] * 2) != pytest.approx(kl_of_logits(logits[:, ::-1] * 2, logits))


def test_inception_score_equals_av_benchmark():
    expected = golden("fd_kl_is")
    mean, std = inception_score(expected["gen_logits"])
    assert mean == pytest.approx(float(expected["is_mean_10"]), rel=1e-6)
    assert std == pytest.approx(float(expected["is_std_10"]), rel=1e-6)
    assert inception_score(expected["gen_logits"], splits=1)[0] == pytest.approx(
        float(expected["is_mean_1"]), rel=1e-6
    )


def test_fewer_clips_than_splits_are_refused():
    with pytest.raises(ValueError, match="10 splits needs as many clips or more, got 4"):
        inception_score(np.zeros((4, 3)))


def test_inception_score_equals_mova():
    expected = golden("fd_kl_is")
    np.testing.assert_allclose(
        mova_probabilities(expected["mova_clipwise"]), expected["mova_softmax"], rtol=1e-4, atol=1e-7
    )
    assert mova_inception_score(expected["mova_clipwise"]) == pytest.approx(float(expected["mova_is"]), rel=1e-4)


def test_a_certain_class_gives_mova_a_number():
    assert np.isfinite(mova_inception_score(np.array([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]])))


def test_inception_score_counts_the_classes_that_are_told_apart():
    assert inception_score(50 * np.eye(4), splits=1)[0] == pytest.approx(4)
    assert inception_score(np.zeros((4, 4)), splits=1)[0] == pytest.approx(1)
