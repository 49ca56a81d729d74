# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from functools import partial
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from autograd_memory import bytes_kept_for_the_gradient
from diffusers import (
    FasterCacheConfig,
    FirstBlockCacheConfig,
    MagCacheConfig,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import SeaCacheConfig, TextKVCacheConfig
from diffusers.models import attention_dispatch
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
from diffusers.models.attention_dispatch import attention_backend
from peft import LoraConfig
from safetensors.torch import load_file, save_file

from diffusers_jova import PRESETS, WAN_PRESETS, JoVATransformer3DModel, JoVAWanTransformer3DModel
from diffusers_jova.latents import num_audio_latents
from diffusers_jova.models.attention import ATTENTION_FUSIONS, JoVAAttnProcessor, pack
from diffusers_jova.models.embeddings import JoVAPositionEmbedding, apply_rotary_emb, rotary_embedding, split_head

from .tiny_transformers import (
    BEGINNINGS,
    JOVA,
    TINY,
    Beginning,
    Tiny,
    blocks_of,
    difference,
    joint_processors,
    set_joint_processor,
)


GOLDEN = Path(__file__).parents[1] / "golden" / "rope" / "rope.safetensors"
CLOCK = {"timestep": 1000}  # what the caches ask for


def lora(rank: int) -> LoraConfig:
    return LoraConfig(r=rank, target_modules=["to_q", "to_k", "to_v", "to_out.0"], init_lora_weights=False)


@pytest.fixture(autouse=True)
def one_thread():
    """The tensors are too small to share."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=TINY.values(), ids=TINY)
def tiny(request) -> Tiny:
    """Both classes in turn: what stands below holds for each, unless it says which one it is about."""
    return request.param


@pytest.fixture(params=BEGINNINGS.values(), ids=BEGINNINGS)
def beginning(request) -> Beginning:
    return request.param


def set_context_parallel_degree(model, degree: int) -> None:
    config = ParallelConfig(context_parallel_config=ContextParallelConfig(ulysses_degree=degree))
    for processor in joint_processors(model):
        processor._parallel_config = config


# Shapes and sizes


def test_both_outputs_have_the_shape_of_their_latents(tiny):
    output = tiny.model()(**tiny.inputs(return_dict=True))
    assert output.sample.shape == (2, 4, 3, 4, 4)
    assert output.audio_sample.shape == (2, 5, 11)
    assert difference((output.sample, output.audio_sample), tiny.run(tiny.model())) == (0, 0)


def test_patches_come_back_to_the_place_they_were_taken_from():
    model = JOVA.model(in_channels=4, patch_size=(1, 2, 2))
    latents = torch.randn(2, 4, 3, 6, 8)
    tokens = model._patchify(latents, [3, 3, 4])
    assert tokens.shape == (2, 3 * 3 * 4, 16)
    assert torch.equal(tokens[0, 0].reshape(4, 2, 2), latents[0, :, 0, :2, :2])
    assert torch.equal(model._unpatchify(tokens, [3, 3, 4]), latents)


@pytest.mark.parametrize("preset, billions", [("jova-24b", 12.3), ("jova-3.2b", 1.61)])
def test_large_presets_have_the_published_size_in_each_branch(preset, billions):
    for absent in ("in_channels", "audio_in_channels"):
        with torch.device("meta"):
            branch = JoVATransformer3DModel(**PRESETS[preset] | {absent: None})
        assert branch.num_parameters() == pytest.approx(billions * 1e9, rel=0.02)


@pytest.mark.parametrize(
    "model_class, settings",
    [(JoVATransformer3DModel, PRESETS["jova-nano"]), (JoVAWanTransformer3DModel, WAN_PRESETS["jova-wan-nano"])],
    ids=["jova-nano", "jova-wan-nano"],
)
def test_nano_preset_runs(model_class, settings):
    torch.manual_seed(0)
    model = model_class(**settings)
    assert model.num_parameters() < 30e6
    with torch.no_grad():
        sample, audio_sample = model(
            torch.randn(1, 36, 2, 4, 4),
            torch.randn(1, 20, 3),
            torch.randn(1, 2, 128),
            timestep=torch.tensor([500.0]),
            return_dict=False,
        )
    assert sample.shape == (1, 16, 2, 4, 4) and audio_sample.shape == (1, 20, 3)


def test_one_branch_costs_half_of_the_model(tiny):
    both = tiny.model().num_parameters()
    video, audio = tiny.model(audio_in_channels=None), tiny.model(in_channels=None)
    assert video.num_parameters() + audio.num_parameters() == both
    assert tiny.run(video, audio_hidden_states=None)[1] is None
    assert tiny.run(audio, hidden_states=None)[0] is None


# Branches and fusions


@pytest.mark.parametrize("is_ragged", [False, True], ids=["full", "ragged"])
@pytest.mark.parametrize("fusion", ATTENTION_FUSIONS)
def test_branch_alone_equals_no_cross_modal_attention(tiny, fusion, is_ragged):
    masks = tiny.ragged_masks() if is_ragged else {}
    model = tiny.model(attention_fusion=fusion)
    apart = tiny.run(model, cross_modal_attention=False, **masks)
    video, audio = (
        tiny.run(model, audio_hidden_states=None, **masks)[0],
        tiny.run(model, hidden_states=None, **masks)[1],
    )
    assert difference(apart, (video, audio)) == (0, 0)
    together = tiny.run(model, **masks)
    assert min(difference(together, apart)) > 1e-3


def test_model_of_one_branch_equals_that_branch_of_the_whole(tiny):
    model, video, audio = tiny.model(), tiny.model(audio_in_channels=None), tiny.model(in_channels=None)
    for part, name in ((video, "audio_hidden_states"), (audio, "hidden_states")):
        part.load_state_dict({k: v for k, v in model.state_dict().items() if k in part.state_dict()})
        expected, output = tiny.run(model, **{name: None}), tiny.run(part, **{name: None})
        index = 0 if part is video else 1
        assert torch.equal(output[index], expected[index])


def test_fusions_differ_from_each_other(tiny):
    outputs = [tiny.run(tiny.model(attention_fusion=fusion)) for fusion in ATTENTION_FUSIONS]
    assert min(difference(outputs[0], outputs[1]) + difference(outputs[1], outputs[2])) > 1e-3


def test_cross_attention_sees_the_other_medium_and_not_its_text(tiny):
    lengths = []

    class Spy(JoVAAttnProcessor):
        def attend(self, query, key, value, attention_mask):
            lengths.append((query.shape[1], key.shape[1]))
            return super().attend(query, key, value, attention_mask)

    model = tiny.model(attention_fusion="cross")
    set_joint_processor(model, Spy())
    tiny.run(model)
    video, audio, text = 12, 11, tiny.text_tokens
    assert len(lengths) == 4 * len(blocks_of(model))
    assert lengths[:4] == [(video + text, video + text), (audio + text, audio + text), (video, audio), (audio, video)]


def test_linear_of_cross_attention_starts_at_zero(tiny):
    torch.manual_seed(0)
    model = tiny.cls(**tiny.config, attention_fusion="cross_linear")
    layers = [module for name, module in model.named_modules() if name.endswith("cross_linear")]
    assert len(layers) == 2 * len(blocks_of(model)) and not any(
        layer.weight.any() or layer.bias.any() for layer in layers
    )


# Text


def test_padded_text_equals_the_text_without_padding(tiny):
    model, plain = tiny.model(), tiny.inputs()
    expected = tiny.run(model)
    for side in ("left", "right"):
        padded = {}
        for name, mask_name in tiny.texts.items():
            junk = torch.full_like(plain[name][:, :3], 100.0)
            parts = [junk, plain[name]] if side == "left" else [plain[name], junk]
            padded[name] = torch.cat(parts, dim=1)
            padded[mask_name] = torch.cat([part.ne(100.0).any(-1) for part in parts], dim=1)
        assert difference(tiny.run(model, **padded), expected) == (0, 0)


def test_ragged_text_equals_each_sample_alone(tiny):
    model, inputs, masks = tiny.model(), tiny.inputs(), tiny.ragged_masks()
    for name, mask_name in tiny.texts.items():
        inputs[name] = inputs[name].masked_fill(~masks[mask_name].bool()[..., None], 100.0)
    with torch.no_grad():
        batch = model(**inputs | masks)
        for i in range(2):
            sample = {k: v[i : i + 1] if torch.is_tensor(v) else v for k, v in inputs.items()}
            for name, mask_name in tiny.texts.items():
                sample[name] = sample[name][:, masks[mask_name][i].bool()]
            assert max(difference([x[i : i + 1] for x in batch], model(**sample))) < 1e-5


@pytest.mark.parametrize("junk", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("fusion", ATTENTION_FUSIONS)
def test_nothing_in_padded_text_reaches_the_outputs(tiny, junk, fusion):
    model, inputs = tiny.model(attention_fusion=fusion), tiny.inputs() | tiny.ragged_masks()
    expected = tiny.run(model, **inputs)
    for name, mask_name in tiny.texts.items():
        hidden = ~inputs[mask_name].bool()
        assert hidden.any()
        inputs[name] = inputs[name].masked_fill(hidden[..., None], junk)
    assert difference(tiny.run(model, **inputs), expected) == (0, 0)


def test_text_of_one_length_needs_no_mask():
    seen = []

    class Spy(JoVAAttnProcessor):
        def attend(self, query, key, value, attention_mask):
            seen.append(attention_mask)
            return super().attend(query, key, value, attention_mask)

    model = JOVA.model()
    model.set_attn_processor(Spy())
    mask = torch.ones(2, 6)
    mask[:, 4:] = 0
    JOVA.run(model, encoder_attention_mask=mask, encoder_attention_mask_2=torch.ones(2, 4))
    assert seen == [None] * 4
    seen.clear()
    JOVA.run(model, **JOVA.ragged_masks())
    assert all(mask.dtype == torch.bool and mask.shape == (2, 12 + 11 + 2 * 10) for mask in seen)


@pytest.mark.parametrize("absent", ["encoder_hidden_states", "encoder_hidden_states_2"])
def test_either_text_encoder_may_be_absent(absent):
    model = JOVA.model()
    outputs = JOVA.run(model, **{absent: None})
    assert all(torch.isfinite(output).all() for output in outputs)
    config_name = absent.replace("encoder_hidden_states", "text_embed_dim")
    smaller = JOVA.model(**{config_name: None})
    smaller.load_state_dict({k: v for k, v in model.state_dict().items() if k in smaller.state_dict()})
    assert difference(JOVA.run(smaller, **{absent: None}), outputs) == (0, 0)
    with pytest.raises(ValueError, match=f"`{absent}` was given.*`{config_name}=None`"):
        JOVA.run(smaller)


# Positions


def test_audio_position_is_the_moment_of_its_centre_in_latent_frames(tiny):
    model = tiny.model(audio_latent_rate=31.25)
    positions = model._audio_positions(torch.zeros(1, 5, 200), frame_rate=25.0)
    # 25 frames/s, 4 frames per latent frame: 0.16 s. Token 0 is centred at 0.016 s = 0.1 latent frames, + 1/4.
    assert positions[0].item() == pytest.approx(0.1 + 0.25)
    # token 93 spans 2.976 to 3.008 s: its centre 2.992 s is pixel frame 74.8 counted from the edge of frame 0, and
    # latent frame 19, pixel frames 73 to 76, has its centre at 75.0
    assert positions[93].item() == pytest.approx(19 + (74.8 - 75.0) / 4)
    assert (positions[1:] - positions[:-1]).allclose(torch.tensor(0.2), atol=1e-4)


def test_positions_count_tokens_where_rope_is_not_aligned(tiny):
    model = tiny.model(temporal_aligned_rope=False)
    assert torch.equal(model._audio_positions(torch.zeros(1, 5, 7), frame_rate=25.0), torch.arange(7.0))
    assert difference(tiny.run(model, frame_rate=12.0), tiny.run(model, frame_rate=24.0)) == (0, 0)


def test_frame_rate_moves_the_sound_only(tiny):
    model = tiny.model()
    slow, fast = (tiny.run(model, frame_rate=rate, cross_modal_attention=False) for rate in (12.0, 24.0))
    video, audio = difference(slow, fast)
    assert video == 0 and audio > 1e-3
    assert min(difference(tiny.run(model, frame_rate=12.0), tiny.run(model, frame_rate=24.0))) > 1e-4


def test_shifting_all_positions_leaves_attention_unchanged():
    torch.manual_seed(0)
    query, key = torch.randn(1, 12, 2, 16), torch.randn(1, 11, 2, 16)
    time, rows, columns, audio = torch.arange(3.0), torch.arange(2.0), torch.arange(2.0), torch.rand(11) * 3

    def scores(shift):
        video = rotary_embedding((time + shift, rows, columns), (8, 4, 4), 16, 10000.0)
        sound = rotary_embedding((audio + shift,), (8, 4, 4), 16, 10000.0)
        return torch.einsum("bqhd,bkhd->bhqk", apply_rotary_emb(query, video), apply_rotary_emb(key, sound))

    assert scores(5.3).allclose(scores(0.0), atol=1e-4)
    assert not scores(0.0).allclose(torch.einsum("bqhd,bkhd->bhqk", query, key), atol=1e-1)


@pytest.mark.parametrize("name, scale", [("tiny_audio", 1.0), ("tiny_video", 37 / 11)])
def test_rotation_equals_the_published_one(name, scale):
    tensors = load_file(GOLDEN)
    x, rotated = (tensors[f"{name}.{key}"].transpose(1, 2) for key in ("x", "rotated"))  # (B, L, heads, d)
    rotary_emb = rotary_embedding((torch.arange(x.shape[1]) * scale,), (16,), 16, 10000.0)
    assert apply_rotary_emb(x, rotary_emb).allclose(rotated, atol=5e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rotation_is_a_complex_product_compiled_or_not(dtype):
    torch.manual_seed(0)
    x = torch.randn(2, 12, 3, 16).to(dtype)
    positions = (torch.arange(3.0), torch.arange(2.0), torch.arange(2.0))
    rotary_emb = rotary_embedding(positions, (8, 4, 4), 16, 10000.0)
    t, h, w = torch.meshgrid(*(p.double() for p in positions), indexing="ij")
    angles = [
        position.flatten()[:, None] * 10000.0 ** -(torch.arange(0, dim, 2).double() / dim)
        for position, dim in zip((t, h, w), (8, 4, 4))
    ]
    turn = torch.polar(torch.ones(12, 8).double(), torch.cat(angles, dim=-1))[None, :, None]
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    expected = torch.view_as_real(pairs * turn).flatten(-2)
    compiled = torch.compile(apply_rotary_emb, backend="eager", fullgraph=True)
    for rotate in (apply_rotary_emb, compiled):
        rotated = rotate(x, rotary_emb)
        assert rotated.dtype == dtype
        assert rotated.double().allclose(expected, atol=1e-5 if dtype == torch.float32 else 2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_groups_turned_where_they_are_packed_are_the_same_bits_as_with_gradients(dtype):
    groups = [torch.randn(2, length, 2, 16, dtype=dtype) for length in (12, 5, 7)]
    turns = [rotary_embedding((torch.arange(float(n)),), (8,), 16, 10000.0) if n != 5 else None for n in (12, 5, 7)]
    expected = pack(groups, turns)
    with torch.no_grad():
        packed = pack(groups, turns)
    assert packed.dtype == dtype and torch.equal(packed, expected)
    assert torch.equal(packed[:, 12:17], groups[1]) and not torch.equal(packed[:, :12], groups[0])


def test_sound_turns_the_temporal_part_of_a_head_only():
    x = torch.randn(1, 11, 2, 16)
    turned = apply_rotary_emb(x, rotary_embedding((torch.arange(11.0),), (8,), 16, 10000.0))
    assert torch.equal(turned[..., 8:], x[..., 8:])
    assert not turned[:, 1:, :, :8].allclose(x[:, 1:, :, :8])
    assert split_head(16) == (8, 4, 4) and split_head(128) == (44, 42, 42)  # h = w = 2 (d // 6), t the rest


def test_learned_positions_longer_than_their_table_stretch_and_stay_aligned():
    video, audio = JoVAPositionEmbedding((4, 4, 4), 2), JoVAPositionEmbedding((4,), 2)
    for module in (video, audio):
        module.temporal.data = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    frames = torch.arange(10.0)
    at_frames = video((frames, torch.zeros(1), torch.zeros(1)))[0]
    assert at_frames[:, 0].allclose(torch.linspace(0, 3, 10))
    positions = torch.arange(0.35, 9.4, 0.2)  # the last one lies beyond the last frame
    assert audio((positions,))[0, :, 0].allclose((positions / 3).clamp(max=3), atol=1e-6)
    assert video((torch.arange(3.0), torch.zeros(1), torch.zeros(1)))[0].equal(video.temporal[:3])
    assert all(torch.isfinite(x).all() for x in JOVA.run(JOVA.model(pos_embed_size=(2, 2, 2))))


@pytest.mark.parametrize("audio_latent_rate", [31.25, 44100 / 1024])
@pytest.mark.parametrize("frame_rate", [12.5, 24000 / 1001, 24, 25, 30])
def test_learned_positions_of_long_clips_stay_aligned(frame_rate, audio_latent_rate):
    model = JOVA.model(pos_embed_size=(64, 8, 8), audio_latent_rate=audio_latent_rate)
    table = JoVAPositionEmbedding((64,), 1)
    table.temporal.data = torch.arange(64.0)[:, None]  # a row is its own number
    for num_frames in range(241, 601, 4):
        num_latent_frames = (num_frames - 1) // 4 + 1
        rows = table((torch.arange(float(num_latent_frames)),))[0, :, 0]
        stretch = 63 / max(num_latent_frames - 1, 63)
        assert rows.allclose(torch.arange(num_latent_frames) * stretch, atol=1e-4)
        num_latents = num_audio_latents(num_frames, frame_rate, audio_latent_rate)
        positions = model._audio_positions(torch.zeros(1, 5, num_latents), frame_rate)
        assert table((positions,))[0, :, 0].allclose((positions * stretch).clamp(max=63), atol=1e-4)


def test_learned_positions_enter_every_block_and_spare_the_text():
    model = JOVA.model()
    seen = []
    for block in (*model.transformer_blocks, *model.single_transformer_blocks):
        block.register_forward_pre_hook(lambda _, args: seen.append(args))
    JOVA.run(model)
    assert len(seen) == 4
    for _, _, context, audio_context, *_ in seen:
        for branch, length in ((context, 12), (audio_context, 11)):
            assert branch.num_tokens == length
            assert branch.pos_embed[:, :length].abs().min() > 0 and not branch.pos_embed[:, length:].any()


# Time


def test_audio_timestep_defaults_to_the_timestep_and_is_its_own(tiny):
    model = tiny.model()
    assert difference(tiny.run(model), tiny.run(model, audio_timestep=torch.tensor([700.0, 300.0]))) == (0, 0)
    other = torch.tensor([10.0, 20.0])
    video, audio = difference(*(tiny.run(model, cross_modal_attention=False, audio_timestep=t) for t in (None, other)))
    assert video == 0 and audio > 1e-3
    assert min(difference(tiny.run(model), tiny.run(model, audio_timestep=other))) > 1e-4


@pytest.mark.parametrize("timestep", [torch.tensor([700.0, 300.0]), torch.zeros(2)])
def test_one_timestep_per_latent_equals_one_per_sample_where_all_are_equal(beginning, timestep):
    tiny, name = beginning.tiny, beginning.argument
    model, other = tiny.model(), {"audio_timestep": torch.tensor([700.0, 300.0])}
    expected = tiny.run(model, **other | {name: timestep})
    outputs = tiny.run(model, **other | {name: timestep[:, None].expand(2, beginning.number)})
    assert max(difference(outputs, expected)) < 1e-5  # not to the bit: twice the rows in the products of the timestep


def test_each_latent_has_its_own_timestep(beginning):
    tiny = beginning.tiny
    model = tiny.model()
    for block in blocks_of(model):  # nothing goes from one token to another
        for stream in block.children():
            for layer in (getattr(stream, "to_out", None), getattr(getattr(stream, "attn1", None), "to_out", None)):
                if layer is not None:
                    torch.nn.init.zeros_(layer[0].weight)
    outputs, noisy, clean = (
        tiny.run(model, **beginning.timesteps(*lengths))[beginning.output] for lengths in ((4, 7), (0, 0), (11, 11))
    )
    is_given = beginning.is_given(4, 7)
    is_given = is_given.reshape(2, 1, -1, *[1] * (outputs.ndim - 3))
    assert (outputs - torch.where(is_given, clean, noisy)).abs().max() < 1e-5
    assert (clean - noisy).abs().max() > 1e-3


def test_a_beginning_that_is_given_reaches_the_rest_of_its_modality_and_the_other_one(beginning):
    model, run = beginning.tiny.model(), beginning.tiny.run
    differences = [a - b for a, b in zip(run(model), run(model, **beginning.timesteps(4, 4)))]
    assert differences[1 - beginning.output].abs().max() > 1e-4
    num_given = int(beginning.is_given(4, 4)[0].sum())
    assert differences[beginning.output][:, :, num_given:].abs().max() > 1e-4


def test_samples_of_one_batch_have_beginnings_of_their_own(beginning):
    tiny, timesteps = beginning.tiny, beginning.timesteps(0, 6)
    model = tiny.model()
    together = tiny.run(model, **timesteps)
    for row in range(2):
        inputs = (tiny.inputs() | timesteps).items()
        alone = tiny.run(model, **{name: x[row : row + 1] if torch.is_tensor(x) else x for name, x in inputs})
        assert max(difference([output[row : row + 1] for output in together], alone)) < 1e-5


# Training


def gradients(model, inputs, checkpointing=False):
    """Return the gradient of every parameter."""
    model.zero_grad()
    if checkpointing:
        model.enable_gradient_checkpointing()
    sum(output.square().mean() for output in model(**inputs)).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters()}


def test_gradient_of_a_given_beginning_is_the_same_with_checkpointing(beginning):
    model, inputs = beginning.tiny.model(), beginning.tiny.inputs(**beginning.timesteps(4, 7))
    grads = [gradients(model, inputs, checkpointing) for checkpointing in (False, True)]
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])
    assert all(grad.isfinite().all() and grad.any() for grad in grads[0].values())


def test_a_given_beginning_keeps_no_modulation_of_every_tokens_own(beginning):
    model, numbers = beginning.tiny.model(), []
    for timesteps in ({}, beginning.timesteps(4, 7)):
        inputs = beginning.tiny.inputs(**timesteps)
        numbers.append(bytes_kept_for_the_gradient(model, partial(model, **inputs)))
    width = model.config.num_attention_heads * model.config.attention_head_dim
    modulation_bytes = 4 * 2 * 11 * 6 * width * len(blocks_of(model))
    assert numbers[1] - numbers[0] < modulation_bytes / 2


@pytest.mark.parametrize("fusion", ATTENTION_FUSIONS)
def test_gradient_reaches_every_parameter(tiny, fusion):
    model = tiny.model(attention_fusion=fusion)
    sum(output.square().mean() for output in model(**tiny.inputs())).backward()
    # neither text of the last multi-stream block, nor what it does to the last block, is read: none is left out
    unread = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert unread == []


def test_gradient_checkpointing_changes_no_gradient(tiny):
    model, inputs = tiny.model(), tiny.inputs(**tiny.ragged_masks())
    grads = [gradients(model, inputs, checkpointing) for checkpointing in (False, True)]
    assert all(torch.equal(grads[0][name], grads[1][name]) for name in grads[0])


# Loading and memory


def test_saved_model_gives_the_same_outputs(tiny, tmp_path):
    model = tiny.model(attention_fusion="cross_linear", temporal_aligned_rope=False)
    model.save_pretrained(tmp_path, max_shard_size="50KB")
    loaded = tiny.cls.from_pretrained(tmp_path)
    assert loaded.config.attention_fusion == "cross_linear" and len(list(tmp_path.glob("*.safetensors"))) > 1
    assert difference(tiny.run(model), tiny.run(loaded)) == (0, 0)


def test_bfloat16_keeps_time_and_place_in_float32(tiny, tmp_path):
    model = tiny.model()
    model.save_pretrained(tmp_path)
    half = tiny.cls.from_pretrained(tmp_path, dtype=torch.bfloat16)
    for name, parameter in half.named_parameters():
        island = any(part in name for part in tiny.islands)
        assert parameter.dtype == (torch.float32 if island else torch.bfloat16), name
    inputs = {k: v.bfloat16() for k, v in tiny.inputs().items() if torch.is_tensor(v) and k != "timestep"}
    outputs = tiny.run(half, **inputs)
    assert all(output.dtype == torch.bfloat16 for output in outputs)
    assert max(difference(outputs, tiny.run(model))) < 0.1


def test_float8_storage_spares_norms_embedders_modulation_and_heads(tiny):
    model, expected = tiny.model(), tiny.run(tiny.model())
    model.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)
    stored = {name for name, p in model.named_parameters() if p.dtype == torch.float8_e4m3fn}
    assert stored == {n for n, _ in model.named_parameters() if n.rsplit(".", 1)[0].endswith(tiny.linears)}
    video, audio = difference(tiny.run(model), expected)
    assert 0 < video < 0.3 and 0 < audio < 0.3


def test_a_device_without_the_dtype_to_store_in_is_refused(tiny):
    model = tiny.model()
    with pytest.raises(ValueError, match=r"`cpu` cannot keep weights in torch\.float4_e2m1fn_x2 .*layerwise casting"):
        model.enable_layerwise_casting(torch.float4_e2m1fn_x2, torch.float32)  # torch's CPU has no arithmetic for it
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


@pytest.mark.parametrize(
    "options",
    [{"offload_type": "block_level", "num_blocks_per_group": 1}, {"offload_type": "leaf_level"}],
    ids=["block_level", "leaf_level"],
)
def test_group_offload_changes_no_output(tiny, options):
    model = tiny.model()
    model.enable_group_offload(torch.device("cpu"), torch.device("cpu"), **options)
    assert difference(tiny.run(model), tiny.run(tiny.model())) == (0, 0)


def test_device_map_keeps_blocks_whole(tiny, tmp_path):
    model = tiny.model()
    model.save_pretrained(tmp_path)
    loaded = tiny.cls.from_pretrained(tmp_path, device_map={"": "cpu"})
    assert difference(tiny.run(loaded), tiny.run(model)) == (0, 0)
    blocks = {type(block).__name__ for block in blocks_of(model)}
    assert set(model._no_split_modules) == set(model._repeated_blocks) == blocks


def test_single_file_in_our_own_layout_loads(tiny, tmp_path):
    model = tiny.model()
    model.save_config(tmp_path / "transformer")
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    loaded = tiny.cls.from_single_file(str(tmp_path / "model.safetensors"), config=str(tmp_path / "transformer"))
    assert difference(tiny.run(loaded), tiny.run(model)) == (0, 0)


# Attention backends, compilation, caches


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("backend", ["native", "_native_math", "flex"])
@pytest.mark.parametrize("is_ragged", [False, True], ids=["full", "ragged"])
def test_attention_backends_agree(tiny, backend, is_ragged):
    masks = tiny.ragged_masks() if is_ragged else {}
    model, expected = tiny.model(), tiny.run(tiny.model(), **masks)
    # the context puts back the active backend of the process, which is set along with the model's
    with attention_backend("native"):
        model.set_attention_backend(backend)
        assert max(difference(tiny.run(model, **masks), expected)) < 1e-5


def test_a_backend_that_takes_no_mask_says_why_there_is_one():
    message = r"takes no mask \(.*native flash.*the texts of the batch differ in length"
    with attention_backend("_native_flash"), pytest.raises(ValueError, match=message):
        JOVA.run(JOVA.model(), **JOVA.ragged_masks())


def test_a_backend_that_is_not_installed_names_those_that_are(tiny, monkeypatch):
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", False)
    with pytest.raises(RuntimeError, match=r"'flash' is not usable.*Installed are: .*_native_math, .*native"):
        tiny.model().set_attention_backend("flash")


def test_each_stage_compiles_once_without_a_graph_break(tiny):
    torch.compiler.reset()
    model, expected = tiny.model(), tiny.run(tiny.model())
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            assert max(difference(tiny.run(model), expected)) < 1e-5
    torch.compiler.reset()


def test_model_with_a_given_beginning_compiles_once_whatever_its_length(beginning):
    torch.compiler.reset()
    model, run = beginning.tiny.model(num_layers=1), beginning.tiny.run
    timesteps = [beginning.timesteps(*lengths) for lengths in ((4, 7), (1, 10))]
    expected = [run(model, **some) for some in timesteps]
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for some, outputs in zip(timesteps, expected):
            assert max(difference(run(compiled, **some), outputs)) < 1e-5
    torch.compiler.reset()


def test_whole_model_compiles_without_a_graph_break(tiny):
    torch.compiler.reset()
    model = tiny.model(num_layers=1)
    expected = tiny.run(model, **tiny.ragged_masks())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for _ in range(2):
            assert max(difference(tiny.run(compiled, **tiny.ragged_masks()), expected)) < 1e-5
    torch.compiler.reset()


@torch.no_grad()
def steps_with_cache(model, config, inputs: list[dict]) -> list[tuple]:
    model.enable_cache(config)
    outputs = []
    with model.cache_context("test"), patch.dict(CLOCK):
        for i, step in enumerate(inputs):
            CLOCK["timestep"] = 1000 - 150 * i
            outputs.append(model(**step))
    model.disable_cache()
    return outputs


def test_first_block_cache_that_never_skips_changes_nothing(tiny):
    model, steps = tiny.model(), [tiny.inputs(0), tiny.inputs(1)]
    outputs = steps_with_cache(model, FirstBlockCacheConfig(threshold=0.0), steps)
    for output, step in zip(outputs, steps):
        assert difference(output, tiny.run(model, **step)) == (0, 0)


def test_first_block_cache_serves_a_given_beginning(beginning):
    tiny = beginning.tiny
    model, steps = tiny.model(), [tiny.inputs(seed, **beginning.timesteps(4, 7)) for seed in (0, 1)]
    outputs = steps_with_cache(model, FirstBlockCacheConfig(threshold=0.0), steps)
    for output, step in zip(outputs, steps):
        assert difference(output, tiny.run(model, **step)) == (0, 0)
    again = steps_with_cache(model, FirstBlockCacheConfig(threshold=1e9), [steps[0], steps[0]])
    assert max(difference(again[1], outputs[0])) < 1e-5


def test_first_block_cache_skips_both_streams_alike(tiny):
    model, config = tiny.model(), FirstBlockCacheConfig(threshold=1e9)
    same = steps_with_cache(model, config, [tiny.inputs(0), tiny.inputs(0)])
    assert max(difference(same[1], tiny.run(model))) < 1e-5
    steps = [tiny.inputs(0), tiny.inputs(1)]
    first, second = steps_with_cache(model, config, steps)
    exact = tiny.run(model, **steps[1])
    assert min(difference(second, exact)) > 1e-3, "nothing was skipped"
    assert min(difference(second, first)) > 1e-3, "a stream was returned stale"


def test_first_block_cache_serves_video_alone_and_refuses_sound_alone(tiny):
    model = tiny.model()
    steps = [tiny.inputs(seed, audio_hidden_states=None) for seed in (0, 1)]
    outputs = steps_with_cache(model, FirstBlockCacheConfig(threshold=1e9), steps)
    exact = tiny.run(model, **steps[1])[0]
    assert torch.isfinite(outputs[1][0]).all() and not outputs[1][0].allclose(exact, atol=1e-3)
    with pytest.raises(ValueError, match="FirstBlockCache decides by the video stream"):
        steps_with_cache(model, FirstBlockCacheConfig(threshold=0.1), [tiny.inputs(hidden_states=None)])


@pytest.mark.parametrize(
    "config, warm_steps",
    [
        (lambda: TaylorSeerCacheConfig(cache_interval=3, disable_cache_before_step=2, max_order=1), 2),
        (
            lambda: PyramidAttentionBroadcastConfig(
                spatial_attention_block_skip_range=2, current_timestep_callback=lambda: CLOCK["timestep"]
            ),
            1,
        ),
        (
            lambda: FasterCacheConfig(
                spatial_attention_block_skip_range=2,
                spatial_attention_timestep_skip_range=(-1, 901),
                current_timestep_callback=lambda: CLOCK["timestep"],
                is_guidance_distilled=True,
                tensor_format="BCFHW",
            ),
            1,
        ),
    ],
    ids=["TaylorSeer", "PyramidAttentionBroadcast", "FasterCache"],
)
def test_caches_of_attention_change_both_streams_after_their_warm_up(tiny, config, warm_steps):
    model, steps = tiny.model(), [tiny.inputs(seed) for seed in range(5)]
    outputs = steps_with_cache(model, config(), steps)
    exact = [tiny.run(model, **step) for step in steps]
    for output, expected in zip(outputs[:warm_steps], exact):
        assert difference(output, expected) == (0, 0)
    assert all(torch.isfinite(x).all() for output in outputs for x in output)
    changes = [difference(output, expected) for output, expected in zip(outputs, exact)]
    assert max(video for video, _ in changes) > 1e-3 and max(audio for _, audio in changes) > 1e-3


@pytest.mark.parametrize(
    "config, reason",
    [
        (MagCacheConfig(num_inference_steps=2, mag_ratios=[1.0, 1.0]), "audio stream on unchanged"),
        (SeaCacheConfig(), "another model"),
        (TextKVCacheConfig(), "another model"),
        (FasterCacheConfig(is_guidance_distilled=False), "of the video only"),
        (TaylorSeerCacheConfig(use_lite_mode=True), r"zeros to `audio.proj_out`"),
    ],
    ids=lambda x: type(x).__name__ if not isinstance(x, str) else "",
)
def test_cache_that_would_leave_a_stream_wrong_is_refused(tiny, config, reason):
    model = tiny.model()
    with pytest.raises(ValueError, match=f"{type(config).__name__} cannot be used.*{reason}"):
        model.enable_cache(config)
    assert not model.is_cache_enabled


def test_mag_cache_serves_a_model_of_video_alone(tiny):
    model = tiny.model(audio_in_channels=None)
    steps = [tiny.inputs(seed, audio_hidden_states=None) for seed in (0, 0)]
    config = MagCacheConfig(num_inference_steps=2, retention_ratio=0.0, threshold=100.0, mag_ratios=[1.0, 1.0])
    first, second = steps_with_cache(model, config, steps)
    assert second[0].allclose(first[0], atol=1e-5)


# LoRA


def test_lora_is_saved_loaded_scaled_and_fused_on_both_branches(tiny, tmp_path):
    model, plain = tiny.model(), tiny.run(tiny.model())
    model.add_adapter(lora(4), adapter_name="a")
    adapted = tiny.run(model)
    assert min(difference(adapted, plain)) > 1e-3
    model.save_lora_adapter(tmp_path, adapter_name="a")

    model = tiny.model()
    model.load_lora_adapter(tmp_path, adapter_name="a", prefix=None, use_safetensors=True)
    assert max(difference(tiny.run(model), adapted)) < 1e-6
    assert max(difference(tiny.run(model, attention_kwargs={"scale": 0.0}), plain)) < 1e-6
    half = tiny.run(model, attention_kwargs={"scale": 0.5})
    assert min(difference(half, plain) + difference(half, adapted)) > 1e-4
    model.fuse_lora()
    assert max(difference(tiny.run(model), adapted)) < 1e-5
    model.unfuse_lora()
    model.unload_lora()
    assert max(difference(tiny.run(model), plain)) < 1e-5


def test_lora_is_hot_swapped(tiny, tmp_path):
    expected = []
    for rank in (4, 2):
        model = tiny.model()
        model.add_adapter(lora(rank), adapter_name="a")
        expected.append(tiny.run(model))
        model.save_lora_adapter(tmp_path / str(rank), adapter_name="a")
    model = tiny.model()
    model.enable_lora_hotswap(target_rank=4)
    options = {"adapter_name": "a", "prefix": None, "use_safetensors": True}
    model.load_lora_adapter(tmp_path / "4", **options)
    assert max(difference(tiny.run(model), expected[0])) < 1e-5
    model.load_lora_adapter(tmp_path / "2", hotswap=True, **options)
    assert max(difference(tiny.run(model), expected[1])) < 1e-5
    assert min(difference(*expected)) > 1e-3


# Bad input


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"hidden_states": torch.zeros(2, 7, 3, 4, 4)}, r"`hidden_states` must.*with 6 \(in_channels\)"),
        ({"hidden_states": torch.zeros(2, 6, 4, 4)}, r"`hidden_states` must have 5 dimensions.*\(2, 6, 4, 4\)"),
        ({"audio_hidden_states": torch.zeros(2, 11, 5)}, r"3 dimensions with 5 \(audio_in_channels\) at axis 1"),
        ({"audio_hidden_states": torch.zeros(2, 1, 5, 11)}, "`audio_hidden_states` must have 3 dimensions"),
        ({"encoder_hidden_states": torch.zeros(2, 6, 13)}, r"12 \(text_embed_dim\) at axis 2"),
        ({"hidden_states": torch.zeros(2, 6, 3, 4, 5)}, r"divisible by `patch_size` \(1, 2, 2\), got \(3, 4, 5\)"),
        ({"hidden_states": None, "audio_hidden_states": None}, "Neither `hidden_states` nor `audio_hidden_states`"),
        ({"encoder_hidden_states": None, "encoder_hidden_states_2": None}, "Neither `encoder_hidden_states` nor"),
        ({"timestep": None}, "`timestep` is missing"),
        ({"timestep": torch.zeros(2, 12)}, r"`timestep` must be \(B,\), one for each sample, got shape \(2, 12\)"),
        (
            {"audio_timestep": torch.zeros(2, 12)},
            r"`audio_timestep` must be \(2,\).* or \(2, 11\).*got shape \(2, 12\)",
        ),
        ({"audio_timestep": torch.arange(22.0).view(2, 11)}, r"`audio_timestep` \(2, 11\) has more than two values"),
    ],
)
def test_input_that_does_not_fit_raises(tiny, overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny.run(tiny.model(), **overrides)


def test_second_text_that_does_not_fit_raises():
    with pytest.raises(ValueError, match="`encoder_hidden_states_2` must have 3 dimensions"):
        JOVA.run(JOVA.model(), encoder_hidden_states_2=torch.zeros(2, 10))


def test_branch_that_was_not_built_raises(tiny):
    for name, config_name in (("hidden_states", "in_channels"), ("audio_hidden_states", "audio_in_channels")):
        with pytest.raises(ValueError, match=f"`{name}` was given, .* built with `{config_name}=None`"):
            tiny.run(tiny.model(**{config_name: None}))


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"in_channels": None, "audio_in_channels": None}, "at least one branch"),
        ({"attention_fusion": "sum"}, r"`attention_fusion` must be one of .*got 'sum'"),
    ],
)
def test_config_that_cannot_be_built_raises(tiny, overrides, message):
    with pytest.raises(ValueError, match=message):
        tiny.cls(**tiny.config | overrides)


@pytest.mark.parametrize(
    "overrides, message",
    [
        ({"text_embed_dim": None, "text_embed_dim_2": None}, "at least one text"),
        ({"rope_axes_dim": (6, 6, 6)}, r"sum to `attention_head_dim` \(16\), got \(6, 6, 6\)"),
        ({"rope_axes_dim": (6, 5, 5)}, "must be even numbers"),
    ],
)
def test_texts_and_axes_that_cannot_be_built_raise(overrides, message):
    with pytest.raises(ValueError, match=message):
        JoVATransformer3DModel(**JOVA.config | overrides)


def test_tokens_that_the_parallel_degree_does_not_divide_raise(tiny):
    model = tiny.model()
    set_context_parallel_degree(model, 8)
    with pytest.raises(ValueError, match="degree 8 must divide the number of media tokens, got 12. Nearest: 8 or 16."):
        tiny.run(model)


def test_text_tokens_that_the_parallel_degree_does_not_divide_raise():
    model = JOVA.model()
    set_context_parallel_degree(model, 4)
    with pytest.raises(ValueError, match="degree 4 must divide the number of text tokens, got 10. Nearest: 8 or 12."):
        JOVA.run(model)
