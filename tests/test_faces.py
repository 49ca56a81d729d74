# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import importlib.util
import sys

import numpy as np
import pytest
from drawn_faces import draw_talking_face, make_opening
from PIL import Image

from diffusers_jova.faces import (
    DlibFaceDetector,
    Face,
    find_cuts,
    find_landmarks_file,
    find_mouths,
    interpolate_gaps,
    intersection_over_union,
    map_boxes,
    mouth_box,
)


needs_dlib = pytest.mark.skipif(
    importlib.util.find_spec("dlib") is None or importlib.util.find_spec("face_recognition_models") is None,
    reason="needs dlib and its landmark file",
)


@pytest.fixture(scope="session")
def detector():
    return DlibFaceDetector(find_landmarks_file())


def square(x, y, size):
    return np.array([x, y, x + size, y + size], float)


class WhiteSquares:
    """Takes white squares on black for faces; a grey value below 250 is the less sure. Counts its calls."""

    def __init__(self):
        self.detected = []

    def detect(self, image):
        self.detected.append(image)
        faces = []
        for value in np.unique(image[image > 100]):
            y, x = np.nonzero(image == value)
            faces.append(Face(np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float), float(value)))
        return faces

    def landmarks(self, image, box):
        """Follows the square around the box's centre; brows and eyes fill its upper, the mouth its lower half."""
        x, y = (int(np.clip(value, 0, 99)) for value in ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2))
        if image[y, x] > 100:
            ys, xs = np.nonzero(image == image[y, x])
            box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)
        points = np.zeros((68, 2))
        (x1, y1, x2, y2), middle = box, (box[1] + box[3]) / 2
        points[17:48] = np.linspace((x1, y1), (x2 - 1, middle), 31)
        points[48:] = np.linspace((x1, middle), (x2 - 1, y2 - 1), 20)
        return points


def squares(*frames):
    """Return grey frames (N, 100, 100) with the given squares (x, y, size, value)."""
    images = np.zeros((len(frames), 100, 100), np.uint8)
    for image, drawn in zip(images, frames):
        for x, y, size, value in drawn:
            image[y : y + size, x : x + size] = value
    return images


@needs_dlib
def test_mouth_of_a_real_photograph(detector):
    data = pytest.importorskip("skimage.data")
    mouths = find_mouths(data.astronaut()[None], detector)
    assert mouths.boxes[0] == pytest.approx((201, 139, 246, 157), abs=3)
    assert mouths.num_faces == 1


@needs_dlib
def test_drawn_mouths_are_found_where_they_are_drawn(detector):
    frames, boxes = draw_talking_face(np.linspace(0, 1, 5), seed=3)
    overlaps = [intersection_over_union(*pair) for pair in zip(find_mouths(frames, detector).boxes, boxes)]
    assert min(overlaps) > 0.35 and np.mean(overlaps) > 0.5


@needs_dlib
def test_faces_in_small_pictures_are_found(detector):
    frames, boxes = draw_talking_face(np.array([0.2, 0.9]), seed=5)
    small = np.stack([np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BOX)) for frame in frames])
    found = find_mouths(small, detector).boxes
    assert [intersection_over_union(*pair) > 0.3 for pair in zip(found, boxes / 4)] == [True, True]


@needs_dlib
def test_faces_in_large_pictures_are_found_at_their_own_resolution(detector):
    frames, boxes = draw_talking_face(np.array([0.6]), size=(360, 640), seed=2, faces=((0.5, 0.5, 0.62),))
    large = np.asarray(Image.fromarray(frames[0]).resize((2560, 1440), Image.Resampling.BICUBIC))
    assert intersection_over_union(find_mouths(large[None], detector).boxes[0], boxes[0] * 4) > 0.4


@needs_dlib
def test_of_two_faces_the_largest_is_taken(detector):
    faces = ((0.72, 0.5, 0.72), (0.25, 0.5, 0.5))
    frames, boxes = draw_talking_face(np.array([0.3, 0.8]), size=(256, 448), seed=1, faces=faces)
    mouths = find_mouths(frames, detector)
    assert mouths.num_faces == 2
    assert [intersection_over_union(*pair) > 0.4 for pair in zip(mouths.boxes, boxes)] == [True, True]


@needs_dlib
def test_following_between_detections_agrees_with_detecting_every_frame(detector):
    frames, _ = draw_talking_face(make_opening(17, 3), seed=4)
    every, fourth = find_mouths(frames, detector), find_mouths(frames, detector, detect_every=4)
    assert (every.num_detections, fourth.num_detections) == (17, 5)
    assert np.mean([intersection_over_union(*pair) for pair in zip(every.boxes, fourth.boxes)]) > 0.85


@needs_dlib
def test_landmark_file_is_found_without_importing_its_package():
    assert find_landmarks_file().stat().st_size > 90_000_000
    assert "face_recognition_models" not in sys.modules


def test_missing_landmark_file_says_what_to_install(monkeypatch, tmp_path):
    with pytest.raises(FileNotFoundError, match="no.dat.*pip install dlib-bin face_recognition_models"):
        find_landmarks_file(tmp_path / "no.dat")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match="pip install dlib-bin face_recognition_models.*--landmarks"):
        find_landmarks_file()


def test_missing_dlib_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(ImportError, match="pip install dlib-bin"):
        DlibFaceDetector("anything.dat").detect(np.zeros((256, 256), np.uint8))


@needs_dlib
def test_file_that_is_no_landmark_file_is_named(tmp_path):
    (tmp_path / "landmarks.dat").write_bytes(b"not landmarks")
    with pytest.raises(ValueError, match="landmarks.dat"):
        DlibFaceDetector(tmp_path / "landmarks.dat").detect(np.zeros((256, 256), np.uint8))


def test_mouth_box_is_half_open_around_points_48_to_67():
    points = np.full((68, 2), 500.0)
    points[48:] = (20, 30)
    points[60] = (40, 35)
    assert mouth_box(points).tolist() == [20, 30, 41, 36]


def test_of_faces_about_equally_large_the_same_stays():
    # two faces of nearly one size, whose order by size and by certainty changes from frame to frame
    frames = squares(
        [(10, 40, 30, 255), (60, 40, 31, 200)],
        [(10, 40, 30, 200), (60, 40, 32, 255)],
        [(10, 40, 31, 200), (60, 40, 30, 255)],
    )
    assert (find_mouths(frames, WhiteSquares()).boxes[:, 0] == 10).all()  # the surest of the first frame


def test_a_larger_face_takes_over():
    frames = squares([(10, 40, 20, 255)], [(10, 40, 20, 255), (50, 30, 40, 200)])
    assert find_mouths(frames, WhiteSquares()).boxes[:, 0].tolist() == [10, 50]


def test_short_gaps_are_bridged_linearly():
    boxes = np.full((7, 4), np.nan, np.float32)
    boxes[0], boxes[5] = (0, 0, 40, 10), (10, 5, 50, 15)
    bridged = interpolate_gaps(boxes, np.zeros(7, bool))
    assert bridged[1].tolist() == [2, 1, 42, 11]
    assert bridged[4].tolist() == [8, 4, 48, 14]
    assert np.isnan(bridged[6]).all()  # nothing beyond the last face


def test_longer_gaps_stay():
    boxes = np.full((7, 4), np.nan, np.float32)
    boxes[0] = boxes[6] = (0, 0, 40, 10)
    assert np.isnan(interpolate_gaps(boxes, np.zeros(7, bool))[1:6]).all()


def test_gaps_are_not_bridged_between_distant_mouths():
    boxes = np.full((3, 4), np.nan, np.float32)
    boxes[0], boxes[2] = (0, 0, 40, 10), (200, 0, 240, 10)
    assert np.isnan(interpolate_gaps(boxes, np.zeros(3, bool))[1]).all()


@pytest.mark.parametrize("detect_every", [1, 3])
def test_nothing_is_bridged_or_followed_across_a_cut(detect_every):
    # the face is missing on both sides of a cut, after which it is elsewhere, but not far
    shot_a = squares(*[[(20, 20, 20, 255)]] * 4, *[[]] * 2)
    shot_b = squares(*[[]] * 2, *[[(24, 24, 20, 255)]] * 4)
    shot_b[shot_b == 0] = 90  # a lighter background
    mouths = find_mouths(np.concatenate([shot_a, shot_b]), WhiteSquares(), detect_every)
    assert np.flatnonzero(mouths.cuts).tolist() == [6]
    assert np.isfinite(mouths.boxes).all(axis=1).tolist() == [True] * 4 + [False] * 4 + [True] * 4


def test_motion_and_gradual_change_are_no_cuts():
    thumbnails = np.stack([np.full((16, 16), 20 * i, np.uint8) for i in range(12)])  # a fade, 8 % per frame
    assert not find_cuts(thumbnails).any()
    thumbnails = np.concatenate([np.full((6, 16, 16), 60), np.full((6, 16, 16), 140)])
    assert np.flatnonzero(find_cuts(thumbnails)).tolist() == [6]
    assert not find_cuts(thumbnails[:1]).any()


def test_a_followed_face_that_vanishes_is_searched_frame_by_frame():
    frames = squares(*[[(20, 20, 30, 255)]] * 6, *[[]] * 6)
    detector = WhiteSquares()
    mouths = find_mouths(frames, detector, detect_every=11)
    assert np.isfinite(mouths.boxes).all(axis=1).tolist() == [True] * 6 + [False] * 6


def test_a_followed_face_that_is_found_elsewhere_is_searched_frame_by_frame():
    frames = squares(*[[(10, 40, 18, 255)]] * 6, *[[(70, 40, 18, 255)]] * 6)
    mouths = find_mouths(frames, WhiteSquares(), detect_every=11)
    assert not mouths.cuts.any()
    assert mouths.boxes[:, 0].tolist() == [10] * 6 + [70] * 6


def test_a_followed_face_moves_with_its_landmarks():
    frames = squares(*[[(10 + 2 * i, 20, 30, 255)] for i in range(12)])
    detector = WhiteSquares()
    mouths = find_mouths(frames, detector, detect_every=11)
    assert mouths.boxes[:, 0].tolist() == [10 + 2 * i for i in range(12)]
    assert len(detector.detected) == mouths.num_detections == 2


def test_frames_without_a_face_have_no_box():
    mouths = find_mouths(squares([], []), WhiteSquares())
    assert np.isnan(mouths.boxes).all() and mouths.num_faces == 0


def test_detect_every_zero_is_refused():
    with pytest.raises(ValueError, match="detect_every"):
        find_mouths(squares([]), WhiteSquares(), detect_every=0)


def test_boxes_go_through_crop_and_resize():
    # 100 x 60 pixels cropped to the middle 60 x 60, enlarged to 120 x 120
    boxes = np.array([(40, 10, 50, 15), (10, 0, 30, 8), (0, 0, 15, 8), [np.nan] * 4])
    mapped = map_boxes(boxes, (20, 0, 80, 60), 120, 120)
    assert mapped[0].tolist() == [40, 20, 60, 30]
    assert mapped[1].tolist() == [0, 0, 20, 16]  # clipped
    assert np.isnan(mapped[2:]).all()  # outside, and none
