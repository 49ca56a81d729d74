# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Small checkpoints, and a way to call the verbs in conversion/ as from a shell."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.waver import to_waver
from diffusers_jova.models.transformer_jova import JoVATransformer3DModel


SCRIPTS = Path(__file__).parents[2] / "conversion"
TINY = {
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "num_layers": 2,
    "num_single_layers": 3,
    "text_embed_dim": 16,
    "text_embed_dim_2": 20,
    "pos_embed_size": (8, 6, 6),
    "audio_in_channels": 20,
    "audio_latent_rate": 31.25,
    "rope_theta": 500.0,
}


@pytest.fixture(scope="session")
def jova(tmp_path_factory):
    """A JoVA transformer of random weights and the folder that holds it."""
    torch.manual_seed(0)
    model = JoVATransformer3DModel(**TINY)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    folder = tmp_path_factory.mktemp("jova") / "transformer"
    model.save_pretrained(folder)
    return SimpleNamespace(model=model, folder=folder, state_dict=model.state_dict())


@pytest.fixture(scope="session")
def waver_files(jova, tmp_path_factory):
    """The two branches of `jova` as Waver files, `{"video": path, "audio": path}`."""
    folder = tmp_path_factory.mktemp("waver")
    for branch in ("video", "audio"):
        to_waver(open_checkpoint(jova.folder), branch=branch).write(folder / branch)
    return {branch: folder / branch / "waver.safetensors" for branch in ("video", "audio")}


@pytest.fixture
def waver_state_dict(waver_files):
    return load_file(waver_files["video"])


@pytest.fixture
def run_verb(monkeypatch, capsys):
    """Return a function that calls `conversion/NAME.py ARGUMENTS` and returns exit status, output and error."""

    def run(name, *arguments):
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        except SystemExit as stop:
            status = 0 if stop.code is None else 1 if isinstance(stop.code, str) else stop.code
            if isinstance(stop.code, str):
                print(stop.code, file=sys.stderr)
        captured = capsys.readouterr()
        return SimpleNamespace(status=status, output=captured.out, error=captured.err)

    return run


def same_tensors(left, right):
    """Whether two state dicts hold the same names, dtypes, shapes and bytes."""
    return left.keys() == right.keys() and all(
        left[name].dtype == right[name].dtype
        and left[name].shape == right[name].shape
        and torch.equal(left[name].reshape(-1).view(torch.uint8), right[name].reshape(-1).view(torch.uint8))
        for name in left
    )


@pytest.fixture(name="same_tensors", scope="session")
def same_tensors_fixture():
    return same_tensors
