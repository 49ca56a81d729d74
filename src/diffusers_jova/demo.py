# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
from PIL import Image, ImageDraw


def draw_portrait(size: int = 256) -> Image.Image:
    """Return a drawn face, nobody's likeness, as an RGB picture of `size` x `size` pixels."""
    scale = 4 * size / 256  # drawn four times larger and reduced, for smooth edges
    image = Image.new("RGB", (4 * size, 4 * size), (148, 176, 196))
    draw = ImageDraw.Draw(image)

    def ellipse(x: float, y: float, rx: float, ry: float, colour: tuple[int, int, int]) -> None:
        draw.ellipse([scale * (x - rx), scale * (y - ry), scale * (x + rx), scale * (y + ry)], fill=colour)

    skin, hair, dark = (224, 180, 150), (86, 56, 38), (40, 30, 30)
    ellipse(128, 290, 110, 80, (70, 90, 130))  # shoulders
    ellipse(128, 108, 84, 92, hair)
    ellipse(128, 190, 30, 50, (206, 160, 130))  # neck
    ellipse(128, 128, 66, 84, skin)
    ellipse(128, 62, 64, 30, hair)
    for x in (102, 154):
        ellipse(x, 118, 14, 8, (250, 250, 250))
        ellipse(x, 118, 7, 7, (70, 100, 80))
        ellipse(x, 118, 3, 3, dark)
        ellipse(x, 98, 16, 3, hair)
    ellipse(128, 146, 9, 6, (202, 154, 126))  # nose
    ellipse(128, 176, 24, 8, (180, 84, 84))  # lips
    ellipse(128, 176, 16, 3, dark)
    return image.resize((size, size), Image.Resampling.LANCZOS)
