# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
from name_seeded import golden

from diffusers_jova.evaluation.face_tracks import Track, crop_windows, cut_faces, face_runs, track_faces


CASES = ("two", "gap26", "gap24", "gapedge25", "small", "short", "m100", "m20", "fast", "jump", "crowd", "edge")


def tracks_of(expected: dict, case: str) -> list[Track]:
    ends = np.cumsum(expected[f"{case}_counts"])[:-1]
    return track_faces(np.split(expected[f"{case}_dets"].astype(np.float64), ends), int(expected[f"{case}_min_track"]))


@pytest.mark.parametrize("case", CASES)
def test_tracks_equal_the_original_in_its_order(case):
    expected = golden("tracking")
    tracks = tracks_of(expected, case)
    assert [[track.frames[0], track.frames[-1]] for track in tracks] == expected[f"{case}_track_first_last"].tolist()
    assert [len(track.frames) for track in tracks] == expected[f"{case}_track_frames"].tolist()
    for track, box_sum, box_middle in zip(tracks, expected[f"{case}_bbox_sum"], expected[f"{case}_bbox_mid"]):
        np.testing.assert_allclose(track.boxes.sum(axis=0), box_sum, rtol=1e-6)
        np.testing.assert_allclose(track.boxes[len(track.boxes) // 2], box_middle, rtol=1e-6)


@pytest.mark.parametrize("case, index", [("two", 0), ("two", 1), ("gap24", 0), ("edge", 0)])
def test_crops_equal_the_original(case, index):
    expected = golden("tracking")
    track = tracks_of(expected, case)[index]
    windows = crop_windows(track)
    slices = [windows.top, windows.bottom, windows.left, windows.right, windows.padding]
    assert np.array_equal(np.stack(slices, axis=1), expected[f"{case}_crop{index}_slices"])
    for name, values in (("s", windows.half_size), ("x", windows.x), ("y", windows.y)):
        np.testing.assert_allclose(values, expected[f"{case}_crop{index}_{name}"], rtol=1e-6)

    base = np.random.default_rng(int(expected["seed"]) + 5).integers(0, 256, (60, 80, 3), np.uint8)
    base = base.repeat(8, axis=0).repeat(8, axis=1)
    frames = {int(track.frames[0]): np.roll(base, int(track.frames[0]), axis=1)}
    face = cut_faces(frames, Track(track.frames[:1], track.boxes[:1]), windows)[0]
    grid = face[::28, ::28].astype(int)
    assert np.abs(grid - expected[f"{case}_crop{index}_frame0_grid"]).max() <= 1
    np.testing.assert_allclose(face.mean(axis=(0, 1)), expected[f"{case}_crop{index}_frame0_mean"], atol=0.2)
    assert [track.frames[0] / 25, (track.frames[-1] + 1) / 25] == pytest.approx(
        expected[f"{case}_crop{index}_audio_cut"].tolist()
    )


def test_a_run_ends_where_no_face_is_seen():
    box, other = [0, 0, 10, 10, 1], [90, 90, 99, 99, 1]
    frames = [[box]] * 3 + [[]] + [[box, other], [other]] + [[]] * 2 + [[box]]
    runs = face_runs(frames, min_frames=2)
    assert [run.frames.tolist() for run in runs] == [[0, 1, 2], [4, 5]]
    assert runs[1].boxes[:, 0].tolist() == [0, 90]


def test_windows_without_smoothing_follow_the_box():
    track = Track(np.arange(2), np.array([[100.0, 100, 140, 160], [200.0, 100, 240, 160]]))
    windows = crop_windows(track, crop_scale=0.3, smoothing=None)
    assert windows.half_size.tolist() == [30, 30]
    assert (windows.left - windows.padding).tolist() == [81, 181]
    assert (windows.bottom - windows.padding).tolist() == [178, 178]


def test_a_face_outside_of_the_picture_is_grey():
    track = Track(np.arange(1), np.array([[-500.0, -500, -400, -400]]))
    face = cut_faces(np.zeros((1, 50, 50, 3), np.uint8), track, crop_windows(track, smoothing=None))
    assert (face == 110).all()
