# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`score` on tiny real clips, with a tiny DINOv3 and texts that stand for a recogniser's."""

import json
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from name_seeded import name_seeded_weights
from PIL import Image
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from diffusers_jova.cli.dispatch import main
from diffusers_jova.cli.score import read_transcripts
from diffusers_jova.media import write_video
from diffusers_jova.nano.faces import Identity, Pose, draw_face


DINO = "dinov3-vitl16-pretrain-lvd1689m"
WORDS = {"a": "look at me", "b": "good morning", "c": ""}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder of weights: a tiny DINOv3, and SyncNet's with what its names draw."""
    folder = tmp_path_factory.mktemp("weights")
    config = DINOv3ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_register_tokens=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        deepcopy(DINOv3ViTModel(config)).save_pretrained(folder / DINO)
    torch.save(name_seeded_weights("syncnet"), folder / "syncnet_v2.model")
    return folder


def frames_of(seed, num_frames=6, height=48, width=64):
    corners = np.random.default_rng(seed).integers(0, 256, (num_frames, 2, 2, 3), np.uint8)
    return corners.repeat(height // 2, axis=1).repeat(width // 2, axis=2)


def tone(num_samples, hz=440):
    return (0.3 * np.sin(np.arange(num_samples) * 2 * np.pi * hz / 16000)).astype(np.float32)


def write_prompts(path, rows):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Three clips with pictures and texts, as a folder; nobody writes there."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "clips").mkdir()
    rows = []
    for seed, (name, text) in enumerate(WORDS.items()):
        frames = frames_of(seed)
        write_video(folder / "clips" / f"{name}.mp4", frames, 25, tone(3840, 300 + seed), 16000)
        Image.fromarray(frames[0]).save(folder / f"{name}.png")
        rows.append({"id": name, "set": "talk" if seed < 2 else "noise", "image": f"{name}.png", "speech_text": text})
    write_prompts(folder / "prompts.jsonl", rows)
    write_prompts(folder / "heard.jsonl", [{"id": "a", "text": "look me"}, {"id": "b", "text": "good morning"}])
    return folder


def run_score(data, weights, out, *more):
    arguments = ["score", str(data / "clips"), "--prompts", str(data / "prompts.jsonl"), "--weights", str(weights)]
    arguments += ["--device", "cpu", "--jobs", "0", "--out", str(out / "report.json"), *map(str, more)]
    status = main(arguments)
    path = out / "report.json"
    return status, json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def test_a_folder_of_clips_goes_in_and_a_report_comes_out(data, weights, tmp_path):
    status, report = run_score(
        data, weights, tmp_path, "--metrics", "ID,WER", "--transcripts", data / "heard.jsonl", "--wer-average", "micro"
    )
    assert status == 0
    assert report["format"] == "diffusers-jova score 1"
    assert report["header"]["variants"] == {"WER": "whisper", "ID": "patch"}
    assert [entry["name"] for entry in report["header"]["weights"]] == [f"{DINO}/"]
    assert len(report["header"]["weights"][0]["sha256"]) == 64
    assert [clip["name"] for clip in report["clips"]] == ["talk/a", "talk/b", "noise/c"]
    clip = report["clips"][0]
    assert (clip["num_frames"], clip["height"], clip["width"], clip["frame_rate"]) == (6, 48, 64, 25)
    assert clip["results"]["WER"]["values"]["WER"] == pytest.approx(1 / 3)
    assert clip["results"]["WER"]["details"]["transcript"] == "look me"

    words = report["summary"]["all"]["WER"]
    assert words["mean"] == pytest.approx(1 / 5)  # one error in five words
    assert (words["n_used"], words["n_expected"], words["statuses"]) == (2, 2, {"no_text": 1, "ok": 2})
    likeness = report["summary"]["all"]["ID"]
    values = [clip["results"]["ID"]["values"]["ID"] for clip in report["clips"]]
    assert likeness["mean"] == pytest.approx(np.mean(values))
    assert likeness["interval"][0] <= likeness["mean"] <= likeness["interval"][1]
    assert report["summary"]["noise"]["ID"]["mean"] == pytest.approx(values[2])
    assert set(report["summary"]) == {"all", "talk", "noise"}
    for suffix in (".md", ".html"):
        assert "WER ↓ (whisper)" in (tmp_path / "report.json").with_suffix(suffix).read_text(encoding="utf-8")


def result(report, name, metric):
    """Return one clip's result for a metric."""
    return next(clip for clip in report["clips"] if clip["name"] == name)["results"][metric]


def test_what_was_measured_is_not_measured_again(data, weights, tmp_path, capsys):
    clips = tmp_path / "clips"
    clips.mkdir()
    for path in (data / "clips").iterdir():
        (clips / path.name).write_bytes(path.read_bytes())
    for path in data.glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    _, first = run_score(tmp_path, weights, tmp_path, "--metrics", "ID")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "report.cache").rglob("*.json")}
    assert len(kept) == 7  # of three clips how they decode and what DINOv3 saw, and a checksum of its weights

    (clips / "b.mp4").write_bytes((clips / "c.mp4").read_bytes())  # as if the run had been killed before b
    _, second = run_score(tmp_path, weights, tmp_path, "--metrics", "ID", "--variant", "ID=cls")
    after = {path: path.stat().st_mtime_ns for path in (tmp_path / "report.cache").rglob("*.json")}
    new = {path for path in after if after[path] != kept.get(path)}
    assert len(new & set(kept)) == 1 and len(new - set(kept)) == 1  # how b decodes now, as c did, and its likeness
    for name in ("talk/a", "noise/c"):
        assert result(second, name, "ID")["values"]["ID"] == result(first, name, "ID")["details"]["cls"]


def test_without_weights_nothing_is_measured_but_what_is_asked_for(data, weights, tmp_path, capsys):
    status, report = run_score(data, weights, tmp_path, "--metrics", "ID,MS")
    told = capsys.readouterr()
    assert (status, report) == (2, None)
    assert "MS=verse: missing: raft-things.pth" in told.out
    assert "https://github.com/princeton-vl/RAFT" in told.out and "BSD-3-Clause" in told.out
    assert "--skip-missing" in told.err and not list(tmp_path.iterdir())

    status, report = run_score(data, weights, tmp_path, "--metrics", "ID,MS", "--skip-missing")
    assert status == 0
    assert set(report["summary"]["all"]) == {"ID"}
    assert report["header"]["not_measured"] == {"MS": "missing: raft-things.pth"}


def test_a_metric_that_needs_transcripts_is_left_out_on_request(data, weights, tmp_path):
    _, report = run_score(data, weights, tmp_path, "--profile", "verse", "--metrics", "ID,WER", "--skip-missing")
    assert list(report["header"]["variants"]) == ["ID"] and "transcripts" in report["header"]["not_measured"]["WER"]


def test_status_is_1_only_if_no_clip_has_any_value(data, weights, tmp_path):
    heard = tmp_path / "heard.jsonl"
    flags = ["--metrics", "WER", "--transcripts", heard]
    write_prompts(heard, [{"id": "nobody", "text": "look"}])
    status, report = run_score(data, weights, tmp_path, *flags)
    assert status == 1 and report["summary"]["all"]["WER"]["n_used"] == 0
    write_prompts(heard, [{"id": "a", "text": "look me"}])
    status, report = run_score(data, weights, tmp_path, *flags)
    assert status == 0 and report["summary"]["all"]["WER"]["n_used"] == 1


def test_check_says_what_is_there_and_what_is_missing(weights, capsys):
    assert main(["score", "--check", "--weights", str(weights), "--metrics", "ID,LSE"]) == 1
    told = capsys.readouterr().out
    assert "LSE=s3fd50: missing: sfd_face.pth\n" in told and "ID=patch: ready" in told
    assert main(["score", "--check", "--weights", str(weights), "--metrics", "ID"]) == 0
    assert main(["score", "--check", "--weights", str(weights), "--profile", "verse", "--metrics", "LSE"]) == 1
    told = capsys.readouterr().out
    assert "missing: insightface/" in told and "non-commercial research" in told


def test_the_self_test_needs_its_example_and_weights_and_tells_other_weights_apart(data, weights, tmp_path, capsys):
    assert main(["score", "--selftest", str(tmp_path / "example.avi"), "--weights", str(weights)]) == 2
    assert "example.avi" in capsys.readouterr().err
    example = str(data / "clips" / "a.mp4")
    assert main(["score", "--selftest", example, "--weights", str(tmp_path)]) == 2
    assert "syncnet_v2.model is missing" in capsys.readouterr().err
    assert main(["score", "--selftest", example, "--weights", str(weights), "--device", "cpu"]) == 1
    told = capsys.readouterr().out
    assert "min dist: " in told and "SyncNet's README says 5.353: DIFFERENT" in told


def test_published_rows_come_with_their_source_and_never_beside_local_values(data, weights, tmp_path, capsys):
    _, report = run_score(data, weights, tmp_path, "--metrics", "ID", "--against", "jova-table2")
    told = capsys.readouterr().out
    row = next(row for row in report["published"] if row["model"] == "Ovi")
    assert row["values"]["ID"] == 0.86 and "Verse-Bench" in row["bench"] and "JoVA" in row["source"]
    assert "Ovi: ID 0.86" in told and row["protocol"] in told
    assert run_score(data, weights, tmp_path, "--profile", "local", "--against", "jova-table2")[0] == 2
    assert "never stands beside" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--metrics", "XYZ"], "no metric 'XYZ'"),
        (["--variant", "LSE=s3fd"], "LSE has no protocol 's3fd'"),
        (["--variant", "LSE"], "METRIC=PROTOCOL"),
        (["--profile", "verse", "--metrics", "IS"], "no protocol for IS"),
        (["--profile", "verse", "--metrics", "WER"], "needs --transcripts"),
        (["--set", "set9"], "no set set9; there are: noise, talk"),
        (["--min-track", "2"], "--min-track must be 6 or more"),
        (["--layout", "{x}.mp4"], "`layout` must be one of"),
        (["--layout", "{id}/video.mp4"], "None of the 3 prompts has a clip"),
        (["--against", "nobody"], "'nobody'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    arguments, message, data, weights, tmp_path, capsys
):
    arguments = arguments if "--metrics" in arguments or "--variant" in arguments else ["--metrics", "ID", *arguments]
    assert run_score(data, weights, tmp_path, *arguments) == (2, None)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("report*"))


def test_the_report_is_never_written_over_what_is_read(data, weights, tmp_path, capsys):
    before = (data / "prompts.jsonl").read_bytes()
    for out in (data / "clips" / "report.json", weights / "report.json"):
        assert run_score(data, weights, tmp_path, "--metrics", "ID", "--out", out)[0] == 2
        assert "lies in" in capsys.readouterr().err
    assert (data / "prompts.jsonl").read_bytes() == before


# --- bad input ---


def talking(num_frames=8, people=1, size=240):
    """Return frames of drawn people who move their mouths."""
    frames = []
    for index in range(num_frames):
        faces = [
            np.asarray(draw_face(Identity.from_seed(1 + i), Pose(opening=index % 3 / 2), size)) for i in range(people)
        ]
        frames.append(np.concatenate(faces, axis=1))
    return np.stack(frames)


@pytest.fixture(scope="session")
def odd_data(tmp_path_factory):
    """Clips of every kind that somebody will hand in."""
    folder = tmp_path_factory.mktemp("odd")
    clips = folder / "clips"
    clips.mkdir()
    sound = tone(16000)
    write_video(clips / "no_audio.mp4", frames_of(0, 2), 25)
    write_video(clips / "silent.mp4", frames_of(1, 2), 25, np.zeros(1280, np.float32), 16000)
    write_video(clips / "no_face.mp4", frames_of(2, 7), 25, sound[:4480], 16000)
    write_video(clips / "face.mp4", talking(8), 25, sound[:5120], 16000)
    write_video(clips / "two_faces.mp4", talking(8, people=2), 25, sound[:5120], 16000)
    write_video(clips / "short_face.mp4", talking(6), 25, sound[:3840], 16000)
    write_video(clips / "one_frame.mp4", frames_of(3, 1), 25, sound[:640], 16000)
    write_video(clips / "vertical.mp4", frames_of(4, 7, 64, 48), 25, sound[:4480], 16000)
    write_video(clips / "fast.mp4", frames_of(5, 24), 60, sound[:6400], 16000)
    for name in ("no_picture", "bad_picture", "no_words", "excluded"):
        write_video(clips / f"{name}.mp4", frames_of(6, 2), 25, sound[:1280], 16000)
    whole = (clips / "face.mp4").read_bytes()
    (clips / "damaged.mp4").write_bytes(whole[: len(whole) // 2])
    (clips / "empty.mp4").write_bytes(b"")
    write_video(clips / "nobodys.mp4", frames_of(7), 25)

    Image.fromarray(frames_of(0)[0]).save(folder / "picture.png")
    (folder / "bad.png").write_bytes(b"no picture")
    rows = [{"id": path.stem} for path in sorted(clips.iterdir()) if path.stem != "nobodys"] + [{"id": "missing"}]
    for row in rows:
        row |= {"image": "picture.png", "speech_text": "good morning"}
        row |= {
            "no_picture": {"image": "nothing.png"},
            "bad_picture": {"image": "bad.png"},
            "no_words": {"speech_text": "", "image": None},
            "excluded": {"metrics": ["LSE"]},
        }.get(row["id"], {})
    write_prompts(folder / "prompts.jsonl", rows)
    write_prompts(folder / "heard.jsonl", [{"id": row["id"], "text": "good"} for row in rows])
    return folder


ODD = {  # clip: status of LSE by dlib, of ID, of WER
    "no_audio": ("silent", "ok", "ok"),
    "silent": ("silent", "ok", "ok"),
    "no_face": ("no_face", "ok", "ok"),
    "face": ("ok", "ok", "ok"),
    "two_faces": ("ok", "ok", "ok"),
    "short_face": ("short", "ok", "ok"),
    "one_frame": ("short", "ok", "ok"),
    "vertical": ("no_face", "ok", "ok"),
    "fast": ("no_face", "ok", "ok"),
    "no_picture": ("short", "no_reference", "ok"),
    "bad_picture": ("short", "error", "ok"),
    "no_words": ("short", "no_reference", "no_text"),
    "excluded": ("short", "excluded", "excluded"),
    "damaged": ("error", "error", "error"),
    "empty": ("error", "error", "error"),
    "missing": ("missing", "missing", "missing"),
}


@pytest.fixture(scope="session")
def odd_report(odd_data, weights, tmp_path_factory):
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    arguments = ["--metrics", "LSE,ID,WER", "--variant", "LSE=dlib", "--min-track", "7"]
    arguments += ["--transcripts", odd_data / "heard.jsonl"]
    status, report = run_score(odd_data, weights, tmp_path_factory.mktemp("out"), *arguments)
    assert status == 0
    return report


@pytest.mark.parametrize("name", ODD)
def test_every_clip_has_a_status_whatever_is_wrong_with_it(name, odd_report):
    assert tuple(result(odd_report, name, metric)["status"] for metric in ("LSE", "ID", "WER")) == ODD[name]


def test_every_prompt_and_every_clip_is_in_the_report_and_in_the_counts(odd_report):
    assert {clip["name"] for clip in odd_report["clips"]} == set(ODD)
    assert [Path(path).name for path in odd_report["without_prompt"]] == ["nobodys.mp4"]
    likeness = odd_report["summary"]["all"]["ID"]
    assert sum(likeness["statuses"].values()) == len(ODD)
    assert (likeness["n_used"], likeness["n_expected"]) == (9, len(ODD) - 2)  # no_words names no picture


def test_details_say_why(odd_report):
    assert "nothing.png" in result(odd_report, "no_picture", "ID")["details"]["reason"]
    assert "bad.png" in result(odd_report, "bad_picture", "ID")["details"]["reason"]
    assert "damaged.mp4" in result(odd_report, "damaged", "ID")["details"]["reason"]
    assert result(odd_report, "two_faces", "LSE")["details"]["tracks"] == 2
    assert "1 clips have more than one face or track" in odd_report["summary"]["all"]["LSE-C"]["notes"]
    fast = next(clip for clip in odd_report["clips"] if clip["name"] == "fast")
    assert (fast["num_frames"], fast["frame_rate"]) == (24, 60)
    assert result(odd_report, "fast", "LSE")["details"].get("frames", 10) == 10


def test_transcripts_nested_too_deep_are_named_with_their_line(tmp_path):
    (tmp_path / "heard.jsonl").write_text('{"id": "a", "text": "one"}\n' + "[" * 100_000)
    with pytest.raises(ValueError, match=r"heard\.jsonl`, line 2, is nested too deep"):
        read_transcripts(tmp_path / "heard.jsonl")
