# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a file holds: one image or a clip, video or audio or both, how large and how long."""

import re
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

from ..media import probe_media
from ..media.containers import CLIP_FORMATS, IMAGE_FORMATS, naming, open_input
from ..media.reading import read_timeline


# What FFmpeg calls the containers of images, and the brands of those that it takes for MP4.
PICTURE_FORMATS = re.compile(r"_pipe\b|^image2|^gif$|^apng$|^jpegxl|^webp|^tty$")
PICTURE_BRANDS = {"avif", "avis", "heic", "heix", "heim", "heis", "hevc", "hevx", "mif1", "mif2", "msf1", "jpeg"}


@dataclass(frozen=True)
class Probe:
    """What a file holds.

    Attributes:
        height, width: in pixels, as they are shown; 0 without video.
        has_audio: whether there is an audio track.
        duration_s: of the video, or of the audio where there is none, as measured.
        warnings: what is unusual about the file, in words.
    """

    height: int
    width: int
    has_audio: bool
    duration_s: Fraction
    warnings: tuple[str, ...] = ()

    @property
    def has_video(self) -> bool:
        return self.height > 0


def is_still_picture(path: Path) -> bool:
    """Whether a file is one image, which FFmpeg opens like a video: by its content, whatever its name says.

    Raises:
        ValueError: if it cannot be read.
    """
    if not path.stat().st_size:
        return False
    with (
        naming(path, "it cannot be read and may be damaged: {reason}"),
        open_input(path, (*CLIP_FORMATS, *IMAGE_FORMATS)) as container,
    ):
        if container.streams.audio or not container.streams.video:
            return False
        # HEIF and AVIF have the layout of MP4, and say what they are by their brand (ISO 23008-12)
        brand = container.metadata.get("major_brand", "")
        if not (PICTURE_FORMATS.search(container.format.name) or brand.strip() in PICTURE_BRANDS):
            return False
        images = (packet for packet in container.demux(video=0) if packet.size)
        return len(list(islice(images, 2))) < 2


def probe_kinds(path: Path) -> tuple[bool, bool]:
    """Return whether the file has video and whether it has audio; (True, False) if it cannot be read."""
    try:
        timeline = read_timeline(path)
    except (ValueError, OSError):
        return True, False
    return timeline.video is not None, timeline.audio is not None


def probe(path: Path) -> Probe:
    """Return what the file holds; its first frame is decoded, which shows most damage.

    Raises:
        ValueError: if it cannot be read or has neither video nor audio.
    """
    if not path.stat().st_size:
        raise ValueError("the file is empty (0 bytes)")
    found = probe_media(path)
    return Probe(found.height, found.width, found.has_audio, found.duration_s, found.warnings)
