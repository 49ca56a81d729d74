# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The verb `app` before the page is there, and the Space that it writes."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from diffusers_jova.app import space
from diffusers_jova.cli.dispatch import main, parse


REPOSITORY = Path(__file__).parents[2]


def read_header(folder):
    return yaml.safe_load((folder / "README.md").read_text(encoding="utf-8").split("---\n")[1])


def test_a_space_has_what_the_hub_reads_and_runs_the_page(tmp_path, monkeypatch):
    folder = tmp_path / "space"
    assert main(["app", "--model", "owner/jova", "--max_file_size_mb", "5", "--write_space", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "app.py", "requirements.txt"]
    header = read_header(folder)
    assert (header["sdk"], header["app_file"], header["models"]) == ("gradio", "app.py", ["owner/jova"])
    assert len(header["short_description"]) <= 60  # what the Hub takes
    constraints = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")
    assert f"\ngradio=={header['sdk_version']}\n" in constraints
    assert (folder / "requirements.txt").read_text(encoding="utf-8").startswith("diffusers-jova[app]")

    launched = []
    monkeypatch.setattr(space, "launch_space", lambda *args, **kwargs: launched.append((args, kwargs)))
    source = (folder / "app.py").read_text(encoding="utf-8")
    assert source.index("import spaces") < source.index("from diffusers_jova")  # ZeroGPU comes before torch
    exec(compile(source, "app.py", "exec"), {})
    assert launched == [(("owner/jova",), {"max_file_size_mb": 5.0})]


def test_a_space_of_the_shipped_checkpoint_names_no_model_of_the_hub(tmp_path):
    space.write_space(tmp_path / "space", "jova-nano", 20.0)
    assert not {"models", "preload_from_hub"} & read_header(tmp_path / "space").keys()


@pytest.mark.parametrize("model", [".", "/srv/jova", "jova", "owner/name/more", "~/jova"])
def test_a_space_of_a_folder_is_refused(model, tmp_path, capsys):
    assert main(["app", "--model", model, "--write_space", str(tmp_path / "space")]) == 2
    assert "needs a name on the Hub" in capsys.readouterr().err and not (tmp_path / "space").exists()


def test_a_space_is_not_written_over_another(tmp_path, capsys):
    assert main(["app", "--write_space", str(tmp_path)]) == 2
    assert "exists already: remove it" in capsys.readouterr().err


def test_only_zerogpu_takes_the_work_elsewhere(monkeypatch):
    spaces = ModuleType("spaces")
    spaces.GPU = lambda work, duration: (work, duration)
    monkeypatch.setitem(sys.modules, "spaces", None)
    assert space.on_gpu(len) is len
    monkeypatch.setitem(sys.modules, "spaces", spaces)
    assert space.on_gpu(len) == (len, space.GPU_S)


def test_the_app_is_on_this_machine_alone_unless_asked_otherwise():
    args = parse("app", [])
    assert args.server_name == "127.0.0.1" and args.share is False
    source = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "src/diffusers_jova/app").glob("*.py"))
    assert re.findall(r"share=|server_name=", source) == []  # only the verb hands them on


def test_what_is_missing_is_said_before_the_weights_are_read(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["app"]) == 2
    assert "pip install 'diffusers-jova[app]'" in capsys.readouterr().err
    assert main(["app", "--model", str(tmp_path / "missing")]) == 2
    assert "There is no folder" in capsys.readouterr().err
    assert main(["app", "--max_file_size_mb", "0"]) == 2
    assert "must be more than 0" in capsys.readouterr().err
