# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The VAEs in checkpoints/jova-nano: their statistics, and what of a clip they keep."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan

from diffusers_jova import AutoencoderMMAudio, GriffinLimVocoder
from diffusers_jova.latents import normalize_latents
from diffusers_jova.nano.autoencoders import to_pixels
from diffusers_jova.nano.corpus import plan_clip
from diffusers_jova.nano.measuring import held_out_plans, measure, record, round_trip
from diffusers_jova.pipelines.random_pipeline import create_pipeline


CHECKPOINT = Path(__file__).parents[2] / "checkpoints" / "jova-nano"

pytestmark = pytest.mark.needs_program("flite")


@pytest.fixture(scope="module")
def pipe():
    pipe = create_pipeline()  # its transformer is not asked for anything
    pipe.vae = AutoencoderKLWan.from_pretrained(CHECKPOINT, subfolder="vae")
    pipe.audio_vae = AutoencoderMMAudio.from_pretrained(CHECKPOINT, subfolder="audio_vae")
    pipe.vocoder = GriffinLimVocoder()
    return pipe


@torch.no_grad()
def test_latents_of_the_corpus_have_the_statistics_in_the_configs(pipe):
    clips = record([plan_clip("train", index) for index in range(48)])
    video = torch.cat([pipe.vae.encode(to_pixels(frames)[None]).latent_dist.mode() for frames in clips.frames])
    audio = pipe.audio_vae.encode(torch.from_numpy(clips.waveforms)).latent_dist.mode()
    for latents, vae in ((video, pipe.vae), (audio, pipe.audio_vae)):
        values = normalize_latents(latents, vae.config).transpose(0, 1).flatten(1)  # (C, everything else)
        assert values.mean(dim=1).abs().max() < 0.1
        assert 0.9 < values.std(dim=1).min() and values.std(dim=1).max() < 1.1


def test_a_round_trip_keeps_words_faces_and_lips(pipe):
    pytest.importorskip("dlib", reason="needs dlib-bin (pip install 'diffusers-jova[faces]')")
    clips = record(held_out_plans(6))
    kept = round_trip(pipe, clips)
    error = np.square(kept.frames.astype(float) - clips.frames).mean()
    assert 10 * np.log10(255**2 / error) > 31
    measures = measure(kept, num_workers=1)
    assert measures.word_error_rate <= 0.2, measures.heard
    assert measures.faces_found >= 0.9
    assert measures.lips_in_time > 0.75 > 0.5 > measures.shuffled
