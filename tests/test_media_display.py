# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What a file says about how its pixels are shown: orientation, shape, colours, fields."""

import gc
import sys
from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from diffusers_jova.media import display, iter_frames, probe_media, read_video, write_video


LEVELS = {(-1, -1): 40, (1, -1): 100, (-1, 1): 160, (1, 1): 220}  # of the quadrants, by the signs of x and y


def quadrants(num_frames=3, height=48, width=64):
    """`(F, H, W, 3)` uint8, grey, another one in each quarter."""
    frames = np.zeros((num_frames, height, width, 3), np.uint8)
    for (x, y), level in LEVELS.items():
        rows = slice(None, height // 2) if y < 0 else slice(height // 2, None)
        frames[:, rows, slice(None, width // 2) if x < 0 else slice(width // 2, None)] = level
    return frames


def quadrant_levels(frame):
    """Return the grey in the middle of each quarter, as `LEVELS`."""
    height, width = frame.shape[:2]
    return {(x, y): int(frame[height // 2 + y * height // 4, width // 2 + x * width // 4].mean()) for x, y in LEVELS}


def write_frames(path, frames, pixel_format="yuv420p", codec="libx264", rate=25, tags=None, options=None, **settings):
    """Write arrays or PyAV frames; `settings` go to the codec's context, `tags` to every frame."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"crf": "1"} if options is None else options)
        first = frames[0]
        stream.height, stream.width = (first.height, first.width) if hasattr(first, "format") else first.shape[:2]
        stream.pix_fmt = pixel_format
        matrix = settings.pop("display_matrix", None)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for name, value in settings.items():
            setattr(stream.codec_context, name, value)
        for index, frame in enumerate(frames):
            if not hasattr(frame, "format"):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))
            frame.pts, frame.time_base = index, Fraction(1, rate)
            for name, value in (tags or {}).items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


# --- orientation ---

SIGNS = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
MATRICES = [(a, 0, 0, d) for a, d in SIGNS] + [(0, b, c, 0) for b, c in SIGNS]


@pytest.mark.parametrize("matrix", MATRICES)
@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_all_eight_orientations_are_obeyed(matrix, suffix, tmp_path):
    a, b, c, d = matrix
    fixed = [value << 16 for value in (a, b, 0, c, d, 0, 0, 0)] + [1 << 30]  # ISO 14496-12, section 8.3.2
    path = write_frames(tmp_path / f"clip.{suffix}", quadrants(), display_matrix=fixed)
    frame = read_video(path).frames[1]
    assert frame.shape == ((64, 48, 3) if b else (48, 64, 3))
    shown = quadrant_levels(frame)
    for (x, y), level in LEVELS.items():
        assert shown[a * x + c * y, b * x + d * y] == pytest.approx(level, abs=3)
    info = probe_media(path)
    assert (info.height, info.width) == frame.shape[:2]


# --- the shape of pixels ---


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts", "h264", "avi"])
@pytest.mark.parametrize("aspect, width", [(Fraction(16, 9), 114), (Fraction(8, 9), 57), (Fraction(3201, 3200), 64)])
def test_pixels_are_made_square(aspect, width, suffix, tmp_path):
    path = write_frames(tmp_path / f"clip.{suffix}", quadrants(12), sample_aspect_ratio=aspect)
    frame = read_video(path).frames[1]
    assert frame.shape == (48, width, 3)
    assert quadrant_levels(frame) == pytest.approx(LEVELS, abs=3)
    assert (probe_media(path).height, probe_media(path).width) == (48, width)


@pytest.mark.parametrize("aspect", [Fraction(0, 1), Fraction(1, 1), Fraction(1, 255), Fraction(255, 1)])
def test_impossible_shape_of_pixels_is_ignored(aspect, tmp_path):
    path = write_frames(tmp_path / "clip.mp4", quadrants(), sample_aspect_ratio=aspect)
    assert read_video(path).frames.shape == (3, 48, 64, 3)


def test_turned_pixels_keep_their_shape(tmp_path):
    turn = [value << 16 for value in (0, 1, 0, -1, 0, 0, 0, 0)] + [1 << 30]
    path = write_frames(tmp_path / "clip.mp4", quadrants(), sample_aspect_ratio=Fraction(2), display_matrix=turn)
    assert read_video(path).frames.shape == (3, 128, 48, 3)
    assert (probe_media(path).height, probe_media(path).width) == (128, 48)


def test_frames_that_change_their_size_get_that_of_the_first(tmp_path):
    small = write_frames(tmp_path / "small.ts", quadrants(5))
    large = write_frames(tmp_path / "large.ts", quadrants(5, 96, 128))
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    frames = list(iter_frames(path))
    assert {frame.shape for frame in frames} == {(48, 64, 3)}
    assert quadrant_levels(frames[-1]) == pytest.approx(LEVELS, abs=3)


# --- colours ---

COLOURS = np.array([(230, 40, 40), (40, 200, 60), (40, 60, 220), (230, 220, 40), (128, 128, 128), (255, 255, 255)])
BT709, BT2020, PQ, HLG = 1, 9, 16, 18  # ITU-T H.273
BT709_TO_BT2020 = ((0.6274, 0.3293, 0.0433), (0.0691, 0.9195, 0.0114), (0.0164, 0.0880, 0.8956))  # ITU-R BT.2087


def in_hdr(colours, transfer):
    """Return 8-bit colours in the standard range as a signal in BT.2020, white at 203 nits or 75 % (ITU-R BT.2408)."""
    light = (np.asarray(colours) / 255) ** 2.4 @ np.array(BT709_TO_BT2020).T
    if transfer == PQ:
        power = (light * 203 / 10000) ** (2610 / 16384)
        return ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    light = light * (np.exp((0.75 - 0.55991073) / 0.17883277) + 0.28466892) / 12
    bright = 0.17883277 * np.log(np.maximum(12 * light - 0.28466892, 1e-9)) + 0.55991073
    return np.where(light <= 1 / 12, np.sqrt(3 * light), bright)


def write_hdr(path, signal, transfer):
    """Write (n, 3) signals as stripes of 16 columns in 10 bits."""
    pixels = np.rint(np.repeat(np.asarray(signal), 16, axis=0) * 65535).astype(np.uint16)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.broadcast_to(pixels, (48, *pixels.shape))), "rgb48le")
    frame = frame.reformat(format="yuv420p10le", dst_colorspace=BT2020, dst_color_range=1)
    tags = {"color_trc": transfer, "color_primaries": BT2020, "colorspace": BT2020, "color_range": 1}
    options = {"x265-params": "log-level=error:crf=1"}
    return write_frames(path, [frame] * 3, "yuv420p10le", "libx265", options=options, tags=tags, **tags)


def stripes(path):
    return read_video(path).frames[1][24, 8::16].astype(int)


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["PQ", "HLG"])
def test_colours_of_the_standard_range_look_the_same_in_hdr(transfer, tmp_path):
    shown = stripes(write_hdr(tmp_path / "clip.mp4", in_hdr(COLOURS, transfer), transfer))
    assert shown[:5] == pytest.approx(COLOURS[:5], abs=5)
    assert shown[5].min() > 244  # a little room is left above white


@pytest.mark.parametrize("transfer", [PQ, HLG], ids=["PQ", "HLG"])
def test_highlights_above_white_keep_their_order_and_their_hue(transfer, tmp_path):
    grey = np.linspace(0, 1, 12)[:, None].repeat(3, 1)
    shown = stripes(write_hdr(tmp_path / "grey.mp4", grey, transfer))
    assert np.all(np.diff(shown[:, 1]) >= 0) and shown[0, 1] == 0 and shown[-1, 1] == 255
    assert np.ptp(shown, axis=1).max() <= 2
    orange = in_hdr([(383, 192, 0)] * 4, transfer)  # 2.65 times as bright as what is shown as (255, 128, 0)
    red, green, blue = stripes(write_hdr(tmp_path / "orange.mp4", orange, transfer))[1]
    assert red > 250 and green == pytest.approx(128, abs=5) and blue < 12


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "yuvj420p"])
@pytest.mark.parametrize("matrix", [BT709, 5, BT2020], ids=["bt709", "bt601", "bt2020"])
def test_matrix_and_range_are_those_of_the_file(matrix, pixel_format, tmp_path):
    pixels = np.repeat(COLOURS, 16, axis=0).astype(np.uint8)
    color_range = 2 if pixel_format == "yuvj420p" else 1
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.broadcast_to(pixels, (48, *pixels.shape))))
    frame = frame.reformat(format=pixel_format, dst_colorspace=matrix, dst_color_range=color_range)
    tags = {"colorspace": matrix, "color_range": color_range}
    path = write_frames(tmp_path / "clip.mp4", [frame] * 3, pixel_format, tags=tags, **tags)
    assert stripes(path) == pytest.approx(COLOURS, abs=4)


def test_rgb_video_needs_no_matrix(tmp_path):
    pixels = np.repeat(COLOURS, 16, axis=0).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(np.broadcast_to(pixels, (48, *pixels.shape))))
    path = write_frames(tmp_path / "clip.mkv", [frame] * 3, "rgb24", "libx264rgb")
    assert stripes(path) == pytest.approx(COLOURS, abs=3)


def test_transparent_video_shows_white_as_images_do(tmp_path):
    pixels = np.zeros((48, 64, 4), np.uint8)
    pixels[:, :, :3], pixels[:, :32, 3] = (200, 0, 0), 255
    frame = av.VideoFrame.from_ndarray(pixels, "rgba")
    shown = read_video(write_frames(tmp_path / "clip.mov", [frame] * 3, "rgba", "png", options={})).frames[1]
    assert shown[24, 8].tolist() == [200, 0, 0] and shown[24, 56].tolist() == [255, 255, 255]


# --- interlaced ---


def moving_bar(num_fields):
    """Return one picture per field: a white bar that moves by four columns each."""
    pictures = np.full((num_fields, 64, 96, 3), 30, np.uint8)
    for index, picture in enumerate(pictures):
        picture[:, 8 + 4 * index : 24 + 4 * index] = 220
    return pictures


def as_interlaced(array, order):
    """Return an array as a frame that says which of its fields, "tff" or "bff", comes first."""
    frame = av.VideoFrame.from_ndarray(array).reformat(format="yuv420p")
    graph = av.filter.Graph()
    source = graph.add_buffer(width=96, height=64, format=frame.format, time_base=Fraction(1, 25))
    graph.link_nodes(source, graph.add("setfield", mode=order), graph.add("buffersink")).configure()
    graph.vpush(frame)
    return graph.vpull()


def combing(frame):
    """Return by how much rows differ from those above, in grey."""
    return np.abs(np.diff(frame[8:-8, :, 1].astype(int), axis=0)).mean()


@pytest.mark.parametrize("top_first", [True, False])
def test_interlaced_frames_lose_their_combing_and_keep_their_times(top_first, tmp_path):
    fields = moving_bar(20)
    woven = fields[::2].copy()  # each frame: the rows of one field now, those of the other a fiftieth later
    woven[:, int(top_first) :: 2] = fields[1::2, int(top_first) :: 2]
    marked = [as_interlaced(array, "tff" if top_first else "bff") for array in woven]
    path = write_frames(tmp_path / "clip.mp4", marked, options={"flags": "+ildct+ilme", "crf": "4"})
    assert combing(woven[5]) > 8
    frames = read_video(path).frames
    assert len(frames) == 10 and probe_media(path).duration_s == Fraction(10, 25)
    for index in range(1, 9):
        assert combing(frames[index]) < 3
        bar = np.flatnonzero(frames[index][32, :, 1] > 125)
        assert abs(bar.mean() - (8 + 8 * index + 7.5)) < 1.5  # where the first field shows it


def test_progressive_frames_are_left_alone(tmp_path):
    path = write_video(tmp_path / "clip.mp4", moving_bar(10), 25, crf=1)
    assert np.abs(read_video(path).frames.astype(int) - moving_bar(10)).mean() < 2


def test_frames_larger_than_8k_are_made_that_large(tmp_path, monkeypatch):
    monkeypatch.setattr(display, "MAX_AREA", 24 * 32)  # as 8K is, to a test
    path = write_frames(tmp_path / "clip.mp4", quadrants())
    frames = read_video(path).frames
    assert frames.shape == (3, 24, 32, 3) and quadrant_levels(frames[1]) == pytest.approx(LEVELS, abs=3)
    assert (probe_media(path).height, probe_media(path).width) == (24, 32)


def test_asking_how_a_frame_is_shown_does_not_keep_it():
    frame = av.VideoFrame(16, 16, "yuv420p")
    gc.disable()  # it would find the circle and hide it
    try:
        before = sys.getrefcount(frame)
        display.Display.of(frame, None)
        assert sys.getrefcount(frame) == before
    finally:
        gc.enable()
