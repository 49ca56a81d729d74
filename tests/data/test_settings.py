# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Settings that are not given: the cache's own, else the defaults."""

import json
from pathlib import Path

import pytest
from drawn_faces import FaceInTheMiddle
from plain_clips import content, rows_by_source, write_clip

from diffusers_jova.data import cache
from diffusers_jova.files import DamagedError


MADE_WITH = {
    "buckets": ("32x48x5", "48x32x5"),
    "frame_rate": 10.0,
    "max_sequence_length": 24,
    "no_line_dropout_variants": True,
    "no_mouth": True,
    "dtype": "bfloat16",
}


def test_a_damaged_sample_is_made_anew_with_settings_that_are_given_only_once(cache_clips, tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4", 5, sound=False, caption="A man.")
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
    write_clip(tmp_path / "clips" / "a.mp4", 5, sound=False, caption="A man.")
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
    write_clip(tmp_path / "clips" / "a.mp4", 5, sound=False, caption="A man.")
    cache_clips(detector=FaceInTheMiddle(), detect_every=2)
    with pytest.raises(ValueError, match=r"settings.crop \(face, now centre\), settings.mouth"):
        cache_clips(no_mouth=True)
    write_clip(tmp_path / "clips" / "b.mp4", 5, sound=False, value=50)
    assert cache_clips(detector=FaceInTheMiddle(), no_mouth=None).from_cache == ["detect every 2"]
    cache_clips(output_dir=tmp_path / "plain")
    assert cache_clips(output_dir=tmp_path / "plain", no_mouth=None).from_cache == ["no mouth", "crop centre"]
    assert cache_clips(output_dir=tmp_path / "plain", no_mouth=True, crop="centre").from_cache == []


def test_settings_of_the_cache_that_are_damaged_are_an_error_and_not_the_defaults(cache_clips, tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4", 5, sound=False, caption="A man.")
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
    path.write_bytes(before[Path("fingerprint.json")])
    assert content(tmp_path / "cache") == before


def test_other_models_are_refused_as_such_whatever_their_sizes(cache_clips, tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4", 5, sound=False, caption="A man.")
    cache_clips()
    path = tmp_path / "cache" / "fingerprint.json"
    fingerprint = json.loads(path.read_text())
    fingerprint["models"]["vae"]["weights"], fingerprint["settings"]["buckets"] = "0" * 32, ["40x40x5"]
    path.write_text(json.dumps(fingerprint))
    with pytest.raises(ValueError, match="other models; it differs in models.vae.weights"):
        cache_clips()


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"buckets": ("64by64",)}, "HEIGHTxWIDTH"),
        ({"height": 60}, "multiple of 16, got 60: try 64"),
        ({"num_frames": 24}, "4k \\+ 1, got 24: try 21 or 25"),
        ({"buckets": ("64x64",), "height": 64}, "either as"),
        ({"detect_every": 0}, "--detect_every"),
        ({"num_workers": -1}, "--num_workers"),
        ({"frame_rate": 0.0}, "frame_rate"),
        ({"crop": "middle"}, "`--crop` must be one of .* got 'middle'"),
        ({"crop": "face", "no_mouth": True}, "`--crop face` needs the faces"),
        ({"shard": "3/2"}, "i/n"),
        ({"shard": "2"}, "i/n"),
    ],
)
def test_bad_settings_are_refused(flags, message, run):
    with pytest.raises(ValueError, match=message):
        run(**flags)


def test_a_cache_of_other_settings_or_models_is_refused(run, clips, tmp_path, monkeypatch):
    write_clip(clips / "a.mp4", 5)
    run()
    before = content(tmp_path / "cache")
    with pytest.raises(ValueError, match="64x64x21.*now.*64x64x17"):
        run(num_frames=17)
    models = cache.model_fingerprint
    monkeypatch.setattr(cache, "model_fingerprint", lambda folder: models(folder) | {"vae": {"class": "Other"}})
    with pytest.raises(ValueError, match="other models; it differs in models.vae"):
        run()
    assert content(tmp_path / "cache") == before


# --- what stays in the image ---


@pytest.mark.parametrize("flags", [{}, {"crop": "centre"}])
def test_the_crop_keeps_the_mouth_or_its_loss_is_counted_and_said(flags, run, clips, tmp_path):
    write_clip(clips / "tall.mp4", 5, height=192, width=64)  # its mouth is at 115 to 154
    write_clip(clips / "wide.mp4", 5)
    summary = run(**flags)
    rows = rows_by_source(tmp_path / "cache")
    assert "mouth_outside" not in rows["wide.mp4"]
    assert rows["tall.mp4"].get("mouth_outside", 0) == (5 if flags else 0)
    assert rows["tall.mp4"]["has_mouth"] == (not flags)
    assert ("leaves the mouth out of some frames" in str(summary)) == bool(flags)
    assert ("tall.mp4 (5 of 5)" in str(summary)) == bool(flags)
    assert cache.read_fingerprint(tmp_path / "cache")["settings"]["crop"] == flags.get("crop", "face")


def test_a_cache_from_before_there_was_a_crop_goes_on_around_the_centre(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5)
    run(crop="centre")
    fingerprint = cache.read_fingerprint(tmp_path / "cache")
    before = content(tmp_path / "cache" / "samples")
    del fingerprint["settings"]["crop"], fingerprint["version"]
    cache.write_fingerprint(tmp_path / "cache", fingerprint)
    with pytest.raises(ValueError, match=r"settings.crop \(centre, now face\).*what is not given is the cache's own"):
        run(crop="face")
    assert "settings taken from the cache: crop centre\n" in str(run())
    assert content(tmp_path / "cache" / "samples") == before
    assert cache.read_fingerprint(tmp_path / "cache")["settings"]["crop"] == "centre"


def test_without_faces_the_crop_is_the_centre(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5)
    run(no_mouth=True)
    assert cache.read_fingerprint(tmp_path / "cache")["settings"]["crop"] == "centre"


def test_a_face_in_the_middle_gives_the_same_samples_with_either_crop(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 9)
    write_clip(clips / "wide.mp4", 9, height=64, width=96)
    for crop in ("face", "centre"):
        run(crop=crop, output_dir=tmp_path / crop)
    assert content(tmp_path / "face" / "samples") == content(tmp_path / "centre" / "samples")
