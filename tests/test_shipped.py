# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints by name: from a checkout, from a wheel, and not before a folder of the user's own."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from diffusers_jova import JoVAPipeline, shipped
from diffusers_jova.shipped import find_model
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.preprocessing import read_model_facts


REPOSITORY = Path(__file__).parents[1]
CHECKPOINT = REPOSITORY / "checkpoints" / "jova-nano"


def test_a_name_is_found_in_a_checkout():
    assert Path(find_model("jova-nano")) == CHECKPOINT


@pytest.mark.parametrize("name", ["jova-other", "someone/jova-nano", "./jova-nano", "a/b/c"])
def test_other_names_stay_as_they_are(name):
    assert find_model(name) == name


def test_a_folder_of_the_users_own_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jova-nano").mkdir()
    assert find_model("jova-nano") == "jova-nano" and find_model(tmp_path) == str(tmp_path)


def test_everything_that_takes_a_model_takes_the_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDERS", (tmp_path,))
    (tmp_path / "nano").symlink_to(folder)
    assert JoVAPipeline.from_pretrained("nano").config["height"] == 32
    assert TrainingConfig(model="nano", cache_dir="c", output_dir="o").model == str(tmp_path / "nano")
    assert read_model_facts("nano").defaults["height"] == 32


def test_the_wheel_brings_the_checkpoint(tmp_path):
    """Built with the running interpreter's hatchling, without isolation and without installing anything."""
    pytest.importorskip("hatchling", reason="needs hatchling, which the extra dev installs")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    result = subprocess.run([sys.executable, "-c", build], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    with zipfile.ZipFile(tmp_path / result.stdout.split()[-1]) as wheel:
        wheel.extractall(tmp_path / "installed")
    installed = "import sys; sys.path.insert(0, {!r}); from diffusers_jova.shipped import find_model; " + (
        "print(find_model('jova-nano'))"
    )
    result = subprocess.run(
        [sys.executable, "-c", installed.format(str(tmp_path / "installed"))],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    found = Path(result.stdout.split()[-1])
    assert found == tmp_path / "installed" / "diffusers_jova" / "checkpoints" / "jova-nano"
    assert (found.parents[1] / "evaluation" / "published.yaml").is_file()
    for path in CHECKPOINT.rglob("*"):
        assert path.is_dir() or (found / path.relative_to(CHECKPOINT)).read_bytes() == path.read_bytes()


def test_the_checkpoint_is_small_and_holds_no_pickle():
    files = [path for path in CHECKPOINT.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 64 * 2**20
    assert {path.suffix for path in files} <= {".json", ".jinja", ".md", ".safetensors", ".txt", ".model"}
