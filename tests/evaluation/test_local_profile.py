# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`score --profile local` from end to end, and what it says of odd clips."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from diffusers_jova.cli.dispatch import main
from diffusers_jova.evaluation.metrics import PROFILES, choose_variants
from diffusers_jova.media import write_video


pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")

CLIPS = Path(__file__).parent / "clips"


def test_every_clip_has_values_or_a_status(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    shutil.copy(CLIPS / "awb.mp4", folder)
    grey = np.full((2, 64, 64, 3), 128, np.uint8)
    write_video(folder / "mute.mp4", grey, 25, None, None)
    write_video(folder / "frame.mp4", grey[:1], 25, np.zeros(640, np.float32), 16000)
    rows = [
        {"id": "awb", "speech_text": "Nine two six, one.", "image": str(CLIPS / "awb.png")},
        {"id": "mute", "speech_text": "one"},
        {"id": "frame", "speech_text": "", "image": str(CLIPS / "slt.png")},
        {"id": "absent", "speech_text": "one"},
    ]
    (tmp_path / "prompts.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    arguments = ["--prompts", str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "report" / "report.json")]
    arguments += ["--profile", "local", "--variant", "Words=digits", "--jobs", "0", "--device", "cpu"]
    assert main(["score", str(folder), *arguments]) == 0
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert all(metric["local"] for metric in report["metrics"]) and report["published"] == []
    assert report["header"]["weights"] == []

    awb, mute, frame, absent = (
        {name: entry["status"] for name, entry in clip["results"].items()} for clip in report["clips"]
    )
    assert set(awb.values()) == {"ok"} and set(absent.values()) == {"missing"}
    assert mute["Words"] == mute["Lips-phones"] == mute["Lips-loudness"] == mute["Loudness"] == "silent"
    assert mute["Faces"] == mute["Motion"] == mute["Sharpness"] == "ok" and mute["Likeness"] == "no_reference"
    assert frame["Words"] == frame["Lips-phones"] == "no_text" and frame["Lips-loudness"] == "silent"
    assert frame["Motion"] == "short" and frame["Likeness"] == "no_face" and frame["Loudness"] == "ok"
    summary = report["summary"]["all"]
    assert summary["words"]["mean"] == 0 and summary["lag-phones"]["mean"] == 0
    assert summary["lips-phones"]["mean"] > 0.6 and summary["lips-loudness"]["mean"] > 0.8
    assert summary["faces"]["mean"] == pytest.approx(1 / 3)


def test_local_measures_never_stand_beside_those_of_the_paper():
    assert set(choose_variants("local")) == set(PROFILES["local"])
    with pytest.raises(ValueError, match="never stands beside"):
        choose_variants("local", variants={"LSE": "s3fd50"})
    with pytest.raises(ValueError, match="never stands beside"):
        choose_variants("paper", variants={"Words": "digits"})
