# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import diffusers_jova
from diffusers_jova.moved import MOVED


@pytest.mark.parametrize("old, new", MOVED.items())
def test_old_name_is_the_module_of_the_new_one_and_says_so_where_it_is_imported(old, new):
    sys.modules.pop(f"diffusers_jova.{old}", None)  # an earlier test may have imported it
    with pytest.warns(DeprecationWarning, match=f"`diffusers_jova.{old}` is now `diffusers_jova.{new}`") as caught:
        module = importlib.import_module(f"diffusers_jova.{old}")
    assert module is importlib.import_module(f"diffusers_jova.{new}")
    assert module.__spec__.name == module.__name__ == f"diffusers_jova.{new}"
    assert len(caught) == 1


def test_warning_names_the_line_of_the_import(tmp_path):
    script = tmp_path / "old_script.py"
    script.write_text("import diffusers_jova\n\nfrom diffusers_jova.training.mouth import mouth_mask\n")
    command = [sys.executable, "-W", "default::DeprecationWarning:__main__", str(script)]
    errors = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "old_script.py:3: DeprecationWarning: `diffusers_jova.training.mouth` is now" in errors


def test_no_file_stands_under_a_name_that_moved():
    package = Path(diffusers_jova.__file__).parent
    assert [old for old in MOVED if (package / f"{old.replace('.', '/')}.py").exists()] == []


def test_unknown_modules_are_still_unknown():
    with pytest.raises(ModuleNotFoundError, match="diffusers_jova.training.nothing"):
        importlib.import_module("diffusers_jova.training.nothing")
