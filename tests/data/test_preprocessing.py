# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""From clips to a cache: runs that are repeated, killed or divided, and the command."""

import json
import os
import signal
from pathlib import Path

import pytest
from drawn_faces import write_talking_clip
from plain_clips import content, hum, needs_dlib, rows_by_source, write_clip

from diffusers_jova.data import cache
from diffusers_jova.media import write_wav
from diffusers_jova.shards import parse_shard


# --- again ---


def test_a_second_run_writes_no_sample_again(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5, caption="a")
    first = str(run())
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "samples").iterdir()}
    assert str(run()) == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "samples").iterdir()} == before


def in_a_fork(function):
    """Run `function` in a process of its own and return how that ended: negative is the signal that killed it."""
    pid = os.fork()
    if pid == 0:
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_run_killed_again_and_again_ends_like_one_that_was_not(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 9, caption="a")
    write_clip(clips / "b.mp4", 5, caption="b", sound=False)
    write_wav(clips / "c.wav", hum(0.5), 16000)
    (clips / "broken.mp4").touch()
    uninterrupted = str(run(output_dir=tmp_path / "whole", preview=True))

    def run_until(num_writes):
        replace, written = os.replace, []

        def replace_or_die(*args):
            written.append(args)
            if len(written) > num_writes:
                os.kill(os.getpid(), signal.SIGKILL)  # the file is written, but still has its temporary name
            replace(*args)

        os.replace = replace_or_die
        run(preview=True)

    endings = []
    while not endings or endings[-1] == -signal.SIGKILL:
        endings.append(in_a_fork(lambda: run_until(4)))  # one of them is the fingerprint
        assert len(endings) < 20
    assert endings[-1] == 0 and len(endings) > 4
    assert str(run(preview=True)) == uninterrupted.replace(str(tmp_path / "whole"), str(tmp_path / "cache"))
    assert content(tmp_path / "cache") == content(tmp_path / "whole")
    assert not [path for path in content(tmp_path / "cache") if "partial" in path.name or "parts" in path.parts]


def test_a_full_disk_stops_the_run_and_loses_nothing(run, clips, tmp_path, monkeypatch):
    write_clip(clips / "a.mp4", 5, caption="a")
    write_clip(clips / "b.mp4", 5, caption="b")
    save_file = cache.save_file

    def save_on_a_full_disk(tensors, path, **kwargs):
        if path.name.startswith(".b-") and "text" in path.name:
            raise OSError(28, "No space left on device")
        save_file(tensors, path, **kwargs)

    monkeypatch.setattr(cache, "save_file", save_on_a_full_disk)
    with pytest.raises(OSError, match="the disk is full.*start the same command again"):
        run()
    monkeypatch.undo()
    write_clip(clips / "a.mp4", 9, value=200)  # what is left of the older clip is not used
    run()
    run(output_dir=tmp_path / "whole")
    assert content(tmp_path / "cache") == content(tmp_path / "whole")


def test_a_changed_clip_under_the_same_name_is_cached_again_and_said(run, clips, tmp_path, caplog):
    write_clip(clips / "a.mp4", 5, caption="a")
    write_clip(clips / "b.mp4", 5, caption="b")
    run()
    before = content(tmp_path / "cache" / "samples")
    write_clip(clips / "a.mp4", 9, value=200)
    run()
    assert "a.mp4: has changed since it was cached" in caplog.text and "b.mp4: has changed" not in caplog.text
    rows = rows_by_source(tmp_path / "cache")
    assert (rows["a.mp4"]["num_frames"], rows["b.mp4"]["num_frames"]) == (9, 5)
    after = content(tmp_path / "cache" / "samples")
    assert [name for name in before if before[name] != after[name]] == [Path(f"{rows['a.mp4']['key']}.safetensors")]


def test_a_changed_caption_is_encoded_again(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5, caption="a")
    run()
    (clips / "a.txt").write_text("another")
    run()
    assert cache.read_index(tmp_path / "cache")[0]["video_caption"] == "another"


def test_windows_that_a_clip_no_longer_has_leave_the_cache(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 60)
    write_clip(clips / "b.mp4", 5)
    segments = [{"start": 0, "end": 1, "text": "x"}, {"start": 3, "end": 4, "text": "y"}]
    (clips / "a.json").write_text(json.dumps({"segments": segments}))
    run()
    assert len(cache.read_index(tmp_path / "cache")) == 3
    (clips / "a.json").write_text(json.dumps({"segments": segments[:1]}))
    run()
    assert [row["transcript"] for row in cache.read_index(tmp_path / "cache")] == ["x", ""]


def test_damaged_samples_are_made_anew(run, clips, tmp_path, caplog):
    write_clip(clips / "a.mp4", 5)
    path = cache.sample_path(tmp_path / "cache", run().rows[0]["key"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    run()
    assert path.read_bytes() == whole and path.name in caplog.text


def test_shards_together_are_the_whole(run, clips, tmp_path):
    for name in "abc":
        write_clip(clips / f"{name}.mp4", 5, caption=name)
    for shard in ("0/2", "1/2"):
        run(shard=shard)
    run(output_dir=tmp_path / "whole")
    assert content(tmp_path / "cache") == content(tmp_path / "whole")
    assert [parse_shard(text) for text in ("0/4", "3/4", "4/4", "1/1")] == [(0, 4), (3, 4), (0, 4), (0, 1)]


# --- the command ---


@needs_dlib
def test_command_makes_a_cache_of_talking_faces_with_previews(command, run, clips, tmp_path, capsys):
    write_talking_clip(clips / "face.mp4", 5, seed=1)
    assert command("--preview", "--detect_every", "4", "--instance_prompt", "A man.", "--shard", "1/1") == 0
    assert "with a mouth: 1 of 1" in capsys.readouterr().out
    assert [path.suffix for path in (tmp_path / "cache" / "previews").iterdir()] == [".png"]
    assert rows_by_source(tmp_path / "cache")["face.mp4"]["video_caption"] == "A man."


def test_status_is_zero_only_if_a_clip_was_cached(command, run, clips, tmp_path, capsys):
    assert command("--no_mouth") == 2
    assert "no clip in" in capsys.readouterr().err
    (clips / "broken.mp4").touch()
    assert command("--no_mouth") == 1
    assert "skipped: 1" in capsys.readouterr().out
    write_clip(clips / "good.mp4", 5)
    assert command("--no_mouth") == 0
    assert "settings taken" not in capsys.readouterr().out
    write_clip(clips / "more.mp4", 5)
    assert command() == 0
    assert "2 samples" in (printed := capsys.readouterr().out)
    assert "settings taken from the cache: no mouth, crop centre" in printed


def test_missing_landmark_file_stops_before_any_work(command, run, clips, tmp_path, capsys):
    write_clip(clips / "a.mp4", 5)
    assert command("--landmarks", str(tmp_path / "no.dat")) == 2
    assert "no.dat" in (message := capsys.readouterr().err) and "pip install" in message
    assert not (tmp_path / "cache").exists()
