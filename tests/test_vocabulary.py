# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which words a checkpoint knows: read, kept, and said of a text that has others."""

import json

import pytest

from diffusers_jova import JoVAPipeline
from diffusers_jova.mini.recipe import RECIPES
from diffusers_jova.pipeline_folder import read_pipeline_folder
from diffusers_jova.pipelines import pipeline_jova
from diffusers_jova.vocabulary import all_words, check_known_words, spoken_words, unknown_words


KNOWN = {"digit": ["two", "four"], "things": ["flowers", "four"]}


def test_words_are_compared_without_case_and_punctuation():
    assert spoken_words("It’s  “Mother's”, isn't it? O'Neil--42") == "it's mother's isn't it o'neil 42"


def test_unknown_words_are_named_once_with_the_nearest():
    assert all_words(KNOWN) == ["two", "four", "flowers"] and all_words(None) == all_words({}) == []
    assert unknown_words(["two", "flowers", "four"], all_words(KNOWN)) == unknown_words([], ["two"]) == ""
    said = unknown_words("two flowrs Four flowrs".split(), all_words(KNOWN))
    assert said == "`flowrs` (nearest: flowers, four, two), `Four` (nearest: four, flowers, two)"


@pytest.mark.parametrize("value", [["two"], "two", {"digit": "two"}, {"digit": ["two four"]}, {"digit": [2]}])
def test_what_are_not_lists_of_words_by_kind_is_refused(value):
    for check in (check_known_words, all_words):
        with pytest.raises(ValueError, match="`known_words` must be lists of words by their kinds, .* got "):
            check(value)


@pytest.mark.parametrize("name", RECIPES)
def test_a_packed_checkpoint_knows_the_words_of_its_corpus_as_a_transcript_is_folded(name):
    known = all_words(RECIPES[name].settings["known_words"])
    assert len(known) >= 10 and spoken_words(" ".join(known)) == " ".join(known)


def test_a_pipeline_keeps_its_words_and_warns_of_others(pipe, folder, tmp_path, monkeypatch):
    warnings = []
    monkeypatch.setattr(pipeline_jova.logger, "warning", warnings.append)
    settings = {"num_inference_steps": 1, "output_type": "latent"}
    pipe(prompt="A face.", transcript="hello", **settings)  # it does not say which words it knows

    parts = dict.fromkeys(
        ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "vae", "audio_vae", "vocoder")
    )
    JoVAPipeline.from_pretrained(folder, known_words=KNOWN, **parts).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "model_index.json").read_text())["known_words"] == KNOWN
    assert read_pipeline_folder(tmp_path).index["known_words"] == KNOWN
    loaded = JoVAPipeline.from_pretrained(tmp_path, **{name: pipe.components[name] for name in parts})
    assert loaded.config.known_words == KNOWN
    loaded.set_progress_bar_config(disable=True)
    loaded(prompt="A face.", transcript="four two", **settings)
    assert warnings == []
    loaded(prompt=["A face.", "A hill."], transcript=["four two", "two Flowers"], **settings)
    loaded("<Video Caption>: A face.\n<Audio Caption>: hello\n<Transcript>: flowrs", **settings)
    upper, labelled = warnings
    assert "has not learnt to say `Flowers` (nearest: flowers, four, two), and may murmur there. The 3 words" in upper
    assert "has not learnt to say `flowrs` (nearest: flowers, four, two), and" in labelled
