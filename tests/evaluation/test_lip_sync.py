# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from diffusers_jova.evaluation.lip_sync import (
    FACES,
    PROTOCOLS,
    detect_with_dlib,
    find_faces,
    find_tracks,
    measure_lip_sync,
)
from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.pixels import frames_at_rate, resize_bilinear
from diffusers_jova.evaluation.syncnet import SyncNet
from diffusers_jova.faces import DlibFaceDetector, find_landmarks_file
from diffusers_jova.nano.faces import Identity, Pose, draw_face


BOX = [60.0, 40, 180, 160, 0.99]


@pytest.fixture(scope="module")
def syncnet():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return SyncNet(num_features=8).eval()


@pytest.fixture(scope="module")
def clip():
    """Ten frames of noise and their audio."""
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (10, 200, 240, 3), np.uint8)
    return frames, (0.3 * generator.standard_normal(6400)).clip(-1, 1).astype(np.float32)


SHORT = replace(PROTOCOLS["s3fd50"], min_track=8)


def boxes(*frames_with_face: range, num_frames: int = 10, box=BOX) -> list[np.ndarray]:
    seen = {frame for frames in frames_with_face for frame in frames}
    return [np.array([box[:4]] if frame in seen else []).reshape(-1, 4) for frame in range(num_frames)]


def test_a_clip_with_a_face_has_both_values_and_says_what_they_cover(syncnet, clip):
    measured = measure_lip_sync(syncnet, *clip, boxes(range(10)), SHORT)
    assert measured.status == Status.OK
    assert measured.values["LSE-C"] >= 0 and measured.values["LSE-D"] > 0
    assert measured.details | {"offsets": None} == {
        "frames": 10, "frames_with_face": 10, "tracks": 1, "offsets": None, "track_lengths": [10],
    }  # fmt: skip


@pytest.mark.parametrize(
    "audio, found, status",
    [
        (None, boxes(range(10)), Status.SILENT),
        (np.zeros(6400), boxes(range(10)), Status.SILENT),
        (np.ones(6400), boxes(), Status.NO_FACE),
        (np.ones(6400), boxes(range(8)), Status.SHORT),
        (np.ones(6400), boxes(range(10), box=[0, 0, 90, 90]), Status.SHORT),
        (np.ones(3200), boxes(range(10)), Status.SHORT),
    ],
    ids=["no audio", "silence", "no face", "track of 8 frames", "face of 90 pixels", "audio of five frames"],
)
def test_what_cannot_be_measured_has_a_status_and_no_value(syncnet, clip, audio, found, status):
    measured = measure_lip_sync(syncnet, clip[0], audio, found, SHORT)
    assert (measured.status, measured.values) == (status, {})


@pytest.mark.parametrize("num_frames", [0, 1, 5])
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_a_clip_of_few_frames_is_short_whatever_the_protocol(syncnet, clip, protocol, num_frames):
    found = None if protocol.detector is None else boxes(range(num_frames), num_frames=num_frames)
    measured = measure_lip_sync(syncnet, clip[0][:num_frames], clip[1], found, protocol)
    assert (measured.status, measured.values) == (Status.SHORT, {})


def test_the_clip_of_a_protocol_without_detector_is_the_face(syncnet, clip):
    measured = measure_lip_sync(syncnet, *clip, None, PROTOCOLS["precropped"])
    assert measured.status == Status.OK
    assert measured.details["track_lengths"] == [10]


def test_two_faces_are_averaged_or_the_better_or_the_larger_one_counts(syncnet, clip):
    other = [10.0, 20, 140, 150]
    both = [np.array([other, BOX[:4]]) for _ in range(10)]
    alone = [measure_lip_sync(syncnet, *clip, boxes(range(10), box=box), SHORT).values for box in (other, BOX)]
    values = {faces: measure_lip_sync(syncnet, *clip, both, replace(SHORT, faces=faces)).values for faces in FACES}
    assert values["mean"]["LSE-C"] == pytest.approx(np.mean([value["LSE-C"] for value in alone]), rel=1e-5)
    assert values["best"] == pytest.approx(max(alone, key=lambda value: value["LSE-C"] - value["LSE-D"]), rel=1e-5)
    assert values["largest"] == pytest.approx(alone[0], rel=1e-5)


def test_verse_drops_a_clip_whose_offset_lies_at_the_end_of_the_search(syncnet, clip):
    # five windows against 31 offsets: most offsets see nothing but zeros, so the smallest distance lies at an end
    protocol = replace(PROTOCOLS["verse"], min_track=10)
    measured = measure_lip_sync(syncnet, *clip, boxes(range(10)), protocol)
    assert abs(measured.details["offsets"][0]) == 15
    assert (measured.status, measured.values) == (Status.NO_SYNC, {})
    assert measure_lip_sync(syncnet, *clip, boxes(range(10)), replace(protocol, drops_late=False)).status == Status.OK


def test_verse_counts_no_frames_behind_the_audio(syncnet, clip):
    frames, waveform = clip
    protocol = replace(PROTOCOLS["verse"], min_track=10, drops_late=False)
    assert measure_lip_sync(syncnet, frames, waveform, boxes(range(10)), protocol).status == Status.OK
    shorter = measure_lip_sync(syncnet, frames, waveform[: 9 * 640], boxes(range(10)), protocol)
    assert (shorter.status, shorter.details["frames_with_face"]) == (Status.SHORT, 9)


def test_protocols_differ_in_the_shortest_clip_that_they_score():
    lengths = {
        name: next(n for n in range(10, 130) if find_tracks(boxes(range(n), num_frames=n), PROTOCOLS[name]))
        for name in ("s3fd50", "s3fd100", "mova", "verse")
    }
    assert lengths == {"s3fd50": 51, "s3fd100": 101, "mova": 21, "verse": 50}


def test_a_track_ends_at_a_cut():
    found = boxes(range(60), num_frames=60)
    tracks = find_tracks(found, replace(SHORT, min_track=10), shots=[(0, 25), (25, 60)])
    assert [(track.frames[0], track.frames[-1]) for track in tracks] == [(0, 24), (25, 59)]


def test_faces_are_found_frame_by_frame(clip):
    found = find_faces(clip[0][:2], lambda frame: np.array([BOX]) if frame is clip[0][0] else np.empty((0, 5)))
    assert [len(frame) for frame in found] == [0, 0]
    assert find_faces(clip[0][:1], lambda frame: np.array([BOX]))[0].tolist() == [BOX[:4]]


def test_dlib_finds_the_drawn_face_and_nothing_on_a_blank_frame():
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    face = np.asarray(draw_face(Identity.from_seed(1), Pose()))
    frames = np.stack([face, np.full_like(face, 128)])
    found = find_faces(frames, detect_with_dlib(DlibFaceDetector(find_landmarks_file())))
    assert [len(boxes) for boxes in found] == [1, 0]
    (x1, y1, x2, y2), (height, width) = found[0][0], face.shape[:2]
    assert x1 < width / 2 < x2 and y1 < height / 2 < y2


def test_frames_at_25_fps_of_25_fps_are_all():
    assert frames_at_rate(3, 25, 25).tolist() == [0, 1, 2]
    assert frames_at_rate(3, Fraction(25, 2), 25).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("rate", [15, 16, 24, 30, 50, 60])
def test_frames_at_25_fps_are_those_of_ffmpegs_filter(rate):
    graph = av.filter.Graph()
    source = graph.add_buffer(width=16, height=16, format="gray", time_base=Fraction(1, rate))
    graph.link_nodes(source, graph.add("fps", "25"), graph.add("buffersink")).configure()
    shown = []
    for index in [*range(50), None]:
        graph.push(None if index is None else grey_frame(index, Fraction(1, rate)))
        with suppress(av.BlockingIOError, av.EOFError):
            while True:
                shown.append(int(graph.pull().to_ndarray()[0, 0]))
    assert frames_at_rate(50, rate, 25).tolist() == shown


def grey_frame(index: int, time_base: Fraction) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(np.full((16, 16), index, np.uint8), format="gray")
    frame.pts, frame.time_base, frame.duration = index, time_base, 1
    return frame


def test_resizing_to_the_same_size_changes_nothing(clip):
    assert np.array_equal(resize_bilinear(clip[0][0], 200, 240), clip[0][0])
