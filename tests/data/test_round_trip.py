# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What is left of clips after a model's VAEs, and what is said about it."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from diffusers_jova.data import cache, encode
from diffusers_jova.data.preprocessing import PreprocessingConfig, preprocess
from diffusers_jova.data.round_trip import (
    RoundTrip,
    decode_again,
    log_mel_error,
    read_own_figures,
    video_psnr,
)
from diffusers_jova.media import read_video, write_video, write_wav
from diffusers_jova.models.autoencoder_mmaudio import AutoencoderMMAudio


CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "jova-nano"


class Darker:
    """A VAE whose latents are the pixels, and that returns them darker by a number of steps of 255."""

    device, dtype = torch.device("cpu"), torch.float32

    def __init__(self, steps):
        self.steps = steps

    def encode(self, pixels):
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: pixels))

    def decode(self, latents):
        return SimpleNamespace(sample=latents - self.steps / 127.5)


def write_clips(folder, *names):
    for index, name in enumerate(names):
        sound = 0.3 * np.sin(np.arange(6400) * (index + 1) / 10)
        frames = np.full((5, 64, 64, 3), 40 * index, np.uint8)
        write_video(folder / f"{name}.mp4", frames, 12.5, sound, 16000)


def test_the_psnr_is_that_of_the_frames():
    frames = np.full((9, 16, 16, 3), 100, np.uint8)
    assert video_psnr(Darker(10), frames) == pytest.approx(10 * np.log10(255**2 / 100))
    np.testing.assert_array_equal(decode_again(Darker(10), frames), frames - 10)
    frames = np.full((40, 16, 16, 3), 100, np.uint8)
    frames[17:] = 0  # would come back as they are: only the beginning is measured
    assert video_psnr(Darker(10), frames) == pytest.approx(10 * np.log10(255**2 / 100))


def test_the_error_of_the_log_mel_is_in_decibels_and_silence_does_not_count(clip_model):
    audio_vae = AutoencoderMMAudio.from_pretrained(clip_model / "audio_vae")
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 6400)
    log_mel = audio_vae.mel_spectrogram(torch.from_numpy(np.pad(waveform, (0, 256)).astype(np.float32))[None])
    audio_vae.decode = lambda latents: SimpleNamespace(sample=log_mel - 0.25)
    assert log_mel_error(audio_vae, waveform) == pytest.approx(5, rel=1e-4)
    audio_vae.decode = lambda latents: SimpleNamespace(sample=log_mel - 1000)
    assert log_mel_error(audio_vae, waveform) < 60


def test_pauses_change_nothing_in_the_error_of_the_log_mel(clip_model):
    audio_vae = AutoencoderMMAudio.from_pretrained(clip_model / "audio_vae")
    speech = np.random.default_rng(0).uniform(-0.5, 0.5, 6400)
    waveform = np.concatenate([np.zeros(6400), speech, np.zeros(12800)])
    missing = -len(waveform) % audio_vae.samples_per_latent
    log_mel = audio_vae.mel_spectrogram(torch.from_numpy(np.pad(waveform, (0, missing)).astype(np.float32))[None])
    audio_vae.decode = lambda latents: SimpleNamespace(sample=log_mel - 0.25)
    assert log_mel_error(audio_vae, waveform) == pytest.approx(5, rel=0.05)


@pytest.mark.parametrize(
    "psnr_db, own, is_loud", [(13.0, 34.2, True), (29.0, 34.2, False), (19, None, True), (21, None, False)]
)
def test_clips_that_the_model_cannot_show_are_said_loudly(psnr_db, own, is_loud):
    trip = RoundTrip(own={} if own is None else {"psnr_db": own})
    trip.clips["psnr_db"] = {"a": psnr_db - 2, "b": psnr_db + 2}
    assert bool(trip.alarm()) is is_loud
    if own and is_loud:
        assert "come back at 13.0 dB (the model's own clips: 34.2 dB)" in trip.alarm()[0]
    trip = RoundTrip(own={"log_mel_error_db": 2.0})
    for error_db, is_loud in ((3.9, False), (4.1, True)):
        trip.clips["log_mel_error_db"] = {"a": error_db}
        assert bool(trip.alarm()) is is_loud


def test_a_few_clips_are_measured_once_and_the_summary_and_the_report_say_it(
    cache_clips, clip_model, tmp_path, monkeypatch
):
    write_clips(tmp_path / "clips", *"abcdef")
    summary = cache_clips()
    measured = summary.round_trip.clips["psnr_db"]
    assert len(measured) == len(summary.round_trip.clips["log_mel_error_db"]) == 4
    vae = AutoencoderKLWan.from_pretrained(clip_model / "vae")
    row = next(row for row in summary.rows if row["digest"] in measured)
    frames = read_video(tmp_path / "clips" / row["source"], 12.5).frames
    assert measured[row["digest"]] == pytest.approx(video_psnr(vae, frames), abs=0.01)
    assert f"{summary.round_trip.mean('psnr_db'):.1f} dB PSNR of 4 clips" in str(summary)
    assert "!!! this model's VAE cannot show these clips" in str(summary)  # it has learnt nothing
    assert json.loads((tmp_path / "cache" / "report.json").read_text())["round_trip"]["clips"]["psnr_db"] == measured
    monkeypatch.setattr(encode, "load_phase", None)  # nothing is loaded again
    assert str(cache_clips()) == str(summary)


def test_the_own_figures_of_a_model_change_nothing_in_its_fingerprint(cache_clips, clip_model, tmp_path):
    write_clips(tmp_path / "clips", "a")
    write_wav(tmp_path / "clips" / "b.wav", np.zeros(8000), 16000)
    cache_clips()
    model = shutil.copytree(clip_model, tmp_path / "model")
    (model / "vae" / "metrics.json").write_text('{"psnr_db": 1.5}')
    (model / "audio_vae" / "metrics.json").write_text("not for us")
    assert read_own_figures(model) == {"psnr_db": 1.5}
    assert cache.model_fingerprint(model) == cache.model_fingerprint(clip_model)
    config = PreprocessingConfig(
        str(tmp_path / "clips"), str(model), str(tmp_path / "cache"), no_mouth=True, num_workers=0, device="cpu"
    )
    assert "(the model's own clips: 1.5 dB)" in str(preprocess(config)) and "!!!" not in str(preprocess(config))


def test_the_preview_shows_the_clip_above_and_what_the_vae_makes_of_it_below(cache_clips, clip_model, tmp_path):
    write_clips(tmp_path / "clips", "a")
    row = cache_clips(preview=True).rows[0]
    picture = np.asarray(Image.open(tmp_path / "cache" / "previews" / f"{row['key']}.png"))
    vae = AutoencoderKLWan.from_pretrained(clip_model / "vae")
    frames = read_video(tmp_path / "clips" / "a.mp4", 12.5).frames
    above, below = picture[: len(picture) // 2], picture[len(picture) // 2 :]
    size = 64 * 3  # small frames are enlarged
    np.testing.assert_array_equal(above[1 : size + 1 : 3, 1 : size + 1 : 3], frames[0])
    difference = below[1 : size + 1 : 3, 1 : size + 1 : 3].astype(int) - decode_again(vae, frames)[0]
    assert np.abs(difference).max() <= 1


def test_jova_nano_says_what_its_vaes_do_with_its_own_clips_and_cannot_show_others():
    own = read_own_figures(CHECKPOINT)
    assert 30 < own["psnr_db"] < 40 and 0.5 < own["log_mel_error_db"] < 3
    vae = AutoencoderKLWan.from_pretrained(CHECKPOINT / "vae")
    leaves = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    trip = RoundTrip(own=own)
    trip.clips["psnr_db"] = {"": video_psnr(vae, leaves)}
    assert "cannot show these clips" in trip.alarm()[0]


@pytest.mark.needs_program("flite")
def test_the_own_figures_are_those_of_the_corpus():
    from diffusers_jova.nano.assemble import NANO

    pipe = SimpleNamespace(
        vae=AutoencoderKLWan.from_pretrained(CHECKPOINT / "vae"),
        audio_vae=AutoencoderMMAudio.from_pretrained(CHECKPOINT / "audio_vae"),
    )
    measured, own = NANO.measure_vaes(pipe, num_clips=4), read_own_figures(CHECKPOINT)
    assert measured["vae"]["psnr_db"] == pytest.approx(own["psnr_db"], abs=2)
    assert measured["audio_vae"]["log_mel_error_db"] == pytest.approx(own["log_mel_error_db"], abs=0.6)
