# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`score` on tiny real clips, with a tiny DINOv3 and texts that stand for a recogniser's."""

import json
from copy import deepcopy

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from diffusers_jova.__main__ import main
from diffusers_jova.media import write_video


DINO = "dinov3-vitl16-pretrain-lvd1689m"
WORDS = {"a": "look at me", "b": "good morning", "c": ""}


@pytest.fixture(scope="session")
def weights(tmp_path_factory):
    """A folder of weights in which only a tiny DINOv3 lies."""
    folder = tmp_path_factory.mktemp("weights")
    config = DINOv3ViTConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_register_tokens=4
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        deepcopy(DINOv3ViTModel(config)).save_pretrained(folder / DINO)
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
