# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from tiny_training import TINY, forget_accelerate, hide_accelerators

from diffusers_jova.models.transformer_jova import PRESETS, JoVATransformer3DModel
from diffusers_jova.training.adapters import add_lora
from diffusers_jova.training.checkpoint import Checkpoints, clean_up, find_checkpoint, list_checkpoints
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.optimization import averaged, create_ema, create_lr_scheduler, create_optimizer, trainable


pytestmark = pytest.mark.usefixtures("one_process")


def make_run(tmp_path, lora=True, **settings):
    """Return what a script has before its loop."""
    forget_accelerate()
    settings |= {"learning_rate": 0.01, "lr_scheduler": "cosine", "max_train_steps": 9}
    cls = LoraTrainingConfig if lora else TrainingConfig
    config = cls(model="m", cache_dir="c", output_dir=str(tmp_path), **settings)
    torch.manual_seed(0)
    transformer = JoVATransformer3DModel(**{**PRESETS["jova-nano"], **TINY, "num_layers": 0})
    if lora:
        add_lora(transformer, "video,audio", rank=2, alpha=2.0)
    accelerator = Accelerator()
    optimizer = create_optimizer(trainable(transformer), config)
    lr_scheduler = create_lr_scheduler(optimizer, config)
    model, optimizer = accelerator.prepare(transformer, optimizer)
    ema = create_ema(transformer, config)
    checkpoints = Checkpoints(accelerator, transformer, lr_scheduler, ema, config, "digest")
    return SimpleNamespace(**{k: v for k, v in locals().items() if k not in ("tmp_path", "settings")})


def step(run, number):
    """Take an optimizer step whose gradients depend on nothing but its number."""
    generator = torch.Generator().manual_seed(number)
    for parameter in trainable(run.transformer):
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    run.optimizer.step()
    run.optimizer.zero_grad()
    run.lr_scheduler.step()
    if run.ema is not None:
        run.ema.step(trainable(run.transformer))


def weights(run):
    return [parameter.detach().clone() for parameter in trainable(run.transformer)]


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("lora", [True, False])
def test_a_resumed_run_goes_on_bit_for_bit(tmp_path, lora):
    run = make_run(tmp_path, lora, use_ema=True, ema_decay=0.5)
    for number in range(3):
        step(run, number)
    run.checkpoints.save(3)
    random_numbers = torch.rand(3)
    for number in range(3, 6):
        step(run, number)

    other = make_run(tmp_path, lora, use_ema=True, ema_decay=0.5)
    assert other.checkpoints.load(tmp_path / "checkpoint-3") == 3
    assert torch.equal(torch.rand(3), random_numbers)
    for number in range(3, 6):
        step(other, number)
    assert equal(weights(run), weights(other))
    assert run.lr_scheduler.get_last_lr() == other.lr_scheduler.get_last_lr() != [0.01]
    with averaged(run.transformer, run.ema), averaged(other.transformer, other.ema):
        assert equal(weights(run), weights(other))


def test_averaged_weights_are_in_the_model_in_the_block_only(tmp_path):
    run = make_run(tmp_path, use_ema=True)
    step(run, 0)
    step(run, 1)
    step(run, 2)
    before = weights(run)
    with averaged(run.transformer, run.ema):
        assert not equal(weights(run), before)
    assert equal(weights(run), before)


def test_the_last_checkpoints_are_kept(tmp_path):
    run = make_run(tmp_path, checkpoints_total_limit=2)
    for number in (1, 2, 10):
        run.checkpoints.save(number)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-10"]


def test_none_keeps_all_checkpoints(tmp_path):
    run = make_run(tmp_path, checkpoints_total_limit=None)
    for number in range(1, 5):
        run.checkpoints.save(number)
    assert len(list_checkpoints(tmp_path)) == 4


def test_the_latest_checkpoint_is_the_one_with_the_highest_number(tmp_path):
    assert find_checkpoint(tmp_path, "latest") is None and find_checkpoint(tmp_path, None) is None
    for name in ("checkpoint-9", "checkpoint-10", ".checkpoint-11.partial", "checkpoint-x"):
        (tmp_path / name).mkdir()
    assert find_checkpoint(tmp_path, "latest").name == "checkpoint-10"
    assert find_checkpoint(tmp_path, "checkpoint-9").name == "checkpoint-9"
    assert find_checkpoint(tmp_path, str(tmp_path / "checkpoint-9")).name == "checkpoint-9"
    with pytest.raises(FileNotFoundError, match="`checkpoint-3`.*holds: checkpoint-9, checkpoint-10"):
        find_checkpoint(tmp_path, "checkpoint-3")


def test_a_new_run_does_not_write_over_the_checkpoints_of_another(tmp_path):
    (tmp_path / "checkpoint-9").mkdir()
    with pytest.raises(ValueError, match="already holds checkpoint-9.*--resume_from_checkpoint latest"):
        find_checkpoint(tmp_path, None)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")])
def test_a_full_disk_leaves_the_earlier_checkpoints_whole(tmp_path, monkeypatch, error):
    run = make_run(tmp_path, checkpoints_total_limit=1)
    step(run, 0)
    run.checkpoints.save(1)
    kept = weights(run)
    step(run, 1)

    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        OSError, match=r"Cannot write `.*checkpoint-2`.*earlier checkpoints \(checkpoint-1\) are whole"
    ):
        run.checkpoints.save(2)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    hide_accelerators(monkeypatch)
    other = make_run(tmp_path)
    other.checkpoints.load(tmp_path / "checkpoint-1")
    assert equal(weights(other), kept)


def test_what_a_killed_run_left_half_written_is_no_checkpoint_and_is_removed(tmp_path):
    for name in (".checkpoint-2.partial", ".checkpoint-1.removed", "checkpoint-3"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
    clean_up(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-3"]


def test_a_damaged_checkpoint_is_named(tmp_path):
    run = make_run(tmp_path)
    path = run.checkpoints.save(1)
    file = path / "pytorch_lora_weights.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(
        ValueError, match="checkpoint-1/pytorch_lora_weights.safetensors` is damaged .* an earlier checkpoint"
    ):
        run.checkpoints.load(path)


def test_a_run_with_other_settings_is_told_that_it_is_another_run(tmp_path, caplog):
    path = make_run(tmp_path).checkpoints.save(1)
    make_run(tmp_path, checkpointing_steps=7).checkpoints.load(path)
    assert "no longer the run" not in caplog.text
    other = make_run(tmp_path, caption_dropout=0.3)
    other.checkpoints.data_digest = "other"
    other.checkpoints.load(path)
    assert "changed are caption_dropout, the clips in the cache" in caplog.text


def test_a_lora_checkpoint_holds_the_lora_and_not_the_base(tmp_path):
    path = make_run(tmp_path).checkpoints.save(1)
    assert (path / "pytorch_lora_weights.safetensors").stat().st_size < 100_000
    assert not list(path.glob("model*.safetensors")) and not (path / "transformer").exists()
    assert json.loads((path / "training_state.json").read_text())["step"] == 1


def test_a_full_checkpoint_is_a_transformer_that_diffusers_loads(tmp_path):
    run = make_run(tmp_path, lora=False)
    step(run, 0)
    loaded = JoVATransformer3DModel.from_pretrained(run.checkpoints.save(1) / "transformer")
    assert equal(list(loaded.parameters()), list(run.transformer.parameters()))
