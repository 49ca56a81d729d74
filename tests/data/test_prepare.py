# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Windows of clips -> frames at the bucket's size, audio and mouth boxes."""

import struct
import weakref
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from drawn_faces import FaceInTheMiddle, draw_talking_face, make_opening, make_sound
from odd_items import Crashing
from PIL import Image
from plain_clips import BUCKET, RATE, needs_dlib, write_clip

from diffusers_jova import faces, images
from diffusers_jova.data import cache
from diffusers_jova.data.clips import Source
from diffusers_jova.data.prepare import Preparation
from diffusers_jova.data.probe import probe
from diffusers_jova.data.windows import Bucket, Window
from diffusers_jova.engines import LocalEngine
from diffusers_jova.faces import (
    DlibFaceDetector,
    Face,
    crop_to_face,
    find_landmarks_file,
    find_mouths,
    intersection_over_union,
)
from diffusers_jova.images import centre_crop, face_crop, resize_frames
from diffusers_jova.media import read_video, write_video


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


@pytest.mark.parametrize("source_rate", [30, 8])
def test_flash_and_clap_stay_within_half_a_target_frame(source_rate, tmp_path):
    at_s = 0.875
    frames = np.zeros((round(2 * source_rate), 64, 64, 3), np.uint8)
    frames[round(at_s * source_rate) :] = 255
    audio = np.where(np.arange(96000) < at_s * 48000, 0, np.random.default_rng(0).uniform(-0.5, 0.5, 96000))
    write_video(tmp_path / "a.mp4", frames, source_rate, np.stack([audio, audio]), 48000)
    source = Source("a.mp4", path=tmp_path / "a.mp4")
    window = Window(source, "a", BUCKET, Fraction(1, 10), 21, {}, "")
    clip = Preparation(RATE, 16000)(window)
    assert len(clip.waveform) == round(21 / RATE * 16000)
    flash = (clip.frames.mean(axis=(1, 2, 3)) > 128).argmax() / RATE
    clap = (np.abs(clip.waveform) > 0.25).argmax() / 16000
    shown = round(at_s * source_rate) / source_rate - 0.1
    assert clap == pytest.approx(at_s - 0.1, abs=2e-3)
    assert abs(float(flash) - shown) <= 0.5 / RATE + 1e-6


def test_a_clip_whose_frames_run_out_early_is_damaged(tmp_path):
    write_clip(tmp_path / "a.mp4", 9)
    window = Window(Source("a.mp4", path=tmp_path / "a.mp4"), "a", BUCKET, Fraction(0), 25, {}, "")
    with pytest.raises(ValueError, match="only 9 of 25 frames"):
        Preparation(RATE, 16000)(window)


# --- space ---


def test_pictures_are_cropped_around_the_centre_and_resized():
    assert centre_crop(60, 100, 64, 64) == (20, 0, 80, 60)
    assert centre_crop(100, 60, 32, 64) == (0, 35, 60, 65)
    frames = np.zeros((1, 60, 100, 3), np.uint8)
    frames[:, :30, 20:50] = 255
    resized = resize_frames(frames, centre_crop(60, 100, 64, 64), 64, 64)
    assert resized.shape == (1, 64, 64, 3)
    assert (resized[0, :31, :31] > 250).all() and (resized[0, 33:] < 5).all() and (resized[0, :, 33:] < 5).all()


def rotated(path):
    """Set the flag that says: show turned by 90 degrees clockwise (ISO 14496-12, section 8.3.2)."""

    def boxed(matrix):
        return struct.pack(">9i", *(value << (30 if i % 3 == 2 else 16) for i, value in enumerate(matrix)))

    data = path.read_bytes()
    at = data.index(boxed((1, 0, 0, 0, 1, 0, 0, 0, 1)), data.index(b"tkhd"))
    path.write_bytes(data[:at] + boxed((0, 1, 0, -1, 0, 0, 256, 0, 1)) + data[at + 36 :])


@needs_dlib
def test_mouths_of_phone_clips_with_a_rotation_flag_are_where_they_are_seen(run, clips, tmp_path):
    frames, boxes = draw_talking_face(np.full(5, 0.6), size=(384, 256), seed=2, faces=((0.5, 0.5, 0.45),))
    path = write_video(clips / "phone.mp4", np.rot90(frames, 1, axes=(1, 2)), 12.5)  # as the sensor lies
    rotated(path)
    assert (probe(path).height, probe(path).width) == (384, 256)
    run(DlibFaceDetector(find_landmarks_file()), height=192, width=128)
    row = cache.read_index(tmp_path / "cache")[0]
    found = cache.read_sample(tmp_path / "cache", row["key"])["mouth_boxes"].numpy()
    assert row["has_mouth"] and row["faces"] == 1
    assert min(intersection_over_union(*pair) for pair in zip(found, boxes / 2)) > 0.4


# --- many processes ---


def test_workers_give_what_one_process_gives_and_survive_a_clip_that_kills_them(tmp_path):
    write_clip(tmp_path / "a.mp4", 9)
    source = Source("a.mp4", path=tmp_path / "a.mp4")
    keys = ["one", "bad", "crash", "two", "three"]
    windows = [Window(source, key, BUCKET, Fraction(0), 9, {}, "") for key in keys]
    prepare = Crashing(RATE, 16000, detector=FaceInTheMiddle())
    results = {window.key: clip for window, clip in LocalEngine(2).map(prepare, windows)}
    assert list(results) == keys
    assert results["crash"] == "reading it crashed the process" and results["bad"] == "out of range"
    expected = Preparation(RATE, 16000, detector=FaceInTheMiddle())(windows[0])
    for key in ("one", "two", "three"):
        np.testing.assert_array_equal(results[key].frames, expected.frames)
        np.testing.assert_array_equal(results[key].waveform, expected.waveform)
        np.testing.assert_array_equal(results[key].boxes, expected.boxes)


def test_sound_that_follows_the_mouth_is_as_long_as_the_clip():
    opening = make_opening(25, 0)
    sound = make_sound(opening, 12.5)
    loudness = np.abs(sound.reshape(25, -1)).mean(axis=1)
    assert len(sound) == 32000 and np.corrcoef(loudness, opening)[0, 1] > 0.9
