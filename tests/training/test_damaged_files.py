# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whatever file is damaged, in whatever way: every program ends in one line that names it, and runs no code in it."""

import os
import pickle
import runpy
import shutil
import sys

import pytest
import torch
from tiny_training import REPOSITORY, forget_accelerate, hide_accelerators, save_tiny_pipeline, write_cache

from diffusers_jova.cli import dispatch
from diffusers_jova.media import write_wav


def code(path):
    """A pickle that would run code when it is read."""
    path.write_bytes(pickle.dumps(os.getcwd, 2))


def folder_in_place(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "empty": lambda path: path.write_bytes(b""),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "garbage": lambda path: path.write_bytes(b"\x93\xff\x00" * 50),
    "a list": lambda path: path.write_text("[1, 2]"),
    "other keys": lambda path: path.write_text('{"a": 1}'),
    "nested too deep": lambda path: path.write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
    "code": code,
    "a folder": folder_in_place,
}
JSON = ("empty", "cut short", "garbage", "a list", "other keys", "nested too deep", "a folder")
TENSORS = ("empty", "cut short", "garbage", "a folder")
WEIGHTS = "diffusion_pytorch_model.safetensors"
CASES = [
    *(("generate", "model/model_index.json", damage) for damage in JSON),
    *(("generate", f"model/transformer/{WEIGHTS}", damage) for damage in TENSORS),
    *(("generate", "model/vae/config.json", damage) for damage in ("empty", "a list", "nested too deep")),
    ("generate", "model/text_encoder/model.safetensors", "code"),
    ("generate", "model/tokenizer_2/tokenizer.json", "cut short"),
    ("generate", "model/scheduler/scheduler_config.json", "a list"),
    ("encode", "model/text_encoder/config.json", "cut short"),
    *(("train", "cache/index.jsonl", damage) for damage in JSON),
    *(("train", "cache/fingerprint.json", damage) for damage in JSON),
    *(("train", "cache/shared.safetensors", damage) for damage in TENSORS),
    *(("train", "cache/samples/clip000.safetensors", damage) for damage in TENSORS),
    *(("train", "model/model_index.json", damage) for damage in JSON),
    *(("train", "model/transformer/config.json", damage) for damage in JSON),
    *(("train", f"model/transformer/{WEIGHTS}", damage) for damage in TENSORS),
    *(("preprocess", "model/model_index.json", damage) for damage in JSON),
    *(("preprocess", "model/audio_vae/config.json", damage) for damage in JSON),
    *(("resume", "out/checkpoint-1/training_state.json", damage) for damage in JSON),
    *(("resume", "out/checkpoint-1/ema.safetensors", damage) for damage in TENSORS),
    *(("resume", "out/checkpoint-1/optimizer.bin", damage) for damage in ("empty", "cut short", "garbage", "code")),
    *(("resume", f"out/checkpoint-1/transformer/{WEIGHTS}", damage) for damage in TENSORS),
    ("resume", "out/checkpoint-1/config.yaml", "garbage"),
]
TRAINING = ["--max_train_steps", "1", "--report_to", "none", "--use_ema", "--checkpointing_steps", "1"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with a model, a cache, a clip and an output folder with a checkpoint, none of them damaged."""
    whole = tmp_path_factory.mktemp("whole")
    save_tiny_pipeline(whole / "model")
    write_cache(whole / "cache", whole / "model")
    (whole / "clips").mkdir()
    write_wav(whole / "clips" / "a.wav", torch.zeros(16000), 16000)
    with pytest.MonkeyPatch.context() as monkeypatch:
        hide_accelerators(monkeypatch)
        assert start(monkeypatch, "train", whole) == 0
    forget_accelerate()
    shutil.rmtree(whole / "out" / "transformer")
    return whole


@pytest.fixture(autouse=True)
def on_cpu(whole, monkeypatch):
    """Let accelerate run on CPU, alone, and forget it afterwards."""
    hide_accelerators(monkeypatch)
    yield
    forget_accelerate()


def start(monkeypatch, program, folder):
    """Run a program in `folder`, in this process, and return its exit status."""
    model, cache, out = (str(folder / name) for name in ("model", "cache", "out"))
    if program == "generate":
        return dispatch.main(["generate", "--model", model, "--prompt", "x", "--output", str(folder / "clip.mp4")])
    if program == "encode":
        return dispatch.main(["encode", "--model", model, "--prompt", "x", "--output", str(folder / "x.safetensors")])
    flags = {
        "preprocess": [
            "--data",
            str(folder / "clips"),
            "--model",
            model,
            "--output_dir",
            str(folder / "new"),
            "--no_mouth",
        ],
        "train": ["--model", model, "--cache_dir", cache, "--output_dir", out, *TRAINING],
        "resume": [
            "--model",
            model,
            "--cache_dir",
            cache,
            "--output_dir",
            out,
            *TRAINING,
            "--resume_from_checkpoint",
            "latest",
        ],
    }[program]
    script = REPOSITORY / "training" / {"resume": "train.py"}.get(program, f"{program}.py")
    monkeypatch.setattr(sys, "argv", [str(script), *flags])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(script), run_name="__main__")
    return stop.value.code or 0


@pytest.mark.parametrize("program, name, damage", CASES, ids=[": ".join(case) for case in CASES])
def test_a_damaged_file_ends_in_one_line_that_names_it(program, name, damage, whole, tmp_path, monkeypatch, capsys):
    folder = shutil.copytree(whole, tmp_path / "work")
    if program != "resume":
        shutil.rmtree(folder / "out")
    path = folder / name
    DAMAGES[damage](path)
    assert start(monkeypatch, program, folder) in (1, 2)
    error = capsys.readouterr().err.strip().splitlines()
    assert error[-1].startswith("error: ") and sum(line.startswith("error: ") for line in error) == 1
    assert not any("Traceback" in line for line in error)
    # what is missing in a whole file may be noticed later: then its folder, at least, is named
    assert path.name in error[-1] or path.parent.name in error[-1], error[-1]
