# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import json

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights, noise
from safetensors.torch import save_file

from diffusers_jova.evaluation.audio_input import mono, resample
from diffusers_jova.evaluation.audiobox import AXES, load_audiobox, measure_audio_aesthetics, read_audiobox
from diffusers_jova.evaluation.measurement import Status


CONFIG = {
    "proj_num_layer": 5, "proj_ln": True, "proj_act_fn": "gelu", "proj_dropout": 0, "nth_layer": 13,
    "use_weighted_layer_sum": True, "precision": "32", "normalize_embed": True, "output_dim": 1,
}  # fmt: skip
LENGTHS = {"3s": (48000, 800), "13s": (208000, 800), "stereo44k": (176400, 882)}


def clip(name: str) -> tuple[np.ndarray, int]:
    expected, (num_samples, block) = golden("audiobox"), LENGTHS[name]
    waveform = noise(int(expected["seed"]) + list(LENGTHS).index(name), num_samples, block)
    assert checksum(waveform) == expected[f"crc_wav_{name}"]
    return (waveform.reshape(2, -1), 44100) if name == "stereo44k" else (waveform, 16000)


@pytest.fixture(scope="module")
def checkpoint():
    target = [dict(zip(("mean", "std"), map(float, pair))) for pair in golden("audiobox")["target_mean_std"]]
    weights = name_seeded_weights("audiobox_a")
    return {"state_dict": weights, "model_cfg": CONFIG, "target_transform": dict(zip(AXES, target))}


@pytest.fixture(scope="module")
def audiobox(checkpoint):
    network = load_audiobox(checkpoint)
    network.layers(torch.zeros(1, 3200), torch.ones(1, 3200))  # transformers' first call leaves hooks
    return network


@pytest.fixture(scope="module")
def three_seconds(audiobox):
    """The layers (13, 1, 499, 768) of a clip of 3 s, and which frames count."""
    samples = torch.zeros(1, 160000)
    samples[0, :48000] = torch.from_numpy(clip("3s")[0])
    with torch.no_grad():
        return audiobox.layers(samples, (torch.arange(160000) < 48000)[None].long())


def test_layers_and_the_frames_that_count_equal_the_original(three_seconds):
    expected = golden("audiobox")
    layers, heard = three_seconds
    assert (heard.sum(), heard.shape[1]) == (expected["frames_valid_3s"], expected["frames_total_3s"])
    shown = layers[[0, 1, 6, 12], 0][:, [0, 40, 120]][..., ::3]
    assert_equals(shown, expected["hidden_3s_layers_0_1_6_12_t_0_40_120"])


def test_scores_of_a_window_equal_the_original(audiobox, three_seconds):
    scores = [float(score) for score in audiobox(*three_seconds).values()]
    np.testing.assert_allclose(scores, golden("audiobox")["scores_3s_cfg_a"], rtol=0, atol=2e-5)


def test_scores_of_another_configuration_equal_the_original(checkpoint, three_seconds):
    """One linear layer per axis, on a mean of any length."""
    heads = {f"model.proj_layer.{axis}.0.{kind}" for axis in AXES for kind in ("weight", "bias")}
    keys = {key: {"shape": [1, 768] if key.endswith("weight") else [1], "dtype": "float32"} for key in heads}
    weights = {key: value for key, value in checkpoint["state_dict"].items() if "proj_layer" not in key}
    weights |= name_seeded_weights("audiobox_b", keys)
    config = CONFIG | {"proj_num_layer": 1, "proj_ln": False, "normalize_embed": False}
    network = load_audiobox(checkpoint | {"state_dict": weights, "model_cfg": config})
    scores = [float(score) for score in network(*three_seconds).values()]
    np.testing.assert_allclose(scores, golden("audiobox")["scores_3s_cfg_b"], rtol=0, atol=2e-5)


def test_windows_of_ten_seconds_count_by_their_length(audiobox, monkeypatch):
    heard = []

    def layers(samples, mask):
        heard.append((samples[0], int(mask.sum())))
        return torch.tensor([float(len(heard))]), None

    monkeypatch.setattr(audiobox, "layers", layers)
    monkeypatch.setattr(audiobox, "forward", lambda layers, heard: dict.fromkeys(AXES, layers))
    waveform, rate = clip("13s")
    measured = measure_audio_aesthetics(audiobox, waveform, rate)
    assert [length for _, length in heard] == [160000, 48000]
    assert np.array_equal(torch.cat([samples for samples, _ in heard]), np.pad(waveform, (0, 112000)))
    assert measured.status == Status.OK
    assert measured.values == pytest.approx(dict.fromkeys(AXES, (10 * 1 + 3 * 2) / 13))
    assert measured.details["level_dbfs"] == pytest.approx(20 * np.log10(waveform.std()), abs=0.1)


def test_resampling_equals_torchaudio():
    waveform = mono(resample(*clip("stereo44k"), 16000))
    assert np.abs(waveform[::50] - golden("audiobox")["resampled_stereo44k_every50"]).max() < 1e-5


@pytest.mark.parametrize("rates", [(16000, 16000), (8000, 16000), (48000, 32000), (44100, 48000)])
def test_resampling_keeps_a_tone(rates):
    seconds = [np.arange(round(0.5 * rate)) / rate for rate in rates]
    tones = [np.sin(2 * np.pi * 440 * time).astype(np.float32) for time in seconds]
    resampled = resample(tones[0], *rates)
    assert resampled.shape == tones[1].shape
    assert np.abs(resampled - tones[1])[100:-100].max() < 1e-2


def test_silence_has_a_status(audiobox):
    assert measure_audio_aesthetics(audiobox, None, None).status == Status.SILENT
    assert measure_audio_aesthetics(audiobox, np.zeros(16000, np.float32), 16000).status == Status.SILENT


def test_a_checkpoint_without_its_configuration_is_refused(checkpoint):
    with pytest.raises(ValueError, match="model_cfg, target_transform is missing"):
        load_audiobox({"state_dict": checkpoint["state_dict"]})


def test_a_checkpoint_is_read_from_its_file_and_from_hugging_faces_two(tmp_path):
    weights = {"layer_weights.CE": torch.ones(13)}
    targets = {"CE": {"mean": 5.0, "std": 1.0}}
    torch.save({"state_dict": weights, "model_cfg": CONFIG, "target_transform": targets}, tmp_path / "checkpoint.pt")
    from_file = read_audiobox(tmp_path)
    assert from_file["target_transform"] == targets
    save_file(weights, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"target_transform": targets}))
    from_folder = read_audiobox(tmp_path)
    assert from_folder["model_cfg"]["proj_num_layer"] == from_file["model_cfg"]["proj_num_layer"] == 5
    assert torch.equal(from_folder["state_dict"]["layer_weights.CE"], weights["layer_weights.CE"])
