# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""The page's fields as a call, and both copies of it: they make the very clip again."""

import shlex
import threading
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from diffusers_jova import JoVAPipeline
from diffusers_jova.app.calls import FLAGS, ClipCall, arguments_of
from diffusers_jova.app.clips import ClipMaker, Stopped
from diffusers_jova.app.examples import read_examples
from diffusers_jova.app.sessions import Sessions
from diffusers_jova.cli import pipeline
from diffusers_jova.cli.dispatch import main, parse
from diffusers_jova.cli.generate import NUMBERS, TEXTS
from diffusers_jova.media import AI_GENERATED_COMMENT, read_video, write_video, write_wav


ONE_STEP = {"num_inference_steps": 1, "seed": 3}


@pytest.fixture
def args(folder):
    """What the app is started with."""
    return Namespace(model=str(folder), device="cpu", dtype=None, cpu_offload=False, ignore_memory_estimate=False)


@pytest.fixture
def loras(pipe, tmp_path):
    """A folder with two LoRAs that change the audio and the video, one of them as trainings write it."""
    folder = tmp_path / "loras"
    layer = "transformer.transformer_blocks.0.{}.to_v.lora_{}.weight"
    shapes = {"A": (4, 32), "B": (32, 4)}
    for seed, file in enumerate(["loud.safetensors", "avatar/pytorch_lora_weights.safetensors"]):
        generator = torch.Generator().manual_seed(seed)
        layers = {
            layer.format(stream, ab): torch.randn(shape, generator=generator)
            for stream in ("video", "audio")
            for ab, shape in shapes.items()
        }
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        save_file(layers, folder / file)
    (folder / "notes.txt").write_text("not a LoRA")
    return folder


@pytest.fixture
def loaded(own_pipe, monkeypatch):
    """What is loaded, by folder and dtype, all of it one pipeline, without its LoRAs: loading takes long."""
    loaded = []

    def load(model, device_or_dtype=None, dtype=None, **components):
        loaded.append((model, dtype or torch.float32))
        own_pipe.unload_lora_weights()
        return own_pipe

    monkeypatch.setattr(pipeline, "load_pipeline", load)
    monkeypatch.setattr(JoVAPipeline, "from_pretrained", load)
    return loaded


@pytest.fixture
def maker(args, loras, loaded):
    """A maker with a pipeline of its own."""
    return ClipMaker(args, loras)


def frames_of(path):
    clip = read_video(path)
    return clip.frames.tobytes(), clip.waveform.tobytes()


def test_every_field_reaches_generate_as_it_was_filled_in():
    values = {name: f"some {name}, 'quoted' \"twice\" $HOME\nand on" for name in TEXTS}
    values |= {name: kind(7) for name, (kind, _) in NUMBERS.items()}
    values |= {"image": "me.png", "audio": "talk.wav", "video": "clip.mp4", "keep": 0.5, "seed": 9}
    values |= {"retake": [0.5, 1, "video"], "lora": "a.safetensors", "lora_scale": 0.5}
    assert set(values) == set(FLAGS)
    parsed = vars(parse("generate", [*arguments_of(values), "--output", "clip.mp4"]))
    expected = values | {name: Path(values[name]) for name in ("image", "audio", "video")}
    expected |= {"retake": ["0.5", "1", "video"], "lora": ["a.safetensors"], "lora_scale": [0.5]}
    assert {name: parsed[name] for name in FLAGS} == expected


def test_what_is_left_blank_is_the_checkpoints_own():
    blank = dict.fromkeys(FLAGS) | {"prompt": "  ", "transcript": "", "retake": []}
    assert arguments_of(blank) == []


@pytest.mark.parametrize("text", ["-", "--help", "--model=x", "-1 is cold", "100 % sure"])
def test_a_text_that_looks_like_a_flag_is_a_text(text):
    call = ClipCall(tuple(arguments_of({"transcript": text})), Path("clip.mp4"))
    assert call.args.transcript == text
    words = shlex.split(call.as_command().replace("\\\n", ""))
    assert parse("generate", words[2:]).transcript == text


def test_a_number_that_is_none_does_not_end_the_server():
    with pytest.raises(ValueError, match="argument --guidance_scale: invalid float value: 'much'."):
        ClipCall(tuple(arguments_of({"guidance_scale": "much"})), Path("clip.mp4")).args  # noqa: B018


def settings_with_everything(folder):
    """Return settings of a clip with an image and a LoRA, and put the image into a folder."""
    Image.linear_gradient("L").resize((40, 60)).save(folder / "me.png")
    texts = {"prompt": 'A "face",\nit\'s mine.', "transcript": "-one", "negative_prompt": "rain $HOME"}
    scales = {"guidance_scale": 2, "audio_guidance_scale": 1.5, "apg_norm_threshold": 27.0}
    return texts | scales | ONE_STEP | {"image": str(folder / "me.png"), "lora": "avatar", "lora_scale": 0.7}


def settings_with_a_recording(folder):
    """Return settings of a clip that is made to a recording, with a frame rate of its own."""
    write_wav(folder / "talk.wav", np.sin(np.arange(6400) / 9)[None], 16000)
    return ONE_STEP | {"audio": str(folder / "talk.wav"), "frame_rate": 12.5, "audio_modality_scale": 1.0}


def settings_of_a_retake(folder):
    """Return settings of a clip whose audio is made anew from 0.1 to 0.3 s on."""
    frames = np.random.default_rng(0).random((5, 32, 32, 3))
    write_video(folder / "before.mp4", frames, 12.5, np.sin(np.arange(6400) / 9), 16000)
    return ONE_STEP | {"prompt": "A face.", "video": str(folder / "before.mp4"), "retake": [0.1, 0.3, "audio"]}


@pytest.mark.parametrize("settings", [settings_with_everything, settings_with_a_recording, settings_of_a_retake])
def test_both_copies_make_the_very_clip_again(maker, loaded, settings, tmp_path, monkeypatch):
    uploads, made = tmp_path / "uploads", tmp_path / "made"
    uploads.mkdir()
    made.mkdir()
    values = settings(uploads)
    clip = maker.make(values, made / "clip_1.mp4")
    assert str(uploads) not in clip.command + clip.python  # whose folder would not be there
    monkeypatch.chdir(uploads)

    program, *words = shlex.split(clip.command.replace("\\\n", ""))
    assert program == "diffusers-jova" and main(words) == 0
    assert frames_of("clip_1.mp4") == frames_of(clip.path)

    Path("clip_1.mp4").unlink()
    exec(compile(clip.python, "copy.py", "exec"), {})
    assert frames_of("clip_1.mp4") == frames_of(clip.path)
    assert len(loaded) == 3 and len(set(loaded)) == 1


def test_a_clip_says_what_made_it_and_calls_each_step(maker, tmp_path):
    steps = []
    values = {"prompt": "A face.", "num_inference_steps": 3, "seed": 0}
    clip = maker.make(values, tmp_path / "clip.mp4", lambda *step: steps.append(step))
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert clip.mark == AI_GENERATED_COMMENT and clip.words == "A face."


def test_stopping_ends_the_steps_and_leaves_no_clip(maker, tmp_path, record):
    steps = []
    calls = record(maker.pipe.transformer)
    values = {"prompt": "A face.", "num_inference_steps": 50, "guidance_scale": 1.0, "seed": 0}
    stop = lambda: len(steps) == 2  # noqa: E731
    with pytest.raises(Stopped):
        maker.make(values, tmp_path / "clip.mp4", lambda *step: steps.append(step), stop)
    assert len(calls) == 2 and list(tmp_path.glob("*.mp4")) == []
    with pytest.raises(Stopped):  # before its turn
        maker.make(values, tmp_path / "clip.mp4", is_stopped=lambda: True)
    assert len(calls) == 2
    assert maker.make(values | ONE_STEP, tmp_path / "clip.mp4").path.is_file()


def test_two_people_at_once_get_the_clips_that_each_would_get_alone(maker, tmp_path):
    theirs = [
        {"prompt": "A face.", "seed": 1, "num_inference_steps": 2, "guidance_scale": 1.0},
        {"prompt": "A hill.", "seed": 2, "num_inference_steps": 2, "lora": "avatar", "lora_scale": 0.5},
    ]
    alone = [frames_of(maker.make(values, tmp_path / f"alone_{i}.mp4").path) for i, values in enumerate(theirs)]
    assert len({frames for frames, _ in alone}) == 2
    together: dict = {}

    def make(i):
        together[i] = frames_of(maker.make(theirs[i], tmp_path / f"together_{i}.mp4").path)

    threads = [threading.Thread(target=make, args=[i]) for i in (1, 0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[0], together[1]] == alone


def test_a_lora_that_failed_to_load_is_not_there_for_the_next_one(maker, loras, tmp_path):
    values = ONE_STEP | {"prompt": "A face."}
    before = frames_of(maker.make(values, tmp_path / "before.mp4").path)
    (loras / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is not a complete safetensors file"):
        maker.make(values | {"lora": "broken.safetensors"}, tmp_path / "clip.mp4")
    assert frames_of(maker.make(values, tmp_path / "after.mp4").path) == before


@pytest.mark.parametrize("name", ["../loras/loud.safetensors", "/etc/passwd", "notes.txt", "other/name"])
def test_no_lora_outside_of_the_folder_can_be_chosen(maker, name, tmp_path):
    assert maker.loras() == ["avatar", "loud.safetensors"]
    with pytest.raises(ValueError, match="There is no LoRA .* to choose"):
        maker.make(ONE_STEP | {"lora": name}, tmp_path / "clip.mp4")


def test_wrong_files_are_refused_in_the_words_of_the_pipeline(maker, tmp_path):
    for name, message in {"image": "is not an image", "audio": "is not a file that holds"}.items():
        wrong = tmp_path / "wrong.png"
        wrong.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        with pytest.raises(ValueError, match=message):
            maker.make(ONE_STEP | {"prompt": "A face.", name: str(wrong)}, tmp_path / "clip.mp4")
    with pytest.raises(ValueError, match="`num_frames` must be"):
        maker.make(ONE_STEP | {"prompt": "A face.", "num_frames": 6}, tmp_path / "clip.mp4")


def test_a_folder_of_loras_that_is_not_there_is_an_error_before_the_weights(args, tmp_path):
    with pytest.raises(NotADirectoryError, match="correct --lora_dir"):
        ClipMaker(args, tmp_path / "missing")


def test_sessions_have_files_of_their_own_and_leave_none(maker, tmp_path):
    sessions = Sessions(tmp_path)
    mine, yours = sessions.of("../../etc"), sessions.of("b")
    assert mine is sessions.of("../../etc") and mine.folder.parent == yours.folder.parent == tmp_path
    mine.clips.append(maker.make(ONE_STEP | {"prompt": "A face."}, mine.next_path()))
    assert [mine.next_path().name, yours.next_path().name] == ["clip_2.mp4", "clip_1.mp4"]
    sessions.forget("../../etc")
    assert [path.name for path in mine.folder.iterdir()] == ["stop"]
    assert not yours.stop_file.exists() and sessions.of("../../etc").clips == []
    sessions.forget("nobody")


def test_the_shipped_checkpoint_comes_with_examples_that_it_can_make(folder):
    examples = read_examples("jova-nano")
    assert {"prompt", "audio_prompt", "transcript"} <= examples[0].keys()
    assert any(Image.open(example["image"]).size == (64, 64) for example in examples if "image" in example)
    assert read_examples(str(folder)) == []


def test_a_pipeline_without_audio_makes_video_alone(args, loaded, own_pipe, tmp_path):
    own_pipe.register_modules(audio_vae=None, vocoder=None)
    clip = ClipMaker(args).make(ONE_STEP | {"prompt": "A face."}, tmp_path / "clip.mp4")
    assert clip.audio is None and "--modalities video" in clip.command and "output.audio" not in clip.python
