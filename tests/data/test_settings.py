# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Settings that are not given: the cache's own, else the defaults."""

import json

import numpy as np
import pytest
from drawn_faces import FaceInTheMiddle

from diffusers_jova.data import cache
from diffusers_jova.files import DamagedError
from diffusers_jova.media import write_video


MADE_WITH = {
    "buckets": ("32x48x5", "48x32x5"),
    "frame_rate": 10.0,
    "max_sequence_length": 24,
    "no_line_dropout_variants": True,
    "no_mouth": True,
    "dtype": "bfloat16",
}


def write_clip(folder, name, value=100):
    write_video(folder / f"{name}.mp4", np.full((5, 64, 64, 3), value, np.uint8), 12.5)
    (folder / f"{name}.txt").write_text("A man.")


def content(folder):
    """Return the bytes of the samples and of what decides about them."""
    paths = [*(folder / "samples").iterdir(), *(folder / name for name in ("fingerprint.json", "index.jsonl"))]
    return {path.name: path.read_bytes() for path in paths}


def test_a_damaged_sample_is_made_anew_with_settings_that_are_given_only_once(cache_clips, tmp_path):
    write_clip(tmp_path / "clips", "a")
    summary = cache_clips(**MADE_WITH)
    assert summary.from_cache == []
    before = content(tmp_path / "cache")
    path = cache.sample_path(tmp_path / "cache", summary.rows[0]["key"])
    damaged = bytearray(path.read_bytes())
    damaged[-41] ^= 0x40
    path.write_bytes(damaged)
    summary = cache_clips(no_mouth=None)
    assert content(tmp_path / "cache") == before
    assert (
        "settings taken from the cache: buckets 32x48x5 48x32x5, frame rate 10, max sequence length 24, "
        "no line dropout variants, no mouth, crop centre, dtype bfloat16" in str(summary).split("\n")
    )


def test_what_is_given_and_differs_from_the_cache_is_refused(cache_clips, tmp_path):
    write_clip(tmp_path / "clips", "a")
    cache_clips(**MADE_WITH)
    before = content(tmp_path / "cache")
    for given, differing in [
        ({"buckets": ("32x48x5",)}, "buckets"),
        ({"num_frames": 5}, "buckets"),
        ({"frame_rate": 12.5}, "frame_rate"),
        ({"max_sequence_length": 512}, "max_sequence_length"),
        ({"no_line_dropout_variants": False}, "line_dropout_variants"),
        ({"detect_every": 2}, "detect_every"),
        ({"dtype": "float32"}, "dtype"),
        ({"no_mouth": False, "detector": FaceInTheMiddle(), "crop": "centre"}, "mouth"),
        ({"no_mouth": None, "detector": FaceInTheMiddle()}, "mouth"),
    ]:
        with pytest.raises(ValueError, match=rf"other settings; it differs in settings\.{differing} \("):
            cache_clips(**given)
        assert content(tmp_path / "cache") == before


def test_a_cache_with_mouths_refuses_a_run_that_looks_for_none_and_goes_on_without_a_word(cache_clips, tmp_path):
    write_clip(tmp_path / "clips", "a")
    cache_clips(detector=FaceInTheMiddle(), detect_every=2)
    with pytest.raises(ValueError, match=r"settings.crop \(face, now centre\), settings.mouth"):
        cache_clips(no_mouth=True)
    write_clip(tmp_path / "clips", "b", value=50)
    assert cache_clips(detector=FaceInTheMiddle(), no_mouth=None).from_cache == ["detect every 2"]
    cache_clips(output_dir=tmp_path / "plain")
    assert cache_clips(output_dir=tmp_path / "plain", no_mouth=None).from_cache == ["no mouth", "crop centre"]
    assert cache_clips(output_dir=tmp_path / "plain", no_mouth=True, crop="centre").from_cache == []


def test_settings_of_the_cache_that_are_damaged_are_an_error_and_not_the_defaults(cache_clips, tmp_path):
    write_clip(tmp_path / "clips", "a")
    cache_clips()
    path, before = tmp_path / "cache" / "fingerprint.json", content(tmp_path / "cache")
    fingerprint = json.loads(path.read_text())
    for name, value in (("detect_every", "often"), ("buckets", 3), ("frame_rate", None)):
        path.write_text(json.dumps(fingerprint | {"settings": fingerprint["settings"] | {name: value}}))
        with pytest.raises(DamagedError, match="fingerprint.json` is damaged"):
            cache_clips()
    for name in ("models", "settings"):
        path.write_text(json.dumps(fingerprint | {name: [1, 2]}))
        with pytest.raises(DamagedError, match=rf"must have an object, .*, as `{name}`, got \[1, 2\]"):
            cache_clips()
    path.write_text("{")
    with pytest.raises(ValueError, match="fingerprint.json is not JSON"):
        cache_clips()
    path.write_bytes(before["fingerprint.json"])
    assert content(tmp_path / "cache") == before


def test_other_models_are_refused_as_such_whatever_their_sizes(cache_clips, tmp_path):
    write_clip(tmp_path / "clips", "a")
    cache_clips()
    path = tmp_path / "cache" / "fingerprint.json"
    fingerprint = json.loads(path.read_text())
    fingerprint["models"]["vae"]["weights"], fingerprint["settings"]["buckets"] = "0" * 32, ["40x40x5"]
    path.write_text(json.dumps(fingerprint))
    with pytest.raises(ValueError, match="other models; it differs in models.vae.weights"):
        cache_clips()
