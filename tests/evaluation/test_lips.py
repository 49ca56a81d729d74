# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Lips against loudness: the sign and the size of a lag, missing faces, drawn faces seen by dlib."""

import numpy as np
import pytest

from diffusers_jova.evaluation.lips import LAGS, correlation, lagged_correlations, lip_gaps
from diffusers_jova.nano.faces import Identity, Pose, draw_face


loudness = np.abs(np.sin(0.9 * np.arange(21))) * np.linspace(0.2, 1, 21)


@pytest.mark.parametrize("lag", [-3, 0, 2])
def test_the_best_lag_is_how_late_the_lips_are(lag):
    gaps = np.roll(loudness, lag)
    assert LAGS[int(np.argmax(lagged_correlations(gaps, loudness)))] == lag
    assert lagged_correlations(gaps, loudness).max() == pytest.approx(1)


def test_frames_without_a_face_are_left_out():
    gaps = loudness.copy()
    gaps[[2, 7]] = np.nan
    assert correlation(gaps, loudness) == pytest.approx(1)


def test_a_mouth_that_never_moves_has_no_correlation():
    assert correlation(np.ones(21), loudness) == 0 == correlation(loudness, np.zeros(21))
    assert correlation(np.full(21, np.nan), loudness) == 0


def test_dlib_sees_the_drawn_mouth_open():
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    from diffusers_jova.training.faces import DlibFaceDetector, find_landmarks_file

    openings = np.array([0.0, 0.3, 0.6, 1.0, 0.5, 0.1])
    frames = np.stack([np.asarray(draw_face(Identity.from_seed(1), Pose(opening=gap))) for gap in openings])
    blank = np.full_like(frames[:1], 128)
    gaps = lip_gaps(np.concatenate([frames, blank]), DlibFaceDetector(find_landmarks_file()))
    assert np.isnan(gaps[-1]) and np.isfinite(gaps[:-1]).all()
    assert correlation(gaps[:-1], openings) > 0.9
