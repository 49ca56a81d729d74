# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a run would do, before it does it."""

import pytest
from plain_clips import write_clip

from diffusers_jova.data.dry_run import dry_run, phase_memory
from diffusers_jova.data.model_facts import COMPONENTS_OF
from diffusers_jova.data.plan import make_plan
from diffusers_jova.data.preprocessing import PreprocessingConfig
from diffusers_jova.data.run import prepare_run
from diffusers_jova.engines import LocalEngine
from diffusers_jova.pipelines.pipeline_jova import JoVAPipeline


def test_dry_run_prints_the_peak_of_each_phase_and_writes_nothing(command, run, clips, tmp_path, capsys):
    write_clip(clips / "a.mp4", 9)
    (clips / "broken.mp4").touch()
    assert command("--dry_run", "--no_mouth") == 0
    printed = capsys.readouterr().out
    assert "1 samples of 2 clips, 0.72 s" in printed and "broken.mp4: the file is empty" in printed
    for components in COMPONENTS_OF.values():
        assert f"({', '.join(components)})" in printed
    assert not (tmp_path / "cache").exists()


def test_weights_in_the_dry_run_are_those_in_the_model(model, clips, run, tmp_path):
    write_clip(clips / "a.mp4", 9)
    pipe = JoVAPipeline.from_pretrained(model, transformer=None, scheduler=None, vocoder=None)
    config = PreprocessingConfig(
        str(clips), str(model), str(tmp_path / "cache"), no_mouth=True, num_workers=0, device="cpu"
    )
    run = prepare_run(config)
    windows = make_plan(run, LocalEngine(0)).windows
    for phase, components in COMPONENTS_OF.items():
        parameters = sum(p.numel() for p in getattr(pipe, components[-1]).parameters())
        assert phase_memory(run, phase, windows)[0] == pytest.approx(4 * parameters, rel=0.01)
    assert "video" in dry_run(config)
