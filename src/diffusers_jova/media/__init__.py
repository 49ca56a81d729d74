# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Files in and out: frames + waveform -> mp4 or wav, file -> frames + waveform at given rates, image -> PIL image.

Everything in memory is NumPy or PIL; on disk PyAV (FFmpeg) does the work.
"""

from ..images import load_image
from ..latents import exact_frame_rate
from .containers import open_input, open_output
from .probing import MediaInfo, probe_media
from .reading import Clip, iter_frames, read_audio, read_video
from .writing import (
    AI_GENERATED_COMMENT,
    AUDIO_SUFFIXES,
    VIDEO_SUFFIXES,
    check_output_path,
    video_writer,
    write_video,
    write_wav,
)


__all__ = [
    "AI_GENERATED_COMMENT",
    "AUDIO_SUFFIXES",
    "VIDEO_SUFFIXES",
    "Clip",
    "MediaInfo",
    "check_output_path",
    "exact_frame_rate",
    "iter_frames",
    "load_image",
    "open_input",
    "open_output",
    "probe_media",
    "read_audio",
    "read_video",
    "video_writer",
    "write_video",
    "write_wav",
]
