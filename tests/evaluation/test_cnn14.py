# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights, noise

from diffusers_jova.evaluation.audio_input import av_benchmark_audio
from diffusers_jova.evaluation.cnn14 import Cnn14, av_benchmark_output, load_cnn14, mova_probabilities_of


RATES = {"cnn14_16k": 16000, "cnn14_32k": 32000}


@pytest.fixture(scope="module")
def weights():
    """The same for both rates, but for the front end."""
    return name_seeded_weights("cnn14_16k")


@pytest.mark.parametrize("name, lengths", [("cnn14_16k", (2, 10)), ("cnn14_32k", (2,))])
def test_features_and_classes_equal_the_original(weights, name, lengths):
    expected, rate = golden(name), RATES[name]
    network = load_cnn14(weights, rate)
    for length in lengths:
        seconds = f"{length}s"
        waveform = noise(int(expected["seed"]) + (length == 10), length * rate, 800)
        assert checksum(waveform) == expected[f"crc_wav_{seconds}"]
        samples = torch.from_numpy(waveform)[None]
        step = expected["logmel_step_2s_10s"][int(length == 10)]
        logmel = network.logmel(samples)[0]
        assert np.abs(logmel[::step, ::4].detach().numpy() - expected[f"logmel_{seconds}"]).max() < 1e-3
        output = network(samples)
        assert_equals(output["2048"][0], expected[f"embedding_{seconds}"], 2e-5)
        assert_equals(output["logits"][0], expected[f"logits_{seconds}"], 2e-5)


@pytest.mark.parametrize("name", RATES)
def test_the_front_end_equals_torchlibrosa(name):
    expected, network = golden(name), Cnn14(RATES[name])
    stft = network.spectrogram_extractor.stft
    width = len(expected["conv_real_row5"])
    assert np.abs(stft.conv_real.weight[5, 0, :width].detach().numpy() - expected["conv_real_row5"]).max() < 1e-6
    assert np.abs(stft.conv_imag.weight[5, 0, :width].detach().numpy() - expected["conv_imag_row5"]).max() < 1e-6
    assert_equals(network.logmel_extractor.melW.detach(), expected["melW"])


def test_the_front_end_of_the_checkpoint_is_used(weights):
    network = load_cnn14(weights | {"logmel_extractor.melW": torch.ones(257, 64)}, 16000)
    assert (network.logmel_extractor.melW == 1).all()


def test_weights_of_the_other_rate_are_refused(weights):
    front_end = {"logmel_extractor.melW": torch.zeros(513, 64)}
    with pytest.raises(ValueError, match=r"melW \(513, 64\) instead of \(257, 64\)"):
        load_cnn14(weights | front_end, 16000)
    with pytest.raises(ValueError, match="not for 44100 Hz"):
        load_cnn14(weights, 44100)


def test_av_benchmark_hears_one_channel_without_its_mean_for_eight_seconds():
    stereo = np.stack([np.full(32000 * 9, 0.5), np.sin(np.arange(32000 * 9) / 20)]).astype(np.float32)
    heard = av_benchmark_audio(stereo, 32000, 16000)
    assert heard.shape == (128000,)
    assert abs(heard.mean()) < 1e-4
    assert np.abs(heard[100:1000] - np.sin(np.arange(100, 1000) / 10) / 2).max() < 0.01


def test_av_benchmark_and_mova_differ_in_what_is_heard(weights, monkeypatch):
    network, heard = load_cnn14(weights, 32000), []

    def forward(samples):
        heard.append(samples[0].numpy())
        return {"logits": torch.zeros(1, 527), "2048": torch.ones(1, 2048)}

    monkeypatch.setattr(network, "forward", forward)
    waveform = noise(0, 32000, 400) + 0.05
    output = av_benchmark_output(network, waveform, 32000)
    assert (output["logits"].shape, output["2048"].shape) == ((527,), (2048,))
    assert (mova_probabilities_of(network, waveform) == 0.5).all()
    mova_probabilities_of(network, np.resize(waveform, 400000))
    assert np.allclose(heard[0], waveform - waveform.mean())
    assert np.array_equal(heard[1], np.pad(waveform, (0, 288000)))
    assert np.array_equal(heard[2], np.resize(waveform, 320000))


def test_silence_and_a_third_of_a_second_have_no_features(weights):
    network = load_cnn14(weights, 16000)
    assert av_benchmark_output(network, None, None) is None
    assert mova_probabilities_of(network, np.zeros(16000, np.float32)) is None
    shortest = noise(0, 5120, 20)
    assert av_benchmark_output(network, shortest[:-1], 16000) is None
    assert av_benchmark_output(network, shortest, 16000)["2048"].isfinite().all()
