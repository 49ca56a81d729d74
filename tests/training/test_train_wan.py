# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training on a Wan base: the same programs, from a folder that `convert-wan` writes."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from autograd_memory import bytes_kept_for_the_gradient
from plain_clips import write_clip
from safetensors.torch import load_file
from tiny_training import (
    REPOSITORY,
    TEXT_DIM,
    Recorder,
    make_config,
    run,
    save_wan_base,
    weights,
    write_cache,
)
from wan_parts import make_wan_transformer

from diffusers_jova import JoVAPipeline, JoVATransformer3DModel, JoVAWanTransformer3DModel
from diffusers_jova.data.encode import encode_text, load_phase
from diffusers_jova.data.model_facts import read_model_facts
from diffusers_jova.data.preprocessing import PreprocessingConfig, preprocess
from diffusers_jova.media import read_video
from diffusers_jova.models.wan_base import transformer_from_wan
from diffusers_jova.mouth import to_pixels
from diffusers_jova.pipelines.conditioning import video_input
from diffusers_jova.training import memory
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.dataset import CachedClips, Visit, collate
from diffusers_jova.training.initialization import planned_config, read_scales
from diffusers_jova.training.memory import BatchShape, estimate_memory
from diffusers_jova.training.step import training_step, with_condition
from diffusers_jova.training.train import train
from diffusers_jova.training.train_lora import train_lora
from diffusers_jova.training.validation_prompts import encode_prompts


pytestmark = pytest.mark.usefixtures("one_process")


CONFIGS = REPOSITORY / "training" / "configs"
SHORT = ["--max_train_steps", "2", "--report_to", "none"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_wan_base(tmp_path_factory.mktemp("model") / "pipeline")


@pytest.fixture(scope="module")
def clips(model, tmp_path_factory):
    return write_cache(tmp_path_factory.mktemp("clips"), model, ("both", "both"), encoders=("",))


def test_audio_branch_is_trained_from_the_video_branch_and_both_go_on_together(model, clips, tmp_path):
    base = weights(model / "transformer")
    flags = ["--config", "wan_stage1_audio", "--global_batch_size", "1", "--learning_rate", "1e-9"]
    metrics = run(train, model, clips, tmp_path / "audio", *flags, *SHORT)
    assert len(metrics) == 2 and all(line["loss"] == line["loss/audio"] for line in metrics)
    audio = weights(tmp_path / "audio/transformer")
    assert set(audio) == {name for name in base if "audio" in name}
    copied = [name for name in audio if name not in NEW]
    assert all(torch.allclose(audio[n], base[n.replace("audio", "video")], atol=1e-6) for n in copied)

    flags = ["--config", "wan_stage2", "--global_batch_size", "2", "--audio_transformer", tmp_path / "audio"]
    metrics = run(train, model, clips, tmp_path / "joint", *flags, *SHORT)
    assert {"loss/video", "loss/audio", "loss/mouth"} <= metrics[0].keys() and metrics[0]["clips"] == 2
    joint = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "joint/transformer")
    assert joint.branches == ("video", "audio")
    pipe = JoVAPipeline.from_pretrained(model, transformer=joint, prompt_format="labelled")
    pipe.load_lora_weights(tmp_path / "joint")
    pipe.set_progress_bar_config(disable=True)
    output = pipe("a face", transcript="one", num_inference_steps=1, output_type="latent")
    assert torch.isfinite(output.frames).all() and torch.isfinite(output.audio).all()


NEW = ("audio.patch_embedding.weight", "audio.proj_out.weight", "audio.proj_out.bias")


def test_prompts_of_clips_and_of_validation_are_the_three_lines_though_the_base_reads_plain_ones(
    model, clips, tmp_path
):
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
    config = TrainingConfig(model=str(model), cache_dir=str(clips), output_dir="o", validation_prompts=(str(path),))
    found = encode_prompts(config, torch.device("cpu"))[0]["prompt_embeds"][0]
    assert found.shape == expected.shape and torch.allclose(found, expected, atol=1e-4)


def test_lora_is_put_on_one_branch_and_loads(model, clips, tmp_path):
    run(train_lora, model, clips, tmp_path / "lora", "--lora_modalities", "video", "--rank", "2", *SHORT)
    tensors = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert len(tensors) == 2 * 2 * 8 and all(".video.attn" in name for name in tensors)
    pipe = JoVAPipeline.from_pretrained(model)
    pipe.load_lora_weights(str(tmp_path / "lora"))
    assert pipe.get_list_adapters()


@pytest.mark.parametrize("channels", [16, 48])
def test_estimate_counts_the_weights_exactly_and_activations_as_autograd_keeps_them(channels):
    wan = make_wan_transformer(text_dim=TEXT_DIM, in_channels=channels, out_channels=channels)
    transformer = transformer_from_wan(wan, "16k").train()
    shape = BatchShape(1, (channels, 3, 8, 8), (20, 30), ((8, TEXT_DIM), None))
    config = {name: value for name, value in transformer.config.items() if not name.startswith("_")}
    estimate = estimate_memory(config, shape, TrainingConfig(model="m", cache_dir="c", output_dir="o"))
    num_bytes = sum(4 * parameter.numel() for parameter in transformer.parameters())
    assert (estimate.parameters, estimate.gradients, estimate.optimizer) == (num_bytes, num_bytes, 2 * num_bytes)

    def run():
        outputs = transformer(**memory.fake_inputs(transformer, shape), return_dict=False)
        return sum(output.float().square().mean() for output in outputs)

    counted = bytes_kept_for_the_gradient(transformer, run)
    assert estimate.activations == pytest.approx(counted, rel=0.02)


@pytest.mark.parametrize("cls", [JoVATransformer3DModel, JoVAWanTransformer3DModel])
def test_fsdp_splits_the_blocks_of_either_class(cls):
    settings = yaml.safe_load((CONFIGS / "fsdp2.yaml").read_text(encoding="utf-8"))["fsdp_config"]
    assert settings["fsdp_auto_wrap_policy"] == "TRANSFORMER_BASED_WRAP"
    names = settings.get("fsdp_transformer_layer_cls_to_wrap")  # accelerate then asks the model
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy="transformer_based_wrap", transformer_cls_names_to_wrap=names
    )
    with torch.device("meta"):
        transformer = cls(num_attention_heads=1, num_layers=2)
    wants_own = fsdp2_prepare_auto_wrap_policy(plugin, transformer)
    found = [module for module in transformer.modules() if wants_own(module)]
    assert found == [*transformer.transformer_blocks, *getattr(transformer, "single_transformer_blocks", ())]


def test_estimate_counts_no_text_among_the_tokens_of_a_branch(model):
    transformer = JoVAWanTransformer3DModel.from_pretrained(model, subfolder="transformer")
    shape = BatchShape(2, (16, 3, 8, 8), (20, 30), ((8, TEXT_DIM), None))
    width = transformer.config.num_attention_heads * transformer.config.attention_head_dim
    assert memory.count_hidden_states(transformer, shape) == 2 * (3 * 4 * 4 + 30) * width


@pytest.fixture(scope="module", params=[16, 36, 48], ids=["t2v", "i2v", "ti2v"])
def encoded(request, tmp_path_factory):
    """A base made of a Wan without or with an image, and a cache of one real clip with a plain prompt."""
    folder = tmp_path_factory.mktemp("encoded")
    model = save_wan_base(folder / "pipeline", in_channels=request.param)
    (folder / "clips").mkdir()
    write_clip(folder / "clips" / "a.mp4", 9)
    (folder / "clips" / "a.json").write_text(json.dumps({"video_caption": "A man.", "transcript": "one"}))
    settings = {"no_mouth": True, "num_workers": 0, "device": "cpu", "prompt_format": "plain"}
    paths = (str(folder / name) for name in ("clips", "pipeline", "cache"))
    preprocess(PreprocessingConfig(*paths, buckets=("64x64x13",), **settings))
    return SimpleNamespace(model=model, cache=folder / "cache", clip=folder / "clips" / "a.mp4")


def test_text_and_condition_of_a_cached_clip_are_those_of_the_pipeline(encoded):
    pipe, clips = JoVAPipeline.from_pretrained(encoded.model), CachedClips(encoded.cache, model=encoded.model)
    batch = collate([clips[Visit(*clips.rows, 0)]])
    with torch.no_grad():
        states = pipe.encode_prompt("A man.", do_classifier_free_guidance=False)[0]
        nothing = pipe.encode_prompt("", do_classifier_free_guidance=False)[0]
    assert torch.allclose(batch.prompt_embeds, states, atol=1e-5)
    assert torch.allclose(clips.shared["unconditional.prompt_embeds"], nothing[0], atol=1e-5)
    assert read_model_facts(encoded.model).multiple == 2 * pipe.vae_scale_factor_spatial  # 16, or 32
    scales = read_scales(encoded.model, pipe.transformer.config)
    pixels = to_pixels(read_video(encoded.clip, 12.5).frames[:1])[:, :, 0]
    shape = [length // 2 if axis == 0 else length for axis, length in enumerate(batch.video_moments.shape[1:])]
    latents = torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))
    for given in (True, False):
        found = with_condition(latents, batch, scales, make_config(image_conditioning_probability=float(given)))
        with torch.no_grad():
            expected = pipe.prepare_condition(pixels if given else None, latents, 64, 64)
        assert torch.allclose(found, video_input(latents, expected), atol=1e-4)
    if scales.condition_fill == "noisy":
        recorder = Recorder(channels=48)
        training_step(recorder, batch, scales, make_config(image_conditioning_probability=1.0))
        with torch.no_grad():
            expected = pipe._encode_pixels(pixels[:, :, None], latents.device)
        assert torch.allclose(recorder.inputs["hidden_states"][:, :, :1], expected, atol=1e-4)


def test_prompts_of_validation_have_the_format_of_the_cache(encoded):
    settings = {"validation_prompts": ("a face",), "cache_dir": str(encoded.cache), "output_dir": "o"}
    (found,) = encode_prompts(TrainingConfig(model=str(encoded.model), **settings), torch.device("cpu"))
    with torch.no_grad():
        expected = JoVAPipeline.from_pretrained(encoded.model).encode_prompt("a face")[0]
    assert torch.allclose(found["prompt_embeds"], expected, atol=1e-5)


def test_base_learns_from_a_cache_of_its_own_only(encoded, clips, tmp_path):
    fill = JoVAWanTransformer3DModel.load_config(encoded.model / "transformer")["condition_fill"]
    metrics = run(train, encoded.model, encoded.cache, tmp_path / "own", "--video_lora_rank", "1", *SHORT)
    assert len(metrics) == 2 and all(math.isfinite(line["loss"]) for line in metrics)
    if fill == "black":
        return
    message = {
        "grey": "holds black frames beside a reference image.* wants grey ones",
        "noisy": "differs in models.vae",
    }
    with pytest.raises(ValueError, match=message[fill]):
        run(train, encoded.model, clips, tmp_path / "joint", *SHORT)
    tasks = ["--task_probabilities", "t2av=0.5", "continuation=0.5"]
    if fill == "grey":
        with pytest.raises(ValueError, match="continuation, but this transformer, made of a Wan for images"):
            run(train, encoded.model, encoded.cache, tmp_path / "tasks", *tasks, *SHORT)
        assert len(run(train, encoded.model, clips, tmp_path / "audio", "--branch", "audio", *SHORT)) == 2
        return
    assert len(run(train, encoded.model, encoded.cache, tmp_path / "tasks", *tasks, *SHORT)) == 2
    run(train_lora, encoded.model, encoded.cache, tmp_path / "lora", "--rank", "2", *SHORT)
    pipe = JoVAPipeline.from_pretrained(encoded.model)
    pipe.load_lora_weights(str(tmp_path / "lora"))
    pipe.set_progress_bar_config(disable=True)
    image = read_video(encoded.clip, 12.5).frames[0]
    output = pipe("a face", image=image, num_inference_steps=1, output_type="latent")
    assert torch.isfinite(output.frames).all() and torch.isfinite(output.audio).all()


def test_wans_own_pipeline_is_refused_with_the_way_on(clips, tmp_path):
    (tmp_path / "wan").mkdir()
    (tmp_path / "wan" / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    with pytest.raises(ValueError, match="is a WanPipeline, not a JoVAPipeline. .*convert-wan --to jova"):
        planned_config(TrainingConfig(model=str(tmp_path / "wan"), cache_dir=str(clips), output_dir="o"))
    with pytest.raises(ValueError, match="is a WanPipeline, not a JoVAPipeline"):
        read_model_facts(tmp_path / "wan")
