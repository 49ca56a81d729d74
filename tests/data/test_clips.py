# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which clips there are, and what is said about them."""

import pytest
import torch
from plain_clips import hum, rows_by_source, write_clip

from diffusers_jova.data import cache
from diffusers_jova.data.clips import find_sources, parse_labelled
from diffusers_jova.media import write_wav


def test_captions_come_from_metadata_and_from_files_beside_the_clip(clips, run):
    for name in ("a", "b", "c", "d"):
        write_clip(clips / f"{name}.mp4", 1)
    (clips / "sub").mkdir()
    write_wav(clips / "sub" / "e.wav", hum(0.2), 16000)
    (clips / "a.txt").write_text("\ufeffA woman. \n", encoding="utf-8")  # with the mark that Notepad writes
    (clips / "b.txt").write_text("<Video Caption>: A man.\n<Audio Caption>:\n<Transcript>: three\nfour")
    (clips / "c.json").write_text('{"video_caption": "from json", "transcript": "c"}')
    (clips / "c.txt").write_text("from txt")
    (clips / "metadata.jsonl").write_text('{"file_name": "c.mp4", "transcript": "from metadata", "other": 1}\n\n')
    (clips / "sub" / "metadata.csv").write_text('file_name,audio_caption,segments\ne.wav,rain,"[]"\n')
    (clips / "sub" / "e.txt").write_text("not needed")
    (clips / ".hidden.mp4").write_text("x")
    (clips / "poster.jpg").write_text("x")
    texts = {source.name: dict(source.texts) for source in find_sources(clips)}
    assert texts == {
        "a.mp4": {"video_caption": "A woman."},
        "b.mp4": {"video_caption": "A man.", "transcript": "three four"},
        "c.mp4": {"video_caption": "from json", "transcript": "from metadata"},
        "d.mp4": {},
        "sub/e.wav": {"audio_caption": "rain"},
    }


def test_labelled_prompts_are_taken_apart():
    assert parse_labelled("<Transcript>: one\n<Video Caption>: a\nb") == {"transcript": "one", "video_caption": "a b"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b'{"file_name": "a.mp4"}\n{"file_name"', "line 2, is not JSON"),
        (b'{"video_caption": "x"}', "line 1, has no `file_name`.*video_caption"),
        (b'["a.mp4"]', "line 1, must be an object"),
        (b'{"file_name": "a.mp4"}\n\n{"file_name": "a.mp4"}', "line 3, names `a.mp4` a second time"),
        ('{"file_name": "ä.mp4"}'.encode("latin-1"), "metadata.jsonl.*not UTF-8"),
    ],
)
def test_bad_metadata_is_named_with_its_line(content, message, clips, run):
    write_clip(clips / "a.mp4", 1)
    (clips / "metadata.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        find_sources(clips)


@pytest.mark.parametrize("stored_as", ["disk", "parquet"])
def test_clips_in_a_dataset_are_read_without_decoding_them_there(stored_as, run, clips, tmp_path):
    import datasets

    write_clip(clips / "a.mp4", 9)
    write_clip(clips / "b.mp4", 5)
    entries = [{"path": f"{name}.mp4", "bytes": (clips / f"{name}.mp4").read_bytes()} for name in "ab"]
    dataset = datasets.Dataset.from_dict({"video": entries, "video_caption": ["A", "B"], "transcript": ["one", None]})
    dataset = dataset.cast_column("video", datasets.Video(decode=False)).cast_column("video", datasets.Video())
    if stored_as == "disk":
        dataset.save_to_disk(tmp_path / "data")
    else:
        (tmp_path / "data").mkdir()
        dataset.to_parquet(tmp_path / "data" / "train.parquet")
    data = tmp_path / "data" if stored_as == "disk" else tmp_path / "data" / "train.parquet"
    run(data=data)
    rows = rows_by_source(tmp_path / "cache")
    found = [(r["source"], r["num_frames"], r["video_caption"], r["transcript"]) for r in rows.values()]
    assert found == [("train/000000-a.mp4", 9, "A", "one"), ("train/000001-b.mp4", 5, "B", "")]
    direct = run(data=clips / "a.mp4", output_dir=tmp_path / "direct")
    sample = cache.read_sample(tmp_path / "direct", direct.rows[0]["key"])
    other = cache.read_sample(tmp_path / "cache", rows["train/000000-a.mp4"]["key"])
    assert torch.equal(sample["video_moments"], other["video_moments"])


def test_dataset_without_clips_is_refused(tmp_path):
    import datasets

    datasets.Dataset.from_dict({"text": ["a"]}).save_to_disk(tmp_path / "data")
    with pytest.raises(ValueError, match="no column of clips.*text"):
        find_sources(tmp_path / "data")
