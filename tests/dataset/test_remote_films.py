# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Films, rows and tars that do not lie on this machine: the same clips come out."""

import json
import tarfile
from dataclasses import replace

import pytest
from plain_clips import content
from plain_films import COLOURS, RATE, SquareFinder, read_lines, scene, write_film
from tiny_annotators import CAPTION, make_qwen2_vl

from diffusers_jova.cli.dispatch import main
from diffusers_jova.data.clips import examine, find_sources
from diffusers_jova.data.preprocessing import PreprocessingConfig, preprocess
from diffusers_jova.dataset.annotation.annotate import AnnotationConfig, annotate
from diffusers_jova.dataset.filter import FilterConfig, filter_clips
from diffusers_jova.dataset.pack import PackConfig, pack
from diffusers_jova.dataset.split import SplitConfig, split
from diffusers_jova.pipelines.random_pipeline import create_pipeline


EASY = {"min_resolution": 90, "min_sharpness": None, "min_speech": None, "max_other": None, "min_snr": None}
EASY |= {"min_lips": None, "max_lag_s": None, "max_motion": None, "min_motion": 0.01}


@pytest.fixture
def films(tmp_path):
    film = write_film(tmp_path / "films" / "talk.mp4", [scene(colour, 15) for colour in COLOURS[:2]])
    film.with_suffix(".txt").write_text("A square.")
    return tmp_path / "films"


def rows_of(store, folder):
    return [json.loads(line) for line in store.cat(f"/{folder}/metadata.jsonl").splitlines()]


def test_films_and_rows_elsewhere_are_split_and_filtered_as_here(store, films, tmp_path):
    store.put(str(films), "/films", recursive=True)
    summary = split(SplitConfig("memory://films", "memory://split", max_s=2.0, num_workers=0), SquareFinder())
    assert summary.num_kept == 2
    rows = rows_of(store, "split")
    assert {row["file_name"] for row in rows} == {"memory://films/talk.mp4"}
    assert {row["video_caption"] for row in rows} == {"A square."}
    split(SplitConfig(str(films), str(tmp_path / "split"), max_s=2.0, num_workers=0), SquareFinder())
    here = read_lines(tmp_path / "split" / "metadata.jsonl")
    assert [row | {"file_name": ""} for row in rows] == [row | {"file_name": ""} for row in here]

    config = FilterConfig("memory://split", "memory://filtered", EASY, max_distance=None, num_workers=0, report=True)
    assert filter_clips(config, SquareFinder()).num_kept == 2
    assert b"<video" in store.cat("/filtered/report.html")
    (source, _) = find_sources("memory://filtered")
    assert source.name == "memory://films/talk.mp4#t=0,1.2" and examine(source)[0].has_audio


def test_clips_elsewhere_are_described_and_become_a_cache_elsewhere(store, films, tmp_path):
    store.put(str(films / "talk.mp4"), "/films/talk.mp4")
    clip = {"file_name": "memory://films/talk.mp4", "start": 0, "end": 1.2}
    store.pipe("/split/metadata.jsonl", json.dumps(clip).encode())
    make_qwen2_vl(tmp_path / "captioner")
    here = {"num_workers": 0, "device": "cpu"}
    model = {"levels": ("video_caption",), "video_captioner": str(tmp_path / "captioner"), "max_new_tokens": 12}
    annotate(AnnotationConfig("memory://split", "memory://annotated", **model, **here))
    (row,) = rows_of(store, "annotated")
    assert row == clip | {"video_caption": "".join(CAPTION)}

    create_pipeline(num_layers=1, num_single_layers=1).save_pretrained(tmp_path / "model")
    size = {"buckets": ("64x64x9",), "frame_rate": RATE, "no_mouth": True, "no_line_dropout_variants": True}
    config = PreprocessingConfig("memory://annotated", str(tmp_path / "model"), "memory://cache", **size, **here)
    summary = preprocess(config)
    assert [row["source"] for row in summary.rows] == ["memory://films/talk.mp4#t=0,1.2"] and not summary.skipped
    preprocess(replace(config, output_dir=str(tmp_path / "cache")))
    store.get("/cache", str(tmp_path / "copy"), recursive=True)
    assert content(tmp_path / "copy") == content(tmp_path / "cache")


def test_a_part_of_the_clips_is_refused_where_machines_do_not_share_the_output(store, tmp_path, capsys):
    clips = ["preprocess", "--data", "memory://clips", "--model", str(tmp_path), "--output_dir"]
    assert main([*clips, "memory://cache", "--shard", "1/2"]) == 2
    assert "`--shard` wants an output folder that all machines see, not `memory://cache`" in capsys.readouterr().err
    assert not store.find("/") and not (tmp_path / "home").exists()


def test_rows_elsewhere_name_films_of_this_machine_in_full(store, films, tmp_path):
    split(SplitConfig(str(films), "memory://split", max_s=2.0, num_workers=0), SquareFinder())
    assert {row["file_name"] for row in rows_of(store, "split")} == {str(films / "talk.mp4")}
    with pytest.raises(ValueError, match="is or lies in `memory://split`: choose another output"):
        filter_clips(FilterConfig("memory://split", "memory://split/filtered"), SquareFinder())


def test_shards_of_webdataset_are_read_like_folders(films, tmp_path):
    (tmp_path / "shards").mkdir()
    (films / "talk.json").write_text(json.dumps({"transcript": "Two words."}))
    for number in range(2):
        with tarfile.open(tmp_path / "shards" / f"{number:03d}.tar", "w") as tar:
            for suffix in ("video.mp4", "txt", "json"):  # a key ends at its first dot
                tar.add(films / f"talk.{suffix.rpartition('.')[2]}", f"{number:06d}.{suffix}")
    first, second = find_sources(tmp_path / "shards")
    assert (first.name, second.name) == ("000.tar/000000.video.mp4", "001.tar/000001.video.mp4")
    assert first.texts == {"transcript": "Two words.", "video_caption": "A square."}
    assert examine(first)[0].duration_s == pytest.approx(2.4)
    assert [source.name for source in find_sources(tmp_path / "shards" / "001.tar")] == [second.name]

    split(SplitConfig(str(tmp_path / "shards"), str(tmp_path / "split"), max_s=2.0, num_workers=0), SquareFinder())
    rows = read_lines(tmp_path / "split" / "metadata.jsonl")
    assert rows[0]["file_name"] == f"tar://000000.video.mp4::{tmp_path / 'shards' / '000.tar'}" and len(rows) == 4
    assert examine(find_sources(tmp_path / "split")[0])[0].has_video


def test_clips_go_into_tars_and_come_out_as_they_were(films, tmp_path):
    split(SplitConfig(str(films), str(tmp_path / "split"), max_s=2.0, num_workers=0), SquareFinder())
    rows = read_lines(tmp_path / "split" / "metadata.jsonl")
    rows = [row | {"mine": number} for number, row in enumerate(rows)] + [{"file_name": "../films/gone.mp4"}]
    (tmp_path / "split" / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = PackConfig(str(tmp_path / "split"), str(tmp_path / "shards"), shard_size=1, num_workers=0)
    summary = pack(config)
    assert (summary.num_kept, summary.kept_s) == (2, 2.4) and "../films/gone.mp4" in summary.skipped[0][0]
    before = {path.name: path.read_bytes() for path in (tmp_path / "shards").glob("*.tar")}
    assert sorted(before) == ["000000.tar", "000001.tar"]
    for row, source in zip(rows, find_sources(tmp_path / "shards")):
        assert source.row["mine"] == row["mine"] and source.texts == {"video_caption": "A square."}
        assert source.row["source"] == f"../films/talk.mp4#t={row['start']:g},{row['end']:g}"
        assert examine(source)[0].duration_s == pytest.approx(1.2)
    with tarfile.open(tmp_path / "shards" / "000000.tar") as tar:
        video, said = tar.getnames()
    assert video.partition(".")[0] == said.partition(".")[0] and (video[-4:], said[-5:]) == (".mp4", ".json")

    for path in (tmp_path / "shards").glob("*.tar"):
        path.write_bytes(b"as it was")
    assert pack(config).num_kept == 2  # what is there is not written again
    (tmp_path / "shards" / "000001.tar").unlink()
    pack(config)
    assert (tmp_path / "shards" / "000000.tar").read_bytes() == b"as it was"
    assert (tmp_path / "shards" / "000001.tar").read_bytes() == before["000001.tar"]
    with pytest.raises(ValueError, match="`--shard_size` must be 1 or more clips, got 0"):
        pack(PackConfig("x", "y", shard_size=0))


def test_a_tar_that_is_cut_short_is_named_and_the_others_are_read(films, tmp_path):
    for name in ("a", "b"):
        with tarfile.open(tmp_path / "films" / f"{name}.tar", "w") as tar:
            tar.add(films / "talk.mp4", f"{name}.mp4")
    (films / "b.tar").write_bytes((films / "b.tar").read_bytes()[:300])
    problems = {source.name: source.problem for source in find_sources(films, probe_captions=False)}
    assert problems.pop("b.tar").startswith("it is not a whole tar")
    assert problems == {"a.tar/a.mp4": "", "talk.mp4": ""}
