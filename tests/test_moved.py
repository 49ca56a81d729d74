# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import diffusers_jova
from diffusers_jova.moved import DIVIDED, MOVED


@pytest.mark.parametrize("old, new", MOVED.items())
def test_old_name_is_the_module_of_the_new_one_and_says_so_where_it_is_imported(old, new):
    sys.modules.pop(f"diffusers_jova.{old}", None)  # an earlier test may have imported it
    with pytest.warns(DeprecationWarning, match=f"`diffusers_jova.{old}` is now `diffusers_jova.{new}`") as caught:
        module = importlib.import_module(f"diffusers_jova.{old}")
    assert module is importlib.import_module(f"diffusers_jova.{new}")
    assert module.__spec__.name == module.__name__ == f"diffusers_jova.{new}"
    assert len(caught) == 1


@pytest.mark.parametrize("old, new", DIVIDED.items())
def test_old_name_of_a_divided_module_has_what_its_pieces_define_and_names_them(old, new, monkeypatch):
    room, _, name = old.rpartition(".")  # an earlier test may have imported it
    monkeypatch.delitem(sys.modules, f"diffusers_jova.{old}", raising=False)
    monkeypatch.delattr(f"diffusers_jova.{room}.{name}", raising=False)
    with pytest.warns(DeprecationWarning) as caught:
        module = importlib.import_module(f"diffusers_jova.{old}")
    (warning,) = caught
    for name in new:
        piece = importlib.import_module(f"diffusers_jova.{name}")
        assert f"`{piece.__name__}`" in str(warning.message)
        own = {n: v for n, v in vars(piece).items() if getattr(v, "__module__", "") == piece.__name__ and n[0] != "_"}
        assert own and {n: getattr(module, n) for n in own} == own


@pytest.mark.parametrize(
    "old, names",
    [
        (
            "clips",
            "Source Segment Probe Bucket Window find_sources probe examine plan_windows choose_bucket sample_key",
        ),
        ("preparation", "Preparation PreparedClip SourceFrames centre_crop resize_frames face_crop"),
        (
            "preprocessing",
            "PreprocessingConfig ModelFacts preprocess dry_run command_of validate_mouth_mask read_model_facts "
            "resolve parse_buckets encode_video encode_audio encode_text load_phase PHASES COMPONENTS_OF EMBEDS_OF",
        ),
        (
            "setup",
            "create_accelerator create_batches encode_validation_prompts is_sharded load_base plan_memory "
            "planned_config prepare_output_dir print_plan save_transformer validate_step weight_dtype",
        ),
    ],
)
def test_names_that_were_public_before_a_module_was_divided_are_found_in_it(old, names):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = importlib.import_module(f"diffusers_jova.training.{old}")
    assert [name for name in names.split() if not hasattr(module, name)] == []


def test_warning_names_the_line_of_the_import(tmp_path):
    script = tmp_path / "old_script.py"
    script.write_text("import diffusers_jova\n\nfrom diffusers_jova.training.mouth import mouth_mask\n")
    command = [sys.executable, "-W", "default::DeprecationWarning:__main__", str(script)]
    errors = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert "old_script.py:3: DeprecationWarning: `diffusers_jova.training.mouth` is now" in errors


def test_no_file_stands_under_a_name_that_moved():
    package = Path(diffusers_jova.__file__).parent
    assert [old for old in MOVED.keys() | DIVIDED.keys() if (package / f"{old.replace('.', '/')}.py").exists()] == []


def test_unknown_modules_are_still_unknown():
    with pytest.raises(ModuleNotFoundError, match="diffusers_jova.training.nothing"):
        importlib.import_module("diffusers_jova.training.nothing")
