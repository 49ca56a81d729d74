# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Windows of clips -> frames at the bucket's size."""

import weakref
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from PIL import Image

from diffusers_jova import images
from diffusers_jova.data.clips import Bucket, Source, Window
from diffusers_jova.data.preparation import Preparation
from diffusers_jova.faces import Face, crop_to_face, find_mouths
from diffusers_jova.images import centre_crop, face_crop, resize_frames
from diffusers_jova.media import read_video, write_video
from diffusers_jova.training import faces


BUCKETS = [(480, 832), (832, 480), (640, 640), (720, 1280), (1280, 720), (64, 64), (192, 320), (544, 960), (368, 640)]
LANDSCAPES = [(144, 176), (240, 426), (288, 352), (360, 640), (480, 640), (480, 854), (576, 720), (606, 1080)]
LANDSCAPES += [(720, 1280), (800, 1280), (1080, 1350), (1080, 1440), (1080, 1920), (1440, 2560), (1606, 2848)]
SOURCES = [*LANDSCAPES, *(size[::-1] for size in LANDSCAPES), (224, 224), (1080, 1080)]


def assert_is_the_largest_centred_piece(source_height, source_width, height, width):
    crop = centre_crop(source_height, source_width, height, width)
    assert 0 <= crop[0] < crop[2] <= source_width and 0 <= crop[1] < crop[3] <= source_height
    scale = min(Fraction(source_height, height), Fraction(source_width, width))
    left, top = (source_width - width * scale) / 2, (source_height - height * scale) / 2
    expected = (left, top, left + width * scale, top + height * scale)
    assert crop == pytest.approx([float(x) for x in expected], abs=1e-9)


def test_crop_of_common_sizes_never_leaves_the_source():
    for source, bucket in product(SOURCES, BUCKETS):
        assert_is_the_largest_centred_piece(*source, *bucket)


def test_crop_of_any_size_never_leaves_the_source():
    rng = np.random.default_rng(0)
    for source in rng.integers(1, 5000, (2000, 2)):
        bucket = rng.integers(1, 80, 2) * 16
        assert_is_the_largest_centred_piece(*(int(size) for size in (*source, *bucket)))


@pytest.mark.parametrize("source, bucket", [((640, 360), (480, 832)), ((360, 640), (832, 480)), ((77, 100), (64, 32))])
def test_what_is_cropped_can_be_resized(source, bucket):
    frames = np.full((2, *source, 3), 200, np.uint8)
    resized = resize_frames(frames, centre_crop(*source, *bucket), *bucket)
    assert resized.shape == (2, *bucket, 3) and (resized == 200).all()


# --- the face ---


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


NOBODY = boxes([np.nan] * 4)


def test_crop_is_the_centre_where_it_shows_the_face_or_there_is_none():
    for source, bucket in product(SOURCES, BUCKETS):
        centre = centre_crop(*source, *bucket)
        x1, y1, x2, y2 = centre
        face = boxes((x1, y1, x2, y2)).astype(np.float64)
        mouth = face * 0.5 + np.tile((face[:, :2] + face[:, 2:]) / 4, 2)
        assert face_crop(*source, *bucket, NOBODY, NOBODY) == centre
        assert face_crop(*source, *bucket, mouth, face) == centre


def test_crop_moves_just_so_far_that_it_shows_the_face():
    # 100 x 300 pixels, of which 100 x 50 are kept: in the middle from 125 to 175
    assert face_crop(300, 100, 50, 100, boxes((40, 60, 60, 65)), boxes((30, 40, 70, 70))) == (0, 40, 100, 90)
    assert face_crop(300, 100, 50, 100, boxes((40, 190, 60, 195)), boxes((30, 165, 70, 200))) == (0, 150, 100, 200)
    assert face_crop(100, 300, 100, 50, boxes((60, 40, 65, 60)), boxes((40, 30, 70, 70))) == (40, 0, 90, 100)


def test_crop_shows_the_face_of_all_frames_where_it_can():
    mouths = boxes((40, 60, 60, 65), [np.nan] * 4, (40, 70, 60, 75))
    faces = boxes((30, 45, 70, 70), [np.nan] * 4, (30, 55, 70, 80))
    assert face_crop(300, 100, 50, 100, mouths, faces) == (0, 45, 100, 95)


def test_crop_shows_the_mouth_where_the_face_is_too_large_and_most_mouths_where_not_all_fit():
    assert face_crop(300, 100, 50, 100, boxes((40, 80, 60, 88)), boxes((10, 10, 90, 100))) == (0, 50, 100, 100)
    mouths = boxes((40, 10, 60, 15), (40, 200, 60, 205), (40, 210, 60, 215))
    assert face_crop(300, 100, 50, 100, mouths, boxes(*[[np.nan] * 4] * 3)) == (0, 165, 100, 215)


def test_crop_around_any_faces_stays_inside_the_source_and_as_large_as_the_central_one():
    rng = np.random.default_rng(0)
    for _ in range(500):
        source, bucket = rng.integers(50, 2000, 2).tolist(), (rng.integers(1, 60, 2) * 16).tolist()
        corners = rng.uniform(-100, 2100, (2, 7, 2))
        faces = np.concatenate([corners.min(axis=0), corners.max(axis=0)], axis=1)
        x1, y1, x2, y2 = face_crop(*source, *bucket, faces * 0.9, faces)
        assert 0 <= x1 < x2 <= source[1] and 0 <= y1 < y2 <= source[0]
        cx1, cy1, cx2, cy2 = centre_crop(*source, *bucket)
        assert (x2 - x1, y2 - y1) == pytest.approx((cx2 - cx1, cy2 - cy1), abs=1e-6)


class LightSquare:
    """A detector that needs no dlib: a light square is a face, the lower third of its middle a mouth."""

    def detect(self, image):
        y, x = np.nonzero(image > 128)
        return [Face(np.array([x.min(), y.min(), x.max() + 1, y.max() + 1], float), 1.0)] if len(x) else []

    def landmarks(self, image, box):
        (x1, y1, x2, y2), points = box, np.zeros((68, 2))
        size = x2 - x1
        points[17:48] = np.linspace((x1, y1), (x2 - 1, y1 + size / 2), 31)
        points[48:] = np.linspace((x1 + size / 3, y2 - size / 3), (x2 - size / 3 - 1, y2 - size / 6 - 1), 20)
        return points


def write_face(path, tops, height=192, width=64, size=36):
    """Write a clip with a square at x = 14 and each y of `tops`, and return its window."""
    frames = np.full((len(tops), height, width, 3), 20, np.uint8)
    for frame, top in zip(frames, tops):
        frame[top : top + size, 14 : 14 + size] = 230
    write_video(path, frames, 25, crf=0)
    source = Source(path.name, path=path)
    return Window(source, "key", Bucket(64, 64, len(tops)), Fraction(0), len(tops), {}, "", height * width)


def prepare(window, **options):
    return Preparation(Fraction(25), None, detector=LightSquare(), **options)(window)


@pytest.mark.parametrize("detect_every", [1, 3])
def test_a_portrait_clip_keeps_its_head(detect_every, tmp_path):
    window = write_face(tmp_path / "clip.mp4", [10, 11, 12, 13, 14])
    centre = prepare(window, crop="centre", detect_every=detect_every)
    assert centre.mouths_outside == 5 and np.isnan(centre.boxes).all() and (centre.frames < 50).all()
    clip = prepare(window, detect_every=detect_every)
    assert clip.mouths_outside == 0
    # the piece nearest to the centre that shows all: from 10 on
    assert np.abs(clip.boxes[0] - (26, 24, 38, 30)).max() < 1
    expected = read_video(tmp_path / "clip.mp4", 25).frames[:, 10:74]
    assert np.array_equal(clip.frames, expected)


def test_mouths_that_the_crop_cannot_show_are_counted_and_have_no_box(tmp_path):
    clip = prepare(write_face(tmp_path / "clip.mp4", [0, 0, 0, 150, 150]))
    assert clip.mouths_outside == 2 and np.isfinite(clip.boxes).all(axis=1).tolist() == [True] * 3 + [False] * 2


def test_a_face_in_the_middle_gives_the_bytes_of_the_central_crop(tmp_path):
    window = write_face(tmp_path / "clip.mp4", [70, 72, 74, 76, 78])
    face, centre = prepare(window), prepare(window, crop="centre")
    assert np.array_equal(face.frames, centre.frames) and np.array_equal(face.boxes, centre.boxes)
    assert np.isfinite(face.boxes).all()


def test_a_reference_picture_is_cut_like_the_first_frame_of_training(tmp_path):
    window = write_face(tmp_path / "clip.mp4", [10])
    frame = read_video(tmp_path / "clip.mp4", 25).frames[0]
    assert np.array_equal(crop_to_face(Image.fromarray(frame), 64, 64, LightSquare()), prepare(window).frames[0])
    nobody = Image.new("RGB", (100, 60), (30, 60, 90))
    assert crop_to_face(nobody, 32, 64, LightSquare()).size == (64, 32)


# --- memory ---


def test_large_frames_are_resized_like_small_ones(monkeypatch):
    rng = np.random.default_rng(0)
    for _ in range(20):
        source, bucket = rng.integers(20, 300, 2).tolist(), rng.integers(1, 200, 2).tolist()
        frame = rng.integers(0, 256, (*source, 3), dtype=np.uint8)[:, ::-1]
        crop = centre_crop(*source, *bucket)
        expected = resize_frames([frame], crop, *bucket)[0]
        with monkeypatch.context() as patch:
            patch.setattr(images, "MAX_COLOUR_AREA", 0)
            assert np.array_equal(resize_frames([frame], crop, *bucket)[0], expected)
        with monkeypatch.context() as patch:
            patch.setattr(faces, "MAX_GREY_AREA", 7 * source[1])
            assert np.array_equal(faces.to_grey(frame), Image.fromarray(frame).convert("L"))


class Frames:
    """Frames that are made anew each time; `most` is how many were alive at once."""

    def __init__(self, num_frames):
        self.num_frames, self.alive, self.most = num_frames, [], 0

    def __iter__(self):
        for i in range(self.num_frames):
            frame = self.make(i)
            self.alive = [reference for reference in self.alive if reference() is not None] + [weakref.ref(frame)]
            self.most = max(self.most, len(self.alive))
            yield frame
            del frame

    def make(self, i):
        frame = np.full((60, 40, 3), 20, np.uint8)
        frame[i : i + 30, 5:35] = 230
        return frame


def test_faces_are_sought_with_one_frame_in_memory():
    frames = Frames(20)
    mouths = find_mouths(frames, LightSquare())
    assert frames.most == 1
    assert mouths.faces[:, 1].tolist() == list(range(20)) and np.isfinite(mouths.boxes).all()
    held = find_mouths([frames.make(i) for i in range(20)], LightSquare())
    assert np.array_equal(held.boxes, mouths.boxes)
