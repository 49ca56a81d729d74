# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0

import json
import sys
import types
from copy import deepcopy

import numpy as np
import pytest
import torch
from name_seeded import GOLDEN
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    GenerationConfig,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperForConditionalGeneration,
    WhisperProcessor,
    WhisperTokenizer,
)

from diffusers_jova.evaluation.measurement import Status
from diffusers_jova.evaluation.word_errors import (
    Transcript,
    Whisper,
    error_rates,
    measure_words,
    normalize,
    open_whisper,
)


TEXT = json.loads((GOLDEN / "text.json").read_text(encoding="utf-8"))
SPELLINGS = TEXT["spelling_entries_used"]


@pytest.mark.parametrize("case", TEXT["english_normalizer"], ids=lambda case: case["text"].strip()[:20])
def test_english_is_normalised_as_openai_does(case):
    assert normalize(case["text"], spellings=SPELLINGS) == case["english"].strip()
    assert normalize(case["text"]) == case["english_without_spelling_map"].strip()


@pytest.mark.parametrize("case", TEXT["basic_normalizer"], ids=lambda case: case["text"][:10])
def test_other_languages_are_normalised_as_openai_does(case):
    assert normalize(case["text"], language="ja") == case["basic_split_letters"].strip()
    assert normalize(case["text"], language="ru") == case["basic"].strip()


@pytest.mark.parametrize("case", TEXT["wer_pairs"], ids=lambda case: case["reference"][:20])
def test_wer_of_a_clip_equals_jiwers(case):
    transcript = Transcript(case["hypothesis"])
    for normalizer, name in (("none", "plain"), ("lower", "verse"), ("whisper", "whisper_normalised")):
        measured = measure_words(case["reference"], transcript, normalizer, spellings=SPELLINGS)
        assert measured.status == Status.OK
        assert measured.values["WER"] == pytest.approx(case[f"wer_{name}"])


@pytest.mark.parametrize("case", TEXT["wer_verse_punctuation"], ids=lambda case: repr(case["hypothesis"]))
def test_verse_keeps_punctuation_unless_it_is_all_there_is(case):
    measured = measure_words(case["reference"], Transcript(case["hypothesis"]), "lower")
    assert measured.values["WER"] == pytest.approx(case["wer_verse"])


def test_rates_of_a_set_are_the_mean_of_clips_and_all_errors_over_all_words():
    for normalizer, name in (("none", "plain"), ("whisper", "whisper")):
        rates = error_rates(
            [
                measure_words(case["reference"], Transcript(case["hypothesis"]), normalizer)
                for case in TEXT["wer_pairs"]
            ]
        )
        assert rates.macro == pytest.approx(TEXT["wer_aggregate"][f"macro_{name}"])
        assert rates.micro == pytest.approx(TEXT["wer_aggregate"][f"micro_{name}"])
        assert (rates.num_clips, rates.num_above_one) == (7, 1)


def test_chinese_is_counted_by_character():
    case = TEXT["wer_zh"]
    measured = measure_words(case["reference"], Transcript(case["hypothesis"]), language="zh")
    assert measured.values["WER"] == pytest.approx(case["split_wer"])
    assert (measured.details["unit"], measured.details["words"]) == ("character", 8)
    plain = measure_words(case["reference"], Transcript(case["hypothesis"]), "lower", language="zh")
    assert (plain.values["WER"], plain.details["unit"]) == (case["plain_wer"], "word")


@pytest.mark.parametrize("reference", [None, "", "  ", "[laughter]"])
def test_a_clip_without_words_to_say_is_left_out(reference):
    measured = measure_words(reference, Transcript("something"))
    assert (measured.status, measured.values) == (Status.NO_TEXT, {})
    assert error_rates([measured]) is None


def test_an_unknown_normaliser_is_refused():
    with pytest.raises(ValueError, match="whisper, lower, none, got 'upper'"):
        normalize("a", "upper")


@pytest.fixture(scope="module")
def whisper():
    """A random Whisper of one layer whose vocabulary is the bytes."""
    control = ["<|startoftranscript|>", "<|en|>", "<|zh|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>"]
    control += ["<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    vocabulary = [*sorted(ByteLevel.alphabet()), "<|endoftext|>", *control]
    token = {name: index for index, name in enumerate(vocabulary)}
    tokenizer = WhisperTokenizer(vocab=token, merges=[], language="en", task="transcribe")
    tokenizer.add_special_tokens({"additional_special_tokens": control})
    end = tokenizer.eos_token_id
    config = WhisperConfig(
        vocab_size=len(tokenizer), d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, num_mel_bins=80, max_target_positions=32,
        decoder_start_token_id=token["<|startoftranscript|>"], bos_token_id=end, eos_token_id=end, pad_token_id=end,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        decoder_start_token_id=token["<|startoftranscript|>"], bos_token_id=end, eos_token_id=end, pad_token_id=end,
        is_multilingual=True, lang_to_id={name: token[name] for name in ("<|en|>", "<|zh|>")},
        task_to_id={name: token[f"<|{name}|>"] for name in ("transcribe", "translate")},
        no_timestamps_token_id=token["<|notimestamps|>"], max_length=16,
        suppress_tokens=[token[name] for name in control], begin_suppress_tokens=[end],
    )  # fmt: skip
    return Whisper(model, WhisperProcessor(WhisperFeatureExtractor(), tokenizer))


def test_whisper_hears_the_same_as_the_pipeline_of_its_own_classes(whisper):
    waveform = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    transcript = whisper.transcribe(waveform)
    features = whisper.processor(waveform, sampling_rate=16000, return_tensors="pt").input_features
    tokens = whisper.model.generate(features, language="en", task="transcribe")
    assert transcript.text == whisper.processor.batch_decode(tokens, skip_special_tokens=True)[0].strip() != ""
    assert 0 < transcript.no_speech < 1


def test_whisper_is_told_the_language(whisper, record):
    calls = record(whisper.model.model.decoder)
    whisper.transcribe(np.zeros(1600, np.float32), language="zh")
    prefix = whisper.processor.tokenizer.convert_ids_to_tokens(calls[0][0]["input_ids"][0].tolist())
    assert prefix == ["<|startoftranscript|>", "<|zh|>", "<|transcribe|>", "<|notimestamps|>"]


def test_whisper_is_loaded_from_a_folder_with_its_spellings(whisper, tmp_path):
    deepcopy(whisper.model).save_pretrained(tmp_path)  # which writes into the configuration
    deepcopy(whisper.processor).save_pretrained(tmp_path)
    (tmp_path / "normalizer.json").write_text(json.dumps(SPELLINGS))
    loaded = Whisper.from_folder(tmp_path)
    assert loaded.english_spellings == SPELLINGS
    waveform = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    assert loaded.transcribe(waveform).text == whisper.transcribe(waveform).text


class Segment:
    text, no_speech_prob = " one two", 0.25


def test_a_whisper_of_either_format_is_opened_and_hears_alike(monkeypatch, tmp_path):
    asked = {}

    class WhisperModel:
        def __init__(self, folder, **settings):
            asked.update(folder=folder, **settings)

        def transcribe(self, waveform, **settings):
            asked.update(settings, samples=len(waveform), dtype=waveform.dtype)
            return iter([Segment, Segment] if waveform.any() else []), None

    package = types.ModuleType("faster_whisper")
    package.WhisperModel = WhisperModel
    monkeypatch.setitem(sys.modules, "faster_whisper", package)
    monkeypatch.setattr(Whisper, "from_folder", lambda folder, device: ("of transformers", folder, device))
    assert open_whisper(tmp_path) == ("of transformers", tmp_path, "cpu")
    (tmp_path / "model.bin").touch()
    whisper = open_whisper(tmp_path)
    assert whisper.transcribe(np.ones(31 * 16000), "fr") == Transcript("one two one two", 0.25)
    assert (asked["samples"], asked["dtype"], asked["language"]) == (30 * 16000, np.float32, "fr")
    assert asked["folder"] == str(tmp_path) and asked["local_files_only"]
    assert whisper.transcribe(np.zeros(16000)) == Transcript("", None)


def test_without_faster_whisper_the_error_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    (tmp_path / "model.bin").touch()
    with pytest.raises(ModuleNotFoundError, match="pip install faster-whisper, or give a folder of transformers"):
        open_whisper(tmp_path)
