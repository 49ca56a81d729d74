# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A film -> its shots, the faces, black bars and dark or damaged stretches in them, and how loud it is.

A film is gone through once, a frame at a time: what is kept of it are a few numbers per second.
"""
# N frames; boxes are x1, y1, x2, y2 in pixels of the film as it is shown

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..evaluation.loudness import PIECE_S, SAMPLING_RATE
from ..faces import FaceDetector, intersection_over_union, to_grey
from ..media import iter_frames, read_audio


# Of PySceneDetect's AdaptiveDetector. Its usual 15 misses 13 of 399 cuts between drawn heads before backgrounds alike;
# with 6 it misses one, and finds none where there is none: the ratio to the frames around decides.
MIN_CHANGE = 6.0
CUT_WIDTH = 256  # pixels of the frames that are compared
MIN_SHOT = 2  # frames; AdaptiveDetector looks at two on both sides

DARK = 10.0  # of 255: the mean of a frame that shows nothing
BAR = 24  # of 255: the most that a black bar has, 16 and noise
MIN_BAR = 0.01  # of the side: thinner ones are the edge of the image
MAX_BARS = 0.7  # of the side: what leaves less than this is a dark scene
MAX_UNEVEN = 0.02  # of the side, by which bars on both sides may differ: a night sky is above alone

LOOK_EVERY_S = 0.4  # for faces and bars
SECOND_FACE = 0.4  # of the largest one's area, from which on a face counts beside it
AROUND_FACE = 2.2  # times the face: the side of a crop around one of several
SAME_FACE = 0.2  # IoU from one look to the next: heads move

SEVERAL = "several faces"  # the reason why a run is not a clip

RETRY_S = 2  # behind a place that cannot be decoded, again and again
AUDIO_PIECE_S = 60  # of audio that is in memory at a time
MIN_AUDIO_PIECE_S = 2  # of audio that is given up where it cannot be decoded


@dataclass(frozen=True)
class Look:
    """What one frame shows.

    Attributes:
        frame: its number.
        box: of the face, where one stands out; None where there is none or there are several.
        num_faces: that count.
        faces: their boxes, the largest first.
        bars: rows and columns that are black at the top, the bottom, the left and the right.
    """

    frame: int
    box: np.ndarray | None
    num_faces: int
    bars: tuple[int, int, int, int]
    faces: tuple[np.ndarray, ...] = ()


@dataclass
class Film:
    """What `look_through` saw.

    Attributes:
        frame_rate: frames per second; frame k is what is shown at (k + 1/2) / frame_rate.
        num_frames: N.
        size: height and width in pixels.
        cuts: first frames of shots, sorted; of the first shot, and of those behind a gap, too.
        gaps: (first, end) frames that are dark or cannot be decoded, with the reason.
        looks: every `LOOK_EVERY_S`.
    """

    frame_rate: Fraction
    num_frames: int
    size: tuple[int, int] = (0, 0)
    cuts: list[int] = field(default_factory=list)
    gaps: list[tuple[int, int, str]] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)

    def shots(self) -> list[tuple[int, int]]:
        """Return (first, end) frames of what lies between cuts and gaps."""
        edges = sorted(
            {0, *self.cuts, *(edge for first, end, _ in self.gaps for edge in (first, end)), self.num_frames}
        )
        gaps = [(first, end) for first, end, _ in self.gaps]
        return [
            (first, end)
            for first, end in zip(edges, edges[1:])
            if not any(gap_first <= first and end <= gap_end for gap_first, gap_end in gaps)
        ]

    def looks_in(self, first: int, end: int) -> list[Look]:
        begin, stop = (bisect_left(self.looks, frame, key=lambda look: look.frame) for frame in (first, end))
        return self.looks[begin:stop]


def look_through(
    path: Path,
    frame_rate: Fraction,
    start_s: Fraction,
    duration_s: Fraction,
    detector: FaceDetector | None,
) -> Film:
    """Return what the piece of a film from `start_s` on shows.

    What cannot be decoded is a gap; the film goes on behind it.

    Args:
        frame_rate: at which it is looked at; its own.
        detector: finds faces; None: none are looked for, and `Look.num_faces` is 0.
    """
    import cv2
    from scenedetect import AdaptiveDetector, FrameTimecode

    film = Film(frame_rate, round(duration_s * frame_rate))
    cut_detector = AdaptiveDetector(min_content_val=MIN_CHANGE, min_scene_len=MIN_SHOT)
    every, dark_from, expected = max(round(LOOK_EVERY_S * frame_rate), 1), None, 0
    for index, frame in _readable_frames(path, film, start_s):
        film.size = (frame.shape[0], frame.shape[1])
        if index != expected:  # a gap ends here
            cut_detector = AdaptiveDetector(min_content_val=MIN_CHANGE, min_scene_len=MIN_SHOT)
        scale = min(CUT_WIDTH / frame.shape[1], 1)
        size = (max(round(frame.shape[1] * scale), 1), max(round(frame.shape[0] * scale), 1))
        small = np.ascontiguousarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA)[..., ::-1])
        cuts = cut_detector.process_frame(FrameTimecode(index, film.frame_rate), small)
        film.cuts += [cut.frame_num for cut in cuts]
        is_dark = small.mean() < DARK
        if is_dark and dark_from is None:
            dark_from = index
        elif not is_dark and dark_from is not None:
            film.gaps.append((dark_from, index, "it is dark"))
            dark_from = None
        if index % every == 0 and not is_dark:
            film.looks.append(_look(frame, index, detector))
        expected = index + 1
        del frame  # before the next one is decoded
    if dark_from is not None:
        film.gaps.append((dark_from, film.num_frames, "it is dark"))
    film.cuts.sort()
    return film


def _readable_frames(path: Path, film: Film, start_s: Fraction) -> Iterator[tuple[int, np.ndarray]]:
    """Yield the number and the image of each frame that can be decoded, and note the gaps."""
    index, gap_from, reason = 0, None, ""
    while index < film.num_frames:
        time_s = start_s + index / film.frame_rate
        duration_s = (film.num_frames - index) / film.frame_rate
        try:
            for frame in iter_frames(path, film.frame_rate, start_s=time_s, duration_s=duration_s):
                if gap_from is not None:
                    film.gaps.append((gap_from, index, reason))
                    gap_from = None
                yield index, frame
                del frame
                index += 1
            break
        except ValueError as error:
            gap_from = index if gap_from is None else gap_from
            reason = f"it cannot be decoded ({' '.join(str(error).split())})"
            index += max(round(RETRY_S * film.frame_rate), 1)
    if gap_from is None and film.num_frames - index == 1:  # rounding
        film.num_frames = index
    elif gap_from is None and index < film.num_frames:
        gap_from, reason = index, "the file ends before its time"
    if gap_from is not None:
        film.gaps.append((gap_from, film.num_frames, reason))


def _look(frame: np.ndarray, index: int, detector: FaceDetector | None) -> Look:
    grey = to_grey(frame)
    box, large = None, []
    if detector is not None:
        faces = sorted(detector.detect(grey), key=lambda face: -_area(face.box))
        large = [face for face in faces if _area(face.box) >= SECOND_FACE * _area(faces[0].box)]
        box = large[0].box if len(large) == 1 else None
    rows, columns = grey.max(axis=1) > BAR, grey.max(axis=0) > BAR
    bars = (*_margins(rows), *_margins(columns))
    return Look(index, box, len(large), bars, tuple(face.box for face in large))


def _area(box: np.ndarray) -> float:
    return float((box[2] - box[0]) * (box[3] - box[1]))


def _margins(is_lit: np.ndarray) -> tuple[int, int]:
    """Return how many lines are dark before the first and behind the last that is lit."""
    lit = np.flatnonzero(is_lit)
    return (int(lit[0]), len(is_lit) - 1 - int(lit[-1])) if len(lit) else (0, 0)


def find_crop(looks: list[Look], size: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return x1, y1, x2, y2 of what is left without black bars, None where there are none.

    Bars are on both sides, about equally wide, and black in all looks. The crop has even sides, and leaves one pixel
    of the image to the bar, whose edge is blurred.
    """
    if not looks:
        return None
    height, width = size
    top, bottom, left, right = (min(look.bars[side] for look in looks) for side in range(4))
    y1, y2 = _without_bars(top, bottom, height)
    x1, x2 = _without_bars(left, right, width)
    return None if (x1, y1, x2, y2) == (0, 0, width, height) else (x1, y1, x2, y2)


def _without_bars(before: int, after: int, side: int) -> tuple[int, int]:
    uneven, together = abs(before - after), before + after
    if min(before, after) < max(MIN_BAR * side, 2) or uneven > max(MAX_UNEVEN * side, 2) or together > MAX_BARS * side:
        return 0, side
    first, end = before + 1, side - after - 1
    return first, end - (end - first) % 2


def face_runs(looks: list[Look], first: int, end: int) -> list[tuple[int, int, str]]:
    """Return (first, end, problem) of the pieces of a shot, by who is seen: "" where it is one and the same face.

    One look without a face, or with another one beside, is bridged.

    Args:
        looks: of the shot, which goes from frame `first` to `end`.
    """
    kinds, previous = [], None
    for look in looks:
        kind = "no face" if not look.num_faces else SEVERAL if look.box is None else ""
        is_other = not kind and previous is not None and intersection_over_union(look.box, previous) < SAME_FACE
        kinds.append((kind, is_other))
        previous = look.box if look.box is not None else previous
    for index in range(1, len(kinds) - 1):  # a look that the detector missed
        if kinds[index][0] and not kinds[index - 1][0] and kinds[index + 1] == ("", False):
            kinds[index] = ("", False)
    runs: list[tuple[int, int, str]] = []
    for look, (kind, is_other) in zip(looks, kinds):
        if runs and runs[-1][2] == kind and not (is_other and not kind):
            runs[-1] = (runs[-1][0], look.frame + 1, kind)
        else:
            runs.append((look.frame, look.frame + 1, kind))
    return _filled(runs, first, end) if runs else [(first, end, "no face")]


def find_speakers(looks: list[Look], size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return a crop, x1, y1, x2, y2, around each of several faces that stay where they are; none where they do not.

    Each is a square, cut off half-way to the next face and at the edges of the image, with even sides.

    Args:
        looks: of a run in which several faces are seen.
        size: height and width of the image.
    """
    tracks = [[box] for box in looks[0].faces] if looks else []
    for look in looks[1:]:
        if len(look.faces) != len(tracks):
            return []
        for track in tracks:
            track.append(max(look.faces, key=lambda box: intersection_over_union(box, track[-1])))
            if intersection_over_union(*track[-2:]) < SAME_FACE:
                return []
    spans = [np.concatenate([np.min(track, axis=0)[:2], np.max(track, axis=0)[2:]]) for track in tracks]
    crops = [_crop_around(span, [other for other in spans if other is not span], size) for span in spans]
    return crops if all(crop is not None for crop in crops) else []


def _crop_around(
    span: np.ndarray, others: list[np.ndarray], size: tuple[int, int]
) -> tuple[int, int, int, int] | None:
    """Return the crop around a face, None where another one reaches into its span."""
    half = AROUND_FACE * max(span[2] - span[0], span[3] - span[1]) / 2
    centre = (span[:2] + span[2:]) / 2
    low, high = np.maximum(centre - half, 0), np.minimum(centre + half, size[::-1])
    for other in others:
        before, after = other[2:] <= span[:2], other[:2] >= span[2:]  # beside it, above or below
        axis = int(np.argmax(before | after))
        if before[axis]:
            low[axis] = max(low[axis], (other[2:] + span[:2])[axis] / 2)
        elif after[axis]:
            high[axis] = min(high[axis], (span[2:] + other[:2])[axis] / 2)
        else:
            return None
    low, sides = np.ceil(low), (np.floor(high) - np.ceil(low)) // 2 * 2
    return (int(low[0]), int(low[1]), int(low[0] + sides[0]), int(low[1] + sides[1]))


def _filled(runs: list[tuple[int, int, str]], first: int, end: int) -> list[tuple[int, int, str]]:
    """Return the runs with what lies between two looks given to those without a face, which is the safe side."""
    filled = []
    for index, (start, stop, kind) in enumerate(runs):
        if index == 0:
            start = first
        elif kind:
            start = runs[index - 1][1]
        if index == len(runs) - 1:
            stop = end
        elif kind:
            stop = runs[index + 1][0]
        filled.append((start, stop, kind))
    return filled


def loudness_of(path: Path, start_s: Fraction, duration_s: Fraction) -> np.ndarray:
    """Return the root mean square of a film's audio every `PIECE_S`, NaN where it cannot be decoded.

    It is read a minute at a time.
    """
    edges_s = [
        min(Fraction(number * AUDIO_PIECE_S), duration_s)
        for number in range(math.ceil(duration_s / AUDIO_PIECE_S) + 1)
    ]
    pieces = [_piece_loudness(path, start_s + a, b - a) for a, b in zip(edges_s, edges_s[1:])]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


def _piece_loudness(path: Path, start_s: Fraction, duration_s: Fraction) -> np.ndarray:
    size = round(PIECE_S * SAMPLING_RATE)
    samples = np.zeros(math.ceil(duration_s * SAMPLING_RATE / size) * size, np.float64)
    try:
        waveform, _ = read_audio(path, SAMPLING_RATE, 1, start_s=start_s, duration_s=duration_s)
    except ValueError:
        if duration_s <= MIN_AUDIO_PIECE_S:
            return np.full(len(samples) // size, np.nan, np.float32)
        half_s = Fraction(round(duration_s / 2))
        halves = ((start_s, half_s), (start_s + half_s, duration_s - half_s))
        return np.concatenate([_piece_loudness(path, *half) for half in halves])
    if waveform is not None:
        samples[: waveform.shape[1]] = waveform[0, : len(samples)]
    return np.sqrt((samples.reshape(-1, size) ** 2).mean(axis=1)).astype(np.float32)
