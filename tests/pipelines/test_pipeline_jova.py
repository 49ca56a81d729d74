# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import MMAudioVAE, MMAudioVocoder
from PIL import Image

from diffusers_jova import JoVAPipeline
from diffusers_jova.images import centre_crop, resize_frames
from diffusers_jova.latents import normalize_latents, num_audio_samples
from diffusers_jova.mouth import to_pixels
from diffusers_jova.pipelines.prompts import PROMPT_EMBEDS, load_prompt_embeds, save_prompt_embeds


UNCONDITIONAL = "<Video Caption>:\n<Audio Caption>:\n<Transcript>:"


def run(pipe, prompt="A face.", **kwargs):
    """Return the latents of a call, (video, audio); one step without guidance unless told otherwise."""
    defaults = {"num_inference_steps": 1, "guidance_scale": 1.0, "output_type": "latent", "return_dict": False}
    return pipe(prompt, **(defaults | {"generator": torch.Generator().manual_seed(0)} | kwargs))


def assert_same(ours, theirs, **tolerance):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **(tolerance or {"atol": 1e-5, "rtol": 1e-5}))


def assert_both_differ(ours, theirs, by=1e-3):
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() > by


# --- what comes out


@pytest.mark.parametrize("image", [False, True])
def test_text_alone_or_with_a_image_gives_a_video_with_its_audio(image, pipe, seeded):
    output = pipe(
        "A face.",
        transcript="one",
        image=Image.new("RGB", (50, 40), "red") if image else None,
        generator=seeded(),
        output_type="np",
    )
    assert output.frames.shape == (1, 5, 32, 32, 3)
    assert output.frames.min() >= 0 and output.frames.max() <= 1
    assert output.audio.shape == (1, 6400) and np.abs(output.audio).max() <= 1
    assert output.audio.std() > 0
    assert (output.frame_rate, output.audio_sampling_rate) == (12.5, 16000)


def test_output_types_hold_the_same_frames_and_audio(pipe, seeded):
    outputs = {
        kind: pipe("A face.", guidance_scale=1.0, generator=seeded(), output_type=kind) for kind in ("pil", "np", "pt")
    }
    frames, audio = outputs["np"].frames, outputs["np"].audio
    assert isinstance(outputs["pil"].frames[0][0], Image.Image) and len(outputs["pil"].frames[0]) == 5
    np.testing.assert_allclose(np.asarray(outputs["pil"].frames[0][2]) / 255, frames[0, 2], atol=1 / 255)
    np.testing.assert_array_equal(outputs["pil"].audio, audio)
    assert outputs["pt"].frames.shape == (1, 5, 3, 32, 32)
    torch.testing.assert_close(outputs["pt"].frames, torch.from_numpy(frames).permute(0, 1, 4, 2, 3))
    assert torch.equal(outputs["pt"].audio, torch.from_numpy(audio))
    video_latents, audio_latents = run(pipe)
    assert video_latents.shape == (1, 16, 2, 4, 4) and audio_latents.shape == (1, 20, 13)
    assert video_latents.dtype == audio_latents.dtype == torch.float32


@pytest.mark.parametrize("frame_rate", [12.5, 23.976, 24000 / 1001, 7.0])
def test_audio_lasts_exactly_as_long_as_the_frames(frame_rate, pipe, seeded):
    output = pipe(
        "A face.", num_frames=9, frame_rate=frame_rate, modalities=["audio"], num_inference_steps=1, generator=seeded()
    )
    assert output.audio.shape == (1, round(9 / frame_rate * 16000))
    assert output.audio.shape[1] == num_audio_samples(9, frame_rate, 16000)
    assert output.frame_rate == frame_rate
    assert output.audio[0, -10:].std() > 0  # no padding: the latents cover the frames


@pytest.mark.parametrize("frame_rate", [24000 / 1001, Fraction(24000, 1001)])
def test_ntsc_rates_are_the_exact_ones_however_they_are_written(frame_rate, pipe, record, seeded):
    calls = record(pipe.transformer)
    settings = {"num_frames": 481, "modalities": ("audio",), "num_inference_steps": 1}
    exact, nominal = (pipe("A face.", frame_rate=r, generator=seeded(), **settings) for r in (frame_rate, 23.976))
    assert exact.audio.shape[1] == round(Fraction(481 * 1001, 24000) * 16000)
    assert np.array_equal(exact.audio, nominal.audio)
    assert {kwargs["frame_rate"] for kwargs, _ in calls} == {24000 / 1001}


@pytest.mark.parametrize("modality, other", [("video", "audio"), ("audio", "video")])
def test_one_modality_alone_does_not_run_the_other(modality, other, pipe, record, seeded):
    block = pipe.transformer.transformer_blocks[0]
    streams = {"video": record(block.video.ff), "audio": record(block.audio.ff)}
    decoders = {"video": record(pipe.vae.decoder), "audio": record(pipe.vocoder)}
    output = pipe("A face.", modalities=modality, num_inference_steps=1, generator=seeded(), output_type="np")
    assert streams[modality] and decoders[modality]
    assert not streams[other] and not decoders[other]
    results = {"video": output.frames, "audio": output.audio}
    assert results[other] is None and results[modality].shape[0] == 1


def test_video_alone_equals_video_alone_from_a_pipeline_without_the_parts_for_audio(pipe, seeded):
    parts = pipe.components | {"audio_vae": None, "vocoder": None}
    silent = JoVAPipeline(**parts, **{k: v for k, v in pipe.config.items() if k in ("height", "width", "num_frames")})
    silent.set_progress_bar_config(disable=True)
    frames, audio = run(silent, modalities=("video",), frame_rate=12.5)
    assert audio is None
    assert_same([frames], [run(pipe, modalities=("video",))[0]])
    # latents of sound need no decoder
    assert run(silent, frame_rate=12.5)[1].shape == (1, 20, 13)


def test_defaults_come_from_the_checkpoint_and_arguments_win(pipe, seeded):
    own = JoVAPipeline(
        **pipe.components,
        height=32,
        width=48,
        num_frames=1,
        frame_rate=5.0,
        num_inference_steps=3,
        guidance_scale=2.0,
        audio_guidance_scale=4.0,
        modality_scale=2.5,
        audio_modality_scale=1.5,
    )
    own.set_progress_bar_config(disable=True)
    output = own("A face.", generator=seeded(), output_type="latent")
    assert output.frames.shape == (1, 16, 1, 4, 6) and output.audio.shape == (1, 20, 7)
    assert output.frame_rate == 5.0
    assert (own.num_timesteps, own.guidance_scale, own.audio_guidance_scale) == (3, 2.0, 4.0)
    assert (own.modality_scale, own.audio_modality_scale, own.num_passes) == (2.5, 1.5, 3)
    output = own(
        "A face.",
        generator=seeded(),
        output_type="latent",
        height=16,
        width=16,
        num_frames=5,
        frame_rate=12.5,
        num_inference_steps=1,
        guidance_scale=0.0,
    )
    assert output.frames.shape == (1, 16, 2, 2, 2) and output.audio.shape == (1, 20, 13)
    assert (own.num_timesteps, own.guidance_scale) == (1, 0.0)
    assert own.audio_guidance_scale == 0.0  # the video's, since that was given
    own("A face.", num_inference_steps=1, audio_guidance_scale=0.0, modality_scale=1.0, output_type="latent")
    assert (own.guidance_scale, own.audio_guidance_scale) == (2.0, 0.0)
    assert (own.modality_scale, own.audio_modality_scale) == (1.0, 1.5)
    own("A face.", num_inference_steps=1, modality_scale=1.0, audio_modality_scale=1.0, output_type="latent")
    assert own.num_passes == 2


def test_sigmas_set_the_number_of_steps(pipe, record):
    calls = record(pipe.transformer)
    run(pipe, sigmas=[1.0, 0.5, 0.25], num_inference_steps=None)
    shift = pipe.scheduler.config.shift
    expected = [1000 * shift * s / (1 + (shift - 1) * s) for s in (1.0, 0.5, 0.25)]
    assert [kwargs["timestep"].item() for kwargs, _ in calls] == pytest.approx(expected)


# --- randomness and batches


@pytest.fixture(params=[False, True], ids=["deterministic", "stochastic"])
def sampler(own_pipe, request):
    """A pipeline whose scheduler adds no noise while it denoises, or new noise in every step."""
    config = own_pipe.scheduler.config
    own_pipe.scheduler = type(own_pipe.scheduler).from_config(config, stochastic_sampling=request.param)
    return own_pipe


def test_same_seed_gives_the_same_bytes(sampler, seeded):
    settings = {"transcript": "one", "num_inference_steps": 2, "output_type": "np", "return_dict": False}
    one, other = (sampler("A face.", **settings, generator=seeded(3)) for _ in range(2))
    assert all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))
    assert_both_differ(run(sampler), run(sampler, generator=seeded(1)))


def test_batch_of_two_equals_two_batches_of_one(sampler, seeded):
    texts = {"transcript": ["one", "two three four five"], "prompt": ["A face.", "A woman with short hair, outside."]}
    settings = {"guidance_scale": 3.0, "modality_scale": 1.5, "num_inference_steps": 2}
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    together = run(sampler, **texts, **settings, image=pictures, generator=[seeded(0), seeded(1)])
    for i in range(2):
        alone = run(sampler, **{k: v[i] for k, v in texts.items()}, **settings, image=pictures[i], generator=seeded(i))
        assert_same([x[i : i + 1] for x in together], alone, atol=1e-4, rtol=1e-4)


def test_samples_of_one_prompt_lie_side_by_side_with_their_masks_and_images(pipe, record, seeded):
    prompts = ["A face.", "A woman with short hair, outside."]
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    calls = record(pipe.transformer)
    generators = [seeded(i) for i in range(4)]
    four = run(pipe, prompts, image=pictures, num_videos_per_prompt=2, generator=generators)
    assert [len(x) for x in four] == [4, 4]
    kwargs, _ = calls[0]
    for suffix in ("", "_2"):
        states, mask = kwargs[f"encoder_hidden_states{suffix}"], kwargs[f"encoder_attention_mask{suffix}"]
        assert torch.equal(states[0], states[1]) and torch.equal(states[2], states[3])
        assert torch.equal(mask[0], mask[1]) and torch.equal(mask[2], mask[3])
        assert mask[0].sum() < mask[2].sum()  # the shorter prompt's first
    picture = kwargs["hidden_states"][:, 16:32, 0]
    assert torch.equal(picture[0], picture[1]) and torch.equal(picture[2], picture[3])
    assert not torch.equal(picture[0], picture[2])
    alone = run(pipe, prompts[1], image=pictures[1], generator=seeded(2))
    assert_same([x[2:3] for x in four], alone, atol=1e-4, rtol=1e-4)


def test_given_latents_are_where_denoising_starts(pipe, record, seeded):
    video, audio = torch.randn(1, 16, 2, 4, 4), torch.randn(1, 20, 13)
    calls = record(pipe.transformer)
    run(pipe, latents=video, audio_latents=audio.double())
    assert torch.equal(calls[0][0]["hidden_states"][:, :16], video)
    assert torch.equal(calls[0][0]["audio_hidden_states"], audio)
    noise = torch.Generator().manual_seed(0)
    drawn = [torch.randn(1, 16, 2, 4, 4, generator=noise), torch.randn(1, 20, 13, generator=noise)]
    assert_same(run(pipe, latents=drawn[0], audio_latents=drawn[1]), run(pipe, generator=seeded()))


# --- the reference image


def test_transformer_sees_noise_then_image_then_mask(pipe, record):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8))
    calls = record(pipe.transformer)
    noise = torch.randn(1, 16, 2, 4, 4)
    run(pipe, image=image, latents=noise)
    hidden_states = calls[0][0]["hidden_states"]
    assert hidden_states.shape == (1, 36, 2, 4, 4)

    def encode(pixels):
        with torch.no_grad():
            return normalize_latents(pipe.vae.encode(pixels[None, :, None]).latent_dist.mode(), pipe.vae.config)

    picture = encode(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1)
    black = encode(-torch.ones(3, 32, 32))
    torch.testing.assert_close(hidden_states[:, :16], noise)
    torch.testing.assert_close(hidden_states[:, 16:32, :1], picture, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(hidden_states[:, 16:32, 1:], black, atol=1e-5, rtol=1e-5)
    assert hidden_states[:, 32:, 0].eq(1).all() and hidden_states[:, 32:, 1:].eq(0).all()


def test_without_a_image_every_frame_is_black_and_the_mask_zero(pipe, record):
    calls = record(pipe.transformer)
    run(pipe)
    hidden_states = calls[0][0]["hidden_states"]
    assert torch.equal(hidden_states[:, 16:32, 0], hidden_states[:, 16:32, 1])
    assert hidden_states[:, 32:].eq(0).all()


def test_image_changes_video_and_audio(pipe):
    assert_both_differ(run(pipe, image=Image.new("RGB", (32, 32), "white")), run(pipe), by=1e-5)


def test_image_is_cropped_around_its_centre_and_made_rgb(pipe):
    picture = Image.new("RGB", (96, 32), "red")
    picture.paste((0, 255, 0), (32, 0, 64, 32))
    pixels = pipe.prepare_image(picture, 1, 32, 32)
    green = torch.tensor([-1.0, 1.0, -1.0])
    torch.testing.assert_close(pixels, green[None, :, None, None].expand(1, 3, 32, 32))
    for mode in ("L", "RGBA", "P"):
        assert pipe.prepare_image(Image.new(mode, (32, 32)), 1, 32, 32).shape == (1, 3, 32, 32)


def test_image_may_be_a_path_a_image_an_array_or_a_tensor(pipe, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "picture.png")
    scaled = array.astype(np.float32) / 255
    sources = [tmp_path / "picture.png", str(tmp_path / "picture.png"), picture, [picture], scaled]
    sources += [torch.from_numpy(scaled).permute(2, 0, 1), torch.from_numpy(scaled).permute(2, 0, 1)[None]]
    expected = torch.from_numpy(scaled).permute(2, 0, 1)[None] * 2 - 1
    for source in sources:
        torch.testing.assert_close(pipe.prepare_image(source, 1, 32, 32), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("source", [(54, 96), (96, 54), (64, 64), (41, 30), (32, 48), (300, 200), (40, 40)])
@pytest.mark.parametrize("kind", ["image", "array", "tensor", "batch", "list"])
def test_reference_image_is_cropped_and_resized_as_training_does(kind, source, pipe):
    y, x = np.mgrid[: source[0], : source[1]]
    waves = (np.sin(x / 7.3 + y / 11), np.cos(x / 9.1 - y / 5), np.sin((x + y) / 3))
    frame = (127.5 + 127.5 * np.stack(waves, axis=-1)).astype(np.uint8)
    scaled = frame.astype(np.float32) / 255
    tensor = torch.from_numpy(scaled).permute(2, 0, 1)
    sources = {"image": Image.fromarray(frame), "array": scaled, "tensor": tensor, "batch": tensor[None]}
    pixels = pipe.prepare_image(sources.get(kind, [frame]), 1, 32, 48)
    expected = to_pixels(resize_frames(frame[None], centre_crop(*source, 32, 48), 32, 48))  # as for the cache
    assert torch.equal(pixels, expected[:, :, 0])


def test_transformer_without_condition_channels_gets_the_noise_alone(make_pipeline, record):
    text_only = make_pipeline(in_channels=16, num_layers=1)
    calls, encodings = record(text_only.transformer), record(text_only.vae.encoder)
    video, audio = run(text_only)
    assert video.shape == (1, 16, 2, 4, 4) and audio.shape == (1, 20, 13)
    assert calls[0][0]["hidden_states"].shape == (1, 16, 2, 4, 4)
    assert not encodings


# --- text


def test_both_encoders_read_the_three_lines_and_both_branches_the_same_states(pipe, record, monkeypatch):
    texts = []
    for tokenizer in (pipe.tokenizer, pipe.tokenizer_2):
        call = type(tokenizer).__call__
        spy = lambda self, text, *args, call=call, **kwargs: (texts.append(text), call(self, text, *args, **kwargs))[1]  # noqa: E731
        monkeypatch.setattr(type(tokenizer), "__call__", spy)
    run(pipe, "A face.", audio_prompt="A voice.", transcript="one", guidance_scale=2.0)
    expected = ["<Video Caption>: A face.\n<Audio Caption>: A voice.\n<Transcript>: one"]
    assert {tuple(text) for text in texts} == {tuple(expected), (UNCONDITIONAL,)}
    texts.clear()
    run(pipe, negative_prompt="blurred", negative_audio_prompt="hiss", guidance_scale=2.0)
    assert ["<Video Caption>: blurred\n<Audio Caption>: hiss\n<Transcript>:"] in texts


def test_labelled_prompt_equals_its_three_lines(pipe):
    labelled = "<Video Caption>: A face.\n<Audio Caption>: A voice.\n<Transcript>: one"
    assert_same(run(pipe, labelled), run(pipe, "A face.", audio_prompt="A voice.", transcript="one"))


def test_one_string_serves_every_sample_of_a_list(pipe, seeded):
    generators = [seeded(0), seeded(1)]
    both = run(pipe, "A face.", transcript=["one", "two"], generator=generators)
    generators = [seeded(0), seeded(1)]
    assert_same(both, run(pipe, ["A face.", "A face."], transcript=["one", "two"], generator=generators))


def test_no_negative_prompt_means_three_empty_lines(pipe):
    assert_same(run(pipe, guidance_scale=3.0), run(pipe, guidance_scale=3.0, negative_prompt=UNCONDITIONAL))
    assert_both_differ(run(pipe, guidance_scale=3.0), run(pipe, guidance_scale=3.0, negative_prompt="blurred"))


def test_prompt_that_is_too_long_is_cut_with_a_warning(pipe, caplog, monkeypatch):
    monkeypatch.setattr(pipe.encode_prompt.__func__.__globals__["logger"], "propagate", True)
    embeds = pipe.encode_prompt("A face. " * 20, do_classifier_free_guidance=False, max_sequence_length=50)
    assert embeds[0].shape[1] == embeds[2].shape[1] == 50
    assert "is cut to `max_sequence_length=50`" in caplog.text and "will not be spoken" in caplog.text
    caplog.clear()
    pipe.encode_prompt("A face.", do_classifier_free_guidance=False)
    assert not caplog.text


def test_encoded_prompt_saved_to_a_file_gives_the_same_clip(folder, pipe, load_pipeline, tmp_path):
    texts = {"prompt": "A face.", "transcript": "one", "negative_prompt": "blurred"}
    expected = run(pipe, **texts, guidance_scale=3.0, num_inference_steps=2)
    encoder = load_pipeline(transformer=None, vae=None, audio_vae=None, vocoder=None, scheduler=None)
    with torch.no_grad():
        save_prompt_embeds(tmp_path / "prompt.safetensors", encoder.encode_prompt(**texts))
    rest = load_pipeline(text_encoder=None, text_encoder_2=None, tokenizer=None, tokenizer_2=None)
    embeds = load_prompt_embeds(tmp_path / "prompt.safetensors")
    assert set(embeds) == set(PROMPT_EMBEDS)
    ours = run(rest, prompt=None, **embeds, guidance_scale=3.0, num_inference_steps=2)
    assert_same(ours, expected)


def test_given_embeds_are_not_computed_again(pipe, record):
    with torch.no_grad():
        embeds = dict(zip(PROMPT_EMBEDS, pipe.encode_prompt("A face.", transcript="one")))
    calls = [record(pipe.text_encoder), record(pipe.text_encoder_2)]
    ours = run(pipe, None, **embeds, guidance_scale=3.0)
    assert calls == [[], []]
    assert_same(ours, run(pipe, "A face.", transcript="one", guidance_scale=3.0))


def test_one_negative_serves_a_batch(pipe, record, seeded):
    with torch.no_grad():
        negative = dict(list(zip(PROMPT_EMBEDS, pipe.encode_prompt("x", negative_prompt="blurred")))[4:])
    generators = [seeded(0), seeded(1)]
    ours = run(pipe, ["A face.", "B"], **negative, guidance_scale=3.0, generator=generators)
    generators = [seeded(0), seeded(1)]
    expected = run(pipe, ["A face.", "B"], negative_prompt="blurred", guidance_scale=3.0, generator=generators)
    assert_same(ours, expected)


@pytest.mark.parametrize("missing, left", [("_2", ""), ("", "_2")])
def test_either_text_encoder_alone_is_enough(missing, left, pipe, record):
    parts = pipe.components | {f"text_encoder{missing}": None, f"tokenizer{missing}": None}
    single = JoVAPipeline(**parts, height=32, width=32, num_frames=5, frame_rate=12.5)
    single.set_progress_bar_config(disable=True)
    calls = record(pipe.transformer)
    video, audio = run(single, guidance_scale=2.0)
    assert video.shape == (1, 16, 2, 4, 4) and audio.shape == (1, 20, 13)
    for kwargs, _ in calls:
        assert kwargs[f"encoder_hidden_states{missing}"] is None
        assert kwargs[f"encoder_hidden_states{left}"].shape[-1] == 128


# --- callbacks


def test_callback_gets_what_it_asks_for_and_sees_every_step(pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append((step, timestep.item(), pipe.current_timestep.item(), sorted(tensors)))
        return {}

    names = pipe._callback_tensor_inputs
    run(pipe, num_inference_steps=3, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names)
    assert [step for step, *_ in seen] == [0, 1, 2]
    assert all(t == current and given == sorted(names) for _, t, current, given in seen)
    assert names == ["latents", "audio_latents", *PROMPT_EMBEDS]
    assert pipe.current_timestep is None


@pytest.mark.parametrize("name, index", [("latents", 0), ("audio_latents", 1)])
def test_callback_can_replace_the_latents_of_each_modality(name, index, pipe):
    def callback(pipe, step, timestep, tensors):
        return {name: torch.zeros_like(tensors[name])} if step == 1 else tensors

    output = run(pipe, num_inference_steps=2, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=[name])
    assert output[index].eq(0).all() and output[1 - index].abs().sum() > 0


@pytest.mark.parametrize("name", PROMPT_EMBEDS)
def test_callback_can_replace_every_text_input(name, pipe, record):
    calls = record(pipe.transformer)

    def callback(pipe, step, timestep, tensors):
        return {name: torch.zeros_like(tensors[name])}

    run(
        pipe,
        num_inference_steps=2,
        guidance_scale=2.0,
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=[name],
    )
    first = 2 + name.startswith("negative_")  # call 2 is step 1's conditional pass, call 3 its unconditional one
    key = "encoder_hidden_states_2" if name.endswith("_2") else "encoder_hidden_states"
    before, after = calls[first - 2][0][key], calls[first][0][key]
    assert before.abs().sum() > 0
    if "mask" in name:
        assert after.shape[1] == 0  # all of the text is hidden
    else:
        assert after.shape == before.shape and after.eq(0).all()


def test_callback_can_interrupt(pipe, record):
    calls = record(pipe.transformer)

    def callback(pipe, step, timestep, tensors):
        pipe._interrupt = step == 1
        return tensors

    video, audio = run(pipe, num_inference_steps=4, callback_on_step_end=callback)
    assert len(calls) == 2
    assert video.shape == (1, 16, 2, 4, 4) and audio.shape == (1, 20, 13)


def test_pipeline_callback_brings_its_own_tensor_inputs_and_can_change_the_guidance(pipe, record):
    from diffusers.callbacks import PipelineCallback

    class Cutoff(PipelineCallback):
        tensor_inputs = ["prompt_embeds", "audio_latents"]

        def callback_fn(self, pipeline, step_index, timestep, callback_kwargs):
            assert list(callback_kwargs) == self.tensor_inputs
            if step_index == 0:
                pipeline._guidance_scale = 1.0
            return callback_kwargs

    calls = record(pipe.transformer)
    run(pipe, num_inference_steps=3, guidance_scale=4.0, callback_on_step_end=Cutoff(cutoff_step_ratio=0.5))
    assert len(calls) == 2 + 1 + 1


# --- diffusers' own audio parts


def test_mmaudio_parts_of_diffusers_serve_as_audio_vae_and_vocoder(pipe, make_pipeline, tmp_path, seeded):
    other = make_pipeline(num_layers=1, audio_in_channels=8, audio_latent_rate=44100 / 1024)
    torch.manual_seed(0)
    audio_vae = MMAudioVAE(latent_channels=8, hidden_channels=16)
    vocoder = MMAudioVocoder(upsample_initial_channel=64, resblock_kernel_sizes=(3,), resblock_dilation_sizes=((1,),))
    parts = other.components | {"audio_vae": audio_vae.eval(), "vocoder": vocoder.eval()}
    pipe = JoVAPipeline(**parts, height=32, width=32, num_frames=5, frame_rate=12.5, num_inference_steps=1)
    pipe.save_pretrained(tmp_path)
    pipe = JoVAPipeline.from_pretrained(tmp_path)
    pipe.set_progress_bar_config(disable=True)
    output = pipe("A face.", generator=seeded(), output_type="pt", modalities=("audio",))
    assert output.audio.shape == (1, 17640) and output.audio_sampling_rate == 44100
    assert torch.isfinite(output.audio).all()
