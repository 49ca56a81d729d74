# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What leaves the cache, what stays in it, and what is found to be damaged."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from diffusers_jova.data import cache, inventory
from diffusers_jova.data.clips import find_sources
from diffusers_jova.media import write_video
from diffusers_jova.training.dataset import CachedClips, Visit


def write_clips(folder, **values):
    folder.mkdir(exist_ok=True)
    for name, value in values.items():
        write_video(folder / f"{name}.mp4", np.full((5, 64, 64, 3), value, np.uint8), 12.5)
        (folder / f"{name}.txt").write_text(f"A {name}.")


def sources(folder):
    return sorted(row["source"] for row in cache.read_index(folder))


def content(folder):
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "report.json")
    return {path.relative_to(folder): path.read_bytes() for path in files}


@pytest.fixture
def clips(tmp_path):
    return tmp_path / "clips"


# --- clips that are gone ---


def test_a_deleted_clip_leaves_index_samples_and_previews_and_this_is_said(cache_clips, clips, tmp_path):
    write_clips(clips, a=10, b=100)
    cache_clips(preview=True)
    (clips / "a.mp4").unlink()
    summary = cache_clips(preview=True)
    assert summary.removed == ["a.mp4"] and "gone, removed from the cache: a.mp4" in str(summary)
    assert sources(tmp_path / "cache") == ["b.mp4"]
    for folder in ("samples", "previews"):
        assert [path.name[0] for path in (tmp_path / "cache" / folder).iterdir()] == ["b"]
    assert "gone" not in str(cache_clips(preview=True))


def test_a_renamed_clip_keeps_its_sample_under_its_new_name(cache_clips, clips, tmp_path, monkeypatch):
    write_clips(clips, a=10, b=100)
    cache_clips(preview=True)
    for suffix in (".mp4", ".txt"):
        (clips / f"a{suffix}").rename(clips / f"c{suffix}")
    with monkeypatch.context() as patched:
        patched.setattr("diffusers_jova.data.encode.load_phase", None)  # nothing is encoded again
        cache_clips(preview=True)
    cache_clips(output_dir=tmp_path / "fresh", preview=True)
    assert content(tmp_path / "cache") == content(tmp_path / "fresh")


def test_a_clip_that_can_no_longer_be_used_leaves_the_index(cache_clips, clips, tmp_path):
    write_clips(clips, a=10, b=100)
    cache_clips()
    assert [name for name, _ in cache_clips(require_audio=True).skipped] == ["a.mp4", "b.mp4"]
    with pytest.raises(ValueError, match="no clip was cached"):
        cache.read_index(tmp_path / "cache")


def test_what_is_cached_of_films_whose_drive_is_away_stays_until_it_is_back(cache_clips, clips, tmp_path):
    share = tmp_path / "share"
    write_clips(share, red=200, grey=100)
    rows = [{"file_name": f"../share/{name}.mp4"} for name in ("red", "grey")]
    (clips / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    cache_clips()
    before = content(tmp_path / "cache")
    share.rename(tmp_path / "elsewhere")
    share.mkdir()  # the empty place where it is mounted
    summary = cache_clips()
    assert "is not there or empty. Is its drive or network share mounted?" in summary.skipped[0][1]
    assert content(tmp_path / "cache") == before and not summary.removed
    (share / "other.mp4").touch()  # mounted, and the films are gone
    assert len(inventory.find_leftovers(tmp_path / "cache", str(clips), find_sources(clips)).gone) == 2


def test_each_shard_sees_which_clips_are_gone(cache_clips, clips, tmp_path):
    write_clips(clips, a=10, b=100, c=200)
    cache_clips()
    (clips / "b.mp4").unlink()
    cache_clips(shard="1/2")
    assert sources(tmp_path / "cache") == ["a.mp4", "c.mp4"]


def test_a_second_folder_adds_to_the_cache_and_each_notices_what_is_gone(cache_clips, clips, tmp_path):
    write_clips(clips, a=10, b=100)
    write_clips(tmp_path / "more", c=30, d=40)
    cache_clips()
    summary = cache_clips(tmp_path / "more")
    assert not summary.removed and not summary.unclear
    assert sources(tmp_path / "cache") == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    (clips / "b.mp4").unlink()
    assert cache_clips(tmp_path / "more").removed == ["b.mp4"]
    assert sources(tmp_path / "cache") == ["a.mp4", "c.mp4", "d.mp4"]


def test_samples_of_data_that_cannot_be_seen_stay_until_they_are_given_up(cache_clips, clips, tmp_path):
    write_clips(clips, a=10)
    write_clips(tmp_path / "more", b=30)
    cache_clips(tmp_path / "more")
    shutil.rmtree(tmp_path / "more")  # a drive that is not mounted looks the same
    summary = cache_clips()
    assert (summary.removed, summary.unclear) == ([], ["b.mp4"])
    assert "b.mp4 (they may be in" in str(summary) and "--remove_missing" in str(summary)
    assert sources(tmp_path / "cache") == ["a.mp4", "b.mp4"]
    assert cache_clips(remove_missing=True).removed == ["b.mp4"]
    assert sources(tmp_path / "cache") == ["a.mp4"]
    assert not cache_clips().unclear


def test_a_cache_without_a_list_of_its_data_loses_nothing_by_itself(cache_clips, clips, tmp_path):
    write_clips(clips, a=10, b=100)
    cache_clips()
    (tmp_path / "cache" / "data.json").unlink()  # as caches were before
    (clips / "a.mp4").unlink()
    for _ in range(2):
        summary = cache_clips()
        assert summary.unclear == ["a.mp4"] and summary.unseen == [inventory.NOT_NOTED]
    (clips / "b.txt").write_text("Another.")
    assert cache_clips(remove_missing=True).removed == ["a.mp4"]
    (tmp_path / "cache" / "data.json").unlink()
    cache_clips()  # all that it holds is there, so it is known from now on
    assert json.loads((tmp_path / "cache" / "data.json").read_text()) == {"data": [str(clips)]}


# --- content hashes ---


def flip_a_bit(path, offset):
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    path.write_bytes(content)


def test_a_flipped_bit_is_found_when_a_sample_is_read_and_mended_by_the_next_run(cache_clips, clips, tmp_path, caplog):
    write_clips(clips, a=10, b=100)
    row = cache_clips().rows[0]
    path = cache.sample_path(tmp_path / "cache", row["key"])
    whole = content(tmp_path / "cache")
    for offset in (-41, len(path.read_bytes()) // 2, path.read_bytes().index(b"A a.") + 2):
        flip_a_bit(path, offset)
        with pytest.raises(ValueError, match=f"{path.name}` is damaged.*not what was written.*jova preprocess"):
            CachedClips(tmp_path / "cache")[Visit(row["key"], 0)]
        caplog.clear()
        cache_clips()
        assert path.name in caplog.text
        assert content(tmp_path / "cache") == whole


def test_a_flipped_bit_in_what_all_samples_share_is_found_and_mended(cache_clips, clips, tmp_path):
    write_clips(clips, a=10)
    cache_clips()
    path, whole = tmp_path / "cache" / "shared.safetensors", content(tmp_path / "cache")
    flip_a_bit(path, -5)
    with pytest.raises(ValueError, match="shared.safetensors` is damaged"):
        cache.read_shared(tmp_path / "cache")
    cache_clips()
    assert content(tmp_path / "cache") == whole


def test_samples_are_not_read_again_where_nobody_wants_it(cache_clips, clips, tmp_path):
    write_clips(clips, a=10)
    path = cache.sample_path(tmp_path / "cache", cache_clips().rows[0]["key"])
    flip_a_bit(path, -41)
    damaged = path.read_bytes()
    cache_clips(no_verify=True)
    assert path.read_bytes() == damaged


def test_samples_without_a_hash_are_read_unchecked_and_stay_as_they_are(cache_clips, clips, tmp_path):
    write_clips(clips, a=10)
    path = cache.sample_path(tmp_path / "cache", cache_clips().rows[0]["key"])
    row, tensors = cache.read_row(path), cache.read_tensors(path)
    save_file(tensors, path, metadata={"row": json.dumps(row, ensure_ascii=False)})  # as samples were before
    before = path.read_bytes()
    cache_clips()
    assert path.read_bytes() == before
    read = cache.read_tensors(path)
    torch.testing.assert_close(read, tensors, rtol=0, atol=0, equal_nan=True)


def test_the_hash_is_in_the_file_and_not_in_the_row(cache_clips, clips, tmp_path):
    write_clips(clips, a=10)
    path = cache.sample_path(tmp_path / "cache", cache_clips().rows[0]["key"])
    with safe_open(path, framework="pt") as file:
        assert len(json.loads(file.metadata()["row"])[cache.CONTENT_HASH]) == 32
    assert cache.CONTENT_HASH not in cache.read_row(path)
    assert cache.CONTENT_HASH not in (tmp_path / "cache" / "index.jsonl").read_text()
