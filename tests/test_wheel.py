# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The wheel alone, away from the checkout: from clips to a LoRA to a clip of it, with the verbs that it brings."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from drawn_faces import write_talking_clip
from hatchling.builders.wheel import WheelBuilder
from warm_python import WarmPython

import diffusers_jova
from diffusers_jova.media import read_video
from diffusers_jova.pipeline_folder import read_pipeline_folder


REPOSITORY = Path(__file__).parents[1]
# What most verbs import, from the wheel and not once per verb
MODULES = ["peft", "diffusers_jova.training.train_lora", "diffusers_jova.data.preprocessing"]
MAX_SIZE = 100_000_000  # bytes: PyPI takes no larger file unless it is asked

# Where a checkpoint was found by its name, and what was loaded of it
LOAD = """
import sys
from diffusers_jova import JoVAPipeline
from diffusers_jova.pipeline_folder import find_model
pipe = JoVAPipeline.from_pretrained(sys.argv[1])
print(find_model(sys.argv[1]), pipe.config.height, sum(x.numel() for x in pipe.transformer.state_dict().values()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of this checkout."""
    (path,) = WheelBuilder(str(REPOSITORY)).build(
        directory=str(tmp_path_factory.mktemp("dist")), versions=["standard"]
    )
    return path


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder of programs of an environment with the wheel and the packages of this one, but not the checkout."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    scheme = sysconfig.get_preferred_scheme("prefix")
    paths = sysconfig.get_paths(scheme, {"base": str(folder), "platbase": str(folder)})
    programs = Path(paths["scripts"])
    pip = [sys.executable, "-m", "pip", "--python", str(programs / "python"), "install", "--quiet", "--no-index"]
    subprocess.run([*pip, "--no-deps", "--no-compile", wheel], check=True)  # before it sees the other packages
    others = Path(paths["purelib"], "packages_of_the_tests.pth")  # in a path file no path file of these is read
    others.write_text("\n".join({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}), encoding="utf-8")
    return programs


@pytest.fixture(scope="module")
def python(programs):
    """Python in that environment, with what most verbs import."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    with WarmPython(MODULES, str(programs / "python"), environment) as python:
        yield python


def test_the_wheel_holds_what_the_package_reads(wheel):
    folders = {"src": ""} | {name: f"diffusers_jova/{name}/" for name in ("checkpoints", "training/configs")}
    files = {
        place + path.relative_to(REPOSITORY / folder).as_posix(): path
        for folder, place in folders.items()
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        assert len(files) > 150 and names - files.keys() == {name for name in names if ".dist-info/" in name}
        assert "diffusers_jova/py.typed" in names  # annotations are read by type checkers of other projects
        assert all(archive.read(name) == path.read_bytes() for name, path in files.items())


def test_the_wheel_is_as_small_as_pypi_wants_it(wheel):
    assert Path(wheel).stat().st_size < MAX_SIZE


@pytest.mark.parametrize("name", sorted(path.name for path in (REPOSITORY / "checkpoints").iterdir()))
def test_the_installed_wheel_loads_its_checkpoints_by_name(python, programs, tmp_path, name):
    done = python.run("-c", LOAD, name, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found, height, num_numbers = done.stdout.split()
    shipped = read_pipeline_folder(REPOSITORY / "checkpoints" / name)
    assert Path(found).is_relative_to(programs.parent) and Path(found).name == name
    assert int(height) == shipped.index["height"] and int(num_numbers) == shipped.num_parameters("transformer")


@pytest.mark.skipif(not importlib.util.find_spec("dlib"), reason="needs dlib-bin (diffusers-jova[faces])")
def test_verbs_lead_from_clips_to_a_lora_to_a_clip_without_the_checkout(python, programs, folder, tmp_path):
    def run(*arguments):
        done = python.run(*arguments, cwd=tmp_path)
        assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    (tmp_path / "clips").mkdir()
    for seed in range(2):
        write_talking_clip(tmp_path / "clips" / f"{seed}.mp4", 5, seed=seed)
    texts = ["--prompt", "A face.", "--audio_prompt", "A voice.", "--transcript", "one"]
    model = ["--model", folder]

    program = programs / "diffusers-jova"
    version = subprocess.run([program, "--version"], env=python.environment, capture_output=True, text=True).stdout
    assert version == f"diffusers-jova {diffusers_jova.__version__}\n"
    where = run("-c", "import diffusers_jova; print(diffusers_jova.__file__)")
    assert Path(where.strip()).is_relative_to(programs.parent)
    said = run(program, "preprocess", *model, "--data", "clips", "--output_dir", "cache")
    assert "2 samples of 2 of 2 clips" in said and "with a mouth: 2 of 2" in said
    settings = ["--config", "lora_nano", "--max_train_steps", 2, "--num_held_out", 0, "--num_proof_samples", 1]
    run(program, "train-lora", *model, *settings, "--cache_dir", "cache", "--output_dir", "lora")
    run(program, "convert-lora", "--to", "comfyui", "--input", "lora", "--output", "comfyui")
    run(program, "generate", *model, *texts, "--lora", "comfyui", "--output", "out.mp4")
    clip = read_video(tmp_path / "out.mp4")
    assert clip.frames.shape == (5, 32, 32, 3) and clip.waveform.std() > 0
