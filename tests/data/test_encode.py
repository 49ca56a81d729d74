# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What the encoders make of clips, and what of it is in the cache."""

import json

import torch
from plain_clips import MouthInTheMiddle, hum, rows_by_source, write_clip

from diffusers_jova.data import cache
from diffusers_jova.latents import num_audio_latents
from diffusers_jova.media import read_video, write_wav
from diffusers_jova.pipelines.pipeline_jova import JoVAPipeline


def test_each_kind_of_clip_becomes_the_tensors_that_the_encoders_give(run, clips, model, tmp_path):
    write_clip(clips / "both.mp4", 11)  # two frames more than 4k + 1
    write_clip(clips / "silent.webm.mp4", 9, sound=False)
    write_wav(clips / "sound.wav", hum(0.6), 16000)
    summary = run()
    rows = rows_by_source(tmp_path / "cache")
    assert [rows[name]["kind"] for name in sorted(rows)] == ["both", "video", "audio"]

    pipe = JoVAPipeline.from_pretrained(model, transformer=None, scheduler=None, vocoder=None)
    row, clip = rows["both.mp4"], read_video(clips / "both.mp4", 12.5, 16000)
    sample = cache.read_sample(tmp_path / "cache", row["key"])
    assert (row["num_frames"], row["height"], row["width"], row["num_samples"]) == (9, 64, 64, 11520)
    assert (row["frame_rate"], row["duration_s"], row["has_mouth"], row["faces"]) == (12.5, 0.72, True, 1)
    pixels = torch.from_numpy(clip.frames[:9]).permute(3, 0, 1, 2)[None] / 127.5 - 1
    with torch.no_grad():
        torch.testing.assert_close(sample["video_moments"], pipe.vae.encode(pixels).latent_dist.parameters[0])
        torch.testing.assert_close(
            sample["image_moments"], pipe.vae.encode(pixels[:, :, :1]).latent_dist.parameters[0]
        )
        num_latents = num_audio_latents(9, 12.5, 31.25)
        waveform = torch.nn.functional.pad(torch.from_numpy(clip.waveform[:, :11520]), (0, num_latents * 512 - 11520))
        torch.testing.assert_close(sample["audio_moments"], pipe.audio_vae.encode(waveform).latent_dist.parameters[0])
        black = pipe.vae.encode(torch.full((1, 3, 1, 64, 64), -1.0)).latent_dist.parameters[0]
    assert sample["audio_moments"].shape == (40, num_latents)
    assert sample["mouth_boxes"].shape == (9, 4) and sample["mouth_boxes"].dtype == torch.float32
    torch.testing.assert_close(cache.read_shared(tmp_path / "cache")["black.64x64"], black)

    assert "audio_moments" not in cache.read_sample(tmp_path / "cache", rows["silent.webm.mp4"]["key"])
    sound = cache.read_sample(tmp_path / "cache", rows["sound.wav"]["key"])
    assert not {"video_moments", "image_moments", "mouth_boxes"} & set(sound)
    # 7.5 frames long, filled up with silence to 9
    assert (rows["sound.wav"]["num_frames"], rows["sound.wav"]["num_samples"]) == (9, 11520)
    assert "cached: 3 samples of 3 of 3 clips, 2.16 s" in str(summary)


def test_texts_are_encoded_unpadded_with_every_variant_that_differs(run, clips, model, tmp_path):
    write_clip(clips / "a.mp4", 5)
    (clips / "a.json").write_text(json.dumps({"video_caption": "A man.", "transcript": "one two"}))
    run()
    sample = cache.read_sample(tmp_path / "cache", cache.read_index(tmp_path / "cache")[0]["key"])
    names = {name for name in sample if name.startswith("prompt_embeds")}
    assert names == {f"prompt_embeds{number}{suffix}" for number in ("", "_2") for suffix in ("", ".100", ".001")}
    pipe = JoVAPipeline.from_pretrained(
        model, transformer=None, scheduler=None, vocoder=None, vae=None, audio_vae=None
    )
    shared = cache.read_shared(tmp_path / "cache")
    with torch.no_grad():
        for suffix, lines in (
            ("", ("A man.", "", "one two")),
            (".100", ("A man.", "", "")),
            (".001", ("", "", "one two")),
        ):
            embeds = pipe.encode_prompt(*lines)
            torch.testing.assert_close(sample[f"prompt_embeds{suffix}"], embeds[0][0])
            torch.testing.assert_close(sample[f"prompt_embeds_2{suffix}"], embeds[2][0])
        torch.testing.assert_close(shared["unconditional.prompt_embeds"], embeds[4][0])
        torch.testing.assert_close(shared["unconditional.prompt_embeds_2"], embeds[6][0])


def test_variants_can_be_left_away(run, clips, tmp_path):
    write_clip(clips / "a.mp4", 5, caption="A man.")
    (clips / "a.json").write_text(json.dumps({"transcript": "one"}))
    run(no_line_dropout_variants=True)
    sample = cache.read_sample(tmp_path / "cache", cache.read_index(tmp_path / "cache")[0]["key"])
    assert not [name for name in sample if "." in name]


def test_one_component_is_in_memory_at_a_time_and_never_the_transformer(run, clips, monkeypatch):
    import weakref

    write_clip(clips / "a.mp4", 5, caption="a")
    loaded, original = [], JoVAPipeline.from_pretrained

    def from_pretrained(*args, **kwargs):
        assert all(reference() is None for _, reference in loaded)  # what was loaded before is gone
        pipe = original(*args, **kwargs)
        modules = {k: v for k, v in pipe.components.items() if isinstance(v, torch.nn.Module)}
        loaded.extend((name, weakref.ref(module)) for name, module in modules.items())
        return pipe

    monkeypatch.setattr(JoVAPipeline, "from_pretrained", from_pretrained)
    run()
    assert [name for name, _ in loaded] == ["vae", "audio_vae", "text_encoder", "text_encoder_2"]


def test_several_buckets_and_their_black_frames(run, clips, tmp_path):
    write_clip(clips / "wide.mp4", 9, height=64, width=112)
    write_clip(clips / "tall.mp4", 9, height=112, width=64)
    run(buckets=("64x112x9", "112x64"), num_frames=5)
    rows = rows_by_source(tmp_path / "cache")
    assert [(rows[n]["height"], rows[n]["width"], rows[n]["num_frames"]) for n in ("wide.mp4", "tall.mp4")] == [
        (64, 112, 9),
        (112, 64, 5),
    ]
    assert {"black.64x112", "black.112x64"} <= set(cache.read_shared(tmp_path / "cache"))


def test_clips_without_a_face_train_without_mouth_loss(run, clips, tmp_path):
    class NoFace(MouthInTheMiddle):
        def detect(self, image):
            return []

    write_clip(clips / "a.mp4", 5)
    summary = run(NoFace())
    row = cache.read_index(tmp_path / "cache")[0]
    assert (row["has_mouth"], row["faces"]) == (False, 0)
    assert cache.read_sample(tmp_path / "cache", row["key"])["mouth_boxes"].isnan().all()
    assert "no mouth found, no mouth loss: a.mp4" in str(summary)
