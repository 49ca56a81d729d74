# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from diffusers_jova.pipelines.prompts import PROMPT_EMBEDS, format_prompt, load_prompt_embeds, save_prompt_embeds


@pytest.mark.parametrize(
    "texts, expected",
    [
        (
            ("A face.", "A voice.", "one two"),
            "<Video Caption>: A face.\n<Audio Caption>: A voice.\n<Transcript>: one two",
        ),
        (("A face.",), "<Video Caption>: A face.\n<Audio Caption>:\n<Transcript>:"),
        ((None, "", "one"), "<Video Caption>:\n<Audio Caption>:\n<Transcript>: one"),
        ((), "<Video Caption>:\n<Audio Caption>:\n<Transcript>:"),
        (("A\n face.\t", " a  b "), "<Video Caption>: A face.\n<Audio Caption>: a b\n<Transcript>:"),
    ],
)
def test_prompt_is_three_labelled_lines(texts, expected):
    assert format_prompt(*texts) == expected


def test_labelled_prompt_stays_as_it_is():
    prompt = "  <Video Caption>: A face.\n<Transcript>: one\n"
    assert format_prompt(prompt) == prompt
    assert format_prompt(format_prompt("A", "B", "C")) == format_prompt("A", "B", "C")


@pytest.mark.parametrize("other", [{"audio_prompt": "A voice."}, {"transcript": "one"}])
def test_labelled_prompt_beside_another_text_is_refused(other):
    with pytest.raises(ValueError, match="already has labelled lines"):
        format_prompt("<Video Caption>: A face.", **other)


def test_saved_embeds_come_back_bit_for_bit(tmp_path):
    embeds = tuple(torch.randn(1, 3, 4) if i % 2 == 0 else torch.ones(1, 3, dtype=torch.int64) for i in range(8))
    embeds = embeds[:2] + (None, None) + (embeds[4].bfloat16(), *embeds[5:])
    path = tmp_path / "prompt.safetensors"
    save_prompt_embeds(path, embeds)
    loaded = load_prompt_embeds(path)
    assert set(loaded) == {name for name, tensor in zip(PROMPT_EMBEDS, embeds) if tensor is not None}
    for name, tensor in zip(PROMPT_EMBEDS, embeds):
        assert tensor is None or torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
    assert [file.name for file in tmp_path.iterdir()] == ["prompt.safetensors"]


def test_saving_needs_the_folder_and_all_eight_outputs(tmp_path):
    with pytest.raises(FileNotFoundError, match="create it first"):
        save_prompt_embeds(tmp_path / "missing" / "x.safetensors", (None,) * 8)
    with pytest.raises(ValueError, match="8 outputs of `encode_prompt`, got 2"):
        save_prompt_embeds(tmp_path / "x.safetensors", (None, None))
    assert not list(tmp_path.iterdir())


def test_loading_says_what_is_wrong_with_a_file(tmp_path):
    from safetensors.torch import save_file

    with pytest.raises(FileNotFoundError, match="encode a prompt first"):
        load_prompt_embeds(tmp_path / "missing.safetensors")
    path = tmp_path / "x.safetensors"
    save_file({"prompt_embeds": torch.ones(1, 2, 3)}, path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match="encode the prompt again"):
        load_prompt_embeds(path)
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"holds no encoded prompt: got \['weight'\]"):
        load_prompt_embeds(path)
