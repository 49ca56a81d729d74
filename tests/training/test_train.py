# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whole runs on CPU, with a whole pipeline of small real parts."""

import json
import logging
import multiprocessing
import os
import signal
import socket
import time
import weakref
from types import SimpleNamespace

import pytest
import torch
from autograd_memory import bytes_kept_for_the_gradient
from tiny_training import (
    TINY,
    read_metrics,
    run,
    save_tiny_pipeline,
    start_script,
    weights,
    write_cache,
)

from diffusers_jova.cli.dispatch import main
from diffusers_jova.data import cache
from diffusers_jova.media import read_video
from diffusers_jova.models.transformer_jova import JoVATransformer3DModel
from diffusers_jova.pipelines.pipeline_jova import JoVAPipeline
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.training import memory, tracking
from diffusers_jova.training import train_lora as train_lora_module
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.dataset import CachedClips, Visit, collate
from diffusers_jova.training.initialization import read_scales
from diffusers_jova.training.memory import BatchShape, check_memory, estimate_memory
from diffusers_jova.training.step import LatentScales, training_step
from diffusers_jova.training.tracking import bin_by_sigma
from diffusers_jova.training.train import train
from diffusers_jova.training.train_lora import train_lora


pytestmark = pytest.mark.usefixtures("one_process")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def clips(model, tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("cache"), model, kinds=("both", "both", "video", "audio"))


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def in_processes(number, work, *args):
    """Run `work(*args)` in several processes that torch.distributed can join; they are copies of this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])

    def start(rank):
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "ACCELERATE_USE_CPU": "true"}
        work(*args)

    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=start, args=(rank,)) for rank in range(number)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.is_alive():
            process.kill()
    assert [process.exitcode for process in processes] == [0] * number


# --- the loop ---


def test_ten_steps_are_five_and_a_kill_and_five_bit_for_bit(model, clips, tmp_path):
    flags = ["--max_train_steps", "10", "--checkpointing_steps", "5", "--lr_scheduler", "cosine", "--use_ema"]
    folders = ["--model", model, "--cache_dir", clips, "--output_dir", tmp_path / "killed", *flags]
    process = start_script("train.py", *folders)
    while process.is_alive() and not (tmp_path / "killed" / "checkpoint-5").is_dir():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "transformer").exists()

    resumed = run(train, model, clips, tmp_path / "killed", *flags, "--resume_from_checkpoint", "latest")
    whole = run(train, model, clips, tmp_path / "whole", *flags)
    assert [line["step"] for line in resumed] == list(range(1, 11))
    for name in ("loss", "grad_norm", "learning_rate"):
        assert [line[name] for line in resumed] == [line[name] for line in whole]
    for folder in ("transformer", "checkpoint-10/transformer"):
        assert_equal(weights(tmp_path / "killed" / folder), weights(tmp_path / "whole" / folder))
    optimizers = [torch.load(tmp_path / name / "checkpoint-10" / "optimizer.bin") for name in ("killed", "whole")]
    for first, second in zip(*(optimizer["state"].values() for optimizer in optimizers), strict=True):
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_give_the_loss_of_one_with_twice_the_batch(model, clips, tmp_path):
    flags = ["--max_train_steps", "4", "--learning_rate", "1e-3", "--report_to", "none"]
    in_processes(2, run, train, model, clips, tmp_path / "two", *flags, "--num_processes", "2")
    two = read_metrics(tmp_path / "two")
    one = run(train, model, clips, tmp_path / "one", *flags, "--train_batch_size", "2")
    accumulated = run(train, model, clips, tmp_path / "acc", *flags, "--global_batch_size", "2")
    assert [line["num_processes"] for line in two] == [2] * 4
    for other in (two, accumulated):
        assert [line["clips"] for line in other] == [2] * 4
        for name in ("loss", "grad_norm"):
            assert [line[name] for line in other] == pytest.approx([line[name] for line in one], rel=1e-5)
    for first, second in zip(
        weights(tmp_path / "one/transformer").values(), weights(tmp_path / "two/transformer").values()
    ):
        assert torch.allclose(first, second, atol=1e-5)


def test_two_processes_leave_out_the_layers_between_modalities_now_and_then(tmp_path):
    """`cross_linear` has layers that get no gradients in a step that `cross_modal_dropout` isolates."""
    model = save_tiny_pipeline(tmp_path / "model", attention_fusion="cross_linear")
    clips = write_cache(tmp_path / "cache", model, kinds=("both",) * 4)
    flags = ["--max_train_steps", "4", "--report_to", "none", "--cross_modal_dropout", "0.5"]
    in_processes(2, run, train, model, clips, tmp_path / "two", *flags, "--num_processes", "2")
    two = read_metrics(tmp_path / "two")
    one = run(train, model, clips, tmp_path / "one", *flags, "--global_batch_size", "2")
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5)


def shard_and_train(cache_dir, path):
    """Take three steps with the weights split over two processes by FSDP2; rank 0 writes losses and weights."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (2,))
    transformer, clips, scales, config = what_a_step_needs(cache_dir)
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        fully_shard(block, mesh=mesh)
    fully_shard(transformer, mesh=mesh)
    rank = torch.distributed.get_rank()
    parameter = transformer.proj_out.weight
    assert parameter.to_local().numel() < parameter.numel()
    losses = take_steps(transformer, scales, config, lambda number: [clips[Visit(f"clip00{rank}", number)]])
    losses = torch.tensor(losses)
    torch.distributed.all_reduce(losses)
    whole = transformer.proj_out.weight.full_tensor()
    if rank == 0:
        torch.save((losses / 2, whole.detach()), path)
    torch.distributed.destroy_process_group()


def what_a_step_needs(cache_dir):
    pipe = create_pipeline(**TINY)
    scales = LatentScales(pipe.vae.config, pipe.audio_vae.config, pipe.transformer.config.in_channels)
    config = TrainingConfig(model="m", cache_dir=str(cache_dir), output_dir="o", caption_dropout=0.0)
    return pipe.transformer.train(), CachedClips(cache_dir), scales, config


def take_steps(transformer, scales, config, samples, number=3):
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=1e-3)
    losses = []
    for step in range(number):
        output = training_step(transformer, collate(samples(step)), scales, config)
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    return losses


def test_fsdp2_on_two_processes_learns_what_one_does(clips, tmp_path):
    in_processes(2, shard_and_train, clips, tmp_path / "sharded.pt")
    losses, whole = torch.load(tmp_path / "sharded.pt")
    transformer, data, scales, config = what_a_step_needs(clips)
    alone = take_steps(transformer, scales, config, lambda n: [data[Visit("clip000", n)], data[Visit("clip001", n)]])
    assert losses.tolist() == pytest.approx(alone, rel=1e-5)
    assert torch.allclose(whole, transformer.proj_out.weight, atol=1e-5)


def test_one_clip_is_learned_by_heart(clips):
    """Four visits of one clip, again and again: the loss falls by more than a factor of ten."""
    transformer, data, scales, config = what_a_step_needs(clips)
    optimizer = torch.optim.AdamW(transformer.parameters(), lr=5e-3, weight_decay=0.0)
    batch = collate([data[Visit("clip000", number)] for number in range(4)])
    losses = []
    for _ in range(60):
        output = training_step(transformer, batch, scales, config)
        output.loss.backward()
        torch.nn.utils.clip_grad_norm_(transformer.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(output.loss.item())
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}")
    assert losses[-1] < losses[0] / 10


# --- stages ---


def test_stage_one_feeds_stage_two(model, clips, tmp_path):
    short = ["--max_train_steps", "2", "--report_to", "none"]
    video = run(train, model, clips, tmp_path / "video", "--branch", "video", *short)
    audio = run(train, model, clips, tmp_path / "audio", "--branch", "audio", "--init_audio_from_video", *short)
    assert all("loss/audio" not in line and line["loss"] == line["loss/video"] for line in video)
    assert all("loss/video" not in line and line["loss"] == line["loss/audio"] for line in audio)
    folders = ["--video_transformer", tmp_path / "video", "--audio_transformer", tmp_path / "audio"]
    run(train, model, clips, tmp_path / "joint", *folders, "--learning_rate", "1e-9", *short)
    joint = weights(tmp_path / "joint/transformer")
    parts = weights(tmp_path / "video/transformer") | weights(tmp_path / "audio/transformer")
    assert joint.keys() == parts.keys()
    assert all(torch.allclose(joint[name], parts[name], atol=1e-6) for name in joint)
    transformer = JoVATransformer3DModel.from_pretrained(tmp_path / "joint/transformer")
    assert JoVAPipeline.from_pretrained(model, transformer=transformer).transformer is transformer


# --- LoRA, validation, trackers ---


def test_a_lora_run_ends_with_its_proof_and_a_model_card(model, clips, tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    arguments = {"num_frames": 5, "height": 32, "width": 32, "num_inference_steps": 2}
    prompts.write_text(json.dumps({"prompt": "a face", "transcript": "one", **arguments}) + "\n")
    out = tmp_path / "lora"
    flags = ["--rank", "2", "--alpha", "4", "--max_train_steps", "4", "--learning_rate", "0.01"]
    flags += ["--validation_prompts", prompts, "--validation_steps", "2", "--checkpointing_steps", "2"]
    flags += ["--num_proof_samples", "2"]
    metrics = run(train_lora, model, clips, out, *flags)
    assert len(metrics) == 4 and {"grad_norm/video", "grad_norm/audio"} <= metrics[0].keys()
    proof = json.loads((out / "proof.json").read_text())
    assert proof["strength_0"] == {"video": True, "audio": True} and proof["num_frozen_changed"] == 0
    assert min(proof["strength_1"].values()) > 0 and min(norm for norm, _ in proof["updates"].values()) > 0
    printed = capsys.readouterr().out
    assert "video: moved by" in printed and "audio at strength 0: equals the base bit for bit" in printed
    assert "loss on 4 clip(s) that it was trained on (--num_held_out keeps some out), 8 noises each" in printed
    assert proof["losses"].keys() == {"video", "mouth", "audio"} and "pictures" in proof["likeness"]
    assert proof["losses"]["video"]["number"] == 3 and proof["likeness"]["pictures"]["number"] == 2  # of 4 clips
    card = (out / "README.md").read_text()
    assert "rank 2" in card and "samples/strength_1.mp4" in card and "samples/strength_1_2.mp4" in card
    assert "in short: " in card
    names = [line.split("]")[0].split("[")[1] for line in card.splitlines() if line.startswith("- strength")]
    assert names == [f"samples/strength_{end}.mp4" for end in ("0", "1", "0_2", "1_2")]
    for name in (
        "samples/strength_0.mp4",
        "samples/strength_1.mp4",
        "samples/strength_0_2.mp4",
        "samples/strength_1_2.mp4",
        "validation/step-2/00.mp4",
        "validation/step-4/00.mp4",
    ):
        assert (out / name).stat().st_size > 1000
    assert validation_tags(out / "logs") == {"validation/00", "validation/00/audio"}

    pipe = JoVAPipeline.from_pretrained(model)
    pipe.load_lora_weights(out)
    assert pipe.transformer.peft_config["default_0"].r == 2


def test_a_lora_that_learned_is_nearer_to_held_out_clips_and_one_that_stood_still_is_no_better(
    model, tmp_path, capsys
):
    clips = write_cache(tmp_path / "cache", model, kinds=("both",) * 6)
    flags = ["--rank", "4", "--report_to", "none", "--num_proof_samples", "1", "--validation_prompts"]
    flags += [tmp_path / "p.yaml", "--validation_steps", "1000", "--num_held_out", "3", "--max_train_steps"]
    (tmp_path / "p.yaml").write_text(PROMPT)
    run(train_lora, model, clips, tmp_path / "still", *flags, "1", "--learning_rate", "1e-30")
    still = json.loads((tmp_path / "still" / "proof.json").read_text())
    assert still["is_held_out"] and still["num_judged"] == 3 and still["num_clips"] == {"video": 3, "audio": 3}
    assert {comparison["verdict"] for comparison in still["losses"].values()} == {"no better"}
    assert still["losses"]["video"]["base"] == still["losses"]["video"]["lora"]
    printed = capsys.readouterr().out
    assert "loss on 3 clip(s) held out of training" in printed
    assert "in short: video loss, mouth loss, audio loss: no better than the base" in printed

    flags += ["40", "--learning_rate", "0.01", "--train_batch_size", "3", "--lora_modalities", "proj_out|video|audio"]
    run(train_lora, model, clips, tmp_path / "learned", *flags)
    learned = json.loads((tmp_path / "learned" / "proof.json").read_text())
    assert learned["losses"]["video"]["base"] == still["losses"]["video"]["base"]  # the same clips and noises
    assert learned["losses"]["video"]["verdict"] == "nearer"
    assert "video loss" in capsys.readouterr().out.split("nearer to the clips than the base")[0]


def test_a_lora_of_people_whom_the_vae_cannot_show_says_so_first(model, tmp_path, capsys):
    clips = write_cache(tmp_path / "cache", model)
    report = {"round_trip": {"clips": {"psnr_db": {"a": 13.0, "b": 13.4}, "log_mel_error_db": {}}}}
    (clips / "report.json").write_text(json.dumps(report))
    (tmp_path / "p.yaml").write_text(PROMPT)
    flags = ["--rank", "1", "--report_to", "none", "--num_proof_samples", "1", "--validation_prompts"]
    run(train_lora, model, clips, tmp_path / "out", *flags, tmp_path / "p.yaml", "--max_train_steps", "1")
    second = capsys.readouterr().out.split("What the LoRA learned\n")[1].splitlines()[0]
    assert second.startswith("  BEWARE: this model's VAE cannot show these clips: they come back at 13.2 dB")
    assert second.strip() in (tmp_path / "out" / "README.md").read_text()


def validation_tags(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "diffusers-jova"))
    events.Reload()
    tags = events.Tags()
    assert {"loss", "loss/video", "learning_rate"} <= set(tags["scalars"])
    return set(tags["images"]) | set(tags["audio"])


def test_a_lora_run_frees_what_it_trained_before_it_loads_the_base_anew(model, clips, tmp_path, monkeypatch):
    loaded, load_base = [], train_lora_module.load_base

    def watched(*args):
        freed = [reference() is None for reference in loaded]
        transformer = load_base(*args)
        loaded.append(weakref.ref(transformer))
        if len(loaded) == 2:
            assert freed == [True]
        return transformer

    monkeypatch.setattr(train_lora_module, "load_base", watched)
    flags = ["--max_train_steps", "1", "--rank", "1", "--report_to", "none", "--num_proof_samples", "1"]
    run(train_lora, model, clips, tmp_path / "out", *flags)
    assert len(loaded) == 2


def test_silent_clips_leave_the_sound_where_it_was_and_the_run_says_so(model, tmp_path, capsys):
    write_cache(tmp_path / "silent", model, kinds=("video",))
    flags = ["--max_train_steps", "1", "--rank", "1", "--report_to", "none", "--num_proof_samples", "1"]
    run(train_lora, model, tmp_path / "silent", tmp_path / "out", *flags)
    printed = capsys.readouterr().out
    assert "audio: DID NOT MOVE: no clip in the cache has audio" in printed and "video: moved by" in printed


def test_validation_makes_the_same_clip_of_the_same_weights(model, clips, tmp_path):
    flags = ["--max_train_steps", "2", "--validation_steps", "1", "--learning_rate", "1e-30", "--report_to", "none"]
    prompt = tmp_path / "p.yaml"
    prompt.write_text("- {prompt: a, num_frames: 5, height: 32, width: 32, num_inference_steps: 1}")
    run(train, model, clips, tmp_path / "out", *flags, "--validation_prompts", prompt)
    first, second = (tmp_path / "out/validation" / f"step-{step}" / "00.mp4" for step in (1, 2))
    assert first.read_bytes() == second.read_bytes()


PROMPT = "- {prompt: a, num_frames: 5, height: 32, width: 32, num_inference_steps: 1}"


def validated_run(model, clips, tmp_path, *flags):
    """Return the folder of a run of three steps with two validation clips at step 2, and its flags."""
    (tmp_path / "p.yaml").write_text(f"{PROMPT}\n{PROMPT}")
    flags = ["--validation_steps", "2", "--checkpointing_steps", "2", "--learning_rate", "0.01", *flags]
    flags += ["--validation_prompts", tmp_path / "p.yaml", "--use_ema", "--ema_decay", "0.5"]
    run(train, model, clips, tmp_path / "out", *flags, "--max_train_steps", "3")
    return tmp_path / "out", [*flags, "--max_train_steps", "4", "--resume_from_checkpoint", "checkpoint-2"]


@pytest.mark.parametrize("lost", [["00.mp4", "01.mp4"], ["01.mp4"]])
def test_clips_lost_between_checkpoint_and_validation_are_made_when_the_run_goes_on(model, clips, tmp_path, lost):
    out, flags = validated_run(model, clips, tmp_path, "--report_to", "none")
    folder = out / "validation" / "step-2"
    made = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in lost:
        (folder / name).unlink()
    partial = folder.with_name(".step-4.partial")  # of the killed run
    partial.mkdir()
    run(train, model, clips, out, *flags)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == made  # of the averaged weights of step 2
    assert sorted(path.name for path in folder.parent.iterdir()) == ["step-2", "step-4"]


def test_two_processes_make_lost_clips_once(model, clips, tmp_path):
    out, flags = validated_run(model, clips, tmp_path, "--report_to", "none", "--train_batch_size", "2")
    lost = out / "validation" / "step-2" / "00.mp4"
    frames = read_video(lost).frames
    lost.unlink()
    flags[flags.index("--train_batch_size") + 1] = "1"
    in_processes(2, run, train, model, clips, out, *flags, "--num_processes", "2")
    assert (read_video(lost).frames == frames).all()
    assert sorted(path.name for path in lost.parent.parent.glob("*/*")) == ["00.mp4", "00.mp4", "01.mp4", "01.mp4"]


def test_validation_clips_appear_together_or_not_at_all(model, clips, tmp_path, monkeypatch):
    from diffusers_jova.training import validation

    write_clip, written = validation.write_clip, []

    def stop_at_the_second(path, output):
        if written:
            raise KeyboardInterrupt
        written.append(write_clip(path, output))
        return written[-1]

    monkeypatch.setattr(validation, "write_clip", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        validated_run(model, clips, tmp_path, "--report_to", "none")
    assert len(written) == 1 and not (tmp_path / "out" / "validation" / "step-2").exists()
    assert not list((tmp_path / "out" / "validation").rglob("*.mp4"))  # what was made of it does not stay


def test_points_of_a_killed_run_leave_tensorboard_when_the_run_goes_on(model, clips, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    flags = ["--checkpointing_steps", "2", "--max_train_steps"]
    run(train, model, clips, tmp_path, *flags, "5")
    (tmp_path / "checkpoint-4").rename(tmp_path / "lost")
    metrics = run(train, model, clips, tmp_path, *flags, "3", "--resume_from_checkpoint", "checkpoint-2")
    events = EventAccumulator(str(tmp_path / "logs" / "diffusers-jova"))
    events.Reload()
    assert [point.step for point in events.Scalars("loss")] == [line["step"] for line in metrics] == [1, 2, 3]


# --- memory ---


def test_a_dry_run_prints_the_memory_and_writes_nothing(model, clips, tmp_path, capsys):
    run(train, model, clips, tmp_path / "out", "--dry_run")
    printed = capsys.readouterr().out
    for name in ("parameters", "gradients", "optimizer", "activations", "latents per batch", "peak"):
        assert f"\n{name}" in printed
    assert not (tmp_path / "out").exists()


SHAPE = BatchShape(1, (16, 3, 8, 8), (20, 30), ((8, 128), (8, 128)))


def make_estimate(shape=SHAPE, cls=TrainingConfig, device="cpu", accumulates=False, **settings):
    settings = cls(model="m", cache_dir="c", output_dir="o", **settings)
    return estimate_memory(dict(create_config()), shape, settings, device=device, accumulates=accumulates)


def create_config(**overrides):
    from diffusers_jova.models.transformer_jova import PRESETS

    return {**PRESETS["jova-nano"], "num_attention_heads": 2, "num_layers": 1, "num_single_layers": 2, **overrides}


def test_the_estimate_counts_weights_exactly_and_activations_as_autograd_keeps_them():
    transformer = JoVATransformer3DModel(**create_config())
    num_bytes = sum(4 * parameter.numel() for parameter in transformer.parameters())
    estimate = make_estimate()
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (num_bytes, num_bytes, 2 * num_bytes)

    def run():
        outputs = transformer(**memory.fake_inputs(transformer, SHAPE), return_dict=False)
        return sum(output.float().square().mean() for output in outputs)

    counted = bytes_kept_for_the_gradient(transformer, run)
    assert estimate.activations == pytest.approx(counted, rel=0.02)


def test_what_saves_memory_is_seen_to():
    plain, double = make_estimate(), make_estimate(BatchShape(2, *list(vars(SHAPE).values())[1:]))
    assert double.activations == pytest.approx(2 * plain.activations, rel=0.2)
    assert make_estimate(gradient_checkpointing=True).activations < 0.7 * plain.activations
    assert make_estimate(use_8bit_adam=True).optimizer < 0.35 * plain.optimizer
    on_gpu = [make_estimate(device="cuda", use_8bit_adam=bits).workspace for bits in (False, True)]
    assert on_gpu[0] == plain.gradients and on_gpu[1] < plain.gradients  # which works on all tensors at once
    accumulated = make_estimate(accumulates=True)
    assert accumulated.peak - plain.peak == min(plain.gradients, plain.activations)
    assert make_estimate(use_ema=True).ema == plain.parameters
    lora = make_estimate(cls=LoraTrainingConfig, rank=2)
    assert lora.gradients < 0.05 * plain.gradients and lora.activations < plain.activations
    assert make_estimate(cls=LoraTrainingConfig, rank=2, base_quantization="nf4").parameters < 0.75 * plain.parameters


def test_a_run_that_cannot_fit_says_so_before_anything_is_loaded(model, clips, tmp_path, monkeypatch):
    monkeypatch.setattr("diffusers_jova.training.memory.free_memory", lambda device: 1000)
    with pytest.raises(MemoryError, match="(?s)needs about .* GiB, but .* are free.*--gradient_checkpointing"):
        run(train, model, clips, tmp_path / "out")
    estimate = make_estimate()
    check_memory(estimate, 0, TrainingConfig(model="m", cache_dir="c", output_dir="o", ignore_memory_estimate=True))


# --- bad input ---


def test_a_cache_of_another_model_is_refused(model, clips, tmp_path):
    write_cache(tmp_path / "foreign", kinds=("both",))
    fingerprint = cache.read_fingerprint(clips)
    fingerprint["models"]["vae"]["weights"] = "0" * 32
    cache.write_fingerprint(tmp_path / "foreign", fingerprint)
    with pytest.raises(ValueError, match="made with other models.*models.vae"):
        run(train, model, tmp_path / "foreign", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "flags, error, message",
    [
        (["--lora_modalities", "nothing_here"], ValueError, "matches none"),
        (["--num_processes", "2"], ValueError, "1 process"),
        (["--validation_prompts", "none.yaml"], FileNotFoundError, "none.yaml"),
        (["--resume_from_checkpoint", "checkpoint-7"], FileNotFoundError, "checkpoint-7"),
    ],
)
def test_bad_settings_stop_a_lora_run_with_a_clear_error(model, clips, tmp_path, flags, error, message):
    with pytest.raises(error, match=message):
        run(train_lora, model, clips, tmp_path / "out", *flags)


def test_an_error_is_one_line_and_a_bad_exit(capsys):
    flags = ["--model", "m", "--cache_dir", "c", "--output_dir", "o", "--max_train_steps", "0"]
    assert main(["train", *flags]) == 2
    assert capsys.readouterr().err == "error: `max_train_steps` must be at least 1, got 0.\n"


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_clip(model, tmp_path):
    folder = write_cache(tmp_path / "cache", model)
    tensors = cache.read_sample(folder, "clip000")
    tensors["audio_moments"][0] = float("nan")
    cache.write_sample(folder, cache.read_index(folder)[0], tensors)
    with pytest.raises(ValueError, match="loss of step 1 is nan; its clips are clip000"):
        run(train, model, folder, tmp_path / "out", "--report_to", "none")


# --- the log ---


def test_losses_are_told_apart_by_noise_level():
    losses, sigmas = torch.tensor([1.0, 3.0, 5.0, 7.0]), torch.tensor([0.0, 0.2, 0.5, 1.0])
    assert bin_by_sigma(losses, sigmas) == {"0.00-0.25": 2.0, "0.50-0.75": 5.0, "0.75-1.00": 7.0}


def test_a_line_with_the_time_left_comes_at_least_every_thirty_seconds(model, clips, tmp_path, monkeypatch, caplog):
    clock = iter(range(0, 10_000, 12))
    monkeypatch.setattr(tracking, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    monkeypatch.setattr(logging.getLogger("diffusers_jova"), "propagate", True)
    with caplog.at_level(logging.INFO, "diffusers_jova"):
        run(train, model, clips, tmp_path, "--max_train_steps", "8", "--logging_steps", "100", "--report_to",
              "none")  # fmt: skip
    lines = [line for line in caplog.messages if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["3/8", "6/8"]
    assert lines[0].endswith("12.00 s, 12.0 s/step, 60 s left")


@pytest.mark.parametrize(
    "seconds, text", [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (3600, "60 min"), (12_000, "3 h 20 min"),
                      (187_200, "2 d 4 h")]
)  # fmt: skip
def test_durations_are_told_in_few_words(seconds, text):
    assert tracking.format_duration(seconds) == text


def test_the_scales_of_a_pipeline_fit_its_step(model):
    assert (
        read_scales(model, {"in_channels": 36, "vae_temporal_compression": 4, "audio_latent_rate": 31.25}).audio_vae
        is not None
    )
