# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How clips are cut into windows, and which bucket each takes."""

from fractions import Fraction

import pytest
from plain_clips import BUCKET, RATE

from diffusers_jova.data.clips import Segment, Source
from diffusers_jova.data.probe import Probe
from diffusers_jova.data.windows import Bucket, choose_bucket, plan_windows


def plan(num_frames, segments=(), transcript="", bucket=BUCKET, has_video=True):
    found = Probe(64 * has_video, 64 * has_video, True, num_frames / RATE)
    texts = {"transcript": transcript} if transcript else {}
    return plan_windows(Source("clip.mp4", texts, tuple(segments)), found, "", bucket, RATE)


@pytest.mark.parametrize("num_frames, kept, warned", [(25, 25, 0), (26, 25, 0), (27, 25, 1), (22, 21, 0), (24, 21, 1)])
def test_the_longest_4k_plus_1_frames_are_kept_and_a_loss_of_more_than_one_is_said(num_frames, kept, warned):
    windows, warnings = plan(num_frames, transcript="one two")
    assert [(w.start_s, w.num_frames) for w in windows] == [(0, kept)]
    assert len(warnings) == warned


def test_4k_plus_1_costs_no_words_and_a_real_cut_without_segments_costs_them():
    def words(num_frames, *segments):
        windows, warnings = plan(num_frames, segments, transcript="one two")
        is_said = any("the transcript may say more than is heard, and is dropped" in warning for warning in warnings)
        assert is_said == (windows[0].texts["transcript"] == "")
        return windows[0].texts["transcript"]

    assert [words(n) for n in (22, 23, 24, 25, 26)] == ["one two"] * 5  # up to 3 lost; 26: one, as rounding is
    assert [words(n) for n in (27, 28, 100)] == [""] * 3  # longer than the bucket
    assert words(24, Segment(0.1, 1.9, "one two")) == "one two"
    assert words(100, Segment(0.1, 0.8, "one two")) == "one two"  # split by segments instead


def test_a_long_clip_is_split_where_segments_say_so_each_window_with_its_own_words():
    segments = [Segment(0.5, 1.2, "a"), Segment(1.3, 1.9, "b"), Segment(2.4, 3.9, "c"), Segment(4.0, 5.9, "d")]
    windows, warnings = plan(100, segments, transcript="all of it")
    assert [w.texts["transcript"] for w in windows] == ["a b", "c", "d"]
    assert len({w.key for w in windows}) == 3 and not warnings
    for window, (own, before, after) in zip(
        windows, (((0.5, 1.9), 0, 2.4), ((2.4, 3.9), 1.9, 4.0), ((4.0, 5.9), 3.9, 8))
    ):
        assert window.num_frames % 4 == 1 and window.num_frames <= 25
        end_s = float(window.start_s + window.num_frames / RATE)
        assert before <= window.start_s <= own[0] + 1e-6
        assert own[1] - 1 / 12.5 <= end_s <= after + 1e-6  # all of its words, none of the next
    assert (windows[0].num_frames, windows[0].start_s) == (25, Fraction(2, 5))  # earlier, to end before "c"


def test_words_between_words_are_kept_whole_and_the_overlap_is_said():
    segments = [Segment(i, i + 1, str(i)) for i in range(6)]  # 12.5 frames each: 9 would lose 3.5, 13 reach over 0.5
    windows, warnings = plan(75, segments, bucket=Bucket(64, 64, 17))
    assert [w.num_frames for w in windows] == [13] * 6
    assert not warnings  # half a frame
    segments = [Segment(0.8 * i, 0.8 * (i + 1), str(i)) for i in range(6)]  # 10 frames: 9 lose only one
    windows, warnings = plan(75, segments, bucket=Bucket(64, 64, 13))
    assert [w.num_frames for w in windows] == [9] * 5 + [13] and not warnings  # silence follows the last
    segments = [Segment(0.88 * i, 0.88 * (i + 1), str(i)) for i in range(6)]  # 11 frames: 9 lose two
    windows, warnings = plan(75, segments, bucket=Bucket(64, 64, 13))
    assert [w.num_frames for w in windows] == [13] * 6
    assert len(warnings) == 5 and "0.16 s into the words beside it" in warnings[0]


def test_a_segment_longer_than_the_bucket_is_left_out_and_said():
    windows, warnings = plan(100, [Segment(0, 1, "short"), Segment(2, 7, "long"), Segment(9, 10, "beyond")])
    assert [w.texts["transcript"] for w in windows] == ["short"]
    assert "longer than the bucket's 2.00 s" in warnings[0] and "the clip lasts 8.00 s" in warnings[1]


def test_a_clip_that_fits_is_one_window_with_all_its_words():
    windows, warnings = plan(25, [Segment(0, 1, "one"), Segment(1, 2, "two")])
    assert [w.texts["transcript"] for w in windows] == ["one two"] and not warnings


def test_sound_alone_is_filled_up_and_loses_nothing():
    assert [w.num_frames for w in plan(18, has_video=False)[0]] == [21]
    windows, warnings = plan(40, has_video=False)
    assert windows[0].num_frames == 25 and "loses 15 of 40 frames" in warnings[0]


def test_the_bucket_of_the_nearest_shape_is_chosen_then_the_longest():
    buckets = (Bucket(64, 112, 17), Bucket(112, 64, 17), Bucket(112, 64, 25), Bucket(224, 128, 25))

    def choose(height, width, frames):
        return choose_bucket(Probe(height, width, True, frames / RATE), buckets, RATE)

    assert choose(480, 832, 100) == buckets[0]
    assert choose(832, 480, 100) == buckets[3]
    assert choose(112, 64, 100) == buckets[2]  # does not enlarge
    assert choose(112, 64, 18) in buckets[1:3]
    assert choose(0, 0, 100).num_frames == 25
