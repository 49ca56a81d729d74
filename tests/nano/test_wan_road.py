# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""training/nano/wan_road.sh from a cache to a report, with next to no training; and the small Wan that it starts from.

How clips become a cache is tested with train.sh.
"""

import os
from pathlib import Path

import pytest
import torch
from diffusers import WanPipeline, WanTransformer3DModel
from tiny_training import parse_config, write_cache
from warm_python import WarmPython

from diffusers_jova import JoVAPipeline, JoVAWanTransformer3DModel
from diffusers_jova.data.cache import model_fingerprint, write_fingerprint
from diffusers_jova.nano.assemble import SETTINGS
from diffusers_jova.nano.wan import TrainedWan, train_wan
from diffusers_jova.training.config import TrainingConfig


REPOSITORY = Path(__file__).parents[2]
BASE = REPOSITORY / "checkpoints" / "jova-nano"
MODULES = ["peft", "diffusers_jova.training.train", "diffusers_jova.nano.wan", "diffusers_jova.nano.wan_report"]
OF_BOTH_ENCODERS = ("tokenizer_2", "text_encoder_2")


@pytest.fixture
def cache(tmp_path):
    """A cache for a model of jova-nano's parts without its second text encoder."""
    folder = write_cache(tmp_path / "cache", kinds=("both", "both"), encoders=("",))
    models = {name: part for name, part in model_fingerprint(BASE).items() if name not in OF_BOTH_ENCODERS}
    write_fingerprint(folder, {"models": models, "settings": {}})
    return folder


@pytest.mark.long
@pytest.mark.needs_program("flite")
def test_the_script_makes_a_talking_pipeline_of_a_wan_and_its_report(cache, tmp_path):
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    environment = os.environ | {"QUICK": "1", "ACCELERATE_USE_CPU": "true", "CACHE": str(cache)}
    environment["DIFFUSERS_ATTN_BACKEND"] = "_native_math"  # as the script sets it, for diffusers reads it at import
    script = REPOSITORY / "training" / "nano" / "wan_road.sh"
    with WarmPython(MODULES, environment=environment) as python:
        result = python.run_script(script, tmp_path / "out", folder=tmp_path)
    assert result.returncode == 0, result.stderr[-3000:]
    rows = (tmp_path / "out" / "report" / "wan_report.md").read_text(encoding="utf-8").splitlines()
    cells = {row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:-1]] for row in rows[2:]}
    # each stage has what its modalities can tell
    assert cells["the Wan, video alone"][1:5] == ["–"] * 4 and cells["the Wan, video alone"][5] != "–"
    assert cells["after stage 1, audio alone"][3:] == ["–"] * 3 and cells["after stage 1, audio alone"][1] != "–"
    assert "–" not in cells["after stage 2"] + cells["jova-nano"] + cells["real recordings"]

    wan = WanPipeline.from_pretrained(tmp_path / "out" / "wan" / "pipeline")  # whole, and of diffusers alone
    start = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "out" / "start" / "transformer")
    assert torch.equal(start.video.proj_out.weight, wan.transformer.proj_out.weight)
    assert start.config.text_len == 32 and start.config.vae_temporal_compression == 1

    pipe = JoVAPipeline.from_pretrained(tmp_path / "out" / "jova-wan-nano")
    joint = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "out" / "joint" / "transformer").state_dict()
    for name, tensor in pipe.transformer.state_dict().items():
        assert torch.equal(tensor, joint[name].half().float())  # what was trained last, in 16 bits
    assert {name: pipe.config[name] for name in SETTINGS} == SETTINGS  # not Wan's


def test_small_wan_has_no_audio_to_learn(tmp_path):
    flags = ["--model", str(BASE), "--cache_dir", str(tmp_path), "--output_dir", str(tmp_path / "wan")]
    with pytest.raises(ValueError, match="no audio: train it with `branch: video`, got 'joint'"):
        train_wan(parse_config(TrainingConfig, flags))
    with pytest.raises(ValueError, match="without dry_run: leave that out"):
        train_wan(parse_config(TrainingConfig, [*flags, "--branch", "video", "--dry_run"]))


def test_text_of_the_small_wan_is_what_wan_pipeline_gives_it():
    torch.manual_seed(0)
    sizes = {"num_attention_heads": 1, "attention_head_dim": 16, "num_layers": 1, "ffn_dim": 16, "text_dim": 8}
    wan = TrainedWan(**sizes).eval()
    wan.register_to_config(text_len=6)
    states, mask = torch.randn(2, 4, 8), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]).bool()
    filled = torch.zeros(2, 6, 8)
    filled[0, :4], filled[1, :2] = states[0], states[1, :2]
    latents, timestep = torch.randn(2, 16, 2, 4, 4), torch.tensor([10.0, 900.0])
    with torch.no_grad():
        found, audio = wan(latents, states, mask, timestep, audio_hidden_states=None)
        (expected,) = WanTransformer3DModel.forward(wan, latents, timestep, filled, return_dict=False)
    assert torch.equal(found, expected) and audio is None
    with pytest.raises(ValueError, match="has 8 tokens, this Wan reads at most 6: preprocess with --max_seq"):
        wan(latents, torch.cat([states, states], dim=1), torch.cat([mask, mask], dim=1), timestep)
