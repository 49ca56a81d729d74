# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""From a folder of films to a cache, by one command."""

import json

import pytest
from plain_films import COLOURS, SETTINGS, scene, voice, write_film
from tiny_annotators import CAPTION, make_audio_flamingo, make_qwen2_vl, make_whisper

from diffusers_jova.cli.dataset import read_settings
from diffusers_jova.cli.dispatch import main
from diffusers_jova.data import cache
from diffusers_jova.pipelines.random_pipeline import create_pipeline


@pytest.fixture
def command(tmp_path):
    film = write_film(tmp_path / "films" / "talk.mp4", [scene(colour, 15) for colour in COLOURS[:2]])
    film.with_suffix(".txt").write_text("A square.")
    write_film(tmp_path / "films" / "silent.mp4", [scene(COLOURS[2], 15)], 0 * voice(15))
    (tmp_path / "dataset.yaml").write_text(SETTINGS)
    create_pipeline(num_layers=1, num_single_layers=1).save_pretrained(tmp_path / "model")
    flags = {"model": "model", "output_dir": "cache", "config": "dataset.yaml"}
    words = [word for flag, name in flags.items() for word in (f"--{flag}", str(tmp_path / name))]
    return ["dataset", str(tmp_path / "films"), *words, "--no_faces", "--num_workers", "0"]


def test_films_become_a_cache_of_their_good_clips(command, tmp_path, capsys):
    assert main([*command, "--dry_run"]) == 0
    assert "it is mostly silent: 1" in capsys.readouterr().out and not (tmp_path / "cache" / "index.jsonl").exists()
    assert main(command) == 0
    rows = {row["source"]: row for row in cache.read_index(tmp_path / "cache")}
    film = "../../../films/talk.mp4#t="
    assert set(rows) == {f"{film}0,1.2", f"{film}1.2,2.4"}
    assert {row["video_caption"] for row in rows.values()} == {"A square."}


@pytest.mark.long
def test_films_become_a_cache_with_captions_that_models_made(command, tmp_path, capsys):
    (tmp_path / "films" / "talk.txt").unlink()
    makers = {"video_captioner": make_qwen2_vl, "audio_captioner": make_audio_flamingo, "transcriber": make_whisper}
    for name, make in makers.items():
        make(tmp_path / name)
    flags = {**{name: str(tmp_path / name) for name in makers}, "device": "cpu", "max_new_tokens": 12}
    (tmp_path / "dataset.yaml").write_text(f"{SETTINGS.replace('64x64x9', '64x64x17')}annotate: {json.dumps(flags)}\n")
    assert main([*command, "--captions", "made"]) == 0
    rows = list(cache.read_index(tmp_path / "cache"))
    assert len(rows) == 2
    for row in rows:
        assert {row["video_caption"], row["audio_caption"]} == {"".join(CAPTION)} and row["transcript"]
    before = (tmp_path / "cache" / "index.jsonl").read_bytes()
    capsys.readouterr()
    assert main([*command, "--captions", "made"]) == 0  # once more: nothing is asked again
    assert "annotated now" not in capsys.readouterr().out
    assert (tmp_path / "cache" / "index.jsonl").read_bytes() == before


def test_a_setting_that_no_step_has_is_named(tmp_path, command, capsys):
    (tmp_path / "dataset.yaml").write_text("split: {min_beauty: 1}")
    assert main(command) == 2
    assert "`split` has no setting `min_beauty`" in capsys.readouterr().err
    (tmp_path / "dataset.yaml").write_text("cut: {min_s: 1}")
    with pytest.raises(ValueError, match="must have flags by step .*got 'cut'"):
        read_settings(tmp_path / "dataset.yaml")
