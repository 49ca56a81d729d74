# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Images of any kind -> RGB of 8 bits."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from diffusers_jova.images import load_image, to_uint8


RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
COLOURS = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
SCALED = COLOURS.astype(np.float32) / 255
TENSOR = torch.from_numpy(SCALED).permute(2, 0, 1)


def load(image, path, **options):
    """Return the pixels of an image that was saved at `path` and loaded."""
    image.save(path, **options)
    return np.asarray(load_image(path))


# --- depth


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_sixteen_bits_of_grey_become_eight(name, tmp_path):
    grey = Image.fromarray(RAMP.astype(np.uint16) * 257)
    assert grey.mode == "I;16"
    assert (load(grey, tmp_path / name) == RAMP[..., None]).all()
    big_endian = Image.frombytes("I;16B", (16, 16), (RAMP.astype(">u2") * 257).tobytes())
    assert (np.asarray(load_image(big_endian)) == RAMP[..., None]).all()


@pytest.mark.parametrize("scale", [1 / 255, 1])
def test_floats_mean_0_to_1_or_0_to_255(scale, tmp_path):
    grey = Image.fromarray((RAMP * scale).astype(np.float32))
    assert (load(grey, tmp_path / "grey.tif") == RAMP[..., None]).all()


@pytest.mark.parametrize("scale", [1, 257])
def test_integers_of_32_bits_hold_8_or_16(scale):
    assert (np.asarray(load_image(Image.fromarray(RAMP.astype(np.int32) * scale))) == RAMP[..., None]).all()


@pytest.mark.parametrize("value", [-1.0, 1000.0, np.nan, np.inf, 70000, -5])
def test_grey_of_an_unknown_range_is_refused(value, tmp_path):
    dtype = np.float32 if isinstance(value, float) else np.int32
    Image.fromarray(np.array([[0, value]], dtype)).save(tmp_path / "odd.tif")
    with pytest.raises(ValueError, match="odd.tif.*what is black and white is not known"):
        load_image(tmp_path / "odd.tif")


# --- transparency and colour


def hidden_red(mode):
    """Return an image (2, 1): red that alpha hides, and opaque blue; in grey modes 76 and 29."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 255, 255))
    if mode == "P":
        image = Image.new("P", (2, 1))
        image.putpalette([255, 0, 0, 0, 0, 255])
        image.putpixel((1, 0), 1)
        image.info["transparency"] = 0
        return image
    if mode == "RGB":
        image = image.convert("RGB")
        image.info["transparency"] = (255, 0, 0)
        return image
    return image.convert("LA").convert("La") if mode == "La" else image.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "RGBa", "LA", "La", "P", "RGB"])
def test_what_is_transparent_shows_white(mode):
    hidden, opaque = np.asarray(load_image(hidden_red(mode)))[0]
    assert hidden.tolist() == [255] * 3
    assert opaque.tolist() in ([0, 0, 255], [29] * 3)


@pytest.mark.parametrize("mode, name", [("RGBA", "a.png"), ("LA", "a.png"), ("P", "a.png"), ("P", "a.gif")])
def test_transparency_is_read_from_files(mode, name, tmp_path):
    assert load(hidden_red(mode), tmp_path / name)[0, 0].tolist() == [255] * 3


def test_half_transparent_pixels_are_mixed_with_white():
    assert load_image(Image.new("RGBA", (1, 1), (255, 0, 55, 51))).getpixel((0, 0)) == (255, 204, 215)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "1", "P", "CMYK", "YCbCr", "HSV"])
def test_opaque_images_are_as_pillow_converts_them(mode):
    image = Image.fromarray(COLOURS).convert(mode)
    assert np.array_equal(load_image(image), image.convert("RGB"))


def test_lab_becomes_rgb():
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    image = ImageCms.profileToProfile(Image.new("RGB", (1, 1), (200, 50, 50)), srgb, lab, outputMode="LAB")
    assert load_image(image).getpixel((0, 0)) == pytest.approx((200, 50, 50), abs=2)


def swapped_profile() -> bytes:
    """Return the profile of sRGB with red and green exchanged, and another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"?XYZ").replace(b"gXYZ", b"rXYZ").replace(b"?XYZ", b"gXYZ")
    return profile.replace("sRGB".encode("utf-16-be"), "grb!".encode("utf-16-be"))


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_those_of_the_icc_profile(mode, tmp_path):
    image = Image.new(mode, (1, 1), (200, 0, 0, 255)[: len(mode)])
    assert load(image, tmp_path / "a.png", icc_profile=swapped_profile())[0, 0].tolist() == [0, 200, 0]


@pytest.mark.parametrize("profile", [ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), b"broken"])
def test_profiles_of_srgb_and_broken_ones_change_nothing(profile, tmp_path):
    assert (load(Image.fromarray(COLOURS), tmp_path / "a.png", icc_profile=profile) == COLOURS).all()


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.webp"])
def test_of_an_animation_the_first_frame_is_taken(name, tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("white", "black")]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
    assert (np.asarray(load_image(tmp_path / name)) > 250).all()


# --- arrays and tensors


SIGNED = TENSOR * 2 - 1
SOURCES = {
    "image": Image.fromarray(COLOURS),
    "uint8 array": COLOURS,
    "array": SCALED,
    "float64 array": COLOURS / 255,
    "tensor": TENSOR,
    "uint8 tensor": torch.from_numpy(COLOURS).permute(2, 0, 1),
    "tensor from -1 to 1": SIGNED,
    "batch of one": TENSOR[None],
    "rounding": TENSOR * 1.0002 - 0.0001,
}


@pytest.mark.parametrize("source", SOURCES)
def test_images_arrays_and_tensors_are_the_same_pixels(source):
    (pixels,) = to_uint8(SOURCES[source])
    assert pixels.dtype == np.uint8 and np.array_equal(pixels, COLOURS)


def test_half_precision_is_close():
    (pixels,) = to_uint8(TENSOR.to(torch.bfloat16))
    assert np.abs(pixels.astype(int) - COLOURS).max() <= 1


def test_batches_and_lists_are_taken_apart_in_order():
    black = np.zeros_like(SCALED)
    batches = [np.stack([SCALED, black]), torch.stack([TENSOR, 0 * TENSOR]), [SCALED, black], (TENSOR, black)]
    for batch in [*batches, [TENSOR[None], black[None]], [Image.fromarray(COLOURS), 0 * TENSOR]]:
        first, second = to_uint8(batch)
        assert (first == COLOURS).all() and not second.any()


def test_one_negative_number_makes_all_of_a_list_signed():
    signed, grey = to_uint8([SIGNED, torch.zeros(3, 4, 4)])
    assert (signed == COLOURS).all() and (grey == 128).all()


@pytest.mark.parametrize(
    "image, message",
    [
        (np.zeros((3, 8, 8), np.float32), r"3 channels.*arrays are \(H, W, 3\)"),
        (torch.zeros(8, 8, 3), r"3 channels.*tensors are \(3, H, W\)"),
        (np.zeros((8, 8), np.float32), r"must be \(H, W, 3\), or a batch of them, got \(8, 8\)"),
        (torch.zeros(3, 0, 8), r"must be \(3, H, W\), or a batch"),
        (np.zeros((8, 8, 3), np.int64), "must be uint8, or float from 0 to 1, got int64"),
        (np.full((8, 8, 3), 255.0), "too large pixels: pass values from 0 to 1, or uint8"),
        (torch.full((3, 8, 8), -2.0), "too large pixels"),
        (torch.full((3, 8, 8), float("nan")), "holds NaN"),
        ([], "`image` is empty"),
        ([[COLOURS]], "holds a list"),
    ],
)
def test_arrays_of_another_shape_or_range_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        to_uint8(image)
