# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights

from diffusers_jova.evaluation.syncnet import load_syncnet, mfcc, score_faces, sync_score, window_distances


@pytest.fixture(scope="module")
def syncnet():
    return load_syncnet(name_seeded_weights("syncnet"))


@pytest.fixture(scope="module")
def clip():
    """The golden file's frames (40, 224, 224, 3) and int16 audio."""
    expected = golden("syncnet")
    bgr = expected["frames_small"].repeat(16, axis=1).repeat(16, axis=2)
    generator = np.random.default_rng(int(expected["seed"]) + 1000)
    envelope = np.repeat(generator.uniform(0.05, 1, 40), 640)
    audio = np.round(generator.standard_normal(25600) * envelope * 6000).clip(-32768, 32767).astype(np.int16)
    assert (checksum(bgr), checksum(audio)) == (expected["crc_frames"], expected["crc_audio"])
    return bgr[..., ::-1].copy(), audio


def test_mfccs_equal_those_of_python_speech_features(clip):
    assert_equals(mfcc(clip[1]), golden("syncnet")["mfcc"])


def test_mfccs_of_silence_and_of_a_few_samples_are_finite():
    assert np.isfinite(mfcc(np.zeros(1600, np.int16))).all()
    assert mfcc(np.ones(100, np.int16)).shape == (1, 13)


def test_features_of_lips_and_audio_equal_the_original(syncnet, clip):
    expected = golden("syncnet")
    faces, audio = clip
    lips = torch.stack([torch.tensor(faces[row : row + 5, ..., ::-1].copy()) for row in expected["rows"]])
    lips = lips.permute(0, 4, 1, 2, 3).float()
    columns = torch.tensor(mfcc(audio)).float().T
    heard = torch.stack([columns[None, :, 4 * row : 4 * row + 20] for row in expected["rows"]])
    assert_equals(syncnet.lip_features(lips), expected["lip"])
    assert_equals(syncnet.netcnnlip(lips[:1]).flatten(1), expected["lipfeat0"])
    assert_equals(syncnet.audio_features(heard), expected["aud"])


def test_score_of_a_clip_equals_the_original(syncnet, clip):
    expected = golden("syncnet")
    score = score_faces(syncnet, *clip)
    assert_equals(score.mean_distances, expected["m"])
    assert_equals([score.lse_c, score.lse_d], [expected["lse_c"], expected["lse_d"]])
    assert score.offset == expected["offset"]


def test_score_of_given_features_equals_the_original():
    expected = golden("syncnet_score")
    lips, audio = torch.tensor(expected["V"]), torch.tensor(expected["A"])
    score = sync_score(lips, audio)
    assert_equals(window_distances(lips, audio, 15), expected["D"])
    assert_equals(score.mean_distances, expected["m"])
    assert_equals([score.lse_c, score.lse_d], [expected["lse_c"], expected["lse_d"]])
    assert score.offset == expected["offset"]


@pytest.mark.parametrize("frames, samples", [(5, 16000), (25, 3200)], ids=["five frames", "audio of five frames"])
def test_less_than_six_frames_have_no_score(syncnet, frames, samples):
    assert score_faces(syncnet, np.zeros((frames, 224, 224, 3), np.uint8), np.ones(samples, np.int16)) is None


def test_other_weights_are_refused_with_their_names():
    weights = name_seeded_weights("syncnet")
    weights["somebody.else"] = weights.pop("netfclip.3.bias")
    with pytest.raises(ValueError, match=r"SyncNet.*1 missing: netfclip\.3\.bias.*1 unexpected: somebody\.else"):
        load_syncnet(weights)


def test_weights_of_another_size_are_refused_with_the_shapes():
    weights = name_seeded_weights("syncnet")
    weights["netfclip.3.bias"] = torch.zeros(512)
    with pytest.raises(ValueError, match=r"netfclip\.3\.bias \(512,\) instead of \(1024,\)"):
        load_syncnet(weights)
