# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Both branches together, of which the video's own weights stay: with a LoRA on them, or frozen."""

from types import SimpleNamespace

import pytest
import torch
from tiny_training import (
    TEXT_DIM,
    make_config,
    run,
    save_tiny_pipeline,
    save_wan_base,
    weights,
    write_cache,
)

from diffusers_jova import JoVAPipeline, JoVATransformer3DModel, JoVAWanTransformer3DModel
from diffusers_jova.training.adapters import choose_what_learns
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.dataset import CachedClips, Visit, collate, open_clips
from diffusers_jova.training.initialization import read_scales
from diffusers_jova.training.memory import BatchShape, estimate_memory
from diffusers_jova.training.step import training_step
from diffusers_jova.training.train import train
from diffusers_jova.training.weights import load_weights, save_weights


pytestmark = pytest.mark.usefixtures("one_process")


FIRST, WAN = JoVATransformer3DModel, JoVAWanTransformer3DModel
LORA = {"video_lora_rank": 2}
FROZEN = {"freeze_video": True}


@pytest.fixture(scope="module", params=[FIRST, WAN], ids=["first", "wan"])
def base(request, tmp_path_factory):
    """A pipeline's folder and a cache for it, for each class of transformer."""
    folder = tmp_path_factory.mktemp("base")
    save = save_wan_base if request.param is WAN else save_tiny_pipeline
    model = save(folder / "pipeline")
    encoders = ("",) if request.param is WAN else ("", "_2")
    clips = write_cache(folder / "cache", model, ("both", "both"), encoders=encoders)
    return SimpleNamespace(model=model, clips=clips, cls=request.param, encoders=encoders)


def load(base) -> torch.nn.Module:
    return base.cls.from_pretrained(base.model, subfolder="transformer").train()


def is_audio(base, name: str) -> bool:
    return base.cls.video_name(name) is not None


def test_audio_learns_and_video_stays_under_its_lora_and_a_resumed_run_gives_the_same_bits(base, tmp_path):
    flags = ["--video_lora_rank", "2", "--mixed_precision", "bf16", "--use_ema", "--ema_decay", "0.5"]
    flags += ["--learning_rate", "0.01", "--max_train_steps", "2", "--checkpointing_steps", "1", "--report_to", "none"]
    run(train, base.model, base.clips, tmp_path / "whole", *flags)
    again = ["--resume_from_checkpoint", tmp_path / "whole" / "checkpoint-1"]
    run(train, base.model, base.clips, tmp_path / "resumed", *flags, *again)

    before, after = weights(base.model / "transformer"), weights(tmp_path / "whole" / "transformer")
    assert before.keys() == after.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved and all(is_audio(base, name) for name in moved)
    assert {name for name in before if is_audio(base, name)} - moved <= {"audio_embedder.pos_embed.temporal"}
    for part in (".", "transformer", "checkpoint-2", "checkpoint-2/transformer"):
        first, second = (weights(tmp_path / name / part) for name in ("whole", "resumed"))
        assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    lora = weights(tmp_path / "whole")
    assert lora and all(".video" in name and tensor.any() for name, tensor in lora.items())


@pytest.mark.parametrize("settings", [LORA, FROZEN], ids=["lora", "frozen"])
def test_what_is_saved_loads_into_a_pipeline_and_into_a_run_and_does_the_same(base, settings, tmp_path):
    config = TrainingConfig(model=str(base.model), cache_dir=str(base.clips), output_dir="o", **settings)
    transformer = load(base)
    choose_what_learns(transformer, config)
    with torch.no_grad():
        for parameter in (parameter for parameter in transformer.parameters() if parameter.requires_grad):
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    expected = outputs(base, transformer.eval())
    names = [path.name for path in save_weights(transformer, config, tmp_path)]
    assert names == ["transformer", *["pytorch_lora_weights.safetensors"] * (settings is LORA)]

    loaded = base.cls.from_pretrained(tmp_path / "transformer")
    pipe = JoVAPipeline.from_pretrained(base.model, transformer=loaded)
    if settings is LORA:
        assert not torch.allclose(outputs(base, pipe.transformer)[0], expected[0], atol=1e-3)
        pipe.load_lora_weights(tmp_path)
    assert all(torch.allclose(*pair, atol=1e-5) for pair in zip(outputs(base, pipe.transformer), expected))

    resumed = load(base)
    choose_what_learns(resumed, config)
    load_weights(resumed, config, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(outputs(base, resumed.eval()), expected))


def outputs(base, transformer) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "hidden_states": torch.randn(1, transformer.config.in_channels, 2, 4, 4, generator=generator),
        "audio_hidden_states": torch.randn(1, 20, 13, generator=generator),
        "encoder_hidden_states": torch.randn(1, 5, TEXT_DIM, generator=generator),
        "encoder_hidden_states_2": torch.randn(1, 5, TEXT_DIM, generator=generator) if base.cls is FIRST else None,
        "timestep": torch.tensor([500.0]),
    }
    with torch.no_grad():
        return transformer(**tensors, return_dict=False)


@pytest.mark.parametrize("settings", [LORA, FROZEN], ids=["lora", "frozen"])
def test_mouth_loss_reaches_the_lora_of_the_video_and_no_weight_of_it(base, settings):
    config = make_config(**settings, video_loss_weight=0.0, audio_loss_weight=0.0)
    transformer = load(base)
    choose_what_learns(transformer, config)
    batch = collate([CachedClips(base.clips)[Visit("clip000", 0)]])
    training_step(transformer, batch, read_scales(base.model, transformer.config), config).loss.backward()
    reached = {name for name, p in transformer.named_parameters() if p.grad is not None and p.grad.any()}
    lora = {name for name in reached if "lora_" in name}
    # a LoRA's A follows when B is no longer zero
    assert lora == {name for name, _ in transformer.named_parameters() if "lora_B" in name}
    assert bool(lora) == (settings is LORA)
    assert reached - lora and all(is_audio(base, name) for name in reached - lora)


def test_estimate_counts_what_learns_and_what_stays_as_they_are(base):
    shape = BatchShape(1, (16, 2, 4, 4), (20, 13), ((5, TEXT_DIM), (5, TEXT_DIM) if base.cls is FIRST else None))
    for settings in ({**LORA, "mixed_precision": "bf16"}, FROZEN):
        config, transformer = make_config(**settings), load(base)
        estimate = estimate_memory(dict(transformer.config), shape, config)
        choose_what_learns(transformer, config)
        parameters = list(transformer.parameters())
        learning = sum(4 * p.numel() for p in parameters if p.requires_grad)
        assert estimate.parameters == sum(p.numel() * p.element_size() for p in parameters)
        assert (estimate.gradients, estimate.optimizer) == (learning, 2 * learning)


def test_image_channels_of_a_wan_that_knows_no_image_learn_by_the_lora():
    model = WAN(num_attention_heads=2, attention_head_dim=16, num_layers=1, ffn_dim=16, text_embed_dim=8)
    with torch.no_grad():
        model.video.patch_embedding.weight[:, 16:] = 0
    choose_what_learns(model, make_config(**LORA))
    latents = torch.randn(1, 36, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    model.video.patch_embedding(latents).square().mean().backward()
    first, second = (getattr(model.video.patch_embedding, name)["default"].weight for name in ("lora_A", "lora_B"))
    assert second.grad.any() and not model.video.patch_embedding.base_layer.weight.requires_grad
    assert first.shape == (2, 36, 1, 2, 2) and second.shape == (32, 2, 1, 1, 1)


def test_what_joins_the_branches_learns_beside_a_lora_and_not_beside_a_frozen_video(base):
    settings = base.cls.load_config(base.model, subfolder="transformer") | {"attention_fusion": "cross_linear"}
    for kept, learns in ((LORA, True), (FROZEN, False)):
        transformer = base.cls.from_config(settings)
        choose_what_learns(transformer, make_config(**kept))
        joins = {n: p.requires_grad for n, p in transformer.named_parameters() if "cross_linear" in n}
        assert joins and all(joins[name] == (learns or is_audio(base, name)) for name in joins)


def test_frozen_video_leaves_clips_without_audio_out(base, tmp_path):
    settings = {"model": str(base.model), "output_dir": "o", **FROZEN}
    cache = write_cache(tmp_path / "some", base.model, ("video", "both", "audio"), encoders=base.encoders)
    clips = open_clips(TrainingConfig(cache_dir=str(cache), **settings))
    assert list(clips.rows) == ["clip001", "clip002"] and clips.kinds == {"both", "audio"}
    silent = write_cache(tmp_path / "silent", base.model, ("video",), encoders=base.encoders)
    with pytest.raises(ValueError, match="has audio, which `freeze_video` needs"):
        open_clips(TrainingConfig(cache_dir=str(silent), **settings))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({**LORA, **FROZEN}, "exclude each other"),
        ({**LORA, "branch": "audio"}, "`video_lora_rank` needs both branches"),
        ({**FROZEN, "branch": "video"}, "`freeze_video` needs both branches"),
        ({"video_lora_rank": 0}, "must be at least 1, got 0"),
    ],
)
def test_settings_that_do_not_go_with_it_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make_config(**settings)


def test_a_run_of_a_lora_alone_has_no_use_for_it():
    with pytest.raises(ValueError, match="`train-lora` trains a LoRA and no weights"):
        LoraTrainingConfig(model="m", cache_dir="c", output_dir="o", **FROZEN)
