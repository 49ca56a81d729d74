# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from diffusers import AutoencoderKLWan
from plain_clips import MouthInTheMiddle

from diffusers_jova.cli.dispatch import main
from diffusers_jova.data.preprocessing import PreprocessingConfig, preprocess
from diffusers_jova.pipelines.random_pipeline import create_pipeline


@pytest.fixture(scope="session")
def clip_model(tmp_path_factory):
    """The folder of a tiny pipeline that encodes clips. Tests only read it."""
    folder = tmp_path_factory.mktemp("clip_model") / "tiny"
    create_pipeline(num_layers=1, num_single_layers=1).save_pretrained(folder)
    return folder


@pytest.fixture
def cache_clips(clip_model, tmp_path):
    """Preprocess tmp_path/clips to tmp_path/cache, in this process and without looking for mouths; flags by name."""

    def cache_clips(data=tmp_path / "clips", output_dir=tmp_path / "cache", detector=None, **flags):
        flags = {"no_mouth": detector is None, "num_workers": 0, "device": "cpu"} | flags
        return preprocess(PreprocessingConfig(str(data), str(clip_model), str(output_dir), **flags), detector)

    (tmp_path / "clips").mkdir()
    return cache_clips


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # and forks are safe
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a tiny pipeline; of its transformer only the config is there: preprocessing never loads it."""
    folder = tmp_path_factory.mktemp("model") / "nano"
    pipe = create_pipeline(num_layers=1, num_single_layers=1)
    pipe.register_modules(vae=AutoencoderKLWan(base_dim=4, z_dim=16, num_res_blocks=1))
    pipe.save_pretrained(folder)
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    return folder


@pytest.fixture
def run(model, tmp_path):
    """Preprocess tmp_path/clips to tmp_path/cache; flags as keyword arguments."""

    def run(detector=None, data=tmp_path / "clips", output_dir=tmp_path / "cache", **flags):
        flags = {"device": "cpu", "num_workers": 0} | flags
        config = PreprocessingConfig(str(data), str(model), str(output_dir), **flags)
        return preprocess(config, detector or MouthInTheMiddle())

    (tmp_path / "clips").mkdir()
    return run


@pytest.fixture
def clips(tmp_path):
    """Where `run` looks for clips."""
    return tmp_path / "clips"


@pytest.fixture
def command(model, clips, tmp_path):
    """Run `diffusers-jova preprocess` with flags and return its exit status."""

    def command(*flags, data=clips):
        arguments = ["--data", str(data), "--model", str(model), "--output_dir", str(tmp_path / "cache")]
        return main(["preprocess", *arguments, "--num_workers", "0", *flags])

    return command
