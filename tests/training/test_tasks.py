# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a clip is asked for, and what of it is given: the tasks of training."""

import json
from collections import Counter
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import tiny_training
import torch
from tiny_training import (
    TINY,
    Recorder,
    make_batch,
    make_config,
    parse_config,
    save_tiny_pipeline,
    write_cache,
)

from diffusers_jova import write_wav
from diffusers_jova.latents import normalize_latents
from diffusers_jova.media import read_video
from diffusers_jova.pipelines.directions import Given, GivenLatents
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.training.config import TASKS, LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.dataset import CachedClips, Visit, open_clips
from diffusers_jova.training.flags import write_yaml
from diffusers_jova.training.losses import flow_matching_loss
from diffusers_jova.training.proof import measure_losses
from diffusers_jova.training.step import LatentScales, training_step
from diffusers_jova.training.tasks import draw_given, draw_prefix, draw_tasks
from diffusers_jova.training.tracking import split_by_task
from diffusers_jova.training.train import train
from diffusers_jova.training.train_lora import train_lora


NUM_FRAMES = 17  # of the clips here: 5 latent frames, 43 audio latents
ALL = {"t2av": 0.4, "a2v": 0.2, "v2a": 0.2, "continuation": 0.2}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_tiny_pipeline(tmp_path_factory.mktemp("model"))
    path = folder / "transformer" / "config.json"  # as of a model that is older than the key
    config = json.loads(path.read_text())
    del config["condition_mode"]
    path.write_text(json.dumps(config))
    return folder


@pytest.fixture(scope="module")
def cache_dir(model, tmp_path_factory):
    kinds = ("both", "both", "video", "audio")
    return write_cache(tmp_path_factory.mktemp("cache"), model, kinds, num_frames=NUM_FRAMES)


@pytest.fixture(scope="module")
def clips(cache_dir):
    return CachedClips(cache_dir)


@pytest.fixture(scope="module")
def pipe():
    return create_pipeline(**TINY)


@pytest.fixture(params=["clean", "noised"])
def scales(pipe, request):
    return LatentScales(pipe.vae.config, pipe.audio_vae.config, 36, 4, 31.25, request.param)


def record(batch, scales, **settings):
    recorder = Recorder()
    return recorder, training_step(recorder, batch, scales, make_config(**settings))


def means(batch, pipe):
    """Return the latents of a batch as the pipeline encodes what it is given."""
    return (
        normalize_latents(batch.video_moments.chunk(2, dim=1)[0], pipe.vae.config),
        normalize_latents(batch.audio_moments.chunk(2, dim=1)[0], pipe.audio_vae.config),
    )


# --- the draw


def test_tasks_are_drawn_as_often_as_asked_and_again_the_same(clips):
    batch = make_batch(clips, (0, 0))
    batch = replace(batch, visits=[Visit("clip000", number) for number in range(3000)])
    drawn = draw_tasks(batch, make_config(task_probabilities=ALL))
    for task, probability in ALL.items():
        assert Counter(drawn)[task] / 3000 == pytest.approx(probability, abs=0.03)
    reordered = {task: ALL[task] for task in reversed(TASKS)}
    assert draw_tasks(batch, make_config(task_probabilities=reordered)) == drawn
    assert draw_tasks(batch, make_config(task_probabilities={"v2a": 1})) == ["v2a"] * 3000


def test_clips_of_one_modality_are_asked_for_all_that_they_have(clips, scales):
    for key, name in ((2, "video"), (3, "audio")):
        batch = make_batch(clips, (key, 0))
        plain = record(batch, scales)[1]
        output = record(batch, scales, task_probabilities={"continuation": 1.0})[1]
        assert torch.equal(output.losses[name], plain.losses[name]) and output.tasks == ["t2av"]


def test_a_beginning_holds_what_the_pipelines_keep_holds():
    for number in range(50):
        num_frames, num_audio = draw_prefix(Visit("a", number), 0, (5, 43), 12.5, 31.25, 4)
        assert 1 <= num_frames <= 4 and num_audio < 43
        fraction = torch.rand((), generator=_generator(number)).item()
        keep_s = Fraction((1 + 4 * 4 * fraction) / 12.5)
        given = Given(None, None, dict.fromkeys(("video", "audio"), (keep_s, float("inf"))), None)
        masks = given.masks({"latents": 5, "audio_latents": 43}, 12.5, 31.25, 4)
        assert (num_frames, num_audio) == (masks["latents"].sum(), masks["audio_latents"].sum())


def _generator(number):
    from diffusers_jova.training.randomness import make_generator

    return make_generator(0, "a", number, "prefix")


def test_beginnings_have_every_length(clips):
    lengths = Counter(draw_prefix(Visit("a", n), 0, (5, 43), 12.5, 31.25, 4)[0] for n in range(1000))
    assert sorted(lengths) == [1, 2, 3, 4] and min(lengths.values()) > 200
    assert {draw_prefix(Visit("a", n), 0, (2, 3), 12.5, 31.25, 4)[0] for n in range(20)} == {1}


def test_a_plain_clip_meets_the_same_as_in_a_plain_run(clips, scales):
    visits = [(0, number) for number in range(8)]
    batch = make_batch(clips, *visits)
    tasks = draw_tasks(batch, make_config(task_probabilities=ALL))
    plain, plain_output = record(batch, scales, image_conditioning_probability=0.5)
    mixed, output = record(batch, scales, image_conditioning_probability=0.5, task_probabilities=ALL)
    rows = [row for row, task in enumerate(tasks) if task == "t2av"]
    assert 0 < len(rows) < 8
    for name in ("hidden_states", "audio_hidden_states", "timestep"):
        assert torch.equal(plain.inputs[name][rows], mixed.inputs[name][rows])
    for name, losses in output.losses.items():
        torch.testing.assert_close(losses[rows], plain_output.losses[name][rows])


def test_the_plain_task_alone_changes_no_bit_and_draws_nothing(clips, scales):
    batch = make_batch(clips, (0, 0), (1, 0))
    default, output = record(batch, scales)
    named, named_output = record(batch, scales, task_probabilities={"t2av": 1.0, "a2v": 0.0})
    assert all(torch.equal(default.inputs[name], named.inputs[name]) for name in ("hidden_states", "audio_timestep"))
    assert torch.equal(output.loss, named_output.loss)
    assert draw_given(batch, ["t2av", "t2av"], make_config(), 31.25, 4) == {}


def test_a_clip_meets_the_same_in_any_company(clips, scales):
    settings = {"independent_timesteps": True, "task_probabilities": ALL}
    together, output = record(make_batch(clips, *((number % 2, number) for number in range(8))), scales, **settings)
    for number in range(8):
        alone, alone_output = record(make_batch(clips, (number % 2, number)), scales, **settings)
        for name in ("hidden_states", "audio_hidden_states", "timestep"):
            assert torch.equal(together.inputs[name][number : number + 1], alone.inputs[name])
        assert output.tasks[number] == alone_output.tasks[0]
        torch.testing.assert_close(output.losses["total"][number], alone_output.losses["total"][0])


# --- each task


@pytest.mark.parametrize("task, made, given", [("a2v", "video", "audio"), ("v2a", "audio", "video")])
def test_a_given_modality_enters_as_the_condition_mode_says_and_has_no_loss(task, made, given, clips, scales, pipe):
    batch = make_batch(clips, (0, 0), (1, 1))
    recorder, output = record(batch, scales, task_probabilities={task: 1.0}, independent_timesteps=True)
    inputs = {"video": recorder.inputs["hidden_states"][:, :16], "audio": recorder.inputs["audio_hidden_states"]}
    timesteps = {"video": recorder.inputs["timestep"], "audio": recorder.inputs["audio_timestep"]}
    clean = dict(zip(("video", "audio"), means(batch, pipe)))
    assert (timesteps[made] > 0).all() and (inputs[made] - clean[made]).abs().max() > 0.1
    if scales.condition_mode == "clean":
        assert torch.equal(timesteps[given], torch.zeros(2))
        assert torch.equal(inputs[given], clean[given])
    else:
        assert torch.equal(timesteps[given], timesteps[made])
        plain, _ = record(batch, scales, sigma_sampling="logit_normal", logit_mean=30.0)
        name = {"video": "hidden_states", "audio": "audio_hidden_states"}[given]
        noise = plain.inputs[name][:, : clean[given].shape[1]]
        sigmas = (timesteps[given] / 1000).view(-1, *[1] * (noise.ndim - 1))
        torch.testing.assert_close(inputs[given], (1 - sigmas) * clean[given] + sigmas * noise)
    losses = output.losses
    assert not losses[given].any() and (losses[made] > 0).all()
    if task == "v2a":
        assert not losses["mouth"].any() and torch.equal(losses["total"], losses["audio"])
    else:
        torch.testing.assert_close(losses["total"], losses["video"] + 5 * losses["mouth"])


@pytest.mark.parametrize("task", ["v2a", "continuation"])
def test_mask_channels_tell_which_frames_are_given_as_in_the_pipeline(task, clips, scales, pipe):
    batch = make_batch(clips, (0, 3))
    settings = {"task_probabilities": {task: 1.0}, "image_conditioning_probability": 0.0}
    given = draw_given(batch, [task], make_config(**settings), 31.25, 4)["video"][0]
    assert given.sum() == 5 if task == "v2a" else 0 < given.sum() < 5
    recorder, _ = record(batch, scales, **settings)
    clean, _ = means(batch, pipe)
    pixels = torch.zeros(1, 3, NUM_FRAMES, 32, 32)
    latents = GivenLatents({"latents": clean}, {"latents": given}, {}, scales.condition_mode, pixels)
    with torch.no_grad():
        expected = pipe.prepare_condition(None, clean, 32, 32, latents)
    black = normalize_latents(batch.filler_moments.chunk(2, dim=1)[0], pipe.vae.config)
    condition = recorder.inputs["hidden_states"][:, 16:]
    assert torch.equal(condition[:, 16:], expected[:, 16:])  # the mask
    assert torch.equal(condition[:, :16, given], expected[:, :16, given])
    assert torch.equal(condition[:, :16, ~given], black.expand_as(clean)[:, :, ~given])


@pytest.mark.parametrize("task", ["v2a", "continuation"])
def test_frames_with_timesteps_of_their_own_are_given_clean_in_either_mode(task, clips, scales, pipe):
    batch, scales = make_batch(clips, (0, 3), (1, 4)), replace(scales, in_channels=16, condition_fill="noisy")
    settings = {"task_probabilities": {task: 1.0}, "image_conditioning_probability": 0.0}
    given = draw_given(batch, [task] * 2, make_config(**settings), 31.25, 4)["video"]
    recorder, output = record(batch, scales, **settings)
    expected = torch.where(given, 0.0, 1000 * output.sigmas["video"][:, None])
    assert torch.equal(recorder.inputs["timestep"], expected)
    mask = given[:, None, :, None, None].expand_as(recorder.inputs["hidden_states"])
    assert torch.equal(recorder.inputs["hidden_states"][mask], means(batch, pipe)[0][mask])
    assert (output.losses["video"] > 0).all() == (task == "continuation")


def test_a_continuation_is_given_the_beginning_of_both_and_asked_for_the_rest(clips, scales, pipe):
    batch = make_batch(clips, (0, 3), (1, 4))
    config = make_config(task_probabilities={"continuation": 1.0})
    given = draw_given(batch, ["continuation"] * 2, config, 31.25, 4)
    recorder, output = record(
        batch, scales, task_probabilities={"continuation": 1.0}, independent_timesteps=True, mouth_loss_weight=0.0
    )
    inputs, sigmas = recorder.inputs, output.sigmas
    assert torch.equal(sigmas["video"], sigmas["audio"])  # made together, as in the pipeline
    assert torch.equal(inputs["timestep"], 1000 * sigmas["video"])
    if scales.condition_mode == "clean":
        expected = torch.where(given["audio"], 0.0, inputs["timestep"][:, None])
        assert torch.equal(inputs["audio_timestep"], expected)
        mask = given["audio"][:, None].expand_as(inputs["audio_hidden_states"])
        assert torch.equal(inputs["audio_hidden_states"][mask], means(batch, pipe)[1][mask])
    else:
        assert torch.equal(inputs["audio_timestep"], inputs["timestep"])
    for row in range(2):  # the prediction is zero: the loss is the mean square of noise - x over the rest
        frames, latents = (~given[name][row] for name in ("video", "audio"))
        plain, _ = record(batch, scales, sigma_sampling="logit_normal", logit_mean=-30.0)
        noise, _ = record(batch, scales, sigma_sampling="logit_normal", logit_mean=30.0)
        for name, loss, kept in (("hidden_states", "video", frames), ("audio_hidden_states", "audio", latents)):
            target = (noise.inputs[name] - plain.inputs[name])[row, : 16 if loss == "video" else None, kept]
            torch.testing.assert_close(output.losses[loss][row], target.square().mean(), rtol=1e-4, atol=1e-5)


def test_what_is_given_never_reaches_a_loss():
    prediction, target = torch.randn(2, 3, 4, 2, 2), torch.randn(2, 3, 4, 2, 2)
    is_given = torch.tensor([[True, True, False, False], [True] * 4])
    broken = prediction.clone()
    broken[:, :, :2] = torch.nan
    broken[1] = torch.nan
    broken.requires_grad_()
    loss = flow_matching_loss(broken, target, is_given)
    expected = (prediction - target)[0, :, 2:].square().mean()
    torch.testing.assert_close(loss, torch.stack([expected, torch.tensor(0.0)]))
    loss.sum().backward()
    assert not broken.grad[1].nan_to_num(0).any()
    nothing = torch.zeros_like(is_given)
    torch.testing.assert_close(flow_matching_loss(prediction, target, nothing), flow_matching_loss(prediction, target))


def test_the_mouth_loss_looks_at_no_given_frame(clips, scales):
    batch = make_batch(clips, (0, 3))
    config = {"task_probabilities": {"continuation": 1.0}}
    given = draw_given(batch, ["continuation"], make_config(**config), 31.25, 4)["video"]
    assert batch.mouth_mask[given].any()
    full = record(batch, scales, **config)[1].losses["mouth"]
    batch.mouth_mask[given] = False
    assert torch.equal(record(batch, scales, **config)[1].losses["mouth"], full)
    batch.mouth_mask[:] = False
    assert record(batch, scales, **config)[1].losses["mouth"] == 0


def test_a_given_modality_teaches_its_own_head_nothing(pipe, clips, scales):
    transformer = pipe.transformer
    for task, unasked in (("a2v", "audio_proj_out"), ("v2a", "proj_out")):
        output = training_step(
            transformer, make_batch(clips, (0, 0), (1, 0)), scales, make_config(task_probabilities={task: 1.0})
        )
        output.loss.backward()
        grads = {name: parameter.grad for name, parameter in transformer.named_parameters()}
        assert not grads[f"{unasked}.weight"].any()
        assert all(grad.isfinite().all() for grad in grads.values() if grad is not None)
        # but what the given modality says reaches the loss of the other one
        given = "audio" if task == "a2v" else "video"
        assert grads[f"{given}_embedder.time_embedder.linear_1.weight"].any()
        transformer.zero_grad()


# --- whole runs


def run(program, model, cache_dir, output_dir, *flags):
    return tiny_training.run(program, model, cache_dir, output_dir, "--report_to", "none", *flags)


FLAG = ["--task_probabilities", "t2av=0.25", "a2v=0.25", "v2a=0.25", "continuation=0.25"]


def test_a_run_with_tasks_logs_each_and_says_how_its_weights_were_trained(one_process, model, cache_dir, tmp_path):
    flags = [*FLAG, "--max_train_steps", "4", "--train_batch_size", "8"]
    metrics = run(train, model, cache_dir, tmp_path, *flags)
    seen = {key for line in metrics for key in line if "task_" in key}
    assert {f"loss/task_{task}" for task in TASKS} <= seen
    assert "loss/video/task_a2v" in seen and "loss/audio/task_v2a" in seen and "loss/mouth/task_continuation" in seen
    assert not {"loss/audio/task_a2v", "loss/video/task_v2a", "loss/mouth/task_v2a"} & seen
    for folder in ("transformer", "checkpoint-4/transformer"):
        assert json.loads((tmp_path / folder / "config.json").read_text())["condition_mode"] == "clean"


def test_a_run_without_tasks_logs_none_and_leaves_the_condition_mode(one_process, model, cache_dir, tmp_path):
    metrics = run(train, model, cache_dir, tmp_path, "--max_train_steps", "1")
    assert not any("task" in key for line in metrics for key in line)
    assert json.loads((tmp_path / "transformer" / "config.json").read_text())["condition_mode"] is None


def test_a_loss_of_a_given_modality_is_in_no_mean():
    losses = {"total": torch.tensor([1.0, 2.0, 3.0]), "audio": torch.tensor([0.5, 0.0, 0.7])}
    assert split_by_task(losses, ["v2a", "a2v", "v2a"]) == pytest.approx(
        {"loss/task_a2v": 2.0, "loss/task_v2a": 2.0, "loss/audio/task_v2a": 0.6}
    )


def test_a_lora_learns_tasks_and_is_judged_by_the_plain_one(one_process, model, cache_dir, tmp_path):
    flags = ["--task_probabilities", "a2v=1", "--max_train_steps", "1", "--rank", "2", "--num_proof_samples", "1"]
    metrics = run(train_lora, model, cache_dir, tmp_path, *flags)
    assert "loss/video" in metrics[0] or "loss/audio" in metrics[0]
    proof = json.loads((tmp_path / "proof.json").read_text())
    assert set(proof["losses"]) == {"video", "mouth", "audio"}


def test_the_proof_does_not_depend_on_the_tasks_of_the_run(pipe, clips, scales):
    judged = clips.subset(["clip000"])
    folders = {"model": "m", "cache_dir": "c", "output_dir": "o"}
    found = [
        measure_losses(
            pipe.transformer, judged, scales, LoraTrainingConfig(**folders, **settings), torch.device("cpu")
        )
        for settings in ({}, {"task_probabilities": {"v2a": 1.0}})
    ]
    assert found[0] == found[1]


def test_validation_clips_are_made_to_a_given_recording(one_process, model, cache_dir, tmp_path):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 6400)).astype(np.float32)
    write_wav(tmp_path / "talk.wav", samples, 16000, ai_generated=False)
    prompts = tmp_path / "prompts.jsonl"
    call = {"audio": str(tmp_path / "talk.wav"), "height": 32, "width": 32, "num_inference_steps": 1}
    prompts.write_text(json.dumps(call | {"guidance_scale": 1.0}))
    flags = ["--max_train_steps", "1", "--validation_steps", "1", "--validation_prompts", prompts]
    run(train, model, cache_dir, tmp_path / "out", *flags)
    clip = read_video(tmp_path / "out" / "validation" / "step-1" / "00.mp4")
    assert len(clip.frames) == 5  # as long as the recording


# --- bad input


@pytest.mark.parametrize(
    "probabilities, message",
    [
        ({"a2w": 1.0}, r"unknown task 'a2w'. Did you mean `a2v`\? Allowed are t2av, a2v, v2a, continuation"),
        ({"t2av": 0.5, "a2v": 0.4}, "must sum to 1, got 0.9"),
        ({}, "must sum to 1, got 0"),
        ({"t2av": 1.5, "a2v": -0.5}, "between 0 and 1, got 1.5 for t2av"),
        ({"a2v": -0.5, "t2av": 1.5}, "between 0 and 1, got -0.5 for a2v"),
        ({"t2av": float("nan")}, "between 0 and 1, got nan for t2av"),
        ({"t2av": True}, "got True for t2av"),
        ({"t2av": "often"}, "got 'often' for t2av"),
        (["t2av"], r"`task_probabilities` must be a mapping, got \['t2av'\]"),
    ],
)
def test_probabilities_that_are_none_raise(probabilities, message):
    with pytest.raises(ValueError, match=message):
        make_config(task_probabilities=probabilities)


@pytest.mark.parametrize("branch, task", [("audio", "a2v"), ("video", "continuation")])
def test_a_task_of_both_modalities_needs_both_branches(branch, task):
    with pytest.raises(ValueError, match=rf"{task}, which need both branches \(`branch: joint`\), got '{branch}'"):
        make_config(task_probabilities={"t2av": 0.5, task: 0.5}, branch=branch)


def test_a_cache_without_audio_cannot_teach_v2a(tmp_path, model):
    cache_dir = write_cache(tmp_path, model, kinds=("video",))
    config = TrainingConfig(model, cache_dir, "o", task_probabilities={"t2av": 0.5, "v2a": 0.5})
    with pytest.raises(ValueError, match="v2a, which need clips with video and audio, but .* has video alone"):
        open_clips(config)
    open_clips(replace(config, task_probabilities=None))


def test_a_clip_of_one_frame_has_no_continuation(tmp_path, model):
    cache_dir = write_cache(tmp_path, model, kinds=("both", "both"), num_frames=1)
    config = TrainingConfig(model, cache_dir, "o", task_probabilities={"continuation": 1.0})
    with pytest.raises(ValueError, match=r"2 clip\(s\) of the cache .* have one frame, such as clip000"):
        open_clips(config)
    open_clips(replace(config, task_probabilities={"a2v": 1.0}))


@pytest.mark.parametrize(
    "entry, branch, error, message",
    [
        ({"audio": "none.wav"}, "joint", Exception, "none.wav"),
        ({"video": "none.mp4", "prompt": "a"}, "joint", FileNotFoundError, "none.mp4"),
        ({"keep": 1.0}, "joint", ValueError, "`keep` is about a clip"),
        ({"audio": "none.wav"}, "audio", ValueError, "asks for nothing but audio"),
    ],
)
def test_a_given_file_of_a_validation_prompt_is_looked_at_before_the_run(
    entry, branch, error, message, one_process, model, cache_dir, tmp_path
):
    (tmp_path / "p.jsonl").write_text(json.dumps(entry))
    flags = ["--max_train_steps", "1", "--validation_prompts", tmp_path / "p.jsonl", "--branch", branch]
    with pytest.raises(error, match=message):
        run(train, model, cache_dir, tmp_path / "out", *flags)
    assert not (tmp_path / "out" / "metrics.jsonl").exists()


def test_flag_and_yaml_give_the_same_probabilities(tmp_path):
    folders = ["--model", "m", "--cache_dir", "c", "--output_dir", "o"]
    (tmp_path / "c.yaml").write_text("task_probabilities: {t2av: 0.25, a2v: 2.5e-1, v2a: 0.25, continuation: 0.25}")
    by_flag = parse_config(TrainingConfig, [*folders, *FLAG])
    by_file = parse_config(TrainingConfig, [*folders, "--config", str(tmp_path / "c.yaml")])
    assert by_flag == by_file and by_flag.tasks == dict.fromkeys(TASKS, 0.25)
    write_yaml(by_flag, tmp_path / "again.yaml")
    assert parse_config(TrainingConfig, ["--config", str(tmp_path / "again.yaml")]) == by_flag
    assert parse_config(TrainingConfig, folders).tasks == {"t2av": 1.0}


@pytest.mark.parametrize("values", [["t2av"], ["t2av=often"], ["t2av=0.5", "t2av=0.5"]])
def test_a_flag_that_is_no_pair_is_refused(values, capsys):
    with pytest.raises(SystemExit):
        parse_config(TrainingConfig, ["--model", "m", "--task_probabilities", *values])
    assert "--task_probabilities" in capsys.readouterr().err
