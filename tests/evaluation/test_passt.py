# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights, noise

from diffusers_jova.evaluation.audio_input import peak_normalized
from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.passt import (
    av_benchmark_output,
    load_passt,
    measure_kl,
    verse_kl,
    verse_logits,
    verse_windows,
)


@pytest.fixture(scope="module")
def passt():
    return load_passt(name_seeded_weights("passt"))


@pytest.mark.parametrize("seconds, step", [(2, 5), (10, 20)])
def test_mels_classes_and_features_equal_the_original(passt, seconds, step):
    expected, name = golden("passt"), f"{seconds}s"
    waveform = noise(int(expected["seed"]) + {2: 2, 10: 3}[seconds], 32000 * seconds, 800)
    assert checksum(waveform) == expected[f"crc_wav_{name}"]
    samples = torch.from_numpy(waveform)[None]
    mel = passt.mel(samples)[0]
    assert list(mel.shape) == expected[f"mel_shape_{name}"].tolist()
    assert np.abs(mel[::8, ::step].numpy() - expected[f"mel_{name}"]).max() < 1e-4
    logits, features = passt(samples)
    assert_equals(logits[0], expected[f"logits_{name}"], 2e-5)
    assert_equals(features[0], expected[f"features_{name}"], 2e-5)


def test_windows_equal_those_of_verse_bench():
    expected = golden("passt_windows")
    facts, counts = [], []
    for seconds in expected["win_seconds"]:
        waveform = noise(int(expected["seed"]) + int(10 * seconds), int(32000 * seconds), 400)
        windows = verse_windows(peak_normalized(waveform))
        counts.append(len(windows))
        facts += [
            (len(w), np.abs(w, dtype=np.float64).sum(), w[:100].sum(dtype=np.float64), np.count_nonzero(w))
            for w in windows
        ]
    assert counts == expected["win_counts"].tolist()
    np.testing.assert_allclose(facts, expected["win_len_abssum_first100_nonzero"], rtol=1e-4, atol=1e-4)


def test_the_audio_of_a_single_frame_is_filled_up_to_one_patch(passt):
    assert passt(torch.from_numpy(verse_windows(np.ones(1280, np.float32))[0])[None])[0].isfinite().all()


class SevenNumbers(torch.nn.Module):
    """The stand-in of the golden file: logits of seven numbers of a window, by a drawn matrix."""

    def __init__(self, seed: int):
        super().__init__()
        self.weight = torch.from_numpy(np.random.default_rng(seed).standard_normal((7, 527)).astype(np.float32))
        self.window = torch.zeros(1)

    def forward(self, waveform):
        x = waveform[0].numpy().astype(np.float64)
        half = len(x) // 2
        means = [np.abs(part).mean() for part in (x[:half], x[half:], np.diff(x))]
        numbers = np.array([x.mean(), x.std(ddof=1), *means, x.max(), 1]) * [50, 8, 12, 12, 6, 1, 0.3]
        return torch.from_numpy(numbers.astype(np.float32))[None] @ self.weight, None


def test_kl_equals_that_of_verse_bench():
    expected = golden("passt_windows")
    seed, stand_in = int(expected["seed"]), SevenNumbers(int(expected["seed"]))
    generated = verse_logits(stand_in, noise(seed + 500, 13 * 32000, 400, 0.2))
    reference = verse_logits(stand_in, noise(seed + 501, 11 * 32000, 800))
    assert_equals(generated.softmax(dim=0), expected["p_gen"], 1e-4)
    assert_equals(reference.softmax(dim=0), expected["p_ref"], 1e-4)
    assert measure_kl(generated, reference).values["KL"] == pytest.approx(float(expected["kl_gen_ref"]), rel=1e-4)


def test_kl_of_equal_classes_is_almost_zero_and_of_av_benchmark_zero():
    logits = torch.arange(527.0) / 100
    assert verse_kl(logits.softmax(dim=0), logits.softmax(dim=0)) == pytest.approx(0, abs=6e-4)  # its epsilon
    assert measure_kl(logits, logits, "passt-avb").values["KL"] == pytest.approx(0)


def test_av_benchmark_hears_eight_seconds_at_any_rate_filled_up_to_ten():
    heard = []

    class Ears(torch.nn.Module):
        window = torch.zeros(1)

        def forward(self, waveform):
            heard.append(waveform[0])
            return torch.zeros(1, 527), torch.ones(1, 768)

    tone = np.sin(np.arange(16000 * 9) / 10).astype(np.float32)
    logits, features = av_benchmark_output(Ears(), np.stack([tone, 0.5 + 0 * tone]), 16000)
    assert (logits.shape, features.shape, heard[0].shape) == ((527,), (768,), (320000,))
    wanted = np.sin(np.arange(32000 * 8) / 20) / 2
    assert np.abs(heard[0].numpy()[100:256000] - wanted[100:]).max() < 1e-2
    assert not heard[0][256000:].any()


def test_silence_and_a_missing_reference_have_a_status():
    logits = torch.zeros(527)
    assert verse_logits(SevenNumbers(0), np.zeros(32000, np.float32)) is None
    assert av_benchmark_output(SevenNumbers(0), None, None) is None
    assert measure_kl(None, logits).status == Status.SILENT
    assert measure_kl(logits, None).status == Status.NO_REFERENCE
    with pytest.raises(ValueError, match="passt-verse, passt-avb, panns-avb, got 'audiocraft'"):
        measure_kl(logits, logits, "audiocraft")
