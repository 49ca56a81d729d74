# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The verbs `generate`, `encode`, `create` and `demo` on a tiny pipeline."""

import errno
import importlib.util
import json
import os
import re
import shutil

import av
import numpy as np
import pytest
import torch
from PIL import Image

from diffusers_jova import JoVAPipeline, pipeline_folder
from diffusers_jova.cli import demo as demo_verb
from diffusers_jova.cli import generate as generate_verb
from diffusers_jova.cli import pipeline as pipeline_flags
from diffusers_jova.cli.dispatch import main, make_parser
from diffusers_jova.media import read_video, write_wav
from diffusers_jova.pipelines.random_pipeline import create_pipeline


STEP = ["--num_inference_steps", "1", "--device", "cpu"]


def generate(folder, output, *args):
    return main(["generate", "--model", str(folder), "--output", str(output), *STEP, *map(str, args)])


def error_of(capsys) -> str:
    """Return the one line that went wrong calls print."""
    error = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in error if line.startswith("error:")]
    assert len(lines) == 1 and error[-1] == lines[0], error
    return lines[0]


def clip_of(path) -> tuple[bytes, bytes]:
    clip = read_video(path)
    return clip.frames.tobytes(), clip.waveform.tobytes()


def test_generate_writes_a_clip_with_sound_that_lasts_as_long(folder, tmp_path, capsys):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "portrait.png")
    output = tmp_path / "clip.mp4"
    args = ["--prompt", "A face.", "--transcript", "one", "--image", tmp_path / "portrait.png", "--num_frames", 9]
    assert generate(folder, output, *args) == 0
    assert f"Wrote {output}" in capsys.readouterr().out
    with av.open(str(output)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.frames) == (32, 32, 9)
        assert abs(video.duration * video.time_base - audio.duration * audio.time_base) <= 1 / 12.5
        assert "AI-generated" in container.metadata["comment"]
    clip = read_video(output)
    assert len(clip.frames) == 9 and clip.waveform.shape == (1, 11520) and clip.waveform.std() > 0


@pytest.mark.skipif(
    not importlib.util.find_spec("dlib") or not importlib.util.find_spec("face_recognition_models"),
    reason="needs dlib and its landmark file",
)
def test_crop_to_the_face_of_a_picture_without_one_is_the_central_crop(folder, tmp_path):
    Image.linear_gradient("L").resize((96, 40)).save(tmp_path / "hill.png")
    for crop in ("face", "centre"):
        args = ["--prompt", "A hill.", "--image", tmp_path / "hill.png", "--crop", crop]
        assert generate(folder, tmp_path / f"{crop}.mp4", *args) == 0
    assert clip_of(tmp_path / "face.mp4") == clip_of(tmp_path / "centre.mp4")


def test_same_seed_writes_the_same_clip_and_another_seed_another(folder, tmp_path):
    clips = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert generate(folder, tmp_path / f"{name}.mp4", "--prompt", "A face.", "--seed", seed) == 0
        clips.append(clip_of(tmp_path / f"{name}.mp4"))
    assert clips[0] == clips[1]
    assert clips[0][0] != clips[2][0] and clips[0][1] != clips[2][1]


def test_sound_alone_is_a_wav_and_video_alone_has_no_sound(folder, tmp_path):
    output = tmp_path / "sound.wav"
    assert generate(folder, output, "--audio_prompt", "Rain.", "--modalities", "audio", "--num_frames", 8) == 0
    clip = read_video(output)
    assert clip.frames is None and clip.waveform.shape == (1, 10240) and clip.sampling_rate == 16000
    output = tmp_path / "video.mp4"
    assert generate(folder, output, "--prompt", "Rain.", "--modalities", "video") == 0
    clip = read_video(output)
    assert len(clip.frames) == 5 and clip.waveform is None


@pytest.fixture
def outputs(monkeypatch):
    """What the pipeline made in each call of `generate`, before any codec."""
    outputs = []
    monkeypatch.setattr(generate_verb, "write_output", lambda path, output: outputs.append(output))
    return outputs


def assert_same(output, other):
    np.testing.assert_allclose(output.frames, other.frames, atol=1e-3)
    np.testing.assert_allclose(output.audio, other.audio, atol=2e-6)


def test_encoded_prompt_makes_the_clip_of_its_texts(folder, tmp_path, capsys, outputs):
    texts = ["--prompt", "A face.", "--transcript", "one"]
    file = tmp_path / "prompt.safetensors"
    assert main(["encode", "--model", str(folder), *texts, "--output", str(file), "--device", "cpu"]) == 0
    assert f"Wrote {file}" in capsys.readouterr().out
    for args in (["--prompt_embeds", file], texts):
        assert generate(folder, tmp_path / "clip.mp4", *args) == 0
    assert_same(*outputs)


def test_lora_scale_sets_the_strength(folder, lora, tmp_path, outputs):
    for args in (
        [],
        ["--lora", lora, "--lora_scale", 0],
        ["--lora", lora],
        ["--lora", lora, "--lora_scale", 0.25, "--lora", lora, "--lora_scale", 0.75],
    ):
        assert generate(folder, tmp_path / "clip.mp4", "--prompt", "A face.", *args) == 0
    plain, off, on, summed = outputs
    assert_same(plain, off)
    assert_same(on, summed)
    assert abs(plain.frames - on.frames).max() > 0.01 and abs(plain.audio - on.audio).max() > 1e-5


def test_create_writes_a_pipeline_whole_or_not_at_all(tmp_path, capsys, monkeypatch):
    assert main(["create", "--output", str(tmp_path / "nano"), "--seed", "3"]) == 0
    assert "RANDOM" in capsys.readouterr().out.upper()
    assert [path.name for path in tmp_path.iterdir()] == ["nano"]
    made = JoVAPipeline.from_pretrained(tmp_path / "nano")
    expected = create_pipeline(seed=3).transformer.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in made.transformer.state_dict().items())

    assert main(["create", "--output", str(tmp_path / "nano")]) == 2
    assert "exists already: remove it" in error_of(capsys)
    assert main(["create", "--output", str(tmp_path / "missing" / "nano")]) == 2
    assert "create it first" in error_of(capsys)
    assert main(["create", "--output", str(tmp_path / "other"), "--preset", "jova-24b"]) == 2
    assert "Choose 'jova-nano'" in error_of(capsys)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JoVAPipeline, "save_pretrained", full)
    assert main(["create", "--output", str(tmp_path / "other")]) == 2
    assert re.search(r"Cannot write `.*other`: the disk is full\. .*: free some space", error_of(capsys))
    assert [path.name for path in tmp_path.iterdir()] == ["nano"]


def put_checkpoint(name, folder, into, known_words=None, transcript=None):
    """Put `folder` under a name, with the words that it knows and an example of what it says."""
    (into / name).mkdir()
    for part in folder.iterdir():
        (into / name / part.name).symlink_to(part)
    index = json.loads((folder / "model_index.json").read_text()) | {"known_words": known_words}
    (into / name / "model_index.json").unlink()
    (into / name / "model_index.json").write_text(json.dumps(index))
    if transcript is not None:
        example = {"id": "a", "prompt": "A hill.", "audio_prompt": "A voice.", "speech_text": transcript}
        (into / name / "examples.jsonl").write_text(json.dumps(example))


def test_demo_makes_a_clip_and_listens_to_it(tmp_path, capsys, folder, monkeypatch):
    put_checkpoint("jova-nano", folder, tmp_path, {"digit": ["two", "four"]}, "four two")
    put_checkpoint("jova-mini", folder, tmp_path, {"number": ["two", "four"], "things": ["flowers"]}, "two flowers")
    monkeypatch.setattr(pipeline_folder, "SHIPPED", (tmp_path,))
    output = tmp_path / "outputs" / "demo.mp4"
    assert main(["demo", "--output", str(output), "--prompt", "A face.", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert "model: jova-mini\nprompt: A face.\naudio_prompt: A voice.\ntranscript: two flowers\n" in said
    assert f"Wrote {output}: 5 frames of 32 x 32 at 12.5 frames/s" in said and "the 3 words of this checkpoint" in said
    assert re.search(r"in [\d.]+ s", said) and "hears:" in said and "Watch it" in said
    assert [path.name for path in output.parent.iterdir()] == ["demo.mp4"]
    clip = read_video(output)
    assert len(clip.frames) == 5 and clip.waveform.shape == (1, 6400)


def test_demo_lists_the_words_of_a_checkpoint_and_refuses_others(tmp_path, capsys, folder):
    put_checkpoint("known", folder, tmp_path, {"digit": ["two", "four"], "things": ["flowers"]}, "two flowers")
    known, any_words = tmp_path / "known", folder
    assert main(["demo", "--words", "--model", str(known)]) == 0
    listed = f'{known} knows 3 words:\ndigit: two four\nthings: flowers\nFor example: "two flowers".\n'
    assert capsys.readouterr().out == listed
    demo = ["demo", "--output", str(tmp_path / "missing" / "demo.mp4"), "--model"]
    assert main([*demo, str(known), "--transcript", "Two flowrs, four!"]) == 2
    error = error_of(capsys)
    assert "has not learnt to say `flowrs` (nearest: flowers, four, two). `diffusers-jova demo --model" in error
    assert "--words` lists the 3 words that it knows." in error and not (tmp_path / "missing").exists()

    assert main(["demo", "--words", "--model", str(any_words)]) == 0
    assert "does not say which words it knows" in capsys.readouterr().out
    assert main([*demo, str(any_words)]) == 2
    assert "comes without examples: give --prompt, --transcript or both" in error_of(capsys)
    args = make_parser("demo", None).parse_args([*demo[1:], str(any_words), "--transcript", "Hello, you!"])
    assert demo_verb.texts_of(args, demo_verb.known_words_of(args.model)) == {"transcript": "Hello, you!"}
    args.model, args.transcript = str(known), "Two FLOWERS."
    texts = {"prompt": "A hill.", "audio_prompt": "A voice.", "transcript": "two flowers"}
    assert demo_verb.texts_of(args, demo_verb.known_words_of(args.model)) == texts


def test_demo_says_that_pocketsphinx_cannot_listen_for_words_that_it_does_not_have():
    pytest.importorskip("pocketsphinx", reason="needs pocketsphinx (diffusers-jova[eval])")
    assert "does not have all words" in demo_verb.hear(None, ["one", "qwxyz"])


def test_a_missing_jova_nano_is_named(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipeline_folder, "SHIPPED", ())
    assert generate("jova-nano", tmp_path / "clip.mp4", "--prompt", "x") == 2
    assert "There is no folder 'jova-nano'" in error_of(capsys)


def test_generate_carries_a_recording_and_makes_what_is_asked_for_of_a_clip(folder, tmp_path):
    """The recording alone needs no text; of the clip only the span and the modality that are named are made anew."""
    rate = 22050
    audio = np.random.default_rng(0).uniform(-0.3, 0.3, round(0.4 * rate)).astype(np.float32)
    write_wav(tmp_path / "talk.wav", audio, rate)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "portrait.png")
    given = ["--audio", tmp_path / "talk.wav", "--image", tmp_path / "portrait.png"]
    assert generate(folder, tmp_path / "clip.mp4", *given) == 0
    clip = read_video(tmp_path / "clip.mp4")
    assert len(clip.frames) == 5 and clip.sampling_rate == rate
    assert np.corrcoef(clip.waveform[0][:8000], audio[:8000])[0, 1] > 0.9  # AAC of the same samples
    given = ["--video", tmp_path / "clip.mp4", "--retake", 0.1, 0.2, "audio"]
    assert generate(folder, tmp_path / "again.mp4", "--prompt", "A face.", *given) == 0
    again = read_video(tmp_path / "again.mp4")
    assert again.sampling_rate == 16000
    assert np.abs(again.frames.astype(int) - clip.frames).mean() < 6  # H.264, again
    for options in (["--keep", 0.16], ["--transcript", "one"]):
        assert generate(folder, tmp_path / "other.mp4", "--video", tmp_path / "clip.mp4", *options) == 0


def test_generate_makes_a_long_clip_window_by_window_and_dry_run_says_which(folder, tmp_path, capsys):
    words = ["--window_transcripts", "one two", "three", "", "--num_frames", 12, "--prompt", "A face."]
    assert generate(folder, tmp_path / "talk.mp4", *words, "--dry_run") == 0
    assert [line.split(": ", 1)[1] for line in capsys.readouterr().out.splitlines()] == [
        "0.00 s to 0.40 s: one two",
        "0.32 s to 0.72 s, the first 0.08 s from the window before: three",
        "0.64 s to 0.96 s, the first 0.08 s from the window before: (no words)",
    ]
    assert not list(tmp_path.iterdir())
    assert generate(folder, tmp_path / "talk.mp4", *words) == 0
    clip = read_video(tmp_path / "talk.mp4")
    assert len(clip.frames) == 12 and clip.waveform.shape == (1, round(12 / 12.5 * 16000))
    assert generate(folder, tmp_path / "one.mp4", "--prompt", "A face.", "--dry_run") == 0
    assert "One piece" in capsys.readouterr().out
    assert generate(folder, tmp_path / "bad.mp4", *words[:3], *words[4:]) == 2
    assert "has 2 texts, but a clip of 12 frames has 3 windows of 5 frames" in error_of(capsys)


HELD = {
    "the same": ["--modulation_cache", "--group_offload", "--vae_tiling", "--batch_guidance"],
    "rounded": ["--layerwise_casting"],
}


def test_a_clip_is_the_same_however_the_pipeline_is_held(folder, tmp_path, outputs, monkeypatch):
    monkeypatch.setattr(generate_verb, "device_of", lambda args: "cpu")  # group offload asks for a GPU
    for flags in ([], *HELD.values()):
        assert generate(folder, tmp_path / "clip.mp4", "--prompt", "A face.", *flags) == 0
    plain, *others = outputs
    for name, output in zip(HELD, others, strict=True):
        difference = abs(output.frames - plain.frames).max(), abs(output.audio - plain.audio).max()
        assert (max(difference) < 1e-4) == (name == "the same") and max(difference) < 1, (name, difference)


def test_offloading_twice_and_float8_where_there_is_none_are_refused_before_loading(
    folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(pipeline_flags, "check_device", lambda device: "cuda")
    assert generate(folder, tmp_path / "clip.mp4", "--prompt", "x", "--cpu_offload", "--group_offload") == 2
    assert "--cpu_offload and --group_offload exclude each other" in error_of(capsys)
    monkeypatch.setattr(pipeline_flags, "check_device", lambda device: "cpu")
    monkeypatch.setattr(torch, "float8_e4m3fn", torch.float4_e2m1fn_x2)  # which torch's CPU has no arithmetic for
    assert generate(folder, tmp_path / "clip.mp4", "--prompt", "x", "--layerwise_casting") == 2
    assert "`cpu` cannot keep weights in torch.float4_e2m1fn_x2" in error_of(capsys)


BAD = {
    "no folder": (["--output", "{tmp}/missing/x.mp4"], "missing` does not exist"),
    "read-only folder": (["--output", "{readonly}/x.mp4"], "Cannot write to the folder"),
    "suffix": (["--output", "{tmp}/x.avi"], "must end in .mp4 or .mov"),
    "suffix of sound": (["--output", "{tmp}/x.mp4", "--modalities", "audio"], "must end in .wav"),
    "no model": (["--model", "{tmp}/missing"], "There is no folder '.*missing'. Give a pipeline's folder.* jova-nano"),
    "no pipeline": (["--model", "{tmp}"], "no model_index.json"),
    "no image": (["--image", "{tmp}/missing.png"], "missing.png"),
    "crop of no image": (["--crop", "face"], "--crop face is about the --image"),
    "no embeds": (["--prompt_embeds", "{tmp}/missing.safetensors"], "encode a prompt first"),
    "embeds and texts": (["--prompt", "x", "--prompt_embeds", "{tmp}/x"], "stands for all texts: leave out --prompt"),
    "no lora": (["--prompt", "x", "--lora", "{tmp}/missing.safetensors"], "no LoRA file '.*missing.safetensors'"),
    "scale without lora": (["--prompt", "x", "--lora_scale", "1"], "Got 0 --lora and 1 --lora_scale"),
    "no prompt": ([], "Provide either `prompt` or `prompt_embeds`"),
    "height": (["--prompt", "x", "--height", "40"], "divisible by 16 but are 40"),
    "frames": (["--prompt", "x", "--num_frames", "6"], "Nearest: 5 or 9"),
    "guidance": (["--prompt", "x", "--guidance_scale", "-1"], "must be a number of 0 or more, got -1"),
    "device": (["--prompt", "x", "--device", "tpu9"], "--device tpu9 cannot be used here"),
    "no recording": (["--audio", "{tmp}/missing.wav"], "There is no file `.*missing.wav`"),
    "keep of nothing": (["--keep", "1"], "`keep` is about a clip"),
    "times of retake": (["--video", "x", "--retake", "video"], "--retake takes two times in seconds, got 'video'"),
    "retake of a smell": (["--video", "x", "--retake", "0", "1", "smell"], "`retake` must name one or both of"),
    "offload": (["--prompt", "x", "--cpu_offload"], "--cpu_offload needs a GPU"),
    "group offload": (["--prompt", "x", "--group_offload"], "--group_offload needs a GPU"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_failing_generate_says_why_in_one_line_and_writes_nothing(case, folder, tmp_path, capsys):
    args, message = BAD[case]
    work = tmp_path / "work"
    work.mkdir()
    readonly = tmp_path / "readonly"
    readonly.mkdir(mode=0o500)
    places = {"tmp": work, "readonly": "/proc" if os.geteuid() == 0 else readonly}  # root writes anywhere else
    args = [arg.format(**places) for arg in args]
    assert generate(folder, work / "clip.mp4", *args) == 2
    assert re.search(message, error_of(capsys))
    assert not list(work.iterdir())


def test_an_error_while_writing_leaves_no_half_of_a_clip(folder, tmp_path, capsys, monkeypatch):
    from diffusers_jova.media import writing

    monkeypatch.setattr(writing, "_encode_audio", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    assert generate(folder, tmp_path / "clip.mp4", "--prompt", "x") == 2
    error = error_of(capsys)
    assert "clip.mp4" in error and "disk full" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["transformer", "text_encoder", "vae"])
def test_a_truncated_component_is_named(name, folder, tmp_path, capsys):
    broken = shutil.copytree(folder, tmp_path / "broken")
    path = next((broken / name).glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1000])
    assert generate(broken, tmp_path / "clip.mp4", "--prompt", "x") == 2
    message = error_of(capsys)
    assert str(path) in message and "copy or download it again" in message


def test_a_truncated_lora_is_named(folder, lora, tmp_path, capsys):
    lora.write_bytes(lora.read_bytes()[:-10])
    assert generate(folder, tmp_path / "clip.mp4", "--prompt", "x", "--lora", lora) == 2
    assert "lora.safetensors" in error_of(capsys)
    assert not (tmp_path / "clip.mp4").exists()


def test_encode_needs_a_text_and_a_place(folder, tmp_path, capsys):
    encode = ["encode", "--model", str(folder), "--device", "cpu"]
    assert main([*encode, "--output", str(tmp_path / "x.safetensors")]) == 2
    assert "nothing to encode" in error_of(capsys)
    assert main([*encode, "--prompt", "x", "--output", str(tmp_path / "x.mp4")]) == 2
    assert "must end in .safetensors" in error_of(capsys)
    assert main([*encode, "--prompt", "x", "--output", str(tmp_path / "missing" / "x.safetensors")]) == 2
    assert "does not exist" in error_of(capsys)
    assert not list(tmp_path.iterdir())
