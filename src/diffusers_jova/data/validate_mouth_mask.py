# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The paper's test of the mouth mask (Appendix A, `mouth.mask_test`) on a clip, prepared as for the cache."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from ..engines import LocalEngine
from ..faces import FaceDetector
from ..files import whole_file
from ..media import check_output_path
from ..mouth import MaskTest, draw_mask_test, mask_test
from .encode import load_phase
from .plan import make_plan
from .prepare import Preparation, PreparedClip
from .run import Run, prepare_run
from .settings import PreprocessingConfig


def validate_mouth_mask(
    video: str | os.PathLike,
    model: str | os.PathLike,
    output: str | os.PathLike,
    detector: FaceDetector | None = None,
    **options: Any,
) -> MaskTest:
    """Return `mouth.mask_test` of a clip, prepared as for the cache, and write the two rows as one image.

    Args:
        video: the clip; its first window is taken.
        model: folder of a pipeline.
        output: ends in .png or .jpg.
        detector: finds faces; None for dlib's.
        options: `height`, `width`, `num_frames`, `frame_rate`, `landmarks`, `device`, `dtype` of
            `PreprocessingConfig`.

    Raises:
        ValueError: if the clip cannot be read or has no mouth.
    """
    check_output_path(output, (".png", ".jpg"))
    run = prepare_run(PreprocessingConfig(str(video), str(model), output_dir=os.devnull, **options), detector)
    if not run.facts.has_video:
        raise ValueError(f"The pipeline `{model}` has no video VAE.")
    clip = _prepare_first_window(run)
    if not np.isfinite(clip.boxes).all(axis=1).any():
        raise ValueError(f"No mouth was found in `{video}`: choose a clip with a face that looks into the camera.")
    with load_phase(run.facts.folder, "video", run.device, run.dtype) as pipe:
        test = mask_test(pipe.vae, clip.frames, clip.boxes)
    with whole_file(output) as partial_path:
        image_format = "jpeg" if Path(output).suffix.lower() == ".jpg" else "png"
        draw_mask_test(test, clip.frames, clip.boxes).save(partial_path, format=image_format)
    return test


def _prepare_first_window(run: Run) -> PreparedClip:
    engine = LocalEngine(run.config.num_workers)
    windows = make_plan(run, engine).windows
    if not windows:
        raise ValueError(f"`{run.config.data}` cannot be used: {run.summary.skipped[0][1]}.")
    prepare = Preparation(run.frame_rate, None, True, run.detector, crop=run.config.crop)
    ((_, clip),) = engine.map(prepare, windows[:1])
    if isinstance(clip, str):
        raise ValueError(f"`{run.config.data}` cannot be used: {clip}.")
    return clip
