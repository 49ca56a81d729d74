# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Wrong arguments are named, with what is allowed, before a text encoder or the transformer runs."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_jova import JoVAPipeline


STATES, MASK = torch.zeros(1, 6, 128), torch.ones(1, 6)
EMBEDS = {"prompt_embeds": STATES, "prompt_embeds_2": STATES}

CASES = {
    "height": ({"height": 40}, "divisible by 16 but are 40 and 32. Nearest: 32 and 32"),
    "width": ({"width": 0}, "divisible by 16 but are 32 and 0. Nearest: 32 and 16"),
    "num_frames": ({"num_frames": 7}, r"`num_frames` must be 4k \+ 1 for the video VAE, got 7. Nearest: 5 or 9"),
    "no frames": ({"num_frames": 0}, "got 0. Nearest: 1 or 5"),
    "no frames of audio": ({"num_frames": 0, "modalities": "audio"}, "`num_frames` must be at least 1, got 0"),
    "no steps": ({"num_inference_steps": 0}, "`num_inference_steps` must be at least 1, got 0"),
    "no sigmas": ({"sigmas": []}, "`num_inference_steps` must be at least 1, got 0"),
    "steps and sigmas": (
        {"sigmas": [1.0], "num_inference_steps": 2},
        "`sigmas` has 1 steps, but .* is 2. Give `sigmas` alone",
    ),
    "no videos": ({"num_videos_per_prompt": 0}, "`num_videos_per_prompt` must be at least 1, got 0"),
    "frame_rate": ({"frame_rate": 0}, "`frame_rate` must be a positive number"),
    "endless frame_rate": ({"frame_rate": float("inf")}, "`frame_rate` must be a positive number"),
    "guidance": ({"guidance_scale": -1.0}, "`guidance_scale` must be a number of 0 or more, got -1.0. 1.0 turns"),
    "audio guidance": ({"audio_guidance_scale": -1.0}, "`audio_guidance_scale` must be a number of 0 or more"),
    "modality scale": ({"modality_scale": -0.5}, "`modality_scale` must be a number of 0 or more"),
    "audio modality scale": (
        {"audio_modality_scale": float("nan")},
        "`audio_modality_scale` must be a number of 0 or more, got nan",
    ),
    "norm threshold": (
        {"apg_norm_threshold": -1},
        "`apg_norm_threshold` must be a number of 0 or more, got -1. None turns",
    ),
    "output_type": (
        {"output_type": "mp4"},
        r"`output_type` must be one of \('pil', 'np', 'pt', 'latent'\), got 'mp4'",
    ),
    "modality": ({"modalities": ("video", "smell")}, r"one or both of \('video', 'audio'\), got \('video', 'smell'\)"),
    "modality twice": ({"modalities": ("video", "video")}, "one or both of"),
    "no modality": ({"modalities": ()}, r"one or both of \('video', 'audio'\), got \(\)"),
    "callback": (
        {"callback_on_step_end_tensor_inputs": ["image"]},
        r"`callback_on_step_end_tensor_inputs` has to be in \['latents', 'audio_latents', .* found \['image'\]",
    ),
    "neither text nor embeds": ({"prompt": None}, "Provide either `prompt` or `prompt_embeds`"),
    "text and embeds": (EMBEDS, "Cannot forward both `prompt`: 'A face.' and `prompt_embeds`"),
    "transcript and embeds": (
        {"prompt": None, "transcript": "one", "prompt_embeds_2": STATES},
        "Cannot forward both `transcript`: 'one' and `prompt_embeds_2`",
    ),
    "negative and its embeds": (
        {"negative_prompt": "x", "negative_prompt_embeds": STATES},
        "Cannot forward both `negative_prompt`: 'x' and `negative_prompt_embeds`",
    ),
    "type of prompt": ({"prompt": 7}, "`prompt` has to be of type `str` or `list` of `str` but is 7"),
    "type in list": ({"transcript": ["one", None]}, "`transcript` has to be of type"),
    "lengths": (
        {"prompt": ["A", "B"], "transcript": ["one"]},
        r"same length, one entry per sample, got {'prompt': 2, 'transcript': 1}",
    ),
    "length of the negative": ({"negative_prompt": ["x", "y"]}, r"got {'prompt': 1, 'negative_prompt': 2}"),
    "empty list": ({"prompt": []}, "got {'prompt': 0}"),
    "lengths of embeds": (
        {"prompt": None, "prompt_embeds": STATES, "prompt_embeds_2": STATES.repeat(2, 1, 1)},
        "got {'prompt_embeds': 1, 'prompt_embeds_2': 2}",
    ),
    "mask of another shape": (
        {"prompt": None, **EMBEDS, "prompt_attention_mask": torch.ones(1, 5)},
        r"mask of `prompt_embeds` must have its shape without the last axis, got \(1, 5\) for \(1, 6, 128\)",
    ),
    "mask without embeds": ({"negative_prompt_attention_mask_2": MASK}, "mask of `negative_prompt_embeds_2`"),
    "embeds of one encoder": (
        {"prompt": None, "prompt_embeds": STATES},
        r"same text encoders, but of the embeddings only \['prompt_embeds'\] were given",
    ),
    "labels and transcript": (
        {"prompt": "<Video Caption>: A face.", "transcript": "one"},
        "already has labelled lines",
    ),
    "labels in the negative": (
        {"negative_prompt": "<Video Caption>: x", "negative_audio_prompt": "y"},
        "already has labelled lines",
    ),
    "latents": ({"latents": torch.zeros(1, 16, 2, 4, 5)}, r"`latents` must have shape \(1, 16, 2, 4, 4\), got"),
    "audio_latents": (
        {"audio_latents": torch.zeros(1, 20, 12)},
        r"`audio_latents` must have shape \(1, 20, 13\), got",
    ),
    "generators": (
        {"generator": [torch.Generator()] * 2},
        "a list of generators of length 2, but requested an effective batch size of 1",
    ),
    "no such image": ({"image": "missing.png"}, "missing.png"),
    "NaN image": ({"image": torch.full((3, 32, 32), float("nan"))}, "`image` holds NaN"),
    "infinite image": ({"image": np.full((32, 32, 3), np.inf, np.float32)}, "`image` holds NaN, infinite"),
    "image in bytes": ({"image": torch.full((3, 32, 32), 255.0)}, "pass values from 0 to 1"),
    "transparent image": ({"image": torch.ones(4, 32, 32)}, "`image` must have 3 channels"),
    "image of another kind": ({"image": 7}, "Input is in incorrect format"),
    "number of images": (
        {"image": [Image.new("RGB", (8, 8))] * 2},
        "Got 2 images for 1 prompts: pass one, or one per",
    ),
    "image for audio": (
        {"image": Image.new("RGB", (8, 8)), "modalities": ("audio",)},
        r"`modalities=\('audio',\)` does not ask for a video. Add 'video', or leave out `image`",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_argument_is_refused_before_any_work(case, pipe, record):
    arguments, message = CASES[case]
    parts = (pipe.text_encoder, pipe.text_encoder_2, pipe.transformer, pipe.vae.encoder)
    calls = [record(part) for part in parts]
    with pytest.raises(ValueError, match=message):
        pipe(**({"prompt": "A face."} | arguments))
    assert calls == [[], [], [], []]


def test_an_unreadable_image_is_named(pipe, tmp_path):
    path = tmp_path / "broken.png"
    Image.new("RGB", (64, 64)).save(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match="Cannot read the image .*broken.png"):
        pipe("A face.", image=path)


@pytest.mark.parametrize(
    "missing, arguments, message",
    [
        (["vae"], {}, "needs `vae`, which this pipeline was loaded without"),
        (["vocoder"], {}, "needs `vocoder`, which"),
        (["audio_vae", "vocoder"], {"modalities": "audio"}, "needs `audio_vae` and `vocoder`"),
        (["transformer", "scheduler"], {}, "needs `transformer` and `scheduler`"),
        (["text_encoder", "text_encoder_2"], {}, "`prompt` needs a text encoder"),
        (["tokenizer_2"], {}, "`text_encoder_2` needs `tokenizer_2`"),
        (
            ["text_encoder", "text_encoder_2"],
            {"prompt": None} | EMBEDS,
            "`negative_prompt` needs a text encoder, .* pass `negative_prompt_embeds`",
        ),
    ],
)
def test_a_missing_component_is_named(missing, arguments, message, pipe):
    partial = JoVAPipeline(**(pipe.components | dict.fromkeys(missing)), height=32, width=32, num_frames=5)
    with pytest.raises(ValueError, match=message):
        partial(**({"prompt": "A face."} | arguments))


def test_a_branch_that_was_not_built_is_named(make_pipeline):
    silent = make_pipeline(audio_in_channels=None, num_layers=1)
    with pytest.raises(ValueError, match=r"without its audio branch \(`audio_in_channels=None`\). Choose the other"):
        silent("A face.")
    blind = make_pipeline(in_channels=None, num_layers=1)
    with pytest.raises(ValueError, match=r"without its video branch \(`in_channels=None`\)"):
        blind("A face.")


def test_an_image_is_refused_where_the_transformer_takes_none(make_pipeline):
    text_only = make_pipeline(in_channels=16, num_layers=1)
    with pytest.raises(ValueError, match="no channels for a reference image .* Leave out `image`"):
        text_only("A face.", image=Image.new("RGB", (8, 8)))


def test_tokens_that_context_parallelism_cannot_share_are_refused(pipe, monkeypatch):
    monkeypatch.setattr(type(pipe.transformer), "context_parallel_degree", 3)
    with pytest.raises(ValueError, match="degree 3 must divide the number of media tokens, got 8. Nearest: 6 or 9"):
        pipe("A face.")


def test_a_sample_size_that_is_refused_leaves_the_next_call_alone(pipe, seeded):
    before = pipe("A face.", generator=seeded(), output_type="latent")
    with pytest.raises(ValueError):
        pipe("A face.", guidance_scale=-1.0, height=40)
    after = pipe("A face.", generator=seeded(), output_type="latent")
    assert torch.equal(before.frames, after.frames) and torch.equal(before.audio, after.audio)
