# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The preview of a sample: its frames with mouth boxes and mask, and below them what the VAE makes of them."""

from typing import TYPE_CHECKING

from PIL import Image

from ..latents import num_latent_frames
from ..mouth import contact_sheet, draw_overlay, mouth_mask
from .model_facts import ModelFacts
from .prepare import PreparedClip
from .round_trip import decode_again
from .windows import Window


if TYPE_CHECKING:  # children that read clips import this, and wait for no diffusers
    from ..pipelines.pipeline_jova import JoVAPipeline


PREVIEW_HEIGHT = 192  # pixels: smaller frames are enlarged


def draw_preview(facts: ModelFacts, window: Window, clip: PreparedClip, pipe: "JoVAPipeline") -> Image.Image:
    """Return the preview of a window whose clip has frames."""
    spatial, temporal = facts.spatial, facts.temporal
    height, width = window.bucket.height // spatial, window.bucket.width // spatial
    shape = (num_latent_frames(clip.num_frames, temporal), height, width)
    enlarge = max(PREVIEW_HEIGHT // window.bucket.height, 1)
    frames, boxes = clip.frames.repeat(enlarge, axis=1).repeat(enlarge, axis=2), clip.boxes * enlarge
    drawn = draw_overlay(frames, boxes, mouth_mask(clip.boxes, shape, spatial, temporal), temporal)
    decoded = decode_again(pipe.vae, clip.frames).repeat(enlarge, axis=1).repeat(enlarge, axis=2)
    return contact_sheet([drawn, decoded])
