# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Lips against loudness: the sign and the size of a lag, missing faces, drawn faces seen by dlib."""

import numpy as np
import pytest

from diffusers_jova.evaluation.lips import (
    LAGS,
    best_lag,
    correlation,
    find_landmarks,
    lagged_correlations,
    lip_gaps,
    measure_face_coverage,
    measure_lips_by_loudness,
    mouth_widths,
)
from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.faces import Face
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
    from diffusers_jova.faces import DlibFaceDetector, find_landmarks_file

    openings = np.array([0.0, 0.3, 0.6, 1.0, 0.5, 0.1])
    frames = np.stack([np.asarray(draw_face(Identity.from_seed(1), Pose(opening=gap))) for gap in openings])
    blank = np.full_like(frames[:1], 128)
    gaps = lip_gaps(np.concatenate([frames, blank]), DlibFaceDetector(find_landmarks_file()))
    assert np.isnan(gaps[-1]) and np.isfinite(gaps[:-1]).all()
    assert correlation(gaps[:-1], openings) > 0.9


@pytest.mark.parametrize("lag", [-10, -4, 0, 7, 10])
def test_the_lag_is_found_to_the_frame_within_ten(lag):
    curve = np.random.default_rng(0).uniform(size=60)
    assert best_lag(curve[20 - lag : 50 - lag], curve[20:50]) == lag


def test_a_lag_leaves_ten_frames_to_compare_and_nothing_is_in_time():
    curve = np.random.default_rng(0).uniform(size=60)
    assert abs(best_lag(curve[20:32], curve[15:27])) <= 2  # of twelve frames, ten must overlap
    assert best_lag(np.ones(30), curve[:30]) == best_lag(curve[:5], curve[:5]) == 0


def test_a_clip_has_r_in_time_and_its_lag_or_a_status():
    volume = np.random.default_rng(0).uniform(0.1, 1, 30)
    waveform = (volume.repeat(640) * np.sin(np.arange(30 * 640))).astype(np.float32)
    landmarks = np.zeros((30, 68, 2))
    landmarks[:, 33, 1] = 1
    landmarks[:, 66, 1] = np.roll(volume, 2)
    late = measure_lips_by_loudness(landmarks, 25, waveform)
    assert late.values["lag-loudness"] == late.details["lag"] == 2
    assert late.details["r_at_lag"] > 0.99 > 0.5 > late.values["lips-loudness"]
    assert measure_lips_by_loudness(landmarks, 25, None).status == Status.SILENT
    assert measure_lips_by_loudness(landmarks * np.nan, 25, waveform).status == Status.NO_FACE
    assert measure_lips_by_loudness(landmarks[:9], 25, waveform).status == Status.SHORT


class Once:
    """A detector that finds each picture's brightness as a face, and counts its work."""

    num_pictures = 0

    def detect(self, image):
        self.num_pictures += 1
        return [Face(np.array([0.0, 0, 4, 4]), 1.0)] if image.max() else []

    def landmarks(self, image, box):
        return np.full((68, 2), float(image.max()))


def test_a_frame_that_repeats_is_looked_at_once():
    detector = Once()
    levels = [9, 9, 0, 0, 7]
    landmarks = find_landmarks(np.array(levels, np.uint8).repeat(48).reshape(5, 4, 4, 3), detector)
    assert detector.num_pictures == 3
    assert landmarks[:, 0, 0].tolist() == pytest.approx([9, 9, np.nan, np.nan, 7], nan_ok=True)
    assert measure_face_coverage(landmarks).values == {"faces": 0.6}


def test_a_mouth_is_as_wide_as_its_corners_are_apart():
    landmarks = np.zeros((1, 68, 2))
    landmarks[0, 33] = (0, 2)
    landmarks[0, 54] = (3, 0)
    assert mouth_widths(landmarks) == pytest.approx([1.5])
