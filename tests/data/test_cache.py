# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json
import os
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from diffusers_jova.data import cache
from diffusers_jova.files import whole_file


ROW = {"key": "a", "kind": "both", "source": "a.mp4", "video_caption": "a woman", "transcript": "three"}


@pytest.fixture
def model(tmp_path):
    """A folder with the files of a pipeline that are looked at: a VAE with one large and one small tensor."""
    folder = tmp_path / "model"
    for name in ("vae", "tokenizer"):
        (folder / name).mkdir(parents=True)
    index = {"_class_name": "JoVAPipeline", "vae": ["diffusers", "AutoencoderKLWan"], "audio_vae": [None, None]}
    (folder / "model_index.json").write_text(json.dumps(index | {"tokenizer": ["transformers", "T5Tokenizer"]}))
    config = {"base_dim": 16, "latents_mean": [0.0], "_diffusers_version": "0.42.1"}
    (folder / "vae" / "config.json").write_text(json.dumps(config))
    save_file({"a": torch.randn(300_000), "b": torch.randn(4)}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    return folder


def change_config(model, **values):
    path = model / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(model, name, index):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(path)
    tensors[name][index] += 1
    save_file(tensors, path)


def test_a_sample_reads_back_with_its_row(tmp_path):
    tensors = {"video_moments": torch.randn(4, 2, 3, 3).bfloat16(), "mouth_boxes": torch.full((5, 4), torch.nan)}
    path = cache.write_sample(tmp_path, ROW, tensors)
    assert cache.read_row(path) == ROW
    read = cache.read_sample(tmp_path, "a")
    assert torch.equal(read["video_moments"], tensors["video_moments"])
    assert read["mouth_boxes"].isnan().all()
    assert [path.name for path in path.parent.iterdir()] == ["a.safetensors"]


def test_the_same_sample_has_the_same_bytes(tmp_path):
    tensors = {name: torch.arange(3.0) for name in "zyxabc"}
    first = cache.write_sample(tmp_path, ROW, tensors).read_bytes()
    again = cache.write_sample(tmp_path, ROW, dict(reversed(tensors.items()))).read_bytes()
    assert first == again


def test_index_has_a_row_per_sample_and_datasets_reads_it(tmp_path):
    import datasets

    texts = ["Grüße\u2028\u0085 & more", ""]
    for key, text in zip("ba", texts):
        cache.write_sample(tmp_path, ROW | {"key": key, "transcript": text}, {})
    rows = cache.write_index(tmp_path)
    assert [row["key"] for row in rows] == ["a", "b"]
    assert cache.read_index(tmp_path) == rows  # a line separator in a text does not end its line
    dataset = datasets.load_dataset(
        "json", data_files=str(tmp_path / "index.jsonl"), split="train", cache_dir=str(tmp_path / "hf")
    )
    assert dataset["transcript"][:] == ["", texts[0]]


def test_unknown_kind_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'picture'"):
        cache.write_sample(tmp_path, ROW | {"kind": "picture"}, {})


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated_sample_is_named(keep, tmp_path):
    path = cache.write_sample(tmp_path, ROW, {"x": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="a.safetensors.*damaged"):
        cache.read_sample(tmp_path, "a")
    with pytest.raises(ValueError, match="a.safetensors.*damaged"):
        cache.read_row(path)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="b.safetensors"):
        cache.read_sample(tmp_path, "b")
    for read in (cache.read_index, cache.read_fingerprint, cache.read_shared):
        with pytest.raises(FileNotFoundError, match="run `diffusers-jova preprocess`"):
            read(tmp_path)


@pytest.mark.parametrize("content, message", [("", "empty"), ('{"key": "a", "kind": "both"}\n{"key', "line 2")])
def test_damaged_index_is_named(content, message, tmp_path):
    (tmp_path / "index.jsonl").write_text(content)
    with pytest.raises(ValueError, match=f"index.jsonl.*{message}"):
        cache.read_index(tmp_path)


def test_a_failed_write_keeps_the_older_file_and_leaves_nothing(tmp_path):
    path = cache.write_sample(tmp_path, ROW, {"x": torch.zeros(3)})
    before = path.read_bytes()
    pid = os.fork()
    if pid == 0:  # a process that may not write large files, as if the disk were full
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            cache.write_sample(tmp_path, ROW, {"x": torch.zeros(100_000)})
        except OSError as error:
            os._exit(0 if "a.safetensors" in str(error) and "start the same command again" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.safetensors"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_whatever_stops_a_write_leaves_no_temporary_file(error, tmp_path):
    with pytest.raises(type(error)), whole_file(tmp_path / "index.jsonl") as partial:
        partial.write_text("half a line")
        raise error
    assert os.listdir(tmp_path) == []


def test_fingerprint_of_the_same_model_agrees(model, tmp_path):
    cache.write_fingerprint(tmp_path, {"models": cache.model_fingerprint(model), "settings": {"num_frames": 25}})
    copy = shutil.copytree(model, tmp_path / "copy")
    found = cache.check_fingerprint(tmp_path, {"models": cache.model_fingerprint(copy)})
    assert found["version"] == 1 and set(found["models"]) == {"vae", "tokenizer"}


@pytest.mark.parametrize(
    "change, where",
    [
        (lambda model: change_weights(model, "b", 0), "models.vae.weights"),
        (lambda model: change_weights(model, "a", -1), "models.vae.weights"),
        (lambda model: change_config(model, base_dim=32), "models.vae.config"),
        (lambda model: (model / "tokenizer" / "tokenizer.json").write_text("[]"), "models.tokenizer.files"),
    ],
    ids=["small tensor", "end of a large tensor", "config", "tokenizer"],
)
def test_a_cache_made_by_other_models_is_refused(change, where, model, tmp_path):
    cache.write_fingerprint(tmp_path, {"models": cache.model_fingerprint(model), "settings": {}})
    change(model)
    with pytest.raises(ValueError, match=f"other models; it differs in {where}\\."):
        cache.check_fingerprint(tmp_path, {"models": cache.model_fingerprint(model)})


def test_latent_statistics_and_versions_are_not_part_of_the_fingerprint(model):
    before = cache.model_fingerprint(model)
    change_config(model, latents_mean=[0.5], latents_std=[2.0], _diffusers_version="0.43")
    assert cache.model_fingerprint(model) == before


def test_other_settings_are_named_with_their_values(tmp_path):
    cache.write_fingerprint(tmp_path, {"models": {}, "settings": {"num_frames": 17, "dtype": "float32"}})
    with pytest.raises(ValueError, match=r"other settings; it differs in settings.num_frames \(17, now 25\)\."):
        cache.check_fingerprint(tmp_path, {"models": {}, "settings": {"num_frames": 25, "dtype": "float32"}})


def test_another_version_of_the_format_is_refused(tmp_path):
    cache.write_fingerprint(tmp_path, {"models": {}, "settings": {}})
    path = tmp_path / "fingerprint.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 0'))
    with pytest.raises(ValueError, match="version"):
        cache.check_fingerprint(tmp_path, {"models": {}})


def test_damaged_models_are_named(model, tmp_path):
    path = model / "vae" / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ValueError, match="diffusion_pytorch_model.safetensors"):
        cache.model_fingerprint(model)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="vae.*safetensors"):
        cache.model_fingerprint(model)
    with pytest.raises(FileNotFoundError, match="model_index.json"):
        cache.model_fingerprint(tmp_path)


@pytest.mark.parametrize(
    "kept, suffix",
    [
        ((True, True, True), ""),
        ((True, False, True), ""),  # the audio caption is empty anyway
        ((True, False, False), ".100"),
        ((False, True, True), ".001"),
        ((False, True, False), None),
        ((False, False, False), None),
    ],
)
def test_variants_leave_out_only_lines_that_are_there(kept, suffix):
    assert cache.variant_suffix({"video_caption": "a", "audio_caption": " ", "transcript": "b"}, kept) == suffix
