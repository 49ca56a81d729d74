# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

from dataclasses import replace

import numpy as np
import pytest
import torch
from name_seeded import assert_equals, checksum, golden, name_seeded_weights, noise
from transformers import ClapAudioConfig, ClapConfig, ClapFeatureExtractor, ClapModel, ClapTextConfig, RobertaTokenizer

from diffusers_jova.evaluation import clap as clap_module
from diffusers_jova.evaluation.audio_input import int16_round_trip, peak_normalized
from diffusers_jova.evaluation.clap import (
    PROTOCOLS,
    Clap,
    embed_clip,
    fd_pair,
    load_clap,
    measure_pair_distance,
    measure_similarity,
)
from diffusers_jova.evaluation.measurement import Status


LENGTHS = {"3s": 144000, "10s": 480000, "13s": 624000}


@pytest.fixture(scope="module")
def clap():
    network = load_clap(name_seeded_weights("clap_fusion"))
    network.embed_mel(torch.zeros(4, 1001, 64), False)  # transformers' first call changes the size of a shift
    return network


def clip(name: str) -> np.ndarray:
    expected, num_samples = golden("clap"), LENGTHS[name]
    waveform = noise(int(expected["seed"]) + len(name) + num_samples % 7, num_samples, 960, 0.3)
    assert checksum(waveform) == expected[f"crc_wav_{name}"]
    rounded = int16_round_trip(waveform)
    assert checksum(rounded) == expected[f"crc_int16roundtrip_{name}"]
    return rounded


@pytest.mark.parametrize("name", LENGTHS)
def test_mels_and_embeddings_of_audio_equal_the_original(clap, name):
    expected = golden("clap")
    mel, is_longer = clap.mel_channels(clip(name), np.random.RandomState(int(expected["seed"])))
    shown = mel[:, ::50, ::4] if is_longer else mel[0, ::25, ::4]
    assert is_longer == expected[f"longer_{name}"][0]
    assert np.abs(shown.numpy() - expected[f"mel_fusion_{name}"]).max() < 1e-3
    assert_equals(clap.embed_mel(mel, is_longer), expected[f"embedding_{name}"])


def test_embeddings_of_text_equal_the_original(clap):
    expected = golden("clap")
    tokens = [torch.from_numpy(expected[name]) for name in ("text_input_ids", "text_attention_mask")]
    embedded = clap.embed_tokens(*tokens)
    assert_equals(embedded, expected["text_embedding"])
    audio = torch.stack([torch.from_numpy(expected[f"embedding_{name}"]) for name in LENGTHS])
    cosines = [[measure_similarity(sound, text).values["CS"] for text in embedded] for sound in audio]
    assert_equals(cosines, expected["audio_text_cosine"])


def test_fd_of_pairs_equals_the_original():
    expected = golden("fd_pair")
    pairs = zip(expected["generated"], expected["reference"])
    np.testing.assert_allclose([fd_pair(*pair) for pair in pairs], expected["fd"], rtol=0, atol=1e-6)


def test_fd_of_opposite_and_of_equal_embeddings_is_four_and_zero():
    embedding = torch.nn.functional.normalize(torch.arange(512.0), dim=0)
    assert measure_pair_distance(embedding, embedding).values["FD"] == 0
    assert measure_pair_distance(embedding, -embedding).values["FD"] == pytest.approx(4)


def tiny_model(fusion: bool) -> ClapModel:
    audio = ClapAudioConfig(
        enable_fusion=fusion, patch_embeds_hidden_size=8, hidden_size=16, depths=[1, 1], num_attention_heads=[1, 2],
        aff_block_r=2,
    )  # fmt: skip
    text = ClapTextConfig(
        vocab_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=1, intermediate_size=16
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ClapModel(ClapConfig(text_config=text.to_dict(), audio_config=audio.to_dict())).eval()


@pytest.fixture(scope="module")
def tiny():
    return Clap(tiny_model(fusion=True), clap_module._mel_filters(fusion=True))


@pytest.mark.parametrize("fusion", [True, False], ids=["fused", "unfused"])
def test_mels_of_short_clips_equal_those_of_transformers(fusion):
    clap = Clap(tiny_model(fusion), clap_module._mel_filters(fusion))
    extractor = ClapFeatureExtractor(frequency_min=50, truncation="fusion" if fusion else "rand_trunc")
    wanted = extractor(clip("3s"), sampling_rate=48000, return_tensors="pt").input_features[0]
    mel, is_longer = clap.mel_channels(clip("3s"))
    assert mel.shape == wanted.shape
    assert (mel - wanted).abs().max() < 1e-3
    assert not is_longer


def test_one_part_of_a_long_clip_is_heard_without_fusion():
    clap = Clap(tiny_model(fusion=False), clap_module._mel_filters(fusion=False))
    mel, is_longer = clap.mel_channels(clip("13s"), np.random.RandomState(1))
    assert (mel.shape, is_longer) == ((1, 1001, 64), False)
    assert embed_clip(clap, clip("13s"), PROTOCOLS["javis"]).shape == (512,)


def test_a_clip_longer_by_less_than_a_hop_is_heard_whole(tiny):
    mel, is_longer = tiny.mel_channels(noise(0, 480400, 400))
    assert (mel.shape, is_longer) == ((4, 1001, 64), False)


def test_parts_of_a_long_clip_depend_on_its_name_alone(tiny):
    first, again, other = (embed_clip(tiny, clip("13s"), clip_name=name) for name in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_loudness_counts_only_where_the_protocol_does_not_normalise(tiny):
    loud, quiet = clip("3s"), clip("3s") / 16
    assert torch.allclose(embed_clip(tiny, loud), embed_clip(tiny, quiet), atol=1e-3)
    unnormalized = replace(PROTOCOLS["verse"], normalized=False)
    assert not torch.allclose(embed_clip(tiny, loud, unnormalized), embed_clip(tiny, quiet, unnormalized), atol=1e-3)


def test_avb_hears_eight_seconds_without_their_mean(tiny):
    waveform = clip("10s")
    offset = np.concatenate([waveform[:384000] + 0.5, waveform[384000:] + 0.5])
    centred = waveform - waveform.mean()
    heard = embed_clip(tiny, offset, PROTOCOLS["avb"])
    assert torch.allclose(heard, tiny.embed_audio(centred[:384000]), atol=1e-4)


@pytest.mark.parametrize("waveform", [None, np.zeros(48000, np.float32)], ids=["no audio", "silence"])
def test_silence_has_a_status(tiny, waveform):
    embedding = embed_clip(tiny, waveform)
    text = torch.ones(512)
    assert measure_similarity(embedding, text).status == Status.SILENT
    assert measure_pair_distance(embedding, text).status == Status.SILENT
    with pytest.raises(ValueError, match="Silence has no peak"):
        peak_normalized(np.zeros(4))


def test_a_missing_text_and_a_missing_reference_have_a_status():
    assert measure_similarity(torch.ones(512), None).status == Status.NO_TEXT
    assert measure_pair_distance(torch.ones(512), None).status == Status.NO_REFERENCE


def test_texts_are_cut_into_the_tokens_of_a_folder(tmp_path):
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"abcdefgh"]
    RobertaTokenizer(vocab={token: index for index, token in enumerate(vocabulary)}, merges=[]).save_pretrained(
        tmp_path
    )
    tokenizer = RobertaTokenizer.from_pretrained(tmp_path, local_files_only=True)
    clap = Clap(tiny_model(fusion=True), clap_module._mel_filters(fusion=True), tokenizer)
    embedded = clap.embed_texts(["abba", "h" * 200])
    ids, mask = torch.ones(2, 77, dtype=torch.long), torch.zeros(2, 77, dtype=torch.long)
    ids[0, :6], ids[1] = torch.tensor([0, 5, 6, 6, 5, 2]), torch.tensor([0] + 75 * [12] + [2])
    mask[0, :6], mask[1] = 1, 1
    assert torch.allclose(embedded, clap.embed_tokens(ids, mask))


def test_texts_need_a_tokenizer(tiny):
    with pytest.raises(ValueError, match="roberta-base"):
        tiny.embed_texts(["a dog barks"])


def test_weights_of_another_network_are_refused():
    with pytest.raises(ValueError, match="not the weights of LAION's CLAP"):
        load_clap({"vgg.0.weight": torch.zeros(1)})
