# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Wan's transformers become a video branch and come back, bit by bit; what cannot is refused with what to do."""

import json
import re
import subprocess
import sys

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors.torch import load_file, save_file

from diffusers_jova.conversion.checkpoint import open_checkpoint
from diffusers_jova.conversion.errors import ConversionError
from diffusers_jova.conversion.wan_pipeline import find_transformer
from diffusers_jova.conversion.wan_transformer import KEY_MAPS, to_jova, to_wan
from diffusers_jova.models import JoVAWanTransformer3DModel


TINY = {"num_attention_heads": 2, "attention_head_dim": 16, "ffn_dim": 48, "freq_dim": 16, "num_layers": 2}
TEXT_DIM = 12
FP32 = ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")
ADDED = slice(16, None)  # columns of the patch embedding


def make_wan(**overrides) -> WanTransformer3DModel:
    """Return a tiny Wan, every parameter drawn, in the mixed precision in which Wan is published."""
    torch.manual_seed(0)
    wan = WanTransformer3DModel(**{"in_channels": 16, "out_channels": 16, "text_dim": TEXT_DIM} | TINY | overrides)
    for name, parameter in wan.named_parameters():
        torch.nn.init.normal_(parameter, std=0.2)
        if not any(part in name.split(".") for part in FP32):
            parameter.data = parameter.data.bfloat16()
    return wan.eval()


def originals(state_dict: dict) -> dict:
    """Return a diffusers state dict under the names of Wan's authors."""
    ours = {write.name: write.origin[0] for write in KEY_MAPS["diffusers"].match(state_dict)[0]}
    writes, unmatched = KEY_MAPS["original"].inverse.match(ours)
    assert not unmatched
    return {write.name: state_dict[ours[write.origin[0]]].contiguous() for write in writes}


def save_original(folder, wan, suffix=".safetensors"):
    """Save a Wan as its authors do: their names, and their config.json beside it."""
    folder.mkdir(parents=True)
    config = {"_class_name": "WanModel", "num_heads": 2, "num_layers": 2, "text_len": 512, "eps": 1e-6, "dim": 32}
    config |= {"in_dim": wan.config.in_channels, "out_dim": wan.config.out_channels, "ffn_dim": 48, "freq_dim": 16}
    (folder / "config.json").write_text(json.dumps(config))
    file = folder / f"diffusion_pytorch_model{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(originals(wan.state_dict()), file)
    return folder


def convert(path, to=to_jova, output=None, **options):
    plan = to(open_checkpoint(path), **options)
    plan.check(output)
    if output is not None:
        plan.write(output)
    return plan


def outputs_of(model, wan, video, image_order=None):
    """Return what both make of the same video, `video` in Wan's order of channels, and ours in `image_order`."""
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(1, 6, TEXT_DIM, generator=generator)
    timestep = torch.tensor([500.0])
    ours = video if image_order is None else video[:, image_order]
    if ours.shape[1] == 16:  # noisy channels alone, of a model that has others beside them
        ours = torch.cat([ours, torch.randn(1, 20, *ours.shape[2:], generator=generator)], dim=1)
    filled = torch.nn.functional.pad(text, (0, 0, 0, 506))
    with torch.no_grad():
        reference = wan.float()(video, timestep, filled, return_dict=False)[0]
        sample = model.float()(ours, None, text, timestep=timestep, return_dict=False)[0]
    return sample, reference


# There and back


@pytest.mark.parametrize("layout", ["diffusers", "original"])
@pytest.mark.parametrize("channels, kind", [((16, 16), "t2v"), ((36, 16), "i2v"), ((48, 48), "ti2v")])
def test_wan_to_jova_to_wan_gives_every_bit_back(layout, channels, kind, tmp_path, same_tensors):
    wan = make_wan(in_channels=channels[0], out_channels=channels[1])
    if layout == "diffusers":
        wan.save_pretrained(tmp_path / "wan", max_shard_size="20KB")
    else:
        save_original(tmp_path / "wan", wan)
    source = open_checkpoint(tmp_path / "wan")
    convert(tmp_path / "wan", output=tmp_path / "jova")
    convert(tmp_path / "jova", to_wan, output=tmp_path / "back")
    assert same_tensors(dict(open_checkpoint(tmp_path / "back")), dict(source))
    if layout == "diffusers":
        back, own = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("back", "wan"))
        assert {k: v for k, v in back.items() if k[0] != "_"} == {k: v for k, v in own.items() if k[0] != "_"}
    else:
        config = json.loads((tmp_path / "back" / "config.json").read_text())
        assert (config["num_heads"], config["model_type"]) == (2, kind)


def test_either_layout_can_be_written(tmp_path, same_tensors):
    wan = make_wan()
    save_original(tmp_path / "wan", wan, ".pth")
    convert(tmp_path / "wan", output=tmp_path / "jova")
    convert(tmp_path / "jova", to_wan, output=tmp_path / "back", layout="diffusers")
    assert same_tensors(load_file(tmp_path / "back" / "diffusion_pytorch_model.safetensors"), wan.state_dict())
    loaded = WanTransformer3DModel.from_pretrained(tmp_path / "back")
    assert loaded.config.num_attention_heads == 2


def test_names_of_the_original_are_those_that_diffusers_converts(tmp_path):
    from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers

    state_dict = make_wan().state_dict()
    assert set(convert_wan_transformer_to_diffusers(originals(state_dict))) == set(state_dict)


# The model that comes of it


def test_converted_wan_makes_wans_video_whatever_the_image_channels_hold(tmp_path):
    wan = make_wan()
    wan.save_pretrained(tmp_path / "wan")
    convert(tmp_path / "wan", output=tmp_path / "jova")
    model = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "jova")
    assert model.config.in_channels == 36 and model.config.condition_fill == "black"
    assert not model.video.patch_embedding.weight[:, ADDED].any()
    sample, reference = outputs_of(model, wan, torch.randn(1, 16, 2, 4, 6))
    assert reference.abs().max() > 0.1 and (sample - reference).abs().max() <= 1e-5


def test_channels_of_wans_image_models_are_put_in_our_order(tmp_path):
    wan = make_wan(in_channels=36)
    wan.save_pretrained(tmp_path / "wan")
    convert(tmp_path / "wan", output=tmp_path / "jova")
    model = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "jova")
    assert model.config.condition_fill == "grey"
    order = [*range(16), *range(20, 36), *range(16, 20)]  # Wan: noisy, mask, image
    sample, reference = outputs_of(model, wan, torch.randn(1, 36, 2, 4, 6), order)
    assert (sample - reference).abs().max() <= 1e-5


def test_channels_of_a_wan_with_a_clean_first_frame_are_ours_as_they_are(tmp_path):
    wan = make_wan(in_channels=48, out_channels=48)
    wan.save_pretrained(tmp_path / "wan")
    plan = convert(tmp_path / "wan", output=tmp_path / "jova")
    assert "video.patch_embedding.weight: copied from patch_embedding.weight" in plan.describe(list_tensors=True)
    model = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "jova")
    assert model.config.in_channels == model.config.out_channels == 48 and model.config.condition_fill == "noisy"
    sample, reference = outputs_of(model, wan, torch.randn(1, 48, 2, 4, 6))
    assert (sample - reference).abs().max() <= 1e-5


def test_audio_branch_is_a_copy_but_for_its_ends_and_they_come_from_the_seed(tmp_path):
    make_wan().save_pretrained(tmp_path / "wan")
    ends = {"audio.patch_embedding.weight", "audio.proj_out.weight", "audio.proj_out.bias"}
    states = []
    for seed in (0, 0, 1):
        plan = convert(tmp_path / "wan", output=tmp_path / f"jova{len(states)}", seed=seed)
        states.append(load_file(tmp_path / f"jova{len(states)}" / "diffusion_pytorch_model.safetensors"))
    assert set(plan.report.initialised) == ends
    first, again, other = states
    for name, tensor in first.items():
        if "audio" in name and name not in ends:
            assert torch.equal(tensor, first[name.replace("audio", "video")]), name
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert {name for name in first if not torch.equal(first[name], other[name])} == ends
    assert first["audio.patch_embedding.weight"].shape == (32, 40)
    assert first["audio.patch_embedding.weight"].abs().max() <= 40**-0.5
    assert first["audio.proj_out.weight"].dtype == torch.bfloat16


def test_audio_mode_gives_the_audio_branch_its_channels(tmp_path):
    make_wan().save_pretrained(tmp_path / "wan")
    config = json.loads(convert(tmp_path / "wan", audio_mode="16k").files["config.json"])
    assert (config["audio_in_channels"], config["audio_latent_rate"]) == (20, 31.25)


def test_report_has_a_word_for_every_tensor(tmp_path):
    make_wan().save_pretrained(tmp_path / "wan")
    plan = convert(tmp_path / "wan")
    text = plan.describe(list_tensors=True)
    assert "video.patch_embedding.weight: copied + zero columns from patch_embedding.weight" in text
    assert "audio.proj_out.weight: new" in text
    assert "transformer_blocks.1.audio.attn1.to_q.weight: copied from blocks.1.attn1.to_q.weight" in text
    assert len(plan.writes) == len(
        JoVAWanTransformer3DModel.from_config(json.loads(plan.files["config.json"])).state_dict()
    )


# Image channels on the way back


def test_learnt_image_channels_are_not_dropped_in_silence(tmp_path):
    make_wan().save_pretrained(tmp_path / "wan")
    convert(tmp_path / "wan", output=tmp_path / "jova")
    model = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "jova")
    model.video.patch_embedding.weight.data[0, 17] = 0.25
    model.save_pretrained(tmp_path / "trained")
    with pytest.raises(ConversionError, match="learnt to read an image.*--keep_image_channels writes 36 channels"):
        convert(tmp_path / "trained", to_wan)
    convert(tmp_path / "trained", to_wan, output=tmp_path / "back", keep_image_channels=True)
    wan = WanTransformer3DModel.from_pretrained(tmp_path / "back")
    assert wan.config.in_channels == 36
    assert (wan.patch_embedding.weight[0, 21] == 0.25).all()  # image column 1, behind the mask


# Bad input


def test_clip_layers_are_refused_and_left_out_when_asked(tmp_path):
    wan = make_wan(in_channels=36, image_dim=8, added_kv_proj_dim=32)
    wan.save_pretrained(tmp_path / "wan")
    with pytest.raises(ConversionError, match="Wan2.1 for images: .* CLIP.*--drop_image_encoder"):
        convert(tmp_path / "wan")
    plan = convert(tmp_path / "wan", drop_image_encoder=True)
    assert {name for name in wan.state_dict() if "image" in name or "add" in name} == set(plan.report.left_out)


@pytest.mark.parametrize(
    "extra, message",
    [
        ("vace_blocks.0.proj_out.weight", "a Wan VACE"),
        ("motion_encoder.conv_in.weight", "a Wan Animate"),
        ("face_adapter.0.to_q.weight", "a Wan Animate"),
    ],
)
def test_wans_that_are_more_than_their_blocks_are_refused(extra, message, tmp_path):
    save_file(make_wan().state_dict() | {extra: torch.zeros(2, 2)}, tmp_path / "wan.safetensors")
    with pytest.raises(ConversionError, match=message):
        convert(tmp_path / "wan.safetensors")


def test_tensors_that_no_rule_takes_are_refused_by_name(tmp_path):
    tensors = originals(make_wan().state_dict()) | {"blocks.0.control.weight": torch.zeros(2)}
    save_original(tmp_path / "wan", make_wan())
    save_file(tensors, tmp_path / "wan" / "diffusion_pytorch_model.safetensors")
    plan = to_jova(open_checkpoint(tmp_path / "wan"))
    with pytest.raises(ConversionError, match=r"1 unexpected.*blocks\.0\.control\.weight"):
        plan.check(None)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.int8], ids=str)
def test_eight_bits_are_refused_with_the_way_back(dtype, tmp_path):
    tensors = make_wan().state_dict()
    tensors["blocks.0.ffn.net.2.weight"] = tensors["blocks.0.ffn.net.2.weight"].to(dtype)
    save_file(tensors, tmp_path / "wan.safetensors")
    with pytest.raises(ConversionError, match=r"is in 8 bits .*from_single_file\(FILE, dtype=torch.bfloat16\)"):
        convert(tmp_path / "wan.safetensors")


def test_gguf_is_refused_with_the_way_back(tmp_path):
    with pytest.raises(ConversionError, match="a GGUF file.*dequantize"):
        find_transformer(tmp_path / "wan-Q4_K_M.gguf")


def test_half_a_checkpoint_is_refused(tmp_path):
    wan = make_wan()
    wan.save_pretrained(tmp_path / "wan")
    half = {name: tensor for name, tensor in wan.state_dict().items() if not name.startswith("blocks.1.")}
    save_file(half, tmp_path / "wan" / "diffusion_pytorch_model.safetensors")
    plan = to_jova(open_checkpoint(tmp_path / "wan"))
    with pytest.raises(ConversionError, match=r"missing.*transformer_blocks\.1\.video"):
        plan.check(None)
    first = {name: tensor for name, tensor in wan.state_dict().items() if name.startswith("blocks.")}
    save_file(first, tmp_path / "wan" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(ConversionError, match="not a whole Wan transformer.*with all its files"):
        convert(tmp_path / "wan")


def test_shard_that_is_missing_is_named(tmp_path):
    make_wan().save_pretrained(tmp_path / "wan", max_shard_size="20KB")
    shard = sorted((tmp_path / "wan").glob("*-00002-of-*"))[0]
    shard.unlink()
    with pytest.raises(ConversionError, match=re.escape(shard.name)):
        convert(tmp_path / "wan")


@pytest.mark.parametrize("in_channels, out_channels", [(48, 16), (16, 48), (100, 48), (32, 32)])
def test_other_numbers_of_channels_are_refused(in_channels, out_channels, tmp_path):
    make_wan(in_channels=in_channels, out_channels=out_channels).save_pretrained(tmp_path / "other")
    with pytest.raises(
        ConversionError, match=f"{in_channels} channels in and {out_channels} out; .*Take Wan2.1-T2V-1.3B.*TI2V-5B"
    ):
        convert(tmp_path / "other")


def test_what_is_not_a_wan_or_a_jova_already_is_refused(tmp_path):
    save_file({"encoder.weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ConversionError, match=r"not a Wan transformer: its tensors are encoder\.weight"):
        convert(tmp_path / "other.safetensors")
    make_wan().save_pretrained(tmp_path / "wan")
    convert(tmp_path / "wan", output=tmp_path / "jova")
    with pytest.raises(ConversionError, match="has JoVA's names already"):
        convert(tmp_path / "jova")
    with pytest.raises(ConversionError, match="is not a JoVAWanTransformer3DModel with a video branch"):
        convert(tmp_path / "wan", to_wan)


# Size


def test_dry_run_of_14_billion_parameters_takes_less_than_a_gigabyte(tmp_path):
    """A checkpoint with the headers of Wan2.1-T2V-14B and no data: a file with a hole."""
    with torch.device("meta"):
        wan = WanTransformer3DModel(text_dim=4096, in_channels=16, out_channels=16).to(torch.bfloat16)
    entries, end = {}, 0
    for name, tensor in wan.state_dict().items():
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    header = json.dumps(entries).encode()
    file = tmp_path / "wan.safetensors"
    with open(file, "wb") as out:
        out.write(len(header).to_bytes(8, "little") + header)
        out.truncate(8 + len(header) + end)
    assert end > 28e9
    code = (
        "import sys\n"
        "from diffusers_jova.cli.dispatch import main\n"
        "import diffusers_jova.conversion.wan_transformer, diffusers_jova.conversion.wan_pipeline\n"
        f"status = main(['convert-wan', '--to', 'jova', '--input', {str(file)!r}, '--dry_run'])\n"
        "print(open('/proc/self/status').read())\n"  # `ru_maxrss` begins with what the parent had
        "sys.exit(status)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr + run.stdout
    assert "dry run: nothing was written" in run.stdout
    assert int(re.search(r"VmHWM:\s+(\d+) kB", run.stdout)[1]) < 1_000_000
