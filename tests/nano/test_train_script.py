# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""training/nano/train.sh from an empty folder to a report, with next to no training."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from warm_python import WarmPython

from diffusers_jova import JoVAPipeline, JoVATransformer3DModel
from diffusers_jova.nano.assemble import BEST_SETTINGS


SCRIPT = Path(__file__).parents[2] / "training" / "nano" / "train.sh"

# What most of its eight programs import, and no longer than once
MODULES = ["peft", "diffusers_jova.training.train", "diffusers_jova.data.preprocessing", "diffusers_jova.nano.report"]

pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")


@pytest.mark.long
@pytest.mark.needs_program("flite")
def test_the_script_makes_a_pipeline_and_its_report(tmp_path):
    environment = os.environ | {"QUICK": "1", "ACCELERATE_USE_CPU": "true"}
    environment["DIFFUSERS_ATTN_BACKEND"] = "_native_math"  # as the script sets it, for diffusers reads it at import
    with WarmPython(MODULES, environment=environment) as python:
        result = python.run_script(SCRIPT, tmp_path, folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    report = (tmp_path / "report" / "nano_report.md").read_text(encoding="utf-8")
    for row in (
        "real recordings",
        "round trip",
        "full captions",
        "neutral captions",
        "with an image",
        "A2V",
        "V2A",
        "retake",
    ):
        assert row in report
    assert "{" not in report and "| 2 | " in report
    for name in ("nano_lags", "nano_steps", "nano_contact_sheet"):
        Image.open(tmp_path / "report" / "images" / f"{name}.png").verify()

    pipe = JoVAPipeline.from_pretrained(tmp_path / "jova-nano")
    trained = JoVATransformer3DModel.from_pretrained(tmp_path / "tasks" / "transformer")
    assert trained.config.condition_mode == pipe.transformer.config.condition_mode == "clean"
    weights = trained.state_dict()
    for name, tensor in pipe.transformer.state_dict().items():
        assert torch.equal(tensor, weights[name].half().float())  # what was trained last, in 16 bits

    for name, component in pipe.components.items():  # and every part loads in float32, text encoders too
        if isinstance(component, torch.nn.Module):
            assert {parameter.dtype for parameter in component.parameters()} <= {torch.float32}, name

    assert all(pipe.config[name] == value for name, value in BEST_SETTINGS.items())
    for path in (tmp_path / "jova-nano").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")
