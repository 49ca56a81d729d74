# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The scripts that train a small model, from an empty folder to a report, with next to no training."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from warm_python import WarmPython

from diffusers_jova import JoVAPipeline, JoVATransformer3DModel
from diffusers_jova.mini.heads import FILE
from diffusers_jova.mini.ingredients import cache_folder
from diffusers_jova.mini.voices import MODEL_FILE
from diffusers_jova.nano.assemble import BEST_SETTINGS


TRAINING = Path(__file__).parents[2] / "training"

# What most of their programs import, and no longer than once
MODULES = ["peft", "diffusers_jova.training.train", "diffusers_jova.data.preprocessing", "diffusers_jova.nano.report"]

ROWS = ("real recordings", "round trip", "full captions", "neutral captions", "with an image", "A2V", "V2A", "retake")
IMAGES = {"nano": "nano_contact_sheet.png", "mini": "mini_contact_sheet.jpg"}
LAST_STAGE = {"nano": "tasks", "mini": "joint"}
CAN_MAKE = all((cache_folder() / name).is_file() for name in (FILE, MODEL_FILE))
NAMES = [
    pytest.param("nano", marks=pytest.mark.needs_program("flite")),
    pytest.param("mini", marks=pytest.mark.skipif(not CAN_MAKE, reason="heads and voices are not in the cache")),
]

pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_the_script_makes_a_pipeline_and_its_report(name, tmp_path):
    environment = os.environ | {"QUICK": "1", "ACCELERATE_USE_CPU": "true"}
    environment["DIFFUSERS_ATTN_BACKEND"] = "_native_math"  # as the script sets it, for diffusers reads it at import
    environment["JOVA_MINI_CACHE"] = str(cache_folder())
    with WarmPython(MODULES, environment=environment) as python:
        result = python.run_script(TRAINING / name / "train.sh", tmp_path, folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    report = (tmp_path / "report" / f"{name}_report.md").read_text(encoding="utf-8").lower()
    for row in ROWS:
        assert row.lower() in report
    assert "{" not in report and "| 2 | " in report
    for image in (f"{name}_lags.png", f"{name}_steps.png", IMAGES[name]):
        Image.open(tmp_path / "report" / "images" / image).verify()

    pipe = JoVAPipeline.from_pretrained(tmp_path / f"jova-{name}")
    trained = JoVATransformer3DModel.from_pretrained(tmp_path / LAST_STAGE[name] / "transformer")
    assert trained.config.condition_mode == pipe.transformer.config.condition_mode == "clean"
    weights = trained.state_dict()
    for key, tensor in pipe.transformer.state_dict().items():
        assert torch.equal(tensor, weights[key].half().float())  # what was trained last, in 16 bits

    for part, component in pipe.components.items():  # and every part loads in float32, text encoders too
        if isinstance(component, torch.nn.Module):
            assert {parameter.dtype for parameter in component.parameters()} <= {torch.float32}, part

    assert all(pipe.config[key] == value for key, value in BEST_SETTINGS.items())
    for path in (tmp_path / f"jova-{name}").rglob("*.json"):
        assert str(tmp_path) not in path.read_text(encoding="utf-8")
