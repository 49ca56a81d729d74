# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Outputs are not inputs, and one run at a time works in a folder."""

import os

import pytest
import torch
from safetensors.torch import save_file

from diffusers_jova.cli.dispatch import main
from diffusers_jova.files import InUseError
from diffusers_jova.shards import own_cache
from diffusers_jova.training.checkpoint import find_checkpoint
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.output_dir import own_output_dir


def config(tmp_path, **settings):
    for name in ("model", "cache"):
        (tmp_path / name).mkdir(exist_ok=True)
    folders = {"model": tmp_path / "model", "cache_dir": tmp_path / "cache", "output_dir": tmp_path / "out"}
    return TrainingConfig(**{name: str(path) for name, path in (folders | settings).items()})


@pytest.mark.parametrize("where", ["model", "model/transformer", "cache", "link", ".", "stage1"])
def test_training_refuses_an_output_that_it_reads(tmp_path, where):
    (tmp_path / "link").symlink_to("model")
    (tmp_path / "stage1").mkdir()
    settings = config(tmp_path, output_dir=tmp_path / where, video_transformer=tmp_path / "stage1")
    with pytest.raises(ValueError, match="which this run reads and would damage"), own_output_dir(settings):
        raise AssertionError("not reached")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "link", "model", "stage1"]


def test_a_second_training_is_told_who_is_at_work(tmp_path, hold, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    other = hold(f"lock_folder({str(tmp_path / 'out')!r})")
    with pytest.raises(InUseError, match=rf"another run \(pid {other.pid} "), own_output_dir(config(tmp_path)):
        raise AssertionError("not reached")
    monkeypatch.setenv("RANK", "1")  # the first process of a run has the lock, the others do not ask
    with own_output_dir(config(tmp_path)):
        pass


def test_a_run_that_fails_before_it_writes_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(KeyError), own_output_dir(config(tmp_path)):
        raise KeyError
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("resume", [None, "latest"])
@pytest.mark.parametrize("result", ["pytorch_lora_weights.safetensors", "transformer"])
def test_another_runs_result_is_not_written_over(tmp_path, result, resume):
    (tmp_path / result).mkdir()
    with pytest.raises(ValueError, match=f"`{result}`, which would be lost"):
        find_checkpoint(tmp_path, resume)
    (tmp_path / "checkpoint-3").mkdir()
    assert find_checkpoint(tmp_path, "latest").name == "checkpoint-3"


def test_shards_of_one_division_share_a_cache_and_others_do_not(tmp_path, hold):
    hold(f"lock_folder({str(tmp_path)!r}, 'shard-0-of-2')")
    with own_cache(tmp_path, 1, 2):
        pass
    with pytest.raises(InUseError, match="another run"), own_cache(tmp_path, 0, 2):
        raise AssertionError("not reached")
    with pytest.raises(InUseError, match="another run .* divides the clips differently"), own_cache(tmp_path, 0, 1):
        raise AssertionError("not reached")
    assert sorted(os.listdir(tmp_path)) == [".shard-0-of-2.lock", ".shard-0-of-2.owner"]


def test_encode_does_not_write_over_weights(tmp_path, capsys):
    weights = tmp_path / "weights.safetensors"
    save_file({"layer.weight": torch.zeros(3)}, weights)
    before = weights.read_bytes()
    assert main(["encode", "--model", str(tmp_path), "--prompt", "x", "--output", str(weights)]) == 2
    assert "is not an encoded prompt, so it is not written over" in capsys.readouterr().err
    assert weights.read_bytes() == before


def test_generate_does_not_write_over_its_own_inputs(tmp_path, capsys):
    (tmp_path / "a.mp4").touch()
    args = ["generate", "--model", str(tmp_path), "--prompt", "x", "--image", str(tmp_path / "a.mp4")]
    assert main([*args, "--output", str(tmp_path / "a.mp4")]) == 2
    assert "is the --image" in capsys.readouterr().err
