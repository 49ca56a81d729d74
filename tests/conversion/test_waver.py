# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diffusers_jova.conversion.checkpoint import (
    SAFETENSORS_DTYPES,
    Checkpoint,
    TensorInfo,
    contiguous_stride,
    open_checkpoint,
)
from diffusers_jova.conversion.errors import ConversionError
from diffusers_jova.conversion.waver import to_jova, to_waver
from diffusers_jova.models.transformer_jova import PRESETS, JoVATransformer3DModel


AUDIO_ONLY = ("audio_embedder.proj_in.weight", "audio_proj_out.weight", "audio_proj_out.bias")


def headers(state_dict, path, config=None):
    """Return a checkpoint that has names and shapes but no data."""
    infos = {
        name: TensorInfo(tuple(tensor.shape), tensor.dtype, path, 0, contiguous_stride(tensor.shape))
        for name, tensor in state_dict.items()
    }
    return Checkpoint(path, infos, {}, config or {})


def outputs(plan):
    return {write.name: write.meta for write in plan.writes}


def write(plan, output):
    plan.check(output)
    plan.write(output)
    return output


@pytest.mark.parametrize("branch", ["video", "audio"])
@pytest.mark.parametrize("preset", PRESETS)
def test_names_of_every_preset_round_trip(preset, branch, tmp_path):
    other = {"video": "audio_in_channels", "audio": "in_channels"}[branch]
    with torch.device("meta"):
        alone = JoVATransformer3DModel(**{**PRESETS[preset], other: None}).state_dict()
    waver = to_waver(headers(alone, tmp_path), preset=preset if branch == "video" else None)
    waver.check(None)
    names = outputs(waver)
    assert len(names) == len(alone)
    assert not any(word in name for name in names for word in ("video", "audio"))
    back = to_jova(headers(names, tmp_path), branch=branch)
    back.check(None)
    tensors = outputs(back)
    assert {name: tensors[name].shape for name in alone} == {name: tensor.shape for name, tensor in alone.items()}
    config = json.loads(back.files["config.json"])
    assert {name: config[name] for name in ("num_layers", "num_single_layers", "attention_head_dim")} == {
        name: PRESETS[preset][name] for name in ("num_layers", "num_single_layers", "attention_head_dim")
    }


@pytest.mark.parametrize("dtype", SAFETENSORS_DTYPES.values(), ids=SAFETENSORS_DTYPES)
def test_waver_to_jova_to_waver_gives_every_bit_back(waver_state_dict, dtype, tmp_path, same_tensors):
    tensors = {name: tensor.abs().clamp(max=1).to(dtype) for name, tensor in waver_state_dict.items()}
    save_file(tensors, tmp_path / "waver.safetensors")
    jova = write(to_jova(open_checkpoint(tmp_path / "waver.safetensors")), tmp_path / "jova")
    back = write(to_waver(open_checkpoint(jova)), tmp_path / "back")
    assert same_tensors(load_file(back / "waver.safetensors"), tensors)


def test_jova_to_two_wavers_and_back_is_the_same_model(jova, waver_files, tmp_path, same_tensors):
    plan = to_jova(open_checkpoint(waver_files["video"]), audio_checkpoint=open_checkpoint(waver_files["audio"]))
    model = JoVATransformer3DModel.from_pretrained(write(plan, tmp_path / "jova"))
    assert same_tensors(model.state_dict(), jova.state_dict)
    ours, theirs = (
        {name: value for name, value in m.config.items() if not name.startswith("_")} for m in (model, jova.model)
    )
    assert json.dumps(ours) == json.dumps(theirs)  # rope_theta too, which no shape tells


def test_stage_one_transformer_folders_are_taken_for_either_branch(jova, tmp_path, same_tensors):
    for branch, other in (("video", "audio_in_channels"), ("audio", "in_channels")):
        model = JoVATransformer3DModel.from_config({**jova.model.config, other: None})
        model.load_state_dict({name: jova.state_dict[name] for name in model.state_dict()})
        model.save_pretrained(tmp_path / branch, max_shard_size="100KB")
    plan = to_jova(open_checkpoint(tmp_path / "video"), audio_checkpoint=open_checkpoint(tmp_path / "audio"))
    model = JoVATransformer3DModel.from_pretrained(write(plan, tmp_path / "jova"))
    assert same_tensors(model.state_dict(), jova.state_dict)


def test_the_video_branch_of_the_result_does_what_waver_did(jova, waver_files, tmp_path):
    folder = write(to_jova(open_checkpoint(waver_files["video"])), tmp_path / "jova")
    inputs = {
        "hidden_states": torch.randn(1, 36, 2, 4, 4),
        "encoder_hidden_states": torch.randn(1, 3, 16),
        "timestep": torch.tensor([500.0]),
    }
    with torch.no_grad():
        expected = jova.model(**inputs).sample
        torch.testing.assert_close(JoVATransformer3DModel.from_pretrained(folder)(**inputs).sample, expected)


def test_the_audio_branch_is_a_copy_but_for_what_a_new_model_draws(waver_files, tmp_path):
    plan = to_jova(open_checkpoint(waver_files["video"]), seed=3)
    tensors = JoVATransformer3DModel.from_pretrained(write(plan, tmp_path / "jova")).state_dict()
    assert list(plan.report.initialised) == list(AUDIO_ONLY)
    for audio, video in (
        ("transformer_blocks.1.audio_text.ff.net.2.bias", "transformer_blocks.1.video_text.ff.net.2.bias"),
        ("single_transformer_blocks.2.audio.norm_q.weight", "single_transformer_blocks.2.video.norm_q.weight"),
        ("audio_embedder.pos_embed.temporal", "video_embedder.pos_embed.temporal"),
        ("audio_norm_out.linear.weight", "norm_out.linear.weight"),
        ("audio_embedder.proj_in.bias", "video_embedder.proj_in.bias"),
    ):
        assert torch.equal(tensors[audio], tensors[video])
    config = json.loads(plan.files["config.json"])
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    torch.manual_seed(3)
    alone = {**config, "in_channels": None, "num_layers": 0, "num_single_layers": 0}
    fresh = JoVATransformer3DModel(**alone).state_dict()
    assert all(torch.equal(tensors[name], fresh[name]) for name in plan.report.initialised)


def test_what_may_be_missing_is_drawn_in_blocks_too_and_by_seed(waver_state_dict, tmp_path):
    tensors = {
        name: t for name, t in waver_state_dict.items() if not name.startswith("transformer_blocks.1.media.to_")
    }
    save_file(tensors, tmp_path / "waver.safetensors")

    def convert(seed):
        plan = to_jova(open_checkpoint(tmp_path / "waver.safetensors"), seed=seed)
        plan.check(None, allow_missing=["transformer_blocks.1.video.to_*"])
        plan.write(tmp_path / "jova", overwrite=True)
        return load_file(tmp_path / "jova" / "diffusion_pytorch_model.safetensors")

    first, again, other = convert(0), convert(0), convert(1)
    name = "transformer_blocks.1.video.to_q.weight"
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])
    assert 0 < first[name].abs().max() <= 24**-0.5  # nn.Linear draws from U(-1 / sqrt(n), 1 / sqrt(n))
    assert not torch.equal(first[name], first[name.replace("video", "audio")])


@pytest.mark.parametrize("mode, channels, rate", [("16k", 20, 31.25), ("44k", 40, 44100 / 1024), (None, 20, 31.25)])
def test_audio_mode_sets_the_audio_width_which_else_is_the_inputs(waver_files, mode, channels, rate):
    config = json.loads(to_jova(open_checkpoint(waver_files["video"]), audio_mode=mode).files["config.json"])
    assert (config["audio_in_channels"], config["audio_latent_rate"]) == (channels, rate)


def test_without_any_hint_audio_is_44k_and_a_preset_is_a_hint(waver_state_dict, tmp_path):
    save_file(waver_state_dict, tmp_path / "waver.safetensors")  # without our metadata
    config = json.loads(to_jova(open_checkpoint(tmp_path / "waver.safetensors")).files["config.json"])
    assert (config["audio_in_channels"], config["rope_theta"]) == (40, 10000.0)
    with torch.device("meta"):
        nano = JoVATransformer3DModel(**PRESETS["jova-nano"])
    video = outputs(to_waver(headers(nano.state_dict(), tmp_path)))
    config = json.loads(to_jova(headers(video, tmp_path), preset="jova-nano").files["config.json"])
    assert (config["audio_in_channels"], config["audio_latent_rate"]) == (20, 31.25)


def test_config_is_read_from_the_shapes_and_overruled_by_config(waver_state_dict, tmp_path, jova):
    save_file(waver_state_dict, tmp_path / "waver.safetensors")
    checkpoint = open_checkpoint(tmp_path / "waver.safetensors")
    read = json.loads(to_jova(checkpoint, audio_mode="16k", config={"rope_theta": 500.0}).files["config.json"])
    for name, value in jova.model.config.items():
        if not name.startswith("_"):
            assert json.dumps(read[name]) == json.dumps(value), name
    with pytest.raises(ConversionError, match="16 missing.*--allow_missing"):
        to_jova(checkpoint, config={"num_single_layers": 4}).check(None)
    with pytest.raises(ConversionError, match="unknown entries: num_heads"):
        to_jova(checkpoint, config={"num_heads": 2})
    with pytest.raises(ConversionError, match="No model can be made from this config: .*rope_axes_dim"):
        to_jova(checkpoint, config={"rope_axes_dim": [2, 2, 2]})


def test_shapes_that_do_not_fit_the_config_are_reported_with_both(waver_files):
    plan = to_jova(open_checkpoint(waver_files["video"]), config={"text_embed_dim_2": 21})
    with pytest.raises(ConversionError, match="0 missing, 0 unexpected, 2 of another shape"):
        plan.check(None)
    assert "video_embedder.text_embedder_2.linear.weight is (24, 20), expected (24, 21)" in str(plan.report)


def test_a_wrong_preset_is_refused_with_both_values(waver_files):
    with pytest.raises(ConversionError, match="jova-24b does not fit.*num_attention_heads is 24 .* and 2 here"):
        to_jova(open_checkpoint(waver_files["video"]), preset="jova-24b")
    with pytest.raises(ConversionError, match="must be one of jova-24b, .*got 'jova-25b'"):
        to_jova(open_checkpoint(waver_files["video"]), preset="jova-25b")


def test_branch_is_seen_by_the_channels_and_a_wrong_one_refused(waver_files):
    audio = json.loads(to_jova(open_checkpoint(waver_files["audio"])).files["config.json"])
    assert (audio["in_channels"], audio["audio_in_channels"]) == (None, 20)
    with pytest.raises(ConversionError, match="is audio by its channels"):
        to_jova(open_checkpoint(waver_files["audio"]), branch="video")
    with pytest.raises(ConversionError, match="is video by its channels"):
        to_jova(open_checkpoint(waver_files["video"]), audio_checkpoint=open_checkpoint(waver_files["video"]))
    with pytest.raises(ConversionError, match="--audio_mode 44k means 40 channels, the audio branch has 20"):
        to_jova(open_checkpoint(waver_files["audio"]), audio_mode="44k")
    with pytest.raises(ConversionError, match="not a JoVA transformer"):
        to_waver(open_checkpoint(waver_files["video"]))


@pytest.mark.parametrize(
    "kept", [slice(0, None, 2), slice(0, 66), slice(66, None)], ids=["every other", "first", "last"]
)
def test_half_of_the_keys_is_refused(waver_state_dict, tmp_path, kept):
    names = sorted(waver_state_dict)[kept]
    save_file({name: waver_state_dict[name] for name in names}, tmp_path / "waver.safetensors")
    with pytest.raises(ConversionError, match=r"[1-9]\d* missing|Cannot read"):
        to_jova(open_checkpoint(tmp_path / "waver.safetensors")).check(None)


def test_another_kind_of_file_is_refused(tmp_path):
    save_file({"conv.weight": torch.ones(1)}, tmp_path / "resnet.safetensors")
    with pytest.raises(ConversionError, match="Cannot read num_attention_heads.*0 tensors were recognised"):
        to_jova(open_checkpoint(tmp_path / "resnet.safetensors"))


def test_mixed_dtypes_are_kept_and_reported(waver_state_dict, tmp_path, same_tensors):
    tensors = {name: t if "time_embedder" in name else t.bfloat16() for name, t in waver_state_dict.items()}
    save_file(tensors, tmp_path / "waver.safetensors")
    plan = to_jova(open_checkpoint(tmp_path / "waver.safetensors"))
    assert "mixed dtypes" in str(plan.report) and "4 float32: embedder.time_embedder.linear_1.bias" in str(plan.report)
    jova = load_file(write(plan, tmp_path / "jova") / "diffusion_pytorch_model.safetensors")
    assert jova["audio_embedder.proj_in.weight"].dtype == torch.bfloat16  # drawn, in the dtype of the video's
    assert jova["audio_embedder.time_embedder.linear_1.bias"].dtype == torch.float32
    back = write(to_waver(open_checkpoint(tmp_path / "jova")), tmp_path / "back")
    assert same_tensors(load_file(back / "waver.safetensors"), tensors)


def test_a_foreign_layout_goes_through_a_key_map_and_back(waver_state_dict, tmp_path, same_tensors):
    foreign = {}
    for name, tensor in waver_state_dict.items():
        if ".to_q." in name:
            parts = [waver_state_dict[name.replace("to_q", part)] for part in ("to_q", "to_k", "to_v")]
            foreign[name.replace("to_q", "qkv")] = torch.cat(parts)
        elif not (".to_k." in name or ".to_v." in name):
            foreign[name] = tensor.roll(24, 0) if name.startswith("norm_out") else tensor
    save_file(foreign, tmp_path / "real.safetensors")
    (tmp_path / "real.yaml").write_text("""
version: real-1
extends: waver
rules:
- split: <stage>.<i>.media.qkv.<p>
  to: [<stage>.<i>.<branch>.to_q.<p>, <stage>.<i>.<branch>.to_k.<p>, <stage>.<i>.<branch>.to_v.<p>]
- split: <stage>.<i>.text.qkv.<p>
  to: [<stage>.<i>.<branch>_text.to_q.<p>, <stage>.<i>.<branch>_text.to_k.<p>, <stage>.<i>.<branch>_text.to_v.<p>]
- swap: norm_out.linear.<p>
  to: <head>norm_out.linear.<p>
""")
    options = {"key_map": tmp_path / "real.yaml"}
    jova = write(to_jova(open_checkpoint(tmp_path / "real.safetensors"), **options), tmp_path / "jova")
    with safe_open(jova / "diffusion_pytorch_model.safetensors", "pt") as file:
        assert file.metadata()["key_map"] == "real-1 + waver-1"
    plain = write(to_waver(open_checkpoint(jova)), tmp_path / "plain")
    assert same_tensors(load_file(plain / "waver.safetensors"), waver_state_dict)
    back = write(to_waver(open_checkpoint(jova), **options), tmp_path / "back")
    assert same_tensors(load_file(back / "waver.safetensors"), foreign)


def test_the_linear_of_the_cross_linear_variant_is_new(waver_files, tmp_path):
    plan = to_jova(open_checkpoint(waver_files["video"]), config={"attention_fusion": "cross_linear"})
    tensors = JoVATransformer3DModel.from_pretrained(write(plan, tmp_path / "jova")).state_dict()
    new = [name for name in tensors if "cross_linear" in name]
    assert len(new) == 2 * 2 * (2 + 3) and set(new) <= set(plan.report.initialised)
    assert not any(tensors[name].any() for name in new)
    with pytest.raises(ConversionError, match="10 unexpected"):
        to_waver(open_checkpoint(tmp_path / "jova")).check(None)


def test_verb_converts_there_and_back_and_reports(run_verb, jova, tmp_path, same_tensors):
    out = run_verb("convert_waver", "--to", "waver", "--input", jova.folder, "--output", tmp_path / "waver")
    assert out.status == 0 and "0 missing, 0 unexpected" in out.output and "129 left out" in out.output
    assert "100%" in out.error  # the progress bar
    arguments = ("--to", "jova", "--input", tmp_path / "waver", "--output", tmp_path / "jova")
    assert run_verb("convert_waver", *arguments, "--dry_run").status == 0 and not (tmp_path / "jova").exists()
    out = run_verb("convert_waver", *arguments, "--max_shard_size", "200KB")
    assert out.status == 0 and "initialised: audio_proj_out.weight (20, 24)" in out.output
    model = JoVATransformer3DModel.from_pretrained(tmp_path / "jova")
    assert torch.equal(model.proj_out.weight, jova.model.proj_out.weight)
    again = run_verb("convert_waver", *arguments)
    assert again.status == 2 and again.error.strip().endswith("take another --output.")
    assert run_verb("convert_waver", *arguments, "--overwrite").status == 0


def test_verb_lists_each_tensor_and_where_it_comes_from(run_verb, waver_files):
    out = run_verb("convert_waver", "--to", "jova", "--input", waver_files["video"], "--dry_run", "--list_tensors")
    lines = out.output.splitlines()
    assert "  video_embedder.proj_in.weight: copied from embedder.proj_in.weight" in lines
    assert "  audio_embedder.text_embedder.linear.bias: copied from embedder.text_embedder.linear.bias" in lines
    assert "  audio_embedder.proj_in.weight: new" in lines
    assert sum(": copied from " in line or line.endswith(": new") for line in lines) == 260


def test_verb_says_what_is_wrong_in_one_line_and_leaves_nothing(run_verb, waver_state_dict, tmp_path):
    waver_state_dict["mistake"] = waver_state_dict.pop("proj_out.bias")
    save_file(waver_state_dict, tmp_path / "waver.safetensors")
    arguments = ("--to", "jova", "--input", tmp_path / "waver.safetensors", "--output", tmp_path / "jova")
    out = run_verb("convert_waver", *arguments)
    assert out.status == 2 and "missing: proj_out.bias" in out.output and "unexpected: mistake" in out.output
    assert out.error.startswith("error: The checkpoint does not fit: 1 missing, 1 unexpected")
    assert [path.name for path in tmp_path.iterdir()] == ["waver.safetensors"]
    assert run_verb("convert_waver", *arguments, "--allow_missing", "proj_out.*", "mistake").status == 0
