# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Settings that come with the package, by name."""

import pytest
import yaml

from diffusers_jova.cli.dispatch import parse
from diffusers_jova.cli.training import CONFIGS, FOLDERS, find_config, settings_of
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig


FLAGS = ["--model", "m", "--cache_dir", "c", "--output_dir", "o"]


@pytest.mark.parametrize("name", CONFIGS)
def test_settings_of_the_package_are_found_by_name_and_hold_what_their_file_says(name):
    verb, cls = ("train-lora", LoraTrainingConfig) if name == "lora_nano" else ("train", TrainingConfig)
    config = settings_of(parse(verb, [*FLAGS, "--config", name, "--seed", "7"]), cls)
    (path,) = (folder / f"{name}.yaml" for folder in FOLDERS if folder.is_dir())
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config.seed == 7 and all(getattr(config, key) == value for key, value in written.items() if key != "seed")


def test_every_file_of_settings_has_a_name_but_those_of_accelerate():
    (folder,) = (folder for folder in FOLDERS if folder.is_dir())
    others = {path.stem for path in folder.glob("*.yaml")} - set(CONFIGS)
    assert all("compute_environment" in yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in others)


def test_a_file_of_the_user_goes_first_and_an_unknown_name_lists_the_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("nano").is_absolute()
    (tmp_path / "nano").write_text("seed: 3\n")
    assert find_config("nano").read_text() == "seed: 3\n"
    with pytest.raises(FileNotFoundError, match="no settings file `nanoo`.*mini_joint, nano, nano_tasks"):
        find_config("nanoo")
