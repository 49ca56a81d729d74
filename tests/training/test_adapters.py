# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
import torch.nn as nn
import yaml
from safetensors import safe_open
from tiny_training import TINY, save_tiny_pipeline

from diffusers_jova.models.branches import copy_to_audio, join_branches
from diffusers_jova.models.transformer_jova import PRESETS, JoVATransformer3DModel
from diffusers_jova.pipelines.random_pipeline import create_pipeline, draw_zero_parameters
from diffusers_jova.training.adapters import (
    LORA_FILE,
    add_lora,
    find_lora_targets,
    group_by_modality,
    load_lora,
    lora_state_dict,
    lora_update_norms,
    modality_of,
    quantize_base,
    save_lora,
)
from diffusers_jova.training.config import TrainingConfig
from diffusers_jova.training.initialization import find_transformer, load_branch, load_transformer, read_scales
from diffusers_jova.training.model_card import describe, model_card
from diffusers_jova.training.optimization import gradient_norms
from diffusers_jova.training.proof import Proof, count_changed, hash_frozen


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("model"))


def make_transformer(**config):
    torch.manual_seed(0)
    transformer = JoVATransformer3DModel(**{**PRESETS["jova-nano"], **TINY, **config})
    draw_zero_parameters(transformer)
    return transformer


def run(transformer, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        return transformer(
            hidden_states=torch.randn(1, 36, 2, 4, 4, generator=generator),
            audio_hidden_states=torch.randn(1, 20, 13, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, 128, generator=generator),
            encoder_hidden_states_2=torch.randn(1, 5, 128, generator=generator),
            timestep=torch.tensor([500.0]),
            return_dict=False,
        )


def move(transformer, seed=0):
    """Give the LoRA layers weights as if they had learned."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))


# --- modalities ---


@pytest.mark.parametrize(
    "name, modality",
    [
        ("transformer_blocks.0.video.to_q.weight", "video"),
        ("single_transformer_blocks.3.audio.ff.net.2.bias", "audio"),
        ("transformer_blocks.0.audio_text.to_k.weight", "text"),
        ("video_embedder.text_embedder_2.linear.weight", "text"),
        ("audio_embedder.time_embedder.linear_1.weight", "audio"),
        ("proj_out.weight", "video"),
        ("audio_norm_out.linear.bias", "audio"),
        ("video_embedder.pos_embed.temporal", "video"),
    ],
)
def test_a_parameter_belongs_to_the_modality_in_its_path(name, modality):
    assert modality_of(name) == modality


@pytest.mark.parametrize("modalities", ["video", "audio", "text", "video,audio", "text, audio"])
def test_lora_targets_are_the_attention_layers_of_the_streams_asked_for(modalities):
    targets = find_lora_targets(make_transformer(), modalities)
    wanted = {part.strip() for part in modalities.split(",")}
    assert {modality_of(f"{name}.") for name in targets} == wanted
    assert {name.split(".", 3)[3] for name in targets} == {"to_q", "to_k", "to_v", "to_out.0"}
    per_modality = {"video": 8, "audio": 8, "text": 8}  # 4 layers in 2 blocks; text: 2 streams in the one with text
    assert len(targets) == sum(per_modality[name] for name in wanted)


def test_anything_else_is_a_regular_expression():
    targets = find_lora_targets(make_transformer(), r"single.*audio\.ff\.net\.2$")
    assert targets == ["single_transformer_blocks.0.audio.ff.net.2"]


@pytest.mark.parametrize(
    "expression, message",
    [("to_queue", "matches none of this transformer's .* such as `"), ("(", "nor a regular expression")],
)
def test_an_expression_that_finds_nothing_is_an_error(expression, message):
    with pytest.raises(ValueError, match=message):
        find_lora_targets(make_transformer(), expression)


def test_a_modality_that_the_model_lacks_is_an_error():
    with pytest.raises(ValueError, match="'audio' matches none"):
        find_lora_targets(make_transformer(audio_in_channels=None), "video,audio")


# --- LoRA ---


def test_a_new_lora_changes_nothing_and_only_it_learns():
    transformer = make_transformer()
    before = run(transformer)
    add_lora(transformer, "video,audio", rank=4, alpha=8.0)
    assert all(map(torch.equal, before, run(transformer)))
    learning = [name for name, parameter in transformer.named_parameters() if parameter.requires_grad]
    assert len(learning) == 2 * 16 and all("lora_" in name for name in learning)


def test_lora_weights_are_float32_on_a_bfloat16_base():
    transformer = make_transformer().to(torch.bfloat16)
    add_lora(transformer, "video", rank=2, alpha=2.0)
    assert {p.dtype for p in transformer.parameters() if p.requires_grad} == {torch.float32}


def test_a_saved_lora_is_loaded_by_the_pipeline_unchanged(tmp_path):
    pipe = create_pipeline(**TINY)
    base = run(pipe.transformer)
    trained = create_pipeline(**TINY).transformer
    add_lora(trained, "video,audio", rank=4, alpha=6.0)
    move(trained)
    save_lora(trained, tmp_path)

    pipe.load_lora_weights(tmp_path)
    assert all(map(torch.equal, run(trained), run(pipe.transformer)))
    assert not any(map(torch.equal, run(trained), base))
    assert pipe.transformer.peft_config["default_0"].lora_alpha == 6  # from the metadata: the tensors do not tell
    pipe.set_adapters("default_0", 0.0)
    assert all(map(torch.equal, run(pipe.transformer), base))


def test_the_same_lora_makes_the_same_file(tmp_path):
    for name in ("a", "b"):
        transformer = make_transformer()
        add_lora(transformer, "video,audio", rank=2, alpha=2.0)
        save_lora(transformer, tmp_path / name)
    assert (tmp_path / "a" / LORA_FILE).read_bytes() == (tmp_path / "b" / LORA_FILE).read_bytes()
    with safe_open(tmp_path / "a" / LORA_FILE, framework="pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
    assert settings["transformer.r"] == 2


def test_a_lora_file_goes_back_into_the_layers_it_came_from(tmp_path):
    trained, fresh = make_transformer(), make_transformer()
    for transformer in (trained, fresh):
        add_lora(transformer, "audio", rank=2, alpha=2.0)
    move(trained)
    load_lora(fresh, save_lora(trained, tmp_path))
    assert all(torch.equal(a, b) for a, b in zip(lora_state_dict(trained).values(), lora_state_dict(fresh).values()))


def test_a_lora_file_of_another_rank_is_refused(tmp_path):
    trained, other = make_transformer(), make_transformer()
    add_lora(trained, "audio", rank=2, alpha=2.0)
    add_lora(other, "audio", rank=3, alpha=2.0)
    with pytest.raises(ValueError, match="`rank` and `lora_modalities`"):
        load_lora(other, save_lora(trained, tmp_path))


def test_update_norms_are_those_of_the_matrices_that_are_added():
    transformer = make_transformer()
    add_lora(transformer, r"\.0\.audio\.to_q$|\.0\.video\.to_q$", rank=2, alpha=6.0)
    layer = transformer.transformer_blocks[0].audio.to_q
    with torch.no_grad():
        layer.lora_B["default"].weight.fill_(0.1)
    update = 6 / 2 * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    norms = lora_update_norms(transformer)
    assert norms["audio"][0] == pytest.approx(update.norm().item(), rel=1e-5)
    assert norms["video"][0] == 0.0


@pytest.mark.parametrize("number_format", ["nf4", "int8"])
def test_a_quantised_base_stays_close_and_its_lora_learns(number_format):
    pytest.importorskip("bitsandbytes")
    transformer = make_transformer(attention_head_dim=64)
    exact = run(transformer)
    quantize_base(transformer, number_format, "cpu")
    rough = run(transformer)
    error = (exact[0] - rough[0]).norm() / exact[0].norm()
    assert 0 < error < (0.3 if number_format == "nf4" else 0.05)
    assert transformer.proj_out.weight.dtype == torch.float32
    add_lora(transformer, "video", rank=2, alpha=2.0)
    before = hash_frozen(transformer)
    generator = torch.Generator().manual_seed(0)
    output = transformer(
        hidden_states=torch.randn(1, 36, 1, 4, 4, generator=generator),
        encoder_hidden_states=torch.randn(1, 2, 128, generator=generator),
        timestep=torch.tensor([500.0]),
    ).sample
    output.square().mean().backward()
    assert transformer.transformer_blocks[0].video.to_q.lora_B["default"].weight.grad.any()
    assert count_changed(before, hash_frozen(transformer)) == 0
    assert lora_update_norms(transformer)["video"][1] == pytest.approx(
        lora_norm_of(make_transformer(attention_head_dim=64)), rel=0.05
    )


def lora_norm_of(transformer):
    add_lora(transformer, "video", rank=2, alpha=2.0)
    return lora_update_norms(transformer)["video"][1]


# --- what is said at the end ---


def test_a_changed_weight_outside_the_lora_is_noticed():
    transformer = make_transformer()
    add_lora(transformer, "video", rank=2, alpha=2.0)
    before = hash_frozen(transformer)
    move(transformer)
    assert count_changed(before, hash_frozen(transformer)) == 0
    with torch.no_grad():
        transformer.proj_out.bias[0] += 1e-7
    assert count_changed(before, hash_frozen(transformer)) == 1


def test_a_modality_that_did_not_move_is_said_in_plain_words():
    proof = Proof({"video": (0.5, 10.0), "audio": (0.0, 10.0)}, 7, 0, {"video": 3, "audio": 0})
    text = describe(proof)
    assert "video: moved by 0.5, 5 % of the norm 10" in text
    assert "audio: DID NOT MOVE: no clip in the cache has audio" in text
    assert "text: was not trained" in text and "all 7 tensors are bit-identical" in text
    proof = Proof({"audio": (0.0, 10.0)}, 7, 1, {"audio": 3}, {"audio": False}, {"audio": 0.0})
    assert "audio: DID NOT MOVE" in describe(proof) and "1 of 7 tensors CHANGED" in describe(proof)
    assert "audio at strength 0: DIFFERS" in describe(proof)


def test_gradient_norms_are_told_apart_by_modality():
    module = nn.ParameterDict({"audio_proj_out": nn.Parameter(torch.ones(4)), "proj_out": nn.Parameter(torch.ones(4))})
    module["audio_proj_out"].grad = torch.full((4,), 3.0)
    assert gradient_norms(module) == {"video": 0.0, "audio": 6.0}


# --- where the weights come from ---


def make_config(model, **settings):
    return TrainingConfig(model=str(model), cache_dir="c", output_dir="o", **settings)


@pytest.mark.parametrize("branch, absent", [("video", "audio"), ("audio", "video")])
def test_one_branch_is_loaded_alone(model, branch, absent):
    joint = load_transformer(make_config(model))
    alone = load_transformer(make_config(model, branch=branch))
    groups = group_by_modality(name for name, _ in alone.named_parameters())
    assert branch in groups and absent not in groups
    weights = joint.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in alone.state_dict().items())


def test_two_single_branches_become_the_joint_model_and_load_from_it_again(model, tmp_path):
    joint = load_transformer(make_config(model))
    for branch in ("video", "audio"):
        alone = load_transformer(make_config(model, branch=branch))
        with torch.no_grad():
            for parameter in alone.parameters():
                parameter.add_(1.0)
        alone.save_pretrained(tmp_path / branch / "transformer")
    folders = {
        "video_transformer": str(tmp_path / "video"),
        "audio_transformer": str(tmp_path / "audio" / "transformer"),
    }
    joined = load_transformer(make_config(model, **folders))
    assert joined.config.in_channels == 36 and joined.config.audio_in_channels == 20
    assert all(torch.equal(tensor, joint.state_dict()[name] + 1.0) for name, tensor in joined.state_dict().items())
    joined.save_pretrained(tmp_path / "joint")
    again = load_branch(tmp_path / "joint", "audio")
    assert all(torch.equal(tensor, joined.state_dict()[name]) for name, tensor in again.state_dict().items())


def test_branches_of_different_width_are_not_joined():
    video = make_transformer(audio_in_channels=None)
    audio = make_transformer(in_channels=None, num_attention_heads=3)
    with pytest.raises(ValueError, match="audio branch does not fit.*num_attention_heads"):
        join_branches(video, audio, dict(make_transformer().config))


def test_layers_between_the_branches_are_new_and_zero():
    config = dict(make_transformer(attention_fusion="cross_linear").config)
    joined = join_branches(make_transformer(audio_in_channels=None), make_transformer(in_channels=None), config)
    assert not joined.transformer_blocks[0].video.cross_linear.weight.any()


def test_the_audio_branch_starts_as_a_copy_of_the_video_branch(model, caplog):
    with caplog.at_level("INFO", logger="diffusers_jova"):
        transformer = load_transformer(make_config(model, init_audio_from_video=True))
    weights = transformer.state_dict()
    copied = [
        name
        for name in weights
        if transformer.video_name(name) and torch.equal(weights[name], weights[transformer.video_name(name)])
    ]
    new = {"audio_embedder.proj_in.weight", "audio_proj_out.weight", "audio_proj_out.bias"}
    audio_names = {name for name in weights if "audio" in name}
    assert audio_names - set(copied) == new
    assert all(name in caplog.text for name in new) and "proj_in.bias" not in caplog.text
    alone = load_transformer(make_config(model, branch="audio", init_audio_from_video=True))
    assert alone.config.in_channels is None
    assert all(torch.equal(tensor, weights[name]) for name, tensor in alone.state_dict().items())


def test_a_copy_of_the_video_branch_is_the_same_for_the_same_seed():
    video = make_transformer(audio_in_channels=None)
    config = {**video.config, "in_channels": None, "audio_in_channels": 20}
    first, again, other = (copy_to_audio(video, config, seed)[0].audio_proj_out.weight for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_a_branch_that_is_not_there_is_named(tmp_path):
    make_transformer(audio_in_channels=None).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="has no audio branch"):
        load_branch(tmp_path, "audio")
    with pytest.raises(FileNotFoundError, match="does not hold a transformer"):
        find_transformer(tmp_path / "elsewhere")


def test_scales_are_read_without_loading_the_vaes(model):
    config = {"in_channels": 36, "vae_temporal_compression": 4, "audio_latent_rate": 31.25}
    scales = read_scales(model, config)
    assert len(scales.vae.latents_mean) == 16 and scales.in_channels == 36
    with pytest.raises(FileNotFoundError, match="not the folder of a pipeline"):
        read_scales(model / "vae", config)


def test_the_model_card_says_how_it_was_made():
    from diffusers_jova.training.config import LoraTrainingConfig

    config = LoraTrainingConfig(model="base/jova", cache_dir="c", output_dir="out/my-voice", rank=4)
    proof = Proof({"video": (0.5, 10.0)}, 7, 0, {"video": 3, "audio": 3}, samples={"0": "samples/strength_0.mp4"})
    card = model_card(config, proof, ["a face"], steps=12)
    for text in (
        'base_model: "jova"',
        "# my-voice",
        "12 steps, rank 4",
        "samples/strength_0.mp4",
        "| `rank` | 4 |",
        "a face",
    ):
        assert text in card


def test_the_model_card_shows_foreign_texts_as_they_are_and_no_folders(tmp_path):
    from diffusers_jova.training.config import LoraTrainingConfig

    secret = tmp_path / "secret"
    config = LoraTrainingConfig(
        model=str(secret / 'nano"\nlicense: mit'),
        cache_dir=str(secret / "cache"),
        output_dir=str(secret / "out"),
        lora_name="<h1>me</h1>\n# Free",
        validation_prompts=(str(secret / "prompts.yaml"), {"prompt": "| x |", "image": str(secret / "face.png")}),
    )
    proof = Proof({}, 7, 0, {"video": 3})
    card = model_card(config, proof, ["<script>x</script>", "---\n## Heading", "```\n\x1b[31m"], steps=12)
    assert "secret" not in card and str(tmp_path) not in card
    assert all(name in card for name in ("prompts.yaml", "face.png"))
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front).keys() == {"library_name", "base_model", "tags"}
    assert "<script>" not in body and "<h1>" not in body and "\x1b" not in body
    headings = [line for line in body.splitlines() if line.startswith("#")]
    assert headings[0] == "# &lt;h1&gt;me&lt;/h1&gt; # Free" and "## Heading" not in headings
    assert body.count("\n```") == 4  # the two blocks of our own
    rows = [line for line in body.splitlines() if line.startswith("| `")]
    assert all(line.replace("\\|", "").count("|") == 3 for line in rows)
