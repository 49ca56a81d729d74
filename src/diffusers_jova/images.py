# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Images in: a file, PIL image, array or tensor -> RGB of 8 bits, cropped and resized as training does.

Apart from `media`, since the pipeline needs it and PyAV takes a fifth of a second to import.
"""
# N frames, H W rows and columns

import io
import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from PIL import Image, ImageCms


BACKGROUND = (255, 255, 255)  # behind what is transparent: white paper, as viewers show it
TOLERANCE = 1e-3  # by which rounding may leave the range of values, or a crop, in pixels
MAX_COLOUR_AREA = 4096 * 2304  # pixels: larger frames are resized a channel at a time, for Pillow takes 4 bytes each

Crop = tuple[float, float, float, float]  # x1, y1, x2, y2 in pixels of the source


# --- files and PIL images ---


def load_image(image: str | os.PathLike | Image.Image) -> Image.Image:
    """Return the image as RGB, turned as its EXIF orientation says; of an animation the first frame. See `to_rgb`.

    Args:
        image: a path, an http(s) address or a PIL image.

    Raises:
        ValueError: if it is none of these, cannot be read, or has values of an unknown range; the message names it.
    """
    try:
        from diffusers.utils import load_image as load_any_image  # late: processes that read clips need no diffusers

        return load_any_image(os.fspath(image) if isinstance(image, os.PathLike) else image, convert_method=to_rgb)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # what Pillow and `to_rgb` raise
        raise ValueError(f"Cannot read the image `{image}`: {error}") from error


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a PIL image of any mode as RGB.

    Sixteen bits become eight, floats mean [0, 1], or [0, 255] where they exceed 1. What is transparent shows white.
    Colours with an ICC profile become sRGB.

    Raises:
        ValueError: if its values lie in no known range.
    """
    if image.mode in ("F", "I") or image.mode.startswith("I;16"):
        return Image.fromarray(_grey_to_uint8(np.asarray(image))).convert("RGB")
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    if not image.has_transparency_data:
        return _to_srgb(image if image.mode in ("RGB", "CMYK") else image.convert("RGB"))
    image = _to_srgb(image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA"))
    return Image.alpha_composite(Image.new("RGBA", image.size, BACKGROUND), image).convert("RGB")


def _grey_to_uint8(values: np.ndarray) -> np.ndarray:
    """Return (H, W) uint8 of grey values: 16 bits, integers of 32 bits (which hold 8 or 16), or floats."""
    low, high = (values.min(), values.max()) if values.size else (0, 0)
    is_float = np.issubdtype(values.dtype, np.floating)
    ranges = (1, 255) if is_float else (65535,) if values.dtype.itemsize == 2 else (255, 65535)
    fits = (limit for limit in ranges if low >= -TOLERANCE and high <= limit + TOLERANCE)  # none for NaN
    limit = next(fits, None)
    if limit is None:
        raise ValueError(
            f"its values lie from {low} to {high}, and what is black and white is not known: scale them to 0 to "
            f"{ranges[0]}, or save the image with 8 bits"
        )
    return np.rint(values * (255 / limit)).clip(0, 255).astype(np.uint8)


def _to_srgb(image: Image.Image) -> Image.Image:
    """Return an image in RGB, RGBA or CMYK as sRGB, by its ICC profile; without one, as Pillow does."""
    mode = "RGBA" if image.mode == "RGBA" else "RGB"
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(image.info.get("icc_profile") or b""))
        is_its_own = profile.profile.xcolor_space.strip() == image.mode.removesuffix("A")  # a grey one became RGB
        if is_its_own and "srgb" not in ImageCms.getProfileDescription(profile).lower():
            return ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode=mode)
    except (ImportError, OSError, ImageCms.PyCMSError):  # Pillow lacks it, no profile, or a damaged one
        pass
    return image.convert(mode)


# --- what a call of the pipeline is given ---


def to_uint8(image) -> list[np.ndarray]:
    """Return images, each (H, W, 3) uint8.

    Args:
        image: a path, address or PIL image; an array (H, W, 3) or tensor (3, H, W), or a batch of them (N, H, W, 3) or
            (N, 3, H, W); or a list of any of these. Arrays and tensors are uint8, float in [0, 1], or, where one of
            their numbers is negative, float in [-1, 1], as in diffusers.

    Raises:
        ValueError: for another type, shape or range, or NaN.
    """
    items = list(image) if isinstance(image, list | tuple) else [image]
    arrays = [array for item in items for array in _arrays(item)]
    if not arrays:
        raise ValueError("`image` is empty: pass an image, or None.")
    numbers = [array for array in arrays if np.issubdtype(array.dtype, np.floating)]
    if not all((abs(array) <= 1 + TOLERANCE).all() for array in numbers):  # false for NaN, too
        raise ValueError("`image` holds NaN, infinite or too large pixels: pass values from 0 to 1, or uint8.")
    is_signed = any(array.min() < -TOLERANCE for array in numbers)
    return [_quantize(array, is_signed) for array in arrays]


def _arrays(item) -> Iterator[np.ndarray]:
    """Yield the images (H, W, 3) of one entry, uint8 or float."""
    if isinstance(item, str | os.PathLike | Image.Image):
        yield np.asarray(load_image(item))
        return
    if not isinstance(item, np.ndarray | torch.Tensor):
        raise ValueError(
            f"Input is in incorrect format: `image` holds a {type(item).__name__}. Pass paths, PIL images, arrays "
            "(H, W, 3) or tensors (3, H, W)."
        )
    is_tensor = isinstance(item, torch.Tensor)
    if item.ndim not in (3, 4) or 0 in item.shape:
        layout = "(3, H, W)" if is_tensor else "(H, W, 3)"
        raise ValueError(f"`image` must be {layout}, or a batch of them, got {tuple(item.shape)}.")
    channel_axis = -3 if is_tensor else -1
    if item.shape[channel_axis] != 3:
        layout = "tensors are (3, H, W)" if is_tensor else "arrays are (H, W, 3)"
        raise ValueError(
            f"`image` must have 3 channels (RGB), got {item.shape[channel_axis]} in {tuple(item.shape)}: {layout}."
        )
    if isinstance(item, torch.Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.is_floating_point() else item).numpy()  # NumPy has no bfloat16
    if item.dtype != np.uint8 and not np.issubdtype(item.dtype, np.floating):
        raise ValueError(f"`image` must be uint8, or float from 0 to 1, got {item.dtype}.")
    item = np.moveaxis(item, channel_axis, -1)
    yield from item if item.ndim == 4 else [item]


def _quantize(array: np.ndarray, is_signed: bool) -> np.ndarray:
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        array = np.rint(((array + 1) / 2 if is_signed else array).clip(0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(array)


# --- crop and resize ---


def centre_crop(source_height: int, source_width: int, height: int, width: int) -> Crop:
    """Return x1, y1, x2, y2 of the largest centred piece of the source that has the shape of height x width."""
    scale = max(height / source_height, width / source_width)
    cropped_height, cropped_width = height / scale, width / scale
    left, top = (source_width - cropped_width) / 2, (source_height - cropped_height) / 2
    right, bottom = left + cropped_width, top + cropped_height
    # -1e-13 is outside the source, too, and Pillow refuses it
    return max(left, 0.0), max(top, 0.0), min(right, source_width), min(bottom, source_height)


def face_crop(
    source_height: int, source_width: int, height: int, width: int, mouths: np.ndarray, faces: np.ndarray
) -> Crop:
    """Return `centre_crop`, moved so that it shows the mouths and, around them, the faces.

    It is as large as that one and moves along the axis on which that leaves room: to where most mouths are whole, of
    these places to where most of the faces is seen, of these to the one nearest to the centre [ours]. A face that lies
    inside the centre crop leaves it as it is.

    Args:
        mouths, faces: (N, 4) boxes, x1, y1, x2, y2 in pixels of the source; NaN where there is none.
    """
    crop = centre_crop(source_height, source_width, height, width)
    lengths = np.array([source_width, source_height]), np.array([crop[2] - crop[0], crop[3] - crop[1]])
    axis = int(np.argmax(lengths[0] - lengths[1]))  # the other one is filled
    source_length, length = (float(pair[axis]) for pair in lengths)
    mouths, faces = (_spans(boxes, axis, source_length) for boxes in (mouths, faces))
    edges = np.concatenate([mouths, faces])
    starts = np.concatenate([[crop[axis]], edges[:, 0], edges[:, 1] - length]).clip(0, max(source_length - length, 0))
    inside = (starts[:, None] < mouths[:, 0] + TOLERANCE) & (starts[:, None] + length > mouths[:, 1] - TOLERANCE)
    seen = np.minimum(starts[:, None] + length, faces[:, 1]) - np.maximum(starts[:, None], faces[:, 0])
    num_mouths, seen = inside.sum(axis=1), seen.clip(0).sum(axis=1).round(3)
    best = np.lexsort((abs(starts - crop[axis]), -seen, -num_mouths))[0]
    if best == 0:  # the centre
        return crop
    start = float(starts[best])
    end = min(start + length, source_length)
    return (start, crop[1], end, crop[3]) if axis == 0 else (crop[0], start, crop[2], end)


def _spans(boxes: np.ndarray, axis: int, length: float) -> np.ndarray:
    """Return first and last pixel (N, 2) of the boxes that there are along an axis, inside the source."""
    spans = np.asarray(boxes, np.float64)[:, [axis, axis + 2]]
    return spans[np.isfinite(spans).all(axis=1)].clip(0, length)


def resize_frames(frames: Iterable[np.ndarray], crop: Crop, height: int, width: int) -> np.ndarray:
    """Return frames (N, height, width, 3) uint8: `crop` of the source's frames, resized, bicubic with antialiasing."""
    return np.stack([resize_frame(frame, crop, height, width) for frame in frames])


def normalize_frames(frames: np.ndarray) -> torch.Tensor:
    """Return frames (N, ..., 3) uint8 as a VAE reads them: (N, 3, ...), float32 in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).movedim(-1, 1).float() / 127.5 - 1


def fit_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return (height, width, 3) uint8: the largest part of a frame that has this shape, around its centre, resized."""
    crop = centre_crop(frame.shape[0], frame.shape[1], height, width)
    return resize_frame(frame, crop, height, width)


def resize_frame(frame: np.ndarray, crop: Crop, height: int, width: int) -> np.ndarray:
    """Return (height, width, 3) uint8: `crop`, x1, y1, x2, y2, of a frame (H, W, 3), resized."""
    if frame.shape[:2] == (height, width):
        return frame
    if frame.shape[0] * frame.shape[1] <= MAX_COLOUR_AREA:
        return _resize(frame, crop, height, width)
    return np.stack([_resize(frame[..., channel], crop, height, width) for channel in range(3)], axis=-1)


def _resize(frame: np.ndarray, crop: Crop, height: int, width: int) -> np.ndarray:
    image = Image.fromarray(np.ascontiguousarray(frame))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC, box=crop))
