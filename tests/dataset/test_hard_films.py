# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Films and places that are as they happen to be: long, odd, damaged, on a full disk or on a share that goes away."""

import errno
import io
import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from filelock import FileLock
from plain_clips import write_variable_rate
from plain_films import COLOURS, SquareFinder, read_lines, scene, voice, write_film

from diffusers_jova.cli.dispatch import main
from diffusers_jova.dataset.annotation.nonsense import what_is_wrong
from diffusers_jova.dataset.split import SplitConfig, split
from diffusers_jova.files import InUseError
from diffusers_jova.media import containers


@pytest.fixture
def run(tmp_path):
    """Split tmp_path/films into tmp_path/split, in this process."""

    def run(**flags):
        flags = {"num_workers": 0, "max_s": 2.0} | flags
        return split(SplitConfig(str(tmp_path / "films"), str(tmp_path / "split"), **flags), SquareFinder())

    return run


def rows_of(tmp_path):
    return read_lines(tmp_path / "split" / "metadata.jsonl")


def write_hdr_film(path, scenes):
    """Write frames as HEVC in 10 bits, PQ and BT.2020, as phones and cameras do."""
    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx265", rate=25, options={"x265-params": "log-level=error", "preset": "ultrafast"}
        )
        frames = np.concatenate(scenes)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p10le"
        tags = {"color_trc": 16, "color_primaries": 9, "colorspace": 9}
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for index, pixels in enumerate(frames):
            deep = np.ascontiguousarray(pixels.astype(np.uint16) * 257)
            frame = av.VideoFrame.from_ndarray(deep, "rgb48le").reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            for name, value in tags.items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_ten_bits_of_hdr_are_split_as_other_films_are(run, tmp_path):
    scenes = [scene(np.array(colour) + 60, 30, squares=()) for colour in COLOURS[:2]]
    write_hdr_film(tmp_path / "films" / "phone.mp4", scenes)
    run(no_faces=True)
    assert [(row["start"], row["end"]) for row in rows_of(tmp_path)] == [(0, 1.2), (1.2, 2.4)]


def test_cuts_in_a_variable_frame_rate_are_where_their_timestamps_are(run, tmp_path):
    # a phone: 30 frames per second in bright light, 10 in the dark; frames counted, the second cut would be at 2.7 s
    times_ms = [33 * i for i in range(45)] + [1485 + 100 * i for i in range(15)] + [2985 + 33 * i for i in range(45)]
    frames = np.concatenate([scene(colour, n) for colour, n in zip(COLOURS, (45, 15, 45))])
    (tmp_path / "films").mkdir()
    write_variable_rate(tmp_path / "films" / "phone.mp4", times_ms, frames, voice(56), 16000)
    run()
    edges = [edge for row in rows_of(tmp_path) for edge in (row["start"], row["end"])]
    assert edges[1:-1] == pytest.approx([1.485, 1.485, 2.985, 2.985], abs=0.05)  # a frame of the average rate


def test_the_second_of_two_runs_on_one_folder_is_told_so(run, tmp_path):
    write_film(tmp_path / "films" / "a.mp4", [scene(COLOURS[0], 15)])
    (tmp_path / "split").mkdir()
    with FileLock(tmp_path / "split" / ".run.lock"), pytest.raises(InUseError, match="another run .* is at work in"):
        run()
    assert run().num_kept == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_on_a_full_disk_what_was_found_out_before_is_kept(run, tmp_path, capsys):
    for name in ("a", "b"):
        write_film(tmp_path / "films" / f"{name}.mp4", [scene(COLOURS[0], 15)])
    (tmp_path / "split").mkdir()
    (tmp_path / "split" / "films.jsonl").symlink_to("/dev/full")
    words = ["split", "--data", str(tmp_path / "films"), "--output_dir", str(tmp_path / "split"), "--no_faces"]
    assert main([*words, "--num_workers", "0"]) == 2
    said = capsys.readouterr().err
    assert "films.jsonl`: the disk is full. What was found out before is kept: free some space" in said
    (tmp_path / "split" / "films.jsonl").unlink()
    assert run().num_kept == 2


class LostShare(io.FileIO):
    """A file on a network share that goes away when this much of it has been read."""

    limit = 0

    def read(self, size=-1):
        content = super().read(size)
        if self.tell() > self.limit:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        return content


def test_a_share_that_goes_away_costs_what_lies_there_for_now_and_nothing_for_good(run, tmp_path, monkeypatch):
    lost = write_film(tmp_path / "films" / "lost.mp4", [scene(colour, 15) for colour in COLOURS[:3]], crf=0)
    write_film(tmp_path / "films" / "other.mp4", [scene(COLOURS[0], 15)])

    def opened(url):
        return LostShare(lost) if lost.name in url else url

    with monkeypatch.context() as patch:
        av_open = av.open
        LostShare.limit = lost.stat().st_size // 2
        patch.setattr(containers, "open", LostShare, raising=False)
        patch.setattr(av, "open", lambda url, *rest, **options: av_open(opened(url), *rest, **options))
        summary = run()
    ((name, reason),) = summary.skipped
    assert name == lost.name and "cannot be read now (Stale file handle): see whether its drive" in reason
    assert {Path(row["file_name"]).name for row in rows_of(tmp_path)} == {"other.mp4"}
    assert not run().skipped  # it is back, and was not noted as damaged
    assert {Path(row["file_name"]).name for row in rows_of(tmp_path)} == {"other.mp4", lost.name}


@pytest.mark.parametrize("said", ["", " \n", "...", "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd"])
def test_a_captioner_that_says_nothing_has_no_caption(said):
    assert what_is_wrong(said, "Describe the video.")


@pytest.mark.long
def test_ten_thousand_files_that_hold_nothing_are_counted_and_one_that_does_is_split(run, tmp_path):
    write_film(tmp_path / "films" / "film.mp4", [scene(COLOURS[0], 15)])
    for number in range(10_000):
        (tmp_path / "films" / f"{number:05d}.mp4").touch()
    summary = run()
    assert (summary.num_given, summary.num_kept, len(summary.skipped)) == (10_001, 1, 10_000)
    assert "10000 clips, like 00000.mp4: the file is empty (0 bytes)" in str(summary)
    report = json.loads((tmp_path / "split" / "report.json").read_text())
    assert len(report["skipped"]) == 10_000


PEAK = """
import resource, sys
from diffusers_jova.dataset.split import SplitConfig, split

print(split(SplitConfig(sys.argv[1], sys.argv[2], no_faces=True, num_workers=0)).kept_s)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.long
@pytest.mark.needs_program("ffmpeg")
def test_memory_does_not_grow_with_a_film_of_four_hours(tmp_path):
    """Measured: 15 minutes take 577 MiB, four hours 585 MiB."""
    peaks = []
    for minutes in (15, 240):
        film = tmp_path / f"{minutes}.mkv"
        seconds = 60 * minutes
        made = [f"testsrc=r=1:s=128x96:d={seconds}", f"sine=d={seconds}:r=8000"]
        inputs = [word for source in made for word in ("-f", "lavfi", "-i", source)]
        subprocess.run(["ffmpeg", "-v", "error", *inputs, "-preset", "ultrafast", "-c:a", "flac", film], check=True)
        words = [sys.executable, "-c", PEAK, film, tmp_path / f"split-{minutes}"]
        kept_s, peak = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()[-2:]
        assert float(kept_s) == pytest.approx(seconds, rel=0.01)
        peaks.append(int(peak) / 1024)
    assert peaks[1] < peaks[0] + 100
