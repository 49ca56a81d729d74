# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Training of jova-nano's components, in small: each learns, and the latents' statistics are their own."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from diffusers_jova import BigVGANVocoder, GriffinLimVocoder, JoVAPipeline
from diffusers_jova.latents import normalize_latents
from diffusers_jova.media import write_wav
from diffusers_jova.models.autoencoder_mmaudio import AutoencoderMMAudio
from diffusers_jova.nano import assemble as assembling
from diffusers_jova.nano import sharpening
from diffusers_jova.nano.assemble import NANO
from diffusers_jova.nano.autoencoders import (
    copy_fitting,
    on_single_frames,
    read_clips,
    read_waveforms,
    refine_audio_decoder,
    save_component,
    to_pixels,
    train_audio_vae,
    train_video_vae,
)
from diffusers_jova.nano.faces import Identity, Pose, draw_face
from diffusers_jova.nano.sharpening import PatchDiscriminator, discriminator_loss, judge, sharpen_decoder
from diffusers_jova.nano.text_encoders import (
    IGNORED,
    NeighbourHead,
    make_prompts,
    train_qwen,
    train_t5,
    train_tokenizers,
)
from diffusers_jova.nano.vocoder import train_vocoder
from diffusers_jova.pipelines.random_pipeline import NANO_DEFAULTS


@pytest.fixture(scope="module")
def frames():
    """Four people whose mouths open and close, (4, 9, 32, 32, 3)."""
    openings = np.abs(np.sin(np.arange(9)))
    return np.stack(
        [
            np.stack([np.asarray(draw_face(Identity.from_seed(seed), Pose(opening=gap), 32)) for gap in openings])
            for seed in range(4)
        ]
    )


@pytest.fixture(scope="module")
def waveforms():
    """Four gliding hums with pauses, (4, 16384)."""
    time = np.arange(16384) / 16000
    hums = [
        sum(np.sin(2 * np.pi * k * (pitch * time + 30 * time**2)) / k for k in range(1, 6))
        for pitch in range(100, 200, 25)
    ]
    return np.stack([0.1 * hum * (np.sin(2 * np.pi * 2 * time) > 0) for hum in hums]).astype(np.float32)


@pytest.fixture(scope="module")
def prompts():
    return make_prompts(300)


def posterior_means(vae, samples) -> torch.Tensor:
    with torch.no_grad():
        return torch.cat([normalize_latents(vae.encode(sample).latent_dist.mode(), vae.config) for sample in samples])


@pytest.fixture(scope="module")
def video_vae(frames):
    return train_video_vae(frames, num_steps=30)


@pytest.fixture(scope="module")
def audio_vae(waveforms):
    return train_audio_vae(waveforms, num_steps=40)


def test_the_video_vae_learns_and_carries_its_own_statistics(video_vae, frames):
    latents = posterior_means(video_vae, [to_pixels(clip)[None] for clip in frames])
    assert latents.shape == (4, 16, 9, 2, 2)
    assert latents.mean(dim=(0, 2, 3, 4)).abs().max() < 0.1
    assert torch.allclose(latents.std(dim=(0, 2, 3, 4)), torch.ones(16), atol=0.1)
    pixels = to_pixels(frames[0])[None]
    with torch.no_grad():
        error = (video_vae.decode(video_vae.encode(pixels).latent_dist.mode()).sample - pixels).abs().mean()
    assert error < 0.9 * (pixels - pixels.mean()).abs().mean()  # better than grey


def test_bfloat16_changes_the_video_vae_little_and_its_weights_not_at_all(video_vae, frames):
    in_bfloat16 = train_video_vae(frames, num_steps=30, mixed_precision="bf16")
    assert {parameter.dtype for parameter in in_bfloat16.parameters()} == {torch.float32}
    pixels = to_pixels(frames[0])[None]
    errors = []
    for vae in (video_vae, in_bfloat16):
        with torch.no_grad():
            errors.append((vae.decode(vae.encode(pixels).latent_dist.mode()).sample - pixels).abs().mean())
    assert 0 < (errors[1] / errors[0] - 1).abs() < 0.2  # the same course of training, but not bit for bit


def test_no_channel_of_the_video_vae_is_noise(video_vae, frames):
    with torch.no_grad():
        posterior = video_vae.encode(torch.stack([to_pixels(clip) for clip in frames])).latent_dist
    width = posterior.std.mean(dim=(0, 2, 3, 4)) / torch.tensor(video_vae.config.latents_std)
    assert width.max() < 0.11


def test_the_video_vae_sees_each_frame_alone(video_vae, frames):
    clip = to_pixels(frames[0])[None]
    with torch.no_grad():
        latents = video_vae.encode(clip).latent_dist.mode()
        alone = video_vae.encode(clip[:, :, 4:5]).latent_dist.mode()
        assert torch.allclose(latents[:, :, 4:5], alone, atol=1e-5)
        assert torch.allclose(video_vae.decode(latents).sample[:, :, 4:5], video_vae.decode(alone).sample, atol=1e-5)
        with on_single_frames(video_vae):  # the shortcut that training takes
            shortcut = video_vae.encode(clip[:, :, 4:5]).latent_dist.mode()
        assert torch.allclose(shortcut, alone, atol=1e-5)


def test_a_discriminator_makes_the_decoder_sharp_and_leaves_the_latents(video_vae, frames, monkeypatch):
    sharp = copy.deepcopy(video_vae)
    monkeypatch.setattr(sharpening, "KEPT", 0.0)
    sharpen_decoder(sharp, frames, num_steps=60)
    pixels = torch.stack([to_pixels(clip) for clip in frames])
    with torch.no_grad():
        latents = video_vae.encode(pixels).latent_dist.parameters
        torch.testing.assert_close(sharp.encode(pixels).latent_dist.parameters, latents, rtol=0, atol=0)
        made = [vae.decode(latents.chunk(2, dim=1)[0]).sample for vae in (video_vae, sharp)]
    assert sharp.config.latents_std == video_vae.config.latents_std
    soft, sharpened, real = (images.diff(dim=-1).abs().mean() for images in (*made, pixels))
    assert soft < 0.8 * real and abs(sharpened - real) < 0.5 * abs(soft - real), (soft, sharpened, real)


def test_a_part_of_the_weights_from_before_is_kept(video_vae, frames, monkeypatch):
    results = []
    for kept in (0.0, 0.4, 1.0):
        monkeypatch.setattr(sharpening, "KEPT", kept)
        results.append(copy.deepcopy(video_vae))
        sharpen_decoder(results[-1], frames, num_steps=2)
    sharp, mixed, before = (vae.decoder.conv_out.weight for vae in results)
    assert torch.equal(before, video_vae.decoder.conv_out.weight) and not torch.equal(sharp, before)
    torch.testing.assert_close(mixed, 0.6 * sharp + 0.4 * before)


def test_a_discriminator_learns_to_tell_images_apart_and_is_not_changed_by_whom_it_judges():
    torch.manual_seed(0)
    discriminator, real = PatchDiscriminator(), torch.rand(4, 3, 32, 32).round() * 2 - 1
    made = torch.zeros_like(real).requires_grad_()
    held_against, distance = judge(discriminator, made, real)
    (held_against + distance).backward()
    assert made.grad.abs().sum() > 0 and all(p.grad is None and p.requires_grad for p in discriminator.parameters())
    optimizer = torch.optim.Adam(discriminator.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        losses.append(discriminator_loss(discriminator, made.detach(), real))
        losses[-1].backward()
        optimizer.step()
        optimizer.zero_grad()
    assert abs(losses[0] - 2) < 0.5 and losses[-1] < 1.5
    assert discriminator(real)[0].mean() > discriminator(made)[0].mean() + 0.5


def test_the_audio_vae_learns_and_carries_its_own_statistics(audio_vae, waveforms):
    sounds = torch.from_numpy(waveforms)
    latents = posterior_means(audio_vae, [sounds])
    assert latents.mean(dim=(0, 2)).abs().max() < 0.1
    assert torch.allclose(latents.std(dim=(0, 2)), torch.ones(20), atol=0.1)
    log_mel = audio_vae.mel_spectrogram(sounds)
    assert torch.allclose(log_mel.mean(dim=(0, 2)), audio_vae.data_mean[0, :, 0], atol=1e-4)
    with torch.no_grad():
        error = ((audio_vae(sounds).sample - log_mel) / audio_vae.data_std).abs().mean()
    assert error < 0.6  # the mel's own mean leaves 0.8 to 1


def test_the_decoder_of_the_audio_vae_goes_on_alone_and_leaves_the_latents(audio_vae, waveforms):
    refined, sounds = copy.deepcopy(audio_vae), torch.from_numpy(waveforms)
    refine_audio_decoder(refined, waveforms, num_steps=40)
    with torch.no_grad():
        latents = audio_vae.encode(sounds).latent_dist.parameters
        torch.testing.assert_close(refined.encode(sounds).latent_dist.parameters, latents, rtol=0, atol=0)
        log_mel = audio_vae.mel_spectrogram(sounds)
        before, after = ((vae(sounds).sample - log_mel).abs().mean() for vae in (audio_vae, refined))
    assert refined.config.latents_std == audio_vae.config.latents_std
    assert after < 0.9 * before, (after, before)


def test_a_recipe_refines_the_decoder_of_its_audio_vae(tmp_path, waveforms):
    train = tmp_path / "corpus" / "train"
    train.mkdir(parents=True)
    for index, waveform in enumerate(waveforms):
        write_wav(train / f"{index}.wav", waveform, 16000)
    vaes = []
    for refinement in (0.0, 2.0):
        recipe, folder = replace(NANO, audio_refinement=refinement), tmp_path / str(refinement)
        recipe.train_component("audio_vae", tmp_path / "corpus", folder, num_steps=2)
        vaes.append(AutoencoderMMAudio.from_pretrained(folder / "audio_vae"))
    plain, refined = (vae.state_dict() for vae in vaes)
    changed = {name.split(".")[0] for name in plain if not torch.equal(plain[name], refined[name])}
    assert changed == {"decoder"}


def test_the_vocoder_learns(audio_vae, waveforms):
    few, more = (train_vocoder(audio_vae, waveforms, num_steps=steps, batch_size=2) for steps in (1, 15))
    log_mel = audio_vae.mel_spectrogram(torch.from_numpy(waveforms))
    with torch.no_grad():
        errors = [
            (audio_vae.mel_spectrogram(vocoder(log_mel)[:, 0]) - log_mel).abs().mean() for vocoder in (few, more)
        ]
    assert errors[1] < 0.9 * errors[0]


def test_the_tokenizers_keep_words_whole_and_take_any_text(prompts, tmp_path):
    for tokenizer in train_tokenizers(prompts):
        ids = tokenizer("<Transcript>: three seven").input_ids
        words = [token.strip("▁Ġ") for token in tokenizer.convert_ids_to_tokens(ids)]
        assert words[:3] == ["<Transcript>:", "three", "seven"]
        save_component(tokenizer, tmp_path / "tokenizer")
        loaded = type(tokenizer).from_pretrained(tmp_path / "tokenizer")
        text = "<Video Caption>: A wizard with 3 purple-ish hats!"
        assert loaded(text).input_ids == tokenizer(text).input_ids
        assert "wizard" in loaded.decode(loaded(text).input_ids).replace(" ", "")


def test_a_state_tells_its_neighbours_and_nothing_beyond_the_ends():
    head = NeighbourHead(vocab_size=6, offsets=(-2, 1))
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    targets = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 2, IGNORED, IGNORED]])
    states = torch.zeros(2, 5, 128)
    for token in range(5):
        states[targets == token, token] = 1  # the state of a token is its number, and each follows the one before
        for slot, offset in enumerate(head.offsets):
            if 0 <= token + offset < 6:
                head.linear.weight.data[6 * slot + token + offset, token] = 30
    assert head(states, targets) < 1e-6
    assert head(states.flip(1), targets) > 5


@pytest.mark.parametrize("which, train", [(0, train_t5), (1, train_qwen)])
def test_the_text_encoders_tell_the_order_of_words(prompts, which, train):
    tokenizer = train_tokenizers(prompts)[which]
    encoder = train(tokenizer, prompts, num_steps=5)
    with torch.no_grad():
        one, other = (
            encoder(**tokenizer(f"<Transcript>: {words}", return_tensors="pt")).last_hidden_state
            for words in ("three three", "three seven")
        )
    assert one.shape[-1] == 128
    assert (one[:, 1] - one[:, 2]).abs().mean() > 1e-3  # the same word twice, at two places
    assert (one[:, 2] - other[:, 2]).abs().mean() > 1e-3


def test_held_out_combinations_are_in_no_prompt(prompts):
    from diffusers_jova.nano.corpus import is_held_out
    from diffusers_jova.nano.speech import DIGITS

    transcripts = [prompt.rpartition(":")[2].split() for prompt in prompts]
    assert not any(is_held_out(tuple(DIGITS.index(word) for word in words)) for words in transcripts)


def test_components_are_kept_and_the_pipeline_brings_its_defaults(
    monkeypatch, tmp_path, prompts, video_vae, audio_vae
):
    tokenizer, tokenizer_2 = train_tokenizers(prompts)
    parts = {
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer_2,
        "text_encoder": train_t5(tokenizer, prompts, num_steps=1),
        "text_encoder_2": train_qwen(tokenizer_2, prompts, num_steps=1),
        "vae": copy.deepcopy(video_vae),  # saving writes into the config
        "audio_vae": copy.deepcopy(audio_vae),
    }
    for name, part in parts.items():
        save_component(part, tmp_path / name)
    monkeypatch.setattr(assembling, "train_video_vae", lambda *args: pytest.fail("trained anew"))
    NANO.train_component("video_vae", tmp_path / "corpus", tmp_path, num_steps=1)
    NANO.assemble(tmp_path)
    NANO.assemble(tmp_path)  # an interrupted run does it again, around its own vocoder
    pipe = JoVAPipeline.from_pretrained(tmp_path)
    assert isinstance(pipe.vocoder, GriffinLimVocoder)  # none was trained
    assert all(pipe.config[key] == value for key, value in NANO_DEFAULTS.items())
    assert pipe.vae.config.latents_std == video_vae.config.latents_std
    pipe.set_progress_bar_config(disable=True)
    output = pipe(transcript="three seven", num_inference_steps=1, output_type="np")
    assert output.frames.shape == (1, 21, 64, 64, 3) and output.audio.shape == (1, 26880)

    save_component(BigVGANVocoder(upsample_initial_channel=64), tmp_path / "vocoder")
    assert isinstance(assembling.load_vocoder(tmp_path / "vocoder"), BigVGANVocoder)
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["vocoder"] == ["diffusers_jova", "GriffinLimVocoder"]


def test_an_empty_corpus_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="make the corpus first"):
        read_clips(tmp_path, 64)


def test_weights_that_fit_are_taken_over_and_the_others_stay():
    source, target = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4)), torch.nn.Sequential()
    target.append(torch.nn.Linear(2, 3)).append(torch.nn.Linear(5, 4))
    before = target[1].weight.clone()
    copy_fitting(source, target)
    assert torch.equal(target[0].weight, source[0].weight) and torch.equal(target[1].bias, source[1].bias)
    assert torch.equal(target[1].weight, before)


def test_waveforms_are_read_of_clips_and_of_audio_alone(tmp_path, waveforms):
    for name, waveform in zip("ba", waveforms):
        write_wav(tmp_path / f"{name}.wav", waveform, 16000)
    (tmp_path / "metadata.jsonl").write_text("")
    np.testing.assert_allclose(read_waveforms(tmp_path), waveforms[1::-1], atol=1e-4)
    assert len(read_waveforms(tmp_path, 1)) == 1
    with pytest.raises(FileNotFoundError, match="no mp4 or wav file"):
        read_waveforms(tmp_path / "other")
