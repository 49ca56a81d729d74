# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""An image file -> PIL image."""

import os

from diffusers.utils import load_image as load_any_image
from PIL import Image


def load_image(image: str | os.PathLike | Image.Image) -> Image.Image:
    """Return the picture as RGB, turned the way its EXIF orientation says.

    Args:
        image: a path, an http(s) address or a PIL image.

    Raises:
        ValueError: if it is none of these, or cannot be read; the message names the file.
    """
    try:
        return load_any_image(os.fspath(image) if isinstance(image, os.PathLike) else image)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise ValueError(f"Cannot read the image `{image}`: {error}") from error
