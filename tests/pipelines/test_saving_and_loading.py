# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from diffusers import AutoencoderKLWan, AutoModel, DiffusionPipeline
from diffusers.pipelines import pipeline_utils

from diffusers_jova import AutoencoderMMAudio, BigVGANVocoder, JoVAPipeline, JoVATransformer3DModel


def run(pipe, **kwargs):
    """Return frames and waveform of one step, with guidance."""
    pipe.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    settings = {"num_inference_steps": 1, "generator": generator, "output_type": "pt", "return_dict": False}
    return pipe("A face.", transcript="one", **(settings | kwargs))


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def expected(pipe):
    return run(pipe)


@pytest.mark.parametrize("cls", [JoVAPipeline, DiffusionPipeline])
def test_a_saved_pipeline_loads_and_makes_the_same_clip(cls, folder, pipe, expected):
    loaded = cls.from_pretrained(folder)
    assert type(loaded) is JoVAPipeline
    assert {k: v for k, v in loaded.config.items() if not k.startswith("_")} == {
        k: v for k, v in pipe.config.items() if not k.startswith("_")
    }
    assert_same(run(loaded), expected)


@pytest.mark.parametrize(
    "name, cls",
    [
        ("transformer", JoVATransformer3DModel),
        ("audio_vae", AutoencoderMMAudio),
        ("vocoder", BigVGANVocoder),
        ("vae", AutoencoderKLWan),
    ],
)
def test_auto_model_loads_a_component_by_subfolder_and_from_its_own_folder(name, cls, folder, pipe):
    by_subfolder = AutoModel.from_pretrained(str(folder), subfolder=name)
    for model in (by_subfolder, AutoModel.from_pretrained(str(folder / name))):
        assert type(model) is cls
        state_dict = model.state_dict()
        for key, value in getattr(pipe, name).state_dict().items():
            assert torch.equal(state_dict[key], value)


@pytest.mark.parametrize("cls", [JoVAPipeline, DiffusionPipeline])
def test_a_pipeline_loads_from_a_hub_repository(cls, folder, expected, tmp_path, monkeypatch):
    """Only the network is replaced: the check of the repository's components is diffusers' own."""
    files = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
    info = SimpleNamespace(siblings=[SimpleNamespace(rfilename=name) for name in files], sha="0" * 40)
    snapshot = tmp_path / "snapshot"  # what the Hub's cache holds: at first the index, then all that was asked for
    snapshot.mkdir()

    def hf_hub_download(repo, filename, **kwargs):
        return shutil.copy(folder / filename, snapshot)

    def snapshot_download(repo, *, allow_patterns, **kwargs):
        assert {"transformer/config.json", "vocoder/config.json"} <= set(allow_patterns)
        return shutil.copytree(folder, snapshot, dirs_exist_ok=True)

    monkeypatch.setattr(pipeline_utils, "model_info", lambda *args, **kwargs: info)
    monkeypatch.setattr(pipeline_utils, "hf_hub_download", hf_hub_download)
    monkeypatch.setattr(pipeline_utils, "snapshot_download", snapshot_download)
    loaded = cls.from_pretrained("someone/jova-tiny")
    assert type(loaded) is JoVAPipeline
    assert_same(run(loaded), expected)


def test_dtype_can_be_given_for_each_component(folder):
    dtypes = {"transformer": torch.bfloat16, "vae": torch.float16, "default": torch.float32}
    loaded = JoVAPipeline.from_pretrained(folder, dtype=dtypes)
    for name, component in loaded.components.items():
        if isinstance(component, torch.nn.Module):
            assert component.dtype == dtypes.get(name, torch.float32), name
    loaded.vae.to(torch.float32)
    frames, audio = run(loaded)
    assert frames.shape == (1, 5, 3, 32, 32) and audio.shape == (1, 6400)
    assert torch.isfinite(frames).all() and torch.isfinite(audio).all()


def test_a_pipeline_in_bfloat16_makes_nearly_the_same_latents(load_pipeline, pipe):
    half = load_pipeline(dtype=torch.bfloat16)
    for one, other in zip(run(half, output_type="latent"), run(pipe, output_type="latent"), strict=True):
        assert one.dtype == torch.float32  # steps are taken in float32 whatever the models' dtype
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.999
    frames, audio = run(half)
    assert torch.isfinite(frames).all() and torch.isfinite(audio).all()


@pytest.mark.parametrize(
    "missing",
    [
        ("text_encoder", "tokenizer"),
        ("text_encoder_2", "tokenizer_2"),
        ("audio_vae", "vocoder"),
    ],
)
def test_optional_components_stay_away_after_saving(missing, own_pipe, tmp_path):
    settings = {"height": 32, "width": 32, "num_frames": 5, "frame_rate": 12.5}
    partial = JoVAPipeline(**(own_pipe.components | dict.fromkeys(missing)), **settings)
    partial.save_pretrained(tmp_path)
    assert not any((tmp_path / name).exists() for name in missing)
    loaded = JoVAPipeline.from_pretrained(tmp_path)
    assert all(getattr(loaded, name) is None for name in missing)
    modalities = ("video",) if "vocoder" in missing else ("video", "audio")
    ours, before = (run(p, modalities=modalities, output_type="latent") for p in (loaded, partial))
    assert (before[1] is None) == (modalities == ("video",))
    assert_same([x for x in ours if x is not None], [x for x in before if x is not None])
    if "vocoder" in missing:
        with pytest.raises(ValueError, match="needs `audio_vae` and `vocoder`"):
            run(loaded)


def test_an_optional_component_missing_from_the_index_needs_no_naming(own_pipe, tmp_path):
    JoVAPipeline(**(own_pipe.components | {"text_encoder": None, "tokenizer": None})).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    for name in ("text_encoder", "tokenizer"):
        index.pop(name, None)
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert JoVAPipeline.from_pretrained(tmp_path).text_encoder is None


def test_components_make_another_pipeline(pipe, expected):
    again = JoVAPipeline.from_pipe(pipe)
    assert all(again.components[name] is part for name, part in pipe.components.items())
    assert_same(run(again), expected)


def test_a_truncated_component_is_named(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "broken")
    path = next((broken / "transformer").glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(OSError, match=str(path)):
        JoVAPipeline.from_pretrained(broken)


@pytest.mark.gpu
def test_a_pipeline_moves_to_an_accelerator_and_back(load_pipeline, expected):
    moved = load_pipeline().to(torch.accelerator.current_accelerator())
    for one, other in zip(run(moved), expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-2, rtol=1e-2)
