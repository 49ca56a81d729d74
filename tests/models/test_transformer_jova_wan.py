# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The transformer on a Wan base equals diffusers' own Wan; what both share is tested in test_transformer_jova."""

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch.nn import functional as F

from diffusers_jova import WAN_PRESETS, JoVAWanTransformer3DModel

from .tiny_transformers import JOVA_WAN, JOVA_WAN_5B, difference


TINY = {"num_attention_heads": 2, "attention_head_dim": 24, "freq_dim": 32, "ffn_dim": 80, "num_layers": 3}
TEXT_LEN = 10
# What differs in the config.json of Wan2.1-T2V-1.3B, Wan2.1-T2V-14B (and both experts of Wan2.2-T2V-A14B),
# Wan2.2-I2V-A14B and Wan2.2-TI2V-5B
PUBLIC = {
    "1.3B": {"num_attention_heads": 12, "num_layers": 30, "ffn_dim": 8960, "in_channels": 16, "out_channels": 16},
    "14B": {"num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824, "in_channels": 16, "out_channels": 16},
    "I2V-A14B": {"num_attention_heads": 40, "num_layers": 40, "ffn_dim": 13824, "in_channels": 36, "out_channels": 16},
    "5B": {"num_attention_heads": 24, "num_layers": 30, "ffn_dim": 14336, "in_channels": 48, "out_channels": 48},
}


def our_name(name: str, branch: str = "video") -> str:
    """Return what Wan's parameter is called in a branch of ours."""
    if name.startswith("blocks."):
        _, number, rest = name.split(".", 2)
        return f"transformer_blocks.{number}.{branch}.{rest}"
    return f"{branch}.{name}"


def make_wan(in_channels: int, **overrides) -> WanTransformer3DModel:
    """Return a tiny Wan, every parameter drawn, its tables too."""
    torch.manual_seed(0)
    channels = {"in_channels": in_channels, "out_channels": 16, "text_dim": 12}
    wan = WanTransformer3DModel(**channels | TINY | overrides).eval()
    for parameter in wan.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return wan


def jova_of(wan: WanTransformer3DModel, **overrides) -> JoVAWanTransformer3DModel:
    """Return the model whose video branch is `wan`; the audio branch is drawn, all of it."""
    config = {name: wan.config[name] for name in ("in_channels", "out_channels")}
    config |= {"audio_in_channels": 5, "text_embed_dim": 12, **TINY}
    config |= {"text_len": TEXT_LEN, "cross_attn_norm": wan.config.cross_attn_norm}
    torch.manual_seed(1)
    model = JoVAWanTransformer3DModel(**config | overrides).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    missing, unexpected = model.load_state_dict({our_name(k): v for k, v in wan.state_dict().items()}, strict=False)
    assert not unexpected and all("audio" in name or "cross_linear" in name for name in missing)
    return model


def make_inputs(in_channels: int, size=(5, 6, 10), dtype=torch.float32) -> tuple[dict, torch.Tensor]:
    """Return video, audio, ragged text and time for ours, and the text that Wan's pipeline would give Wan."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.ones(2, 7, dtype=torch.long)
    mask[1, 3:] = 0
    states = torch.randn(2, 7, 12, generator=generator).to(dtype)
    inputs = {
        "hidden_states": torch.randn(2, in_channels, *size, generator=generator).to(dtype),
        "audio_hidden_states": torch.randn(2, 5, 13, generator=generator).to(dtype),
        "encoder_hidden_states": states,
        "encoder_attention_mask": mask,
        "timestep": torch.tensor([999.0, 3.0]),
        "return_dict": False,
    }
    # as in `WanPipeline._get_t5_prompt_embeds`: cut to the prompt's own tokens, zeros behind them
    rows = [F.pad(row[:length], (0, 0, 0, TEXT_LEN - length)) for row, length in zip(states, mask.sum(1).tolist())]
    return inputs, torch.stack(rows)


@torch.no_grad()
def outputs_of(wan, model, inputs: dict, wan_text: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return Wan's video, ours without audio, and ours beside an audio branch that video cannot see."""
    reference = wan(inputs["hidden_states"], inputs["timestep"], wan_text, return_dict=False)[0]
    alone = model(**inputs | {"audio_hidden_states": None})[0]
    apart = model(**inputs, cross_modal_attention=False)[0]
    return reference, alone, apart


# Equality with Wan


@pytest.mark.parametrize("size", [(5, 6, 10), (1, 2, 2), (3, 14, 6)], ids=str)
@pytest.mark.parametrize("in_channels", [16, 36], ids=["T2V", "I2V"])
def test_video_branch_is_wan(in_channels, size):
    wan = make_wan(in_channels)
    reference, alone, apart = outputs_of(wan, jova_of(wan), *make_inputs(in_channels, size))
    assert reference.abs().max() > 1
    assert max(difference((alone, apart), (reference, reference))) <= 1e-5


@pytest.mark.parametrize("in_channels", [16, 36], ids=["T2V", "I2V"])
def test_video_branch_is_wan_in_bfloat16(in_channels, tmp_path):
    wan = make_wan(in_channels)
    model = jova_of(wan)
    wan.save_pretrained(tmp_path / "wan")
    model.save_pretrained(tmp_path / "jova")
    wan = WanTransformer3DModel.from_pretrained(tmp_path / "wan", dtype=torch.bfloat16)
    model = JoVAWanTransformer3DModel.from_pretrained(tmp_path / "jova", dtype=torch.bfloat16)
    reference, alone, apart = outputs_of(wan, model, *make_inputs(in_channels, dtype=torch.bfloat16))
    assert reference.dtype == alone.dtype == torch.bfloat16
    assert difference((alone, apart), (reference, reference)) == (0, 0)
    kept = {our_name(name): parameter.dtype for name, parameter in wan.named_parameters()}
    assert {name: dict(model.named_parameters())[name].dtype for name in kept} == kept


def test_video_with_a_clean_first_frame_is_wan_with_a_timestep_for_each_token():
    wan = make_wan(48, out_channels=48)
    model = jova_of(wan, condition_fill="noisy")
    inputs, wan_text = make_inputs(48, (3, 4, 6))
    tokens = torch.ones(2, 3, 2 * 3)
    tokens[:, 0] = 0  # as in `WanImageToVideoPipeline` with `expand_timesteps`
    timestep = inputs["timestep"][:, None]
    with torch.no_grad():
        reference = wan(inputs["hidden_states"], tokens.flatten(1) * timestep, wan_text, return_dict=False)[0]
        frames = {"timestep": tokens[..., 0] * timestep, "audio_timestep": inputs["timestep"]}
        alone = model(**inputs | frames | {"audio_hidden_states": None})[0]
        apart = model(**inputs | frames, cross_modal_attention=False)[0]
        one_timestep = wan(inputs["hidden_states"], inputs["timestep"], wan_text, return_dict=False)[0]
    assert max(difference((alone, apart), (reference, reference))) <= 1e-5
    assert (one_timestep - reference).abs().max() > 0.1


def test_model_without_norm_before_the_text_is_wan_without_it():
    wan = make_wan(16, cross_attn_norm=False)
    reference, alone, _ = outputs_of(wan, jova_of(wan), *make_inputs(16))
    assert (alone - reference).abs().max() <= 1e-5


def test_audio_changes_what_wan_makes_where_it_is_seen():
    wan = make_wan(16)
    model, (inputs, wan_text) = jova_of(wan), make_inputs(16)
    reference, _, _ = outputs_of(wan, model, inputs, wan_text)
    with torch.no_grad():
        assert (model(**inputs)[0] - reference).abs().max() > 1e-2


@pytest.mark.parametrize("fusion", ["cross", "cross_linear"])
def test_variants_of_attention_are_wan_where_audio_is_not_seen(fusion):
    wan = make_wan(16)
    reference, alone, apart = outputs_of(wan, jova_of(wan, attention_fusion=fusion), *make_inputs(16))
    assert max(difference((alone, apart), (reference, reference))) <= 1e-5


def test_gradients_of_the_video_branch_are_wans():
    wan = make_wan(16)
    model, (inputs, wan_text) = jova_of(wan), make_inputs(16)
    wan(inputs["hidden_states"], inputs["timestep"], wan_text, return_dict=False)[0].square().mean().backward()
    model.enable_gradient_checkpointing()
    model.train()(**inputs | {"audio_hidden_states": None})[0].square().mean().backward()
    ours = dict(model.named_parameters())
    for name, parameter in wan.named_parameters():
        torch.testing.assert_close(ours[our_name(name)].grad, parameter.grad, rtol=1e-3, atol=1e-4)


# Names and sizes


@pytest.mark.parametrize("size", PUBLIC)
def test_public_models_have_the_parameters_of_a_video_branch(size):
    config = PUBLIC[size]
    with torch.device("meta"):
        wan = WanTransformer3DModel(text_dim=4096, **config)
        model = JoVAWanTransformer3DModel(audio_in_channels=None, **config)
    expected = {our_name(name): tensor.shape for name, tensor in wan.state_dict().items()}
    assert {name: tensor.shape for name, tensor in model.state_dict().items()} == expected
    assert model._keep_in_fp32_modules == [name for name in wan._keep_in_fp32_modules if name != "rope"]


@pytest.mark.parametrize("size", PUBLIC)
def test_audio_branch_has_the_video_branchs_parameters(size):
    with torch.device("meta"):
        model = JoVAWanTransformer3DModel(**PUBLIC[size])
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    video = {name.replace("video", "audio"): shape for name, shape in shapes.items() if "audio" not in name}
    audio = {name: shape for name, shape in shapes.items() if "audio" in name}
    differ = {name for name in audio if audio[name] != video[name]}
    assert audio.keys() == video.keys()
    assert differ == {"audio.patch_embedding.weight", "audio.proj_out.weight", "audio.proj_out.bias"}


@pytest.mark.parametrize(
    "preset, billions", [("jova-wan-1.3b", 1.419), ("jova-wan-5b", 5.000), ("jova-wan-14b", 14.288)]
)
def test_presets_have_wans_size_in_each_branch(preset, billions):
    for absent in ("in_channels", "audio_in_channels"):
        with torch.device("meta"):
            branch = JoVAWanTransformer3DModel(**WAN_PRESETS[preset] | {absent: None})
        assert branch.num_parameters() == pytest.approx(billions * 1e9, rel=1e-3)


# Text


def test_zeros_behind_the_prompt_are_read():
    model, inputs = JOVA_WAN.model(), JOVA_WAN.inputs()
    longer = JOVA_WAN.model(text_len=20)
    assert min(difference(JOVA_WAN.run(model), JOVA_WAN.run(longer))) > 1e-4
    filled = inputs["encoder_hidden_states"].new_zeros(2, 4, 12)
    filled = torch.cat([inputs["encoder_hidden_states"], filled], dim=1)
    assert difference(JOVA_WAN.run(model), JOVA_WAN.run(model, encoder_hidden_states=filled)) == (0, 0)


def test_text_is_as_long_as_it_comes_where_nothing_fills_it_up():
    model, masks = JOVA_WAN.model(text_len=None), JOVA_WAN.ragged_masks()
    states = JOVA_WAN.inputs()["encoder_hidden_states"]
    zeros = states * masks["encoder_attention_mask"][..., None]
    expected = JOVA_WAN.run(model, encoder_hidden_states=zeros)
    assert difference(JOVA_WAN.run(model, **masks), expected) == (0, 0)
    assert min(difference(JOVA_WAN.run(model), expected)) > 1e-4


def test_text_that_is_too_long_raises():
    states = torch.zeros(2, 11, 12)
    with pytest.raises(
        ValueError, match="has 11 tokens of text, this model reads at most 10 .*max_sequence_length=10"
    ):
        JOVA_WAN.run(JOVA_WAN.model(), encoder_hidden_states=states)
    mask = torch.ones(2, 11)
    mask[:, 8:] = 0
    assert JOVA_WAN.run(JOVA_WAN.model(), encoder_hidden_states=states, encoder_attention_mask=mask)


def test_second_text_raises():
    with pytest.raises(ValueError, match="`encoder_hidden_states_2` was given.*`text_embed_dim_2=None`"):
        JOVA_WAN.run(JOVA_WAN.model(), encoder_hidden_states_2=torch.zeros(2, 4, 10))


# Timesteps of frames


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"timestep": torch.zeros(2, 12)}, r"`timestep` must be \(2,\), .* or \(2, 3\), one for each latent frame"),
        ({"timestep": torch.arange(6.0).view(2, 3)}, r"`timestep` \(2, 3\) has more than two values.*latent frame"),
        ({"timestep": torch.zeros(2, 3), "audio_timestep": None}, "has one value for each latent frame.*pass `audio_"),
    ],
)
def test_timesteps_that_do_not_fit_the_frames_raise(overrides, message):
    with pytest.raises(ValueError, match=message):
        JOVA_WAN_5B.run(JOVA_WAN_5B.model(), **{"audio_timestep": torch.zeros(2)} | overrides)


@pytest.mark.parametrize("overrides", [{"in_channels": 6}, {"patch_size": (2, 2, 2)}], ids=str)
def test_clean_frames_with_channels_beside_them_or_tokens_of_two_frames_raise(overrides):
    with pytest.raises(ValueError, match="`condition_fill='noisy'` has no channels beside the noisy ones"):
        JOVA_WAN_5B.model(**overrides)
