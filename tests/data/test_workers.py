# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files that crash or hang their reader, in processes of their own."""

import numpy as np
import pytest
from drawn_faces import FaceInTheMiddle
from odd_items import crash, halve

from diffusers_jova.data import cache, plan
from diffusers_jova.data.clips import Source, find_sources
from diffusers_jova.data.settings import PreprocessingConfig
from diffusers_jova.media import write_video
from diffusers_jova.workers import Failure, Workers


@pytest.mark.parametrize("num_workers", [1, 3])
def test_items_that_crash_or_hang_cost_themselves_alone(num_workers):
    items = [2, "crash", 4, "hang", 6, "damage", 8, "disk"]
    with Workers(num_workers, timeout_s=3) as workers:
        results = list(workers.map(halve, items))
    assert [item for item, _ in results] == items
    assert [result for _, result in results[::2]] == [1, 2, 3, 4]
    failures = [result for _, result in results[1::2]]
    assert failures == [
        "reading it crashed the process",
        "reading it took more than 3 s",
        "damaged file",
        "not mounted",
    ]
    assert [failure.is_lasting for failure in failures] == [False, False, True, False]


def test_a_pool_that_closes_its_pipes_before_it_says_that_it_broke_is_broken():
    with Workers(3) as workers:
        workers._started()._call_queue._reader.close()  # as its thread does first when a process has crashed
        assert list(workers.map(halve, [2, 4])) == [(2, 1), (4, 2)]


def test_without_processes_errors_are_results_too():
    results = dict(Workers(0).map(halve, [2, "damage"]))
    assert results == {2: 1, "damage": "damaged file"} and isinstance(results["damage"], Failure)


def test_a_crash_while_planning_names_the_clip_and_what_was_cached_of_it_stays(cache_clips, tmp_path, monkeypatch):
    for name, value in (("a", 10), ("b", 100), ("c", 200)):
        write_video(tmp_path / "clips" / f"{name}.mp4", np.full((5, 64, 64, 3), value, np.uint8), 12.5)
    cache_clips()
    before = (tmp_path / "cache" / "index.jsonl").read_bytes()

    def with_a_crash(data, probe_captions):
        found = find_sources(data, probe_captions)
        return [Source(source.name, content=crash) if source.name == "b.mp4" else source for source in found]

    monkeypatch.setattr(plan, "find_sources", with_a_crash)
    summary = cache_clips(num_workers=1)
    assert summary.skipped == [("b.mp4", "reading it crashed the process")]
    assert [row["source"] for row in summary.rows] == ["a.mp4", "c.mp4"]
    assert (tmp_path / "cache" / "index.jsonl").read_bytes() == before
    assert cache_clips(output_dir=tmp_path / "new", num_workers=1).skipped == summary.skipped
    assert [row["source"] for row in cache.read_index(tmp_path / "new")] == ["a.mp4", "c.mp4"]


def test_children_read_clips_by_default_and_give_the_same_cache(cache_clips, tmp_path, caplog):
    class OnlyHere(FaceInTheMiddle):
        """Cannot be sent: it has no name in any module."""

    write_video(tmp_path / "clips" / "a.mp4", np.full((9, 64, 64, 3), 90, np.uint8), 12.5)
    (tmp_path / "clips" / "a.txt").write_text("A man.")
    assert PreprocessingConfig("", "", "").num_workers == 1
    cache_clips(detector=FaceInTheMiddle())
    cache_clips(detector=FaceInTheMiddle(), output_dir=tmp_path / "children", num_workers=2)
    for path in (tmp_path / "cache" / "samples").iterdir():
        assert path.read_bytes() == (tmp_path / "children" / "samples" / path.name).read_bytes()
    assert "another process" not in caplog.text
    summary = cache_clips(detector=OnlyHere(), output_dir=tmp_path / "here", num_workers=1)
    assert [row["video_caption"] for row in summary.rows] == ["A man."]
    assert "OnlyHere cannot be sent to another process" in caplog.text
