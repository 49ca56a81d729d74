# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""How an audio branch starts from a video branch: the same in training and conversion, for every class."""

import pytest
import torch
from safetensors.torch import load_file

from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.waver import to_jova
from diffusers_jova.models.branches import (
    NewTensors,
    branch_config,
    copied_tensors,
    copy_to_audio,
    join_branches,
    joining_tensors,
    shapes,
)
from diffusers_jova.models.transformer_jova import JoVATransformer3DModel
from diffusers_jova.models.transformer_jova_wan import JoVAWanTransformer3DModel


TINY = {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "audio_in_channels": 20}
CONFIGS = {
    JoVATransformer3DModel: {
        **TINY, "num_single_layers": 3, "text_embed_dim": 16, "text_embed_dim_2": 20, "pos_embed_size": (8, 6, 6),
    },
    JoVAWanTransformer3DModel: {**TINY, "ffn_dim": 48, "freq_dim": 16, "text_embed_dim": 16, "text_len": 8},
}  # fmt: skip
NEW = {
    JoVATransformer3DModel: ["audio_embedder.proj_in.weight", "audio_proj_out.weight", "audio_proj_out.bias"],
    JoVAWanTransformer3DModel: ["audio.patch_embedding.weight", "audio.proj_out.weight", "audio.proj_out.bias"],
}
each_class = pytest.mark.parametrize("model_class", CONFIGS, ids=lambda model_class: model_class.__name__)


def make(model_class, **config):
    """Return a model with all parameters drawn, those that begin at zero too."""
    model = model_class(**(CONFIGS[model_class] | config))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    return model


@pytest.mark.parametrize("fusion", ["joint", "cross_linear"])
def test_training_and_conversion_give_the_same_tensors_from_the_same_seed(tmp_path, fusion):
    video = make(JoVATransformer3DModel, audio_in_channels=None)
    config = {**video.config, "audio_in_channels": 20, "attention_fusion": fusion}
    audio, new = copy_to_audio(video, branch_config(config, "audio"), seed=7)
    trained = join_branches(video, audio, config).state_dict()

    video.save_pretrained(tmp_path / "video")
    settings = {"audio_in_channels": 20, "attention_fusion": fusion}
    plan = to_jova(open_checkpoint(tmp_path / "video"), config=settings, seed=7)
    plan.check(None)
    plan.write(tmp_path / "joint")
    converted = load_file(tmp_path / "joint" / "diffusion_pytorch_model.safetensors")
    assert converted.keys() == trained.keys()
    assert [name for name in trained if not torch.equal(converted[name], trained[name])] == []
    words = {how: [write.name for write in plan.writes if write.how == how] for how in ("new", "zero")}
    assert words["new"] == new
    assert set(words["zero"]) == {name for name in trained if "cross_linear" in name}


@each_class
def test_every_parameter_of_the_audio_branch_has_one_of_the_video_branch(model_class):
    names = shapes(make(model_class, attention_fusion="cross_linear"))
    audio = shapes(make(model_class, in_channels=None))
    counterparts = [model_class.video_name(name) for name in audio]
    assert set(counterparts) <= set(names) and len(set(counterparts)) == len(audio)
    assert not any(model_class.video_name(name) for name in shapes(make(model_class, audio_in_channels=None)))


@each_class
def test_the_audio_branch_is_a_copy_but_for_the_layers_of_other_shape(model_class):
    video = make(model_class, audio_in_channels=None)
    audio, new = copy_to_audio(video, make(model_class, in_channels=None).config)
    assert new == NEW[model_class]
    source = video.state_dict()
    for name, tensor in audio.state_dict().items():
        if name not in new:
            assert torch.equal(tensor, source[model_class.video_name(name)]), name
            assert tensor.data_ptr() != source[model_class.video_name(name)].data_ptr()
    entrance = new[0].replace("weight", "bias")
    assert copied_tensors(model_class, shapes(video), shapes(audio))[entrance] == model_class.video_name(entrance)


@each_class
def test_new_tensors_keep_the_dtype_of_the_video_branch(model_class):
    video = make(model_class, audio_in_channels=None).to(torch.bfloat16)
    audio, new = copy_to_audio(video, make(model_class, in_channels=None).config)
    assert {audio.state_dict()[name].dtype for name in new} == {torch.bfloat16}


@each_class
def test_a_new_tensor_depends_on_the_seed_and_nothing_else(model_class):
    config = CONFIGS[model_class]
    outside, inside = NEW[model_class][1], "transformer_blocks.1.audio."
    inside = next(name for name in shapes(make(model_class)) if name.startswith(inside) and "to_q.weight" in name)
    model_config = model_class(**config).config
    before = torch.random.get_rng_state()

    def draw(names, config=model_config, seed=0):
        new_tensors = NewTensors(model_class, config, seed)
        return {name: new_tensors.draw(name, torch.float32) for name in names}

    first, turned = draw([outside, inside]), draw([inside, outside])
    alone = draw([outside, inside], branch_config(model_config, "audio"))
    other = draw([outside, inside], seed=1)
    for name in (outside, inside):
        assert torch.equal(first[name], turned[name]) and torch.equal(first[name], alone[name])
        assert not torch.equal(first[name], other[name])
    other_block = inside.replace(".1.", ".0.")
    assert not torch.equal(draw([other_block])[other_block], first[inside])
    assert torch.equal(torch.random.get_rng_state(), before)


@each_class
def test_what_joins_the_branches_starts_at_zero(model_class):
    config = make(model_class, attention_fusion="cross_linear").config
    joining = joining_tensors(model_class, config)
    assert joining and all(".cross_linear." in name for name in joining)
    assert joining_tensors(model_class, branch_config(config, "audio")) == []
    video, audio = make(model_class, audio_in_channels=None), make(model_class, in_channels=None)
    joint = join_branches(video, audio, config).state_dict()
    assert not any(joint[name].any() for name in joining)
    assert all(
        torch.equal(joint[name], tensor) for name, tensor in {**video.state_dict(), **audio.state_dict()}.items()
    )
