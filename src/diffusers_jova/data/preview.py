# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The preview of a sample: its frames with mouth boxes and mask, and below them what the VAE makes of them."""

from ..files import whole_file
from ..latents import num_latent_frames
from ..mouth import contact_sheet, draw_overlay, mouth_mask
from ..pipelines.pipeline_jova import JoVAPipeline
from .prepare import PreparedClip
from .round_trip import decode_again
from .run import Run
from .windows import Window


PREVIEW_HEIGHT = 192  # pixels: smaller frames are enlarged


def write_preview(run: Run, window: Window, clip: PreparedClip, pipe: JoVAPipeline | None) -> None:
    """Write the preview of a window, if its clip has frames."""
    if clip.frames is None:
        return
    spatial, temporal = run.facts.spatial, run.facts.temporal
    height, width = window.bucket.height // spatial, window.bucket.width // spatial
    shape = (num_latent_frames(clip.num_frames, temporal), height, width)
    enlarge = max(PREVIEW_HEIGHT // window.bucket.height, 1)
    frames, boxes = clip.frames.repeat(enlarge, axis=1).repeat(enlarge, axis=2), clip.boxes * enlarge
    drawn = draw_overlay(frames, boxes, mouth_mask(clip.boxes, shape, spatial, temporal), temporal)
    path = run.preview_path(window.key)
    path.parent.mkdir(exist_ok=True)
    with whole_file(path, "") as partial_path:
        decoded = decode_again(pipe.vae, clip.frames).repeat(enlarge, axis=1).repeat(enlarge, axis=2)
        contact_sheet([drawn, decoded]).save(partial_path, format="png")
