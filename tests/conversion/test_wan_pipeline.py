# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Whole Wan pipelines become whole JoVA pipelines; parts that do not belong together are refused."""

import json
import shutil

import pytest
import torch
from diffusers import WanTransformer3DModel
from wan_parts import make_wan_pipeline

from diffusers_jova import JoVAPipeline
from diffusers_jova.cli.dispatch import main
from diffusers_jova.pipelines.random_pipeline import create_pipeline


@pytest.fixture(scope="module")
def wan_folder(tmp_path_factory):
    """A saved pipeline like Wan2.1-T2V's."""
    folder = tmp_path_factory.mktemp("wan") / "wan"
    make_wan_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def a14b(tmp_path_factory):
    """A saved pipeline like Wan2.2-T2V-A14B's, with two experts."""
    folder = tmp_path_factory.mktemp("wan") / "a14b"
    make_wan_pipeline(experts=True).save_pretrained(folder)
    return folder


@pytest.fixture
def wan_copy(wan_folder, tmp_path):
    """A copy of it, to be changed at will."""
    return shutil.copytree(wan_folder, tmp_path / "copy")


def to_jova(folder, *args) -> int:
    return main(["convert-wan", "--to", "jova", "--input", str(folder), *map(str, args)])


def set_config(folder, part, **changes) -> None:
    path = folder / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_every_part_of_wan_is_there_bit_by_bit(wan_folder, tmp_path):
    assert to_jova(wan_folder, "--output", tmp_path / "jova") == 0
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        for file in (wan_folder / part).rglob("*"):
            assert (
                file.is_dir() or (tmp_path / "jova" / file.relative_to(wan_folder)).read_bytes() == file.read_bytes()
            )
    index = json.loads((tmp_path / "jova" / "model_index.json").read_text())
    assert index["transformer"] == ["diffusers_jova", "JoVAWanTransformer3DModel"]
    assert index["scheduler"] == ["diffusers", "UniPCMultistepScheduler"] and index["audio_vae"] == [None, None]


def test_audio_parts_of_another_pipeline_make_it_whole(wan_folder, tmp_path):
    create_pipeline().save_pretrained(tmp_path / "nano")
    nano = tmp_path / "nano"
    args = ["--audio_mode", "16k", "--audio_vae", nano, "--vocoder", nano]
    assert to_jova(wan_folder, "--output", tmp_path / "jova", *args) == 0
    pipe = JoVAPipeline.from_pretrained(tmp_path / "jova")
    pipe.set_progress_bar_config(disable=True)
    output = pipe("A cat.", height=16, width=16, num_frames=5, num_inference_steps=1, output_type="np")
    assert output.frames.shape == (1, 5, 16, 16, 3) and output.audio.shape == (1, 5000)  # 5 / 16 s at 16 kHz


def test_expert_is_chosen_by_name(a14b, tmp_path, capsys):
    assert to_jova(a14b, "--output", tmp_path / "none") == 2
    assert "two experts" in capsys.readouterr().err and not (tmp_path / "none").exists()
    for expert, part, scale in (("high", "transformer", 4.0), ("low", "transformer_2", 3.0)):
        assert to_jova(a14b, "--output", tmp_path / expert, "--expert", expert) == 0
        wan = WanTransformer3DModel.from_pretrained(a14b, subfolder=part)
        pipe = JoVAPipeline.from_pretrained(tmp_path / expert)
        assert torch.equal(pipe.transformer.video.proj_out.weight, wan.proj_out.weight)
        assert (pipe.config.guidance_scale, pipe.config.num_inference_steps) == (scale, 40)


def test_experts_of_the_original_repository_are_found_by_its_folders(tmp_path, capsys):
    for folder, seed in (("high_noise_model", 0), ("low_noise_model", 1)):
        torch.manual_seed(seed)
        make_wan_pipeline().transformer.save_pretrained(tmp_path / "A14B" / folder)
    assert to_jova(tmp_path / "A14B", "--dry_run") == 2
    assert "--expert high" in capsys.readouterr().err
    assert to_jova(tmp_path / "A14B", "--dry_run", "--expert", "low") == 0
    assert "low_noise_model" not in capsys.readouterr().err


def test_expert_of_a_wan_that_has_none_is_refused(wan_folder, tmp_path, capsys):
    assert to_jova(wan_folder, "--dry_run", "--expert", "high") == 2
    assert "--expert high goes with a Wan2.2-A14B" in capsys.readouterr().err


def test_vae_of_another_wan_is_refused(wan_copy, tmp_path, capsys):
    set_config(wan_copy, "vae", z_dim=48)
    assert to_jova(wan_copy, "--output", tmp_path / "jova") == 2
    assert "latent channels: transformer.out_channels has 16, vae has 48" in capsys.readouterr().err
    assert not (tmp_path / "jova").exists()


@pytest.fixture(scope="module")
def ti2v(tmp_path_factory):
    """A saved pipeline like Wan2.2-TI2V-5B's."""
    folder = tmp_path_factory.mktemp("wan") / "ti2v"
    make_wan_pipeline("5b").save_pretrained(folder)
    return folder


def test_transformer_and_vae_of_different_wans_are_refused(wan_folder, ti2v, tmp_path, capsys):
    for index, (transformer, vae) in enumerate([(wan_folder, ti2v), (ti2v, wan_folder)]):
        folder = shutil.copytree(transformer, tmp_path / str(index))
        shutil.rmtree(folder / "vae")
        shutil.copytree(vae / "vae", folder / "vae")
        channels = (16, 48) if index == 0 else (48, 16)
        assert to_jova(folder, "--dry_run") == 2
        message = f"latent channels: transformer.out_channels has {channels[0]}, vae has {channels[1]}"
        assert message in capsys.readouterr().err
        with pytest.raises(ValueError, match=f"a transformer of {channels[0]} latent channels beside a VAE of"):
            JoVAPipeline.from_wan(folder)


@pytest.mark.parametrize("own", [True, False])
def test_timesteps_of_frames_go_with_48_channels_only(own, wan_folder, ti2v, tmp_path, capsys):
    folder = shutil.copytree(ti2v if own else wan_folder, tmp_path / "copy")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"expand_timesteps": not own}))
    assert to_jova(folder, "--dry_run") == 2
    assert f"`expand_timesteps={not own}` in its model_index.json" in capsys.readouterr().err
    with pytest.raises(ValueError, match="a timestep for each frame is what Wan2.2-TI2V-5B has"):
        JoVAPipeline.from_wan(folder)


def test_mask_has_a_channel_for_each_frame_of_a_latent_frame(wan_copy, tmp_path, capsys, same_tensors):
    set_config(wan_copy, "vae", scale_factor_temporal=1)
    assert to_jova(wan_copy, "--output", tmp_path / "jova") == 0
    pipe = JoVAPipeline.from_pretrained(tmp_path / "jova")
    in_memory = JoVAPipeline.from_wan(wan_copy).transformer
    for transformer in (pipe.transformer, in_memory):
        assert transformer.config.vae_temporal_compression == 1 and transformer.config.in_channels == 33
        assert not transformer.video.patch_embedding.weight[:, 16:].any()
    back = ["convert-wan", "--to", "wan", "--input", str(tmp_path / "jova" / "transformer"), "--output"]
    assert main([*back, str(tmp_path / "wan")]) == 0
    before, after = (WanTransformer3DModel.from_pretrained(f) for f in (wan_copy / "transformer", tmp_path / "wan"))
    assert same_tensors(before.state_dict(), after.state_dict())
    assert main([*back, str(tmp_path / "more"), "--keep_image_channels"]) == 2
    assert "this model has 33" in capsys.readouterr().err


def test_other_text_encoders_are_refused(wan_copy, tmp_path, capsys):
    set_config(wan_copy, "text_encoder", d_model=2048)
    assert to_jova(wan_copy, "--dry_run") == 2
    assert "text width: transformer.text_embed_dim has 16, text_encoder has 2048" in capsys.readouterr().err
    set_config(wan_copy, "text_encoder", architectures=["T5EncoderModel"], d_model=4096)
    make_wan_pipeline()
    wide = make_wan_pipeline().transformer
    wide = WanTransformer3DModel.from_config(dict(wide.config) | {"text_dim": 4096})
    wide.save_pretrained(wan_copy / "transformer")
    assert to_jova(wan_copy, "--dry_run") == 2
    assert "text_encoder is a T5" in capsys.readouterr().err


def test_other_pipelines_are_refused(wan_copy, capsys):
    path = wan_copy / "model_index.json"
    path.write_text(path.read_text().replace('"WanPipeline"', '"WanVACEPipeline"'))
    assert to_jova(wan_copy, "--dry_run") == 2
    assert "is a WanVACEPipeline, not a WanPipeline" in capsys.readouterr().err


def test_transformer_alone_gives_a_transformer_and_takes_no_audio_parts(wan_folder, tmp_path, capsys):
    assert to_jova(wan_folder / "transformer", "--output", tmp_path / "jova") == 0
    assert (tmp_path / "jova" / "config.json").is_file()
    assert to_jova(wan_folder / "transformer", "--dry_run", "--vocoder", tmp_path) == 2
    assert "none to put vocoder into" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["wan_folder", "ti2v"])
def test_verb_goes_there_and_back(kind, request, tmp_path, same_tensors):
    from safetensors.torch import load_file

    wan_folder = request.getfixturevalue(kind)
    assert to_jova(wan_folder, "--output", tmp_path / "jova") == 0
    args = ["--to", "wan", "--input", str(tmp_path / "jova"), "--output", str(tmp_path / "back")]
    assert main(["convert-wan", *args]) == 0
    name = "diffusion_pytorch_model.safetensors"
    assert same_tensors(load_file(tmp_path / "back" / name), load_file(wan_folder / "transformer" / name))


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--to", "wan", "--expert", "high"], "--expert only goes with --to jova"),
        (["--to", "wan", "--seed", "0", "--vocoder", "x"], "--vocoder and --seed only go with --to jova"),
        (["--to", "jova", "--keep_image_channels"], "--keep_image_channels only goes with --to wan"),
    ],
)
def test_flags_of_the_other_direction_are_refused(flags, message, wan_folder, capsys):
    assert main(["convert-wan", *flags, "--input", str(wan_folder), "--dry_run"]) == 2
    assert message in capsys.readouterr().err
