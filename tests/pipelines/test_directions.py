# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a call is given stays as it is, the rest is made: `audio`, `video`, `keep`, `retake`."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, FirstBlockCacheConfig
from PIL import Image

from diffusers_jova import JoVAPipeline, write_video, write_wav
from diffusers_jova.latents import normalize_latents
from diffusers_jova.media import Clip, read_audio
from diffusers_jova.pipelines import directions
from diffusers_jova.pipelines.directions import Given


RATE = 16000
CLIP_S = 0.4  # of the tiny pipeline: 5 frames at 12.5 a second, 2 latent frames, 13 audio latents


def noise_like_speech(seconds: float, rate: int = RATE, channels: int = 1, seed: int = 0) -> np.ndarray:
    """Return a recording (channels, samples), each sample a whole number of 16 bits."""
    rng = np.random.default_rng(seed)
    return (rng.integers(-8000, 8000, (channels, round(seconds * rate))) / 32768).astype(np.float32)


def colours(num_frames: int, height: int = 32, width: int = 32, seed: int = 0) -> np.ndarray:
    """Return frames (num_frames, height, width, 3) uint8 that all differ."""
    shape = (num_frames, height // 8, width // 8, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8).repeat(8, axis=1).repeat(8, axis=2)


def clip_of(num_frames: int = 5, **options) -> Clip:
    return Clip(colours(num_frames, **options), Fraction(25, 2), noise_like_speech(num_frames / 12.5), RATE)


def run(pipe, **kwargs):
    defaults = {"prompt": "A face.", "generator": torch.Generator().manual_seed(0), "output_type": "latent"}
    return pipe(**(defaults | kwargs))


def encoded_audio(pipe, waveform: np.ndarray, num_latents: int) -> torch.Tensor:
    samples = torch.zeros(1, num_latents * 512)
    samples[0, : waveform.shape[-1]] = torch.from_numpy(waveform.mean(axis=0))[: samples.shape[1]]
    with torch.no_grad():
        return normalize_latents(pipe.audio_vae.encode(samples).latent_dist.mode(), pipe.audio_vae.config)


def encoded_video(pipe, frames: np.ndarray) -> torch.Tensor:
    pixels = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        return normalize_latents(pipe.vae.encode(pixels).latent_dist.mode(), pipe.vae.config)


# --- a recording


@pytest.mark.parametrize("rate, channels", [(16000, 1), (22050, 1), (48000, 2)])
def test_a_recording_comes_out_sample_for_sample_at_its_own_rate_and_channels(rate, channels, pipe):
    audio = noise_like_speech(0.37, rate, channels)
    output = run(pipe, audio=audio, audio_sampling_rate=rate, num_frames=5, output_type="pt")
    num_samples = round(CLIP_S * rate)
    assert output.audio_sampling_rate == rate
    assert output.audio.shape == ((1, num_samples) if channels == 1 else (1, 2, num_samples))
    same = output.audio.reshape(channels, -1)
    assert torch.equal(same[:, : audio.shape[1]], torch.from_numpy(audio))
    assert not same[:, audio.shape[1] :].any()  # silence behind it
    assert output.frames.shape == (1, 5, 3, 32, 32)


def test_a_recording_file_comes_out_as_the_same_bytes_of_a_wav(pipe, tmp_path):
    write_wav(tmp_path / "talk.wav", noise_like_speech(CLIP_S, 22050, 2), 22050, ai_generated=False)
    output = run(pipe, audio=tmp_path / "talk.wav", output_type="np")
    write_wav(tmp_path / "again.wav", output.audio[0], output.audio_sampling_rate, ai_generated=False)
    assert (tmp_path / "again.wav").read_bytes() == (tmp_path / "talk.wav").read_bytes()


def test_the_audio_track_of_a_clip_is_a_recording_too(pipe, tmp_path):
    write_video(tmp_path / "clip.mp4", colours(5), 12.5, noise_like_speech(CLIP_S), RATE)
    output = run(pipe, audio=str(tmp_path / "clip.mp4"), output_type="np")
    np.testing.assert_array_equal(output.audio[0], read_audio(tmp_path / "clip.mp4")[0][0, :6400])


@pytest.mark.parametrize(
    "seconds, num_frames", [(0.4, 5), (0.55, 5), (0.56, 9), (0.72, 9), (0.1, 1), (0.08, 1), (0.4001, 5)]
)
def test_the_clip_is_as_long_as_the_recording_as_nearly_as_the_vae_allows(seconds, num_frames, pipe):
    given = Given.from_arguments(
        {"audio": noise_like_speech(seconds), "audio_sampling_rate": RATE, "modalities": ("video", "audio")}
        | dict.fromkeys(("video", "keep", "retake", "image"))
    )
    assert given.num_frames(12.5, 4) == num_frames
    assert given.num_frames(12.5, 1) == round(seconds * 12.5)


def test_num_frames_cuts_a_recording_and_without_it_the_recording_sets_the_length(pipe):
    audio = {"audio": noise_like_speech(0.72), "audio_sampling_rate": RATE, "num_inference_steps": 1}
    assert run(pipe, **audio).frames.shape[2] == 3  # 9 frames
    assert run(pipe, **audio, num_frames=5).frames.shape[2] == 2


def test_the_transformer_sees_the_recording_at_the_noise_level_of_the_video(pipe, record):
    audio = noise_like_speech(CLIP_S)
    calls = record(pipe.transformer)
    output = run(pipe, audio=audio, audio_sampling_rate=RATE, guidance_scale=1.0)
    clean = encoded_audio(pipe, audio, 13)
    torch.testing.assert_close(output.audio, clean, atol=1e-4, rtol=1e-4)
    sigmas = [call["timestep"].item() / 1000 for call, _ in calls]
    assert sigmas[0] == 1.0 and sigmas[1] < 1.0
    noise = calls[0][0]["audio_hidden_states"]
    expected = (1 - sigmas[1]) * clean + sigmas[1] * noise
    torch.testing.assert_close(calls[1][0]["audio_hidden_states"], expected, atol=1e-3, rtol=1e-3)
    assert torch.equal(calls[1][0]["timestep"], calls[1][0]["audio_timestep"])


def test_a_checkpoint_trained_with_clean_conditions_sees_the_recording_at_timestep_0(make_pipeline, record):
    pipe = make_pipeline(condition_mode="clean")
    audio = noise_like_speech(CLIP_S)
    calls = record(pipe.transformer)
    run(pipe, audio=audio, audio_sampling_rate=RATE)
    for call, _ in calls:
        torch.testing.assert_close(call["audio_hidden_states"], encoded_audio(pipe, audio, 13), atol=1e-4, rtol=1e-4)
        assert call["audio_timestep"].item() == 0 and call["timestep"].item() > 0
    calls.clear()
    run(pipe)
    assert all(torch.equal(call["timestep"], call["audio_timestep"]) for call, _ in calls)


def test_a_checkpoint_trained_with_clean_conditions_sees_a_beginning_of_audio_at_timestep_0(make_pipeline, record):
    pipe = make_pipeline(condition_mode="clean")
    clip = clip_of(5)
    calls = record(pipe.transformer)
    run(pipe, video=clip, keep=0.4, num_frames=9, guidance_scale=1.0)
    clean = encoded_audio(pipe, clip.waveform[:, : 12 * 512], 12)
    for call, _ in calls:
        timestep = call["audio_timestep"][0]
        assert timestep.shape == (23,) and (timestep[:12] == 0).all()  # 31.25 a second, of which 12 end within 0.4 s
        assert call["timestep"].item() > 0 and (timestep[12:] == call["timestep"]).all()
        torch.testing.assert_close(call["audio_hidden_states"][:, :, :12], clean)


def test_another_recording_makes_another_video_and_the_texts_are_optional(pipe):
    recordings = noise_like_speech(CLIP_S), noise_like_speech(CLIP_S, 4000)[:, :1600].repeat(4, axis=1)
    one, same, other = (
        run(pipe, prompt=None, audio=audio, audio_sampling_rate=RATE).frames
        for audio in (recordings[0], recordings[0], recordings[1])
    )
    assert torch.equal(one, same) and (one - other).abs().max() > 2e-5  # random weights care little


def test_a_recording_at_another_rate_is_resampled_for_the_model_only(pipe):
    time_s = np.arange(round(CLIP_S * 48000)) / 48000
    tones = {rate: 0.3 * np.sin(2 * np.pi * 440 * time_s[:: 48000 // rate]) for rate in (16000, 48000)}
    one, other = (
        run(pipe, audio=tone.astype(np.float32), audio_sampling_rate=rate, num_inference_steps=1).audio
        for rate, tone in tones.items()
    )
    assert (one - other).norm() < 0.05 * one.norm()


# --- a clip


def test_a_video_comes_out_as_it_was_given_and_audio_is_made_for_it(pipe, record):
    calls = record(pipe.transformer)
    frames = colours(5)
    output = run(pipe, video=frames, output_type="np", guidance_scale=1.0)
    np.testing.assert_array_equal((output.frames[0] * 255).round(), frames)
    assert output.audio.shape == (1, 6400) and output.audio.std() > 0
    clean = encoded_video(pipe, frames)
    for call, _ in calls:  # 16 noisy, 16 clean, 4 of the mask
        torch.testing.assert_close(call["hidden_states"][:, 16:32], clean, atol=1e-4, rtol=1e-4)
        assert (call["hidden_states"][:, 32:] == 1).all()
    np.testing.assert_allclose(run(pipe, video=frames).frames, clean, atol=1e-4)


def test_a_file_of_another_size_and_rate_is_cropped_and_resampled(pipe, tmp_path):
    frames = colours(20, 48, 64).repeat(2, axis=0)  # 40 frames at 25 a second, each twice
    write_video(tmp_path / "clip.mp4", frames, 25, crf=1)
    output = run(pipe, video=tmp_path / "clip.mp4", output_type="np", num_inference_steps=1)
    assert output.frames.shape == (1, 5, 32, 32, 3)
    resized = np.stack(
        [np.asarray(Image.fromarray(x[:, 8:56]).resize((32, 32), Image.Resampling.BICUBIC)) for x in frames[::2][:5]]
    )
    assert np.abs(output.frames[0] * 255 - resized).mean() < 6  # what H.264 takes


def test_the_audio_of_a_video_alone_is_not_read(pipe):
    silent, loud = clip_of(), clip_of()
    silent = Clip(silent.frames, silent.frame_rate, None, None)
    assert torch.equal(run(pipe, video=silent).audio, run(pipe, video=loud).audio)


def test_a_longer_video_is_cut_with_a_warning_unless_a_length_is_asked_for(pipe, monkeypatch):
    warnings = []
    monkeypatch.setattr(directions.logger, "warning", warnings.append)
    assert run(pipe, video=colours(9), num_inference_steps=1).frames.shape[2] == 2
    assert len(warnings) == 1 and "has 9 frames, and the checkpoint makes 5: the rest is cut" in warnings[0]
    assert run(pipe, video=colours(9), num_frames=9, num_inference_steps=1).frames.shape[2] == 3
    run(pipe, video=clip_of(9), keep=0.2, num_inference_steps=1)
    assert len(warnings) == 1


def test_keep_gives_the_beginning_of_both_and_makes_what_follows(pipe, record):
    clip = clip_of(9)
    calls = record(pipe.transformer)
    output = run(pipe, video=clip, keep=0.4, num_frames=9, guidance_scale=1.0)
    video, audio = output.frames, output.audio
    torch.testing.assert_close(video[:, :, :2], encoded_video(pipe, clip.frames[:5]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(audio[..., :12], encoded_audio(pipe, clip.waveform[:, : 12 * 512], 12))
    mask = calls[0][0]["hidden_states"][0, 32:]
    assert (mask[:, :2] == 1).all() and (mask[:, 2:] == 0).all()
    free = run(pipe, num_frames=9)
    assert (video[:, :, 2] - free.frames[:, :, 2]).abs().max() > 1e-3
    assert (audio[..., 12:] - free.audio[..., 12:]).abs().max() > 1e-3


def test_retake_makes_a_span_anew_and_leaves_the_latents_of_the_rest(pipe):
    clip = clip_of(13)  # 4 latent frames, from 0, 0.08, 0.4 and 0.72 s
    output = run(pipe, video=clip, retake=(0.45, 0.7))
    whole = encoded_video(pipe, clip.frames), encoded_audio(pipe, clip.waveform, 33)
    assert output.frames.shape[2] == 4
    for made, given, span in zip((output.frames, output.audio), whole, ((2, 3), (14, 22))):
        rest = [k for k in range(given.shape[2]) if not span[0] <= k < span[1]]
        torch.testing.assert_close(made[:, :, rest], given[:, :, rest], atol=1e-4, rtol=1e-4)
        assert (made[:, :, range(*span)] - given[:, :, range(*span)]).abs().amax(dim=1).min() > 1e-3
    again = run(pipe, video=clip, retake=(0.45, 0.7), generator=torch.Generator().manual_seed(1))
    assert torch.equal(again.frames[:, :, [0, 1, 3]], output.frames[:, :, [0, 1, 3]])


def test_retake_of_one_modality_gives_the_other_whole(pipe):
    clip = clip_of(5)
    output = run(pipe, video=clip, retake=(0.2, 0.4, "video"), output_type="np")
    np.testing.assert_array_equal(output.audio, clip.waveform)
    output = run(pipe, video=clip, retake=(0.2, 0.4, ("audio",)), output_type="np")
    np.testing.assert_array_equal((output.frames[0] * 255).round(), clip.frames)


def test_the_picture_alone_is_kept_or_made_anew_without_any_audio(pipe):
    frames = colours(9)
    clean = encoded_video(pipe, frames)
    kept = run(pipe, video=frames, keep=0.4, num_frames=9, modalities="video")
    torch.testing.assert_close(kept.frames[:, :, :2], clean[:, :, :2], atol=1e-4, rtol=1e-4)
    assert kept.audio is None
    retaken = run(pipe, video=frames, retake=(0, 0.3), modalities=("video",))
    torch.testing.assert_close(retaken.frames[:, :, 2], clean[:, :, 2], atol=1e-4, rtol=1e-4)


def test_a_recording_drives_what_follows_the_beginning_of_a_clip(pipe):
    frames, audio = colours(9), noise_like_speech(0.72)
    output = run(pipe, video=frames, keep=0.4, audio=audio, audio_sampling_rate=RATE)
    torch.testing.assert_close(output.frames[:, :, :2], encoded_video(pipe, frames[:5]), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(output.audio, encoded_audio(pipe, audio, 23), atol=1e-4, rtol=1e-4)


@pytest.fixture(scope="module")
def frame_by_frame(make_pipeline):
    """A pipeline whose video VAE has a latent frame for each frame, as jova-nano's."""
    pipe = make_pipeline(in_channels=33, vae_temporal_compression=1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = AutoencoderKLWan(
            base_dim=4, z_dim=16, num_res_blocks=1, temperal_downsample=[False] * 3, scale_factor_temporal=1
        ).eval()
    settings = {name: pipe.config[name] for name in ("height", "width", "num_frames", "frame_rate")}
    pipe = JoVAPipeline(**(pipe.components | {"vae": vae}), num_inference_steps=2, **settings)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("num_kept", [1, 2, 5, 8])
def test_each_frame_that_is_kept_is_given_also_where_the_vae_reads_four_at_a_time(num_kept, frame_by_frame):
    frames = colours(9)
    clean = encoded_video(frame_by_frame, frames)
    kept = run(frame_by_frame, video=frames, keep=num_kept / 12.5, num_frames=10, modalities="video").frames
    assert kept.shape[2] == 10
    torch.testing.assert_close(kept[:, :, :num_kept], clean[:, :, :num_kept], atol=1e-4, rtol=1e-4)
    whole = run(frame_by_frame, video=frames[:8], num_frames=8, output_type="np").frames
    np.testing.assert_array_equal((whole[0] * 255).round(), frames[:8])


# --- in every direction

DIRECTIONS = {
    "audio": {"audio": noise_like_speech(CLIP_S), "audio_sampling_rate": RATE},
    "video": {"video": colours(5)},
}
FREE = {"audio": "latents", "video": "audio_latents"}


@pytest.mark.parametrize("given", DIRECTIONS)
def test_a_batch_equals_its_samples_made_alone(given, pipe):
    several = {
        "audio": {"audio": [noise_like_speech(CLIP_S, seed=k) for k in range(2)], "audio_sampling_rate": RATE},
        "video": {"video": [colours(5, seed=k) for k in range(2)]},
    }[given]
    generators = [torch.Generator().manual_seed(k) for k in range(2)]
    together = run(pipe, prompt=["A face.", "A dog."], **several, generator=generators)
    for k, prompt in enumerate(("A face.", "A dog.")):
        one = several | {given: several[given][k]}
        alone = run(pipe, prompt=prompt, **one, generator=torch.Generator().manual_seed(k))
        torch.testing.assert_close(together.frames[k : k + 1], alone.frames, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(together.audio[k : k + 1], alone.audio, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("given", DIRECTIONS)
def test_samples_of_one_prompt_share_what_is_given(given, pipe):
    output = run(pipe, **DIRECTIONS[given], num_videos_per_prompt=2, output_type="pt")
    same, made = (output.audio, output.frames) if given == "audio" else (output.frames, output.audio)
    assert torch.equal(same[0], same[1]) and not torch.equal(made[0], made[1])


@pytest.mark.parametrize("given", DIRECTIONS)
def test_what_is_given_is_not_guided_and_every_pass_keeps_it(given, pipe, record):
    calls = record(pipe.transformer)
    scales = {"guidance_scale": 3.0, "audio_guidance_scale": 3.0, "modality_scale": 2.0, "audio_modality_scale": 2.0}
    run(pipe, **DIRECTIONS[given], **scales, num_inference_steps=1)
    assert len(calls) == 3
    name = {"audio": "audio_hidden_states", "video": "hidden_states"}[given]
    assert all(torch.equal(call[name], calls[0][0][name]) for call, _ in calls)
    calls.clear()
    off = {"audio": ("guidance_scale", "modality_scale"), "video": ("audio_guidance_scale", "audio_modality_scale")}
    run(pipe, **DIRECTIONS[given], **(scales | dict.fromkeys(off[given], 1.0)), num_inference_steps=1)
    assert len(calls) == 1  # the scales of what is given ask for no pass


@pytest.mark.parametrize("given", DIRECTIONS)
def test_callbacks_see_and_change_what_is_made_only(given, pipe):
    seen = []

    def callback(pipe, step, timestep, tensors):
        seen.append(sorted(tensors))
        return {name: torch.zeros(1, 16, 2, 4, 4) if name == "latents" else torch.zeros(1, 20, 13) for name in names}

    names = ["latents", "audio_latents"]
    output = run(
        pipe,
        **DIRECTIONS[given],
        callback_on_step_end=callback,
        callback_on_step_end_tensor_inputs=names,
    )
    assert seen == [[FREE[given]]] * 2
    made, kept = (output.frames, output.audio) if given == "audio" else (output.audio, output.frames)
    assert not made.any() and kept.any()


@pytest.mark.parametrize("given", DIRECTIONS)
def test_a_lora_changes_what_is_made_and_not_what_is_given(given, own_pipe):
    before = run(own_pipe, **DIRECTIONS[given])
    layer = "transformer.transformer_blocks.0.{}.to_v.lora_{}.weight"
    shapes = {"A": (4, 32), "B": (32, 4)}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        own_pipe.load_lora_weights(
            {layer.format(s, ab): torch.randn(shape) for s in ("video", "audio") for ab, shape in shapes.items()}
        )
    after = run(own_pipe, **DIRECTIONS[given])
    made, kept = ("frames", "audio") if given == "audio" else ("audio", "frames")
    assert torch.equal(before[kept], after[kept])
    assert (before[made] - after[made]).abs().max() > 1e-3


def test_first_block_cache_follows_the_video_that_is_made_and_is_refused_where_it_is_given(own_pipe):
    expected = run(own_pipe, **DIRECTIONS["audio"]).frames
    own_pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=0.0))
    torch.testing.assert_close(run(own_pipe, **DIRECTIONS["audio"]).frames, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="FirstBlockCache decides by the video, and a video that is given"):
        run(own_pipe, **DIRECTIONS["video"])
    own_pipe.transformer.disable_cache()


def test_nothing_changes_where_nothing_is_given(pipe, record):
    calls = record(pipe.audio_vae.encoder)
    run(pipe, num_inference_steps=1)
    assert not calls
