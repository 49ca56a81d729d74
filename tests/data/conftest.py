# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest

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
