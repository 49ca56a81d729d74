# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training on a card: what is carried there, the steps that fit into the time, and all of it in small on a CPU."""

import json
import math
import os
from pathlib import Path

import pytest
import torch
from tiny_training import save_tiny_pipeline, write_cache
from warm_python import WarmPython

from diffusers_jova import JoVATransformer3DModel
from diffusers_jova.data import cache
from diffusers_jova.mini import timed
from diffusers_jova.mini.carried import BASE, join_carried, write_carried
from diffusers_jova.mini.timed import Clock, Stage, check_device, count_steps, train_in_time
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.dataset import CachedClips


SCRIPT = Path(__file__).parents[2] / "training" / "mini" / "gpu.sh"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What MAKE_ONLY=1 train.sh leaves, in small."""
    folder = tmp_path_factory.mktemp("made")
    base = save_tiny_pipeline(folder / "base")
    write_cache(folder / "cache-speech", base, kinds=("audio",) * 3)
    write_cache(folder / "cache-joint", base, kinds=("both",) * 3 + ("audio",) * 2)
    return folder


@pytest.fixture(scope="module")
def parts(made, tmp_path_factory):
    caches = {name: made / f"cache-{name}" for name in ("speech", "joint")}
    return write_carried(made / "base", caches, tmp_path_factory.mktemp("carried") / "parts", part_mb=0.25)


def test_parts_are_small_and_make_caches_that_training_reads(made, parts, tmp_path):
    assert len(parts) > 1
    for part in parts:
        assert sum(path.stat().st_size for path in part.rglob("*.safetensors")) <= 2**18
    join_carried(reversed(parts), tmp_path)
    for name, branch, number in (("speech", "audio", 3), ("joint", "joint", 5)):
        clips = CachedClips(tmp_path / name, branch, model=tmp_path / BASE)  # the models' files are compared
        assert len(clips) == number
        carried, own = (cache.read_sample(folder, "clip001") for folder in (tmp_path / name, made / f"cache-{name}"))
        assert torch.equal(carried["audio_moments"], own["audio_moments"].half())
    assert torch.equal(carried["mouth_boxes"], own["mouth_boxes"])
    own = JoVATransformer3DModel.from_pretrained(made / "base", subfolder="transformer").state_dict()
    carried = JoVATransformer3DModel.from_pretrained(tmp_path / BASE, subfolder="transformer").state_dict()
    assert all(torch.equal(carried[name], own[name].half().float()) for name in own)


def test_what_cannot_be_carried_is_said(made, parts, tmp_path):
    with pytest.raises(ValueError, match=f"Of {len(parts)} parts, 2 are missing: carry all"):
        join_carried([part for part in parts if part.name != "2"], tmp_path / "whole")
    caches = {"joint": made / "cache-joint"}
    with pytest.raises(ValueError, match="A part of 0.01 MiB cannot hold `base/.*allow larger parts"):
        write_carried(made / "base", caches, tmp_path / "parts", part_mb=0.01)
    assert not (tmp_path / "parts").exists()
    other = write_cache(tmp_path / "other")  # of no model
    with pytest.raises(ValueError, match="was made with other models"):
        write_carried(made / "base", {"joint": other}, tmp_path / "parts")


def plan():
    sizes = {"train_batch_size": 2, "report_to": "none", "use_ema": True}
    of_one = {"video_transformer": "video", "audio_transformer": "audio"}
    return [
        Stage("audio", sizes | {"branch": "audio"}, 1, "speech", {}),
        Stage("video", sizes | {"branch": "video"}, 1, "joint", {}),
        Stage("joint", sizes | {"branch": "joint"}, 2, "joint", of_one),
    ]


@pytest.mark.long
def test_stages_end_with_their_time_and_leave_a_transformer_in_small_files(parts, one_process, tmp_path, monkeypatch):
    monkeypatch.setattr(timed, "SHARD_MB", 0.25)
    join_carried(parts, tmp_path / "whole")
    out, stages = tmp_path / "out", tmp_path / "stages"
    metrics = train_in_time(tmp_path / "whole", out, stages, plan(), Clock(0.0), num_steps=5)
    assert json.loads((out / "metrics.json").read_text(encoding="utf-8")) == metrics
    counts = [
        [figures[name] for name in ("planned_steps", "steps", "clips")] for figures in metrics["stages"].values()
    ]
    assert counts == [[5, 1, 2]] * 3
    assert {"loss_last", "loss_video_last", "loss_mouth_last", "loss_audio_last"} <= metrics["stages"]["joint"].keys()
    files = list((out / "transformer").glob("*.safetensors"))
    assert len(files) > 1 and all(path.stat().st_size <= 2**18 for path in files)
    result = JoVATransformer3DModel.from_pretrained(out / "transformer").state_dict()
    joint = JoVATransformer3DModel.from_pretrained(stages / "joint" / "transformer").state_dict()
    assert all(torch.equal(result[name], joint[name].half().float()) for name in joint)
    # what is there is kept: another run has nothing to train
    again = train_in_time(tmp_path / "whole", out, stages, plan(), Clock(math.inf), num_steps=5)
    assert [figures["steps"] for figures in again["stages"].values()] == [1, 1, 1]


class Time:
    """A clock of the machine's that goes on when a step is done."""

    now = 0.0

    def monotonic(self):
        return self.now

    def train(self, config: TrainingConfig, is_over):
        """Train: 5 s to begin, steps of 0.5 s, of which the first takes 3 s more, and 2 s to write."""
        rows = []
        self.now += 5
        while len(rows) < config.max_train_steps:
            rows.append({"step": len(rows) + 1, "seconds": 0.5 + 3.0 * (not rows), "clips": 2, "loss": 1.0})
            self.now += rows[-1]["seconds"]
            if is_over():
                break
        self.now += 2
        folder = Path(config.output_dir)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_stage_takes_the_steps_that_fit_into_its_time(tmp_path, monkeypatch):
    time = Time()
    monkeypatch.setattr(timed, "time", time)
    monkeypatch.setattr(timed, "train", time.train)
    settings = {"model": "m", "cache_dir": "c"}
    clock = Clock(200.0)
    steps = count_steps(settings, tmp_path / "tried", clock)
    assert not (tmp_path / "tried").exists()
    time.train(TrainingConfig(**settings, output_dir=str(tmp_path / "stage"), max_train_steps=steps), clock.is_over)
    assert 0 < clock.left_s < 0.1 * 200  # in time, and not much of it is left
    with pytest.raises(ValueError, match="was over after 10 of the 24 steps that measure its speed: allow more"):
        count_steps(settings, tmp_path / "tried", Clock(13.0))


def test_without_a_gpu_the_way_on_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="There is no GPU here.*train.sh"):
        check_device()
    check_device(smoke=True)


@pytest.mark.long
def test_the_script_packs_and_trains_in_small_on_a_cpu(made, tmp_path):
    (tmp_path / "sitecustomize.py").write_text('import sys\nsys.modules["av"] = None\n')  # there is no PyAV there
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with WarmPython(["peft", "diffusers_jova.training.train"], environment=environment) as python:

        def run(*flags):
            done = python.run_script(SCRIPT, *flags, folder=tmp_path)
            assert done.returncode == 0, done.stderr[-3000:]
            return done.stdout

        run("pack", "--made", made, "--output_dir", tmp_path / "parts", "--max_clips", "2")
        trains = ["train", "--parts", *(tmp_path / "parts").iterdir(), "--output_dir", tmp_path / "out"]
        assert "joint: 4.1 minutes, 128 clips a step" in run(*trains, "--dry_run")
        assert "joint: planned_steps 2" in run(*trains, "--smoke")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["device"] == "CPU" and list(metrics["stages"]) == ["words", "audio", "video", "joint"]
    JoVATransformer3DModel.from_pretrained(tmp_path / "out" / "transformer")
