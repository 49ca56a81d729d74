# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import ast
import inspect
import textwrap

import pytest
import torch

from diffusers_jova import JoVAPipeline
from diffusers_jova.pipelines.prompts import (
    PROMPT_EMBEDS,
    TEXTS,
    format_prompt,
    format_prompts,
    load_prompt_embeds,
    save_prompt_embeds,
    text_inputs,
)


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
    with pytest.raises(ValueError, match="is not a whole safetensors file .* Encode the prompt again"):
        load_prompt_embeds(path)
    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(ValueError, match=r"is not an encoded prompt: got \['weight'\]"):
        load_prompt_embeds(path)


def test_encode_prompt_returns_the_calls_arguments_by_name():
    """diffusers' test of `encode_prompt` in isolation reads the names from the return statement."""
    function = ast.parse(textwrap.dedent(inspect.getsource(JoVAPipeline.encode_prompt))).body[0]
    (returned,) = (node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    assert tuple(name.id for name in returned.elts) == PROMPT_EMBEDS
    for method in (JoVAPipeline.encode_prompt, JoVAPipeline.__call__):
        assert set(TEXTS + PROMPT_EMBEDS) <= inspect.signature(method).parameters.keys()


@pytest.mark.parametrize("multiple, num_tokens", [(1, 5), (4, 8), (5, 5)])
def test_texts_are_filled_up_with_tokens_that_nobody_sees(multiple, num_tokens):
    embeds = dict.fromkeys(PROMPT_EMBEDS) | {"negative_prompt_embeds": torch.ones(2, 5, 3)}
    inputs = text_inputs(embeds, "negative_", torch.bfloat16, multiple)
    states, mask = inputs["encoder_hidden_states"], inputs["encoder_attention_mask"]
    assert states.shape == (2, num_tokens, 3) and states.dtype == torch.bfloat16
    if num_tokens == 5:
        assert mask is None
    else:
        assert mask[:, :5].all() and not mask[:, 5:].any()
    assert inputs["encoder_hidden_states_2"] is None and inputs["encoder_attention_mask_2"] is None


@pytest.mark.parametrize("multiple, num_tokens", [(1, 5), (4, 8), (5, 5)])
def test_what_no_sample_uses_is_cut_off_and_a_mask_remains_only_where_it_hides_something(multiple, num_tokens):
    embeds = dict.fromkeys(PROMPT_EMBEDS) | {"prompt_embeds": torch.arange(8.0)[None, :, None].expand(2, 8, 3)}
    embeds["prompt_attention_mask"] = torch.tensor([[0, 1, 1, 1, 1, 1, 0, 0]]).expand(2, 8)
    inputs = text_inputs(embeds, "", torch.float32, multiple)
    states, mask = inputs["encoder_hidden_states"], inputs["encoder_attention_mask"]
    assert states.shape == (2, num_tokens, 3) and states[0, :5, 0].tolist() == [1, 2, 3, 4, 5]
    assert (mask is None) == (num_tokens == 5)
    ragged = embeds | {"prompt_attention_mask": torch.tensor([[1] * 8, [1] * 3 + [0] * 5])}
    assert text_inputs(ragged, "", torch.float32)["encoder_attention_mask"].sum(dim=1).tolist() == [8, 3]


def test_plain_prompts_are_the_prompt_alone_as_wan_cleans_it():
    assert format_prompts(["a  cat\n sits", "x &amp; y"], prompt_format="plain") == ["a cat sits", "x & y"]
    assert format_prompts(None, prompt_format="plain") == [""]
    with pytest.raises(ValueError, match="reads plain prompts"):
        format_prompts("a cat", "a purr", prompt_format="plain")
