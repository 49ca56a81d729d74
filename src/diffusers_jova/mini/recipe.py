# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What jova-mini is made of; and the recipes of the small models by name."""

from itertools import count

from ..nano.assemble import NANO, SCHEDULER, Clips, Recipe
from ..nano.autoencoders import AUDIO_VAE, VIDEO_VAE
from ..nano.corpus import FRAME_RATE
from ..nano.settings import COMPONENTS
from .corpus import NUM_FRAMES, SIZE, make_frames, plan_clip
from .sentences import words_by_kind
from .text_encoder import SIZES, train_text


KNOWN_WORDS = {kind: list(words) for kind, words in words_by_kind().items()}  # as they come out of a JSON file
AUDIO_CHANNELS = 40  # of an audio latent
DEFAULTS = {"height": SIZE, "width": SIZE, "num_frames": NUM_FRAMES, "frame_rate": FRAME_RATE}
# Measured: docs/decisions.md, 2026-11-28. Text pulls lips away from the audio, so the video has little of it.
SETTINGS = {"num_inference_steps": 20, "guidance_scale": 2.0, "audio_guidance_scale": 3.0, "modality_scale": 3.0}


def _held_out() -> Clips:
    for plan in (plan_clip("held_out", index) for index in count()):
        yield make_frames(plan, SIZE), plan.speech().waveform


MINI = Recipe(
    size=SIZE,
    steps=COMPONENTS["mini"],
    train_text=train_text,
    video_vae=VIDEO_VAE,
    # 20 channels leave fewer of two hundred words: docs/decisions.md
    audio_vae=AUDIO_VAE | {"latent_channels": AUDIO_CHANNELS},
    audio_kl_weight=1e-5,
    audio_refinement=4.0,  # words wrong behind VAE and vocoder: 0.080, without it 0.094
    audio_split="speech",
    motion_weight=8.0,  # eyes and mouths are smaller in the frame than jova-nano's
    sharpening=0.3,  # teeth, strands of hair and edges of eyes are finer than what latents tell
    # 2 x 2 latents per token, as jova-nano's: 4 x 4 would be 256 numbers, which 192 cannot tell: docs/decisions.md
    transformer={
        **NANO.transformer,
        "audio_in_channels": AUDIO_CHANNELS,
        "text_embed_dim": SIZES["d_model"],
        "text_embed_dim_2": None,
    },
    defaults={**NANO.defaults, **DEFAULTS},
    settings=DEFAULTS | SETTINGS | {"prompt_format": "labelled", "known_words": KNOWN_WORDS},
    held_out=_held_out,
    scheduler=SCHEDULER | {"shift": 4.0},
    starts_from="jova-nano",  # whose blocks speak already, and whose lips follow
    last_folder={**NANO.last_folder, "text": "text_encoder"},
)
RECIPES = {"nano": NANO, "mini": MINI}
