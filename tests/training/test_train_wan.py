# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training on a Wan base: the same programs, from a folder that `convert-wan` writes."""

import json
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState
from autograd_memory import bytes_kept_for_the_gradient
from safetensors.torch import load_file
from tiny_training import TEXT_DIM, hide_accelerators, parse_config, write_cache
from wan_parts import make_wan_transformer

from diffusers_jova import JoVAPipeline, JoVAWanTransformer3DModel
from diffusers_jova.data.encode import encode_text, load_phase
from diffusers_jova.models.wan_base import transformer_from_wan
from diffusers_jova.pipelines.random_pipeline import create_pipeline
from diffusers_jova.training import memory
from diffusers_jova.training.config import LoraTrainingConfig, TrainingConfig
from diffusers_jova.training.memory import BatchShape, estimate_memory
from diffusers_jova.training.train import train
from diffusers_jova.training.train_lora import train_lora
from diffusers_jova.training.validation_prompts import encode_prompts


SHORT = ["--max_train_steps", "2", "--report_to", "none"]


def save_wan_base(folder, in_channels: int = 16) -> Path:
    """Write a pipeline whose transformer stands on a tiny Wan, with a 16 kHz audio branch and one text encoder."""
    torch.manual_seed(0)
    pipe = create_pipeline(num_attention_heads=1, num_layers=1, num_single_layers=1)
    transformer = transformer_from_wan(make_wan_transformer(text_dim=TEXT_DIM, in_channels=in_channels), "16k")
    parts = pipe.components | {"transformer": transformer, "text_encoder_2": None, "tokenizer_2": None}
    defaults = {"height": 32, "width": 32, "num_frames": 5, "frame_rate": 12.5, "prompt_format": "plain"}
    JoVAPipeline(**parts, **defaults).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_wan_base(tmp_path_factory.mktemp("model") / "pipeline")


@pytest.fixture(scope="module")
def clips(model, tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("clips"), model, ("both", "both"), encoders=("",))


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    hide_accelerators(monkeypatch)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def run(program, model, clips, output_dir, *flags) -> list[dict]:
    AcceleratorState._reset_state(reset_partial_state=True)
    cls = LoraTrainingConfig if program is train_lora else TrainingConfig
    program(
        parse_config(cls, list(map(str, ["--model", model, "--cache_dir", clips, "--output_dir", output_dir, *flags])))
    )
    path = Path(output_dir) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(next(Path(folder).glob("*.safetensors")))


def test_audio_branch_is_trained_from_the_video_branch_and_both_go_on_together(model, clips, tmp_path):
    base = weights(model / "transformer")
    flags = ["--branch", "audio", "--init_audio_from_video", "--learning_rate", "1e-9"]
    metrics = run(train, model, clips, tmp_path / "audio", *flags, *SHORT)
    assert len(metrics) == 2 and all(line["loss"] == line["loss/audio"] for line in metrics)
    audio = weights(tmp_path / "audio/transformer")
    assert set(audio) == {name for name in base if "audio" in name}
    copied = [name for name in audio if name not in NEW]
    assert all(torch.allclose(audio[n], base[n.replace("audio", "video")], atol=1e-6) for n in copied)

    folders = ["--audio_transformer", tmp_path / "audio"]
    metrics = run(train, model, clips, tmp_path / "joint", *folders, "--gradient_checkpointing", *SHORT)
    assert {"loss/video", "loss/audio"} <= metrics[0].keys()
    joint = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "joint/transformer")
    assert joint.branches == ("video", "audio")
    pipe = JoVAPipeline.from_pretrained(model, transformer=joint, prompt_format="labelled")
    pipe.set_progress_bar_config(disable=True)
    output = pipe("a face", transcript="one", num_inference_steps=1, output_type="latent")
    assert torch.isfinite(output.frames).all() and torch.isfinite(output.audio).all()


NEW = ("audio.patch_embedding.weight", "audio.proj_out.weight", "audio.proj_out.bias")


def test_prompts_of_clips_and_of_validation_are_the_three_lines_though_the_base_reads_plain_ones(model, tmp_path):
    assert JoVAPipeline.from_pretrained(model).config.prompt_format == "plain"
    texts = {"prompt": "a face", "audio_prompt": "a voice", "transcript": "one"}
    pipe = JoVAPipeline.from_pretrained(model, prompt_format="labelled")
    with torch.no_grad():
        expected = pipe.encode_prompt(**texts, do_classifier_free_guidance=False)[0][0]
    with load_phase(model, "text", torch.device("cpu"), torch.float32) as encoder:
        found = encode_text(encoder, "prompt_embeds", tuple(texts.values()), 512)
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)
    path = tmp_path / "prompts.jsonl"
    path.write_text(json.dumps(texts) + "\n")
    config = TrainingConfig(model=str(model), cache_dir="c", output_dir="o", validation_prompts=(str(path),))
    found = encode_prompts(config, torch.device("cpu"))[0]["prompt_embeds"][0]
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)


def test_lora_is_put_on_one_branch_and_loads(model, clips, tmp_path):
    run(train_lora, model, clips, tmp_path / "lora", "--lora_modalities", "video", "--rank", "2", *SHORT)
    tensors = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert len(tensors) == 2 * 2 * 8 and all(".video.attn" in name for name in tensors)
    pipe = JoVAPipeline.from_pretrained(model)
    pipe.load_lora_weights(str(tmp_path / "lora"))
    assert pipe.get_list_adapters()


def test_estimate_counts_the_weights_exactly_and_activations_as_autograd_keeps_them(model):
    transformer = JoVAWanTransformer3DModel.from_pretrained(model, subfolder="transformer").train()
    shape = BatchShape(1, (16, 3, 8, 8), (20, 30), ((8, TEXT_DIM), None))
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    estimate = estimate_memory(config, shape, TrainingConfig(model="m", cache_dir="c", output_dir="o"))
    num_bytes = sum(4 * parameter.numel() for parameter in transformer.parameters())
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (num_bytes, num_bytes, 2 * num_bytes)

    def run():
        outputs = transformer(**memory.fake_inputs(transformer, shape), return_dict=False)
        return sum(output.float().square().mean() for output in outputs)

    counted = bytes_kept_for_the_gradient(transformer, run)
    assert estimate.activations == pytest.approx(counted, rel=0.02)


def test_estimate_counts_no_text_among_the_tokens_of_a_branch(model):
    transformer = JoVAWanTransformer3DModel.from_pretrained(model, subfolder="transformer")
    shape = BatchShape(2, (16, 3, 8, 8), (20, 30), ((8, TEXT_DIM), None))
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    assert memory.count_hidden_states(transformer, shape) == 2 * (3 * 4 * 4 + 30) * width


def test_base_for_images_is_refused_unless_audio_alone_learns(clips, tmp_path):
    base = save_wan_base(tmp_path / "pipeline", in_channels=36)
    with pytest.raises(ValueError, match="made of a Wan for images.*--branch audio"):
        run(train, base, clips, tmp_path / "joint", *SHORT)
    assert len(run(train, base, clips, tmp_path / "audio", "--branch", "audio", *SHORT)) == 2
