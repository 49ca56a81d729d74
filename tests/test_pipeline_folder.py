# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the folder of a pipeline says; checkpoints by name, and not before a folder of the user's own."""

import json
from pathlib import Path

import pytest

from diffusers_jova import JoVAPipeline, pipeline_folder
from diffusers_jova.app.examples import read_examples
from diffusers_jova.data.model_facts import read_model_facts
from diffusers_jova.pipeline_folder import NAMES, PipelineFolder, find_model, newest_model, read_pipeline_folder
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.vocabulary import all_words, unknown_words


REPOSITORY = Path(__file__).parents[1]
CHECKPOINT = REPOSITORY / "checkpoints" / "jova-nano"
SHIPPED = sorted(path.name for path in CHECKPOINT.parent.iterdir())


def test_a_name_is_found_in_a_checkout():
    assert Path(find_model("jova-nano")) == CHECKPOINT


@pytest.mark.parametrize("name", ["jova-other", "someone/jova-nano", "./jova-nano", "a/b/c"])
def test_other_names_stay_as_they_are(name):
    assert find_model(name) == name


def test_a_folder_of_the_users_own_goes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jova-nano").mkdir()
    assert find_model("jova-nano") == "jova-nano" and find_model(tmp_path) == str(tmp_path)


def test_the_newest_checkpoint_that_is_there_is_found(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_folder, "SHIPPED", (tmp_path,))
    assert newest_model() == "jova-nano"  # whose absence is then the error
    (tmp_path / "jova-nano").symlink_to(folder)
    (tmp_path / "jova-mini").mkdir()
    assert newest_model() == "jova-nano"
    (tmp_path / "jova-mini").rmdir()
    (tmp_path / "jova-mini").symlink_to(folder)
    assert newest_model() == "jova-mini"


def test_everything_that_takes_a_model_takes_the_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_folder, "SHIPPED", (tmp_path,))
    (tmp_path / "nano").symlink_to(folder)
    assert JoVAPipeline.from_pretrained("nano").config["height"] == 32
    assert TrainingConfig(model="nano", cache_dir="c", output_dir="o").model == str(tmp_path / "nano")
    assert read_model_facts("nano").defaults["height"] == 32


# --- what a folder says


def test_a_folder_says_what_the_loaded_pipeline_is(folder, pipe):
    found = read_pipeline_folder(folder)
    assert found.parts == {name: type(part).__name__ for name, part in pipe.components.items()}
    assert found.call_defaults == {k: v for k, v in pipe.config.items() if k not in pipe.components and k[0] != "_"}
    assert found.vae_scale_factor_spatial == pipe.vae_scale_factor_spatial
    assert found.vae_scale_factor_temporal == pipe.vae_scale_factor_temporal
    assert found.size_multiple == 16
    assert found.sampling_rate == pipe.audio_vae.config.sampling_rate
    assert found.samples_per_latent == pipe.audio_vae.samples_per_latent
    assert found.audio_latent_rate == pipe.transformer.config.audio_latent_rate
    assert found.config("scheduler")["_class_name"] == "FlowMatchEulerDiscreteScheduler"
    assert found.config("tokenizer")["tokenizer_class"].startswith("T5")


def test_a_pipeline_without_audio_has_no_sampling_rate(tmp_path):
    found = PipelineFolder(tmp_path, {"_class_name": "WanPipeline", "audio_vae": [None, None], "sizes": [1, 2, 3]})
    assert found.sampling_rate is found.samples_per_latent is found.audio_latent_rate is None
    assert found.parts == {} and found.call_defaults == {"sizes": [1, 2, 3]} and found.config("audio_vae") == {}
    assert (found.vae_scale_factor_spatial, found.vae_scale_factor_temporal, found.size_multiple) == (8, 4, 16)


def test_the_audio_vae_of_diffusers_is_read_too(tmp_path):
    (tmp_path / "audio_vae").mkdir()
    config = {"_class_name": "MMAudioVAE", "sample_rate": 44100, "hop_length": 512}
    (tmp_path / "audio_vae" / "config.json").write_text(json.dumps(config))
    found = PipelineFolder(tmp_path, {"audio_vae": ["diffusers", "MMAudioVAE"]})
    assert (found.sampling_rate, found.samples_per_latent, found.audio_latent_rate) == (44100, 1024, 44100 / 1024)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[]", r"model_index\.json must be a JSON object"),
        ("{", r"model_index\.json is not JSON"),
        (None, "` is not the folder of a pipeline: it has no model_index.json. Give a folder that"),
    ],
)
def test_what_is_not_the_folder_of_a_pipeline_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        read_pipeline_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"There is no folder `.*missing`\. Give .* jova-nano"):
        read_pipeline_folder(tmp_path / "missing")


@pytest.mark.parametrize("value", ["null", '"16000"', "0", "true"])
def test_a_number_that_cannot_be_is_named(tmp_path, value):
    (tmp_path / "audio_vae").mkdir()
    (tmp_path / "audio_vae" / "config.json").write_text(f'{{"sampling_rate": {value}}}')
    found = PipelineFolder(tmp_path, {"audio_vae": ["diffusers_jova", "AutoencoderMMAudio"]})
    with pytest.raises(ValueError, match="audio_vae/config.json` must have a positive number as `sampling_rate`"):
        _ = found.sampling_rate


# --- what is shipped


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_checkpoint_is_small_and_holds_no_pickle(name):
    assert name in NAMES
    files = [path for path in CHECKPOINT.with_name(name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 64 * 2**20
    texts, images = {".json", ".jsonl", ".jinja", ".md", ".txt"}, {".png"}
    assert {path.suffix for path in files} <= {".safetensors", ".model"} | texts | images


@pytest.mark.parametrize("name", SHIPPED)
def test_the_examples_of_a_shipped_checkpoint_say_words_that_it_knows(name):
    known, examples = all_words(read_pipeline_folder(name).index["known_words"]), read_examples(name)
    assert examples[0].keys() >= {"prompt", "audio_prompt", "transcript"}  # what the demo takes
    assert unknown_words(" ".join(example["transcript"] for example in examples).split(), known) == ""
