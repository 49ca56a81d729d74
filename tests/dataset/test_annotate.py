# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`diffusers-jova annotate`: which texts are made, which are kept, and what is left when a run is stopped."""

import json
import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from plain_clips import write_clip
from tiny_annotators import CAPTION, make_audio_flamingo, make_qwen2_vl, make_whisper, noise

from diffusers_jova.cli.dispatch import main
from diffusers_jova.data.clips import Source, find_sources
from diffusers_jova.dataset.annotation import annotate as annotate_module
from diffusers_jova.dataset.annotation import items
from diffusers_jova.dataset.annotation.annotate import AnnotationConfig, annotate, dry_run
from diffusers_jova.dataset.annotation.captions import ATTEMPTS, Answer, caption
from diffusers_jova.dataset.annotation.items import (
    FrameReader,
    Item,
    SpeechReader,
    cut_at_pauses,
    quietest,
    split_into_parts,
)
from diffusers_jova.dataset.annotation.nonsense import what_is_wrong
from diffusers_jova.dataset.annotation.settings import read_prompts
from diffusers_jova.media import write_video, write_wav
from diffusers_jova.workers import Failure


SAID = "".join(CAPTION)
HEARD = "Hello there, friend."


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders of a video captioner, an audio captioner and a transcriber, by the names of their flags."""
    folder = tmp_path_factory.mktemp("checkpoints")
    makers = {"video_captioner": make_qwen2_vl, "audio_captioner": make_audio_flamingo, "transcriber": make_whisper}
    for name, make in makers.items():
        make(folder / name)
    return {name: str(folder / name) for name in makers}


@pytest.fixture
def run(checkpoints, tmp_path):
    """Annotate tmp_path/clips to tmp_path/annotated, in this process; flags by name."""
    (tmp_path / "clips").mkdir()

    def run(function=annotate, **flags):
        flags = {**checkpoints, "device": "cpu", "num_workers": 0, "batch_size": 2, "max_new_tokens": 12} | flags
        return function(AnnotationConfig(str(tmp_path / "clips"), str(tmp_path / "annotated"), **flags))

    return run


def rows(tmp_path):
    lines = (tmp_path / "annotated" / "metadata.jsonl").read_text().splitlines()
    return {Path(row["file_name"]).name: row for row in map(json.loads, lines)}


def write_rows(tmp_path, of_clips):
    path = tmp_path / "annotated" / "metadata.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in of_clips.values()))


def test_clips_get_what_they_lack_and_keep_what_a_person_wrote(run, tmp_path):
    clips = tmp_path / "clips"
    write_clip(clips / "both.mp4")
    write_clip(clips / "silent.mp4", sound=False, caption="A grey square.")
    write_wav(clips / "voice.wav", noise(1.0)[None], 16000)
    write_wav(clips / "quiet.wav", np.zeros((1, 16000), np.float32), 16000)
    row = {"file_name": "both.mp4", "transcript": "My own words.", "mark": 7}
    (clips / "metadata.jsonl").write_text(json.dumps(row) + "\n")
    (clips / "broken.mp4").write_bytes(b"not a film")
    summary = run()
    made = rows(tmp_path)
    assert made["both.mp4"] == {
        "file_name": "../clips/both.mp4", "video_caption": SAID, "audio_caption": SAID, "transcript": "My own words.",
        "mark": 7,
    }  # fmt: skip
    assert made["silent.mp4"] == {"file_name": "../clips/silent.mp4", "video_caption": "A grey square."}
    assert made["voice.wav"]["transcript"] == HEARD and made["voice.wav"]["language"] == "en"
    assert made["quiet.wav"]["transcript"] == "" and made["quiet.wav"]["no_speech"] is True
    assert summary.levels["audio_caption"].reasons == {"quiet.wav": "its audio is silent"}
    assert "broken.mp4" not in made and [name for name, _ in summary.skipped] == ["broken.mp4"]
    assert summary.has_result and "transcript: 2 annotated now, 1 without speech, 1 given" in str(summary)
    sources = {source.name: source for source in find_sources(tmp_path / "annotated")}
    assert sources["../clips/voice.wav"].segments[0].text == HEARD  # as preprocess reads it


def test_a_run_that_was_killed_goes_on_and_makes_nothing_twice(run, tmp_path, monkeypatch):
    for index in range(3):
        write_clip(tmp_path / "clips" / f"{index}.mp4", sound=False, value=50 + index)
    asked = []
    load = annotate_module.load_annotator

    def load_and_count(config, level, *args):
        annotator = load(config, level, *args)

        def ask(contents):
            if asked and len(asked) < 3:
                asked.append(None)
                raise KeyboardInterrupt
            asked.append(len(contents))
            return annotator.ask(contents)

        return annotator._replace(ask=ask)

    monkeypatch.setattr(annotate_module, "load_annotator", load_and_count)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [row.get("video_caption") for row in rows(tmp_path).values()] == [SAID, SAID, None]
    journal = tmp_path / "annotated" / "annotations.jsonl"
    journal.write_text(journal.read_text() + '["half a li')
    asked.append(None)
    run()
    assert asked == [2, None, None, 1]
    assert {row["video_caption"] for row in rows(tmp_path).values()} == {SAID}
    run(video_captioner="somewhere/else", audio_captioner="no/where")  # nothing is asked, so nothing is loaded


def test_what_a_person_changes_is_kept_and_what_a_model_wrote_is_done_anew_on_request(run, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "clips" / name, sound=False)
    run()
    changed = rows(tmp_path)
    changed["a.mp4"]["video_caption"] = "Mine."
    write_rows(tmp_path, changed)
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text("video_caption: What happens here?\n")
    again = run(prompts=str(prompts))
    assert "1 annotated before, 1 of these with another model or question" in str(again)
    again = run(prompts=str(prompts), redo=("video_caption",))
    assert "video_caption: 1 annotated now, 1 changed by hand" in str(again)
    assert {name: row["video_caption"] for name, row in rows(tmp_path).items()} == {"a.mp4": "Mine.", "b.mp4": SAID}
    assert "annotated now" not in str(run(prompts=str(prompts), redo=("video_caption",)))
    os.utime(tmp_path / "clips" / "b.mp4", (1, 1))  # as if the film had been replaced
    assert "video_caption: 1 annotated now, 1 changed by hand" in str(run(prompts=str(prompts)))


def test_nonsense_is_left_out_by_name_and_not_asked_for_again(run, checkpoints, tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4", sound=False)
    make_qwen2_vl(tmp_path / "mute", words=(".",))
    flags = {"video_captioner": str(tmp_path / "mute")}
    summary = run(**flags)
    assert not summary.has_result and "video_caption" not in rows(tmp_path)["a.mp4"]
    (left_out,) = map(json.loads, (tmp_path / "annotated" / "left_out.jsonl").read_text().splitlines())
    assert left_out["clip"] == "a.mp4" and left_out["reasons"][0].startswith(
        "video_caption: asked 3 times: the answer"
    )
    (tmp_path / "mute" / "model.safetensors").unlink()
    assert "1 left out" in str(run(**flags))  # without the weights
    assert run(video_captioner=checkpoints["video_captioner"]).has_result


def test_a_dry_run_counts_by_level_and_writes_nothing(run, tmp_path):
    write_clip(tmp_path / "clips" / "a.mp4", num_frames=25)
    write_clip(tmp_path / "clips" / "b.mp4", sound=False, caption="Given.")
    plan = run(dry_run, levels=("transcript", "video_caption"))
    assert "plan: 2 clips of 2, 2.72 s" in plan
    assert "transcript: 1 clips, 2.00 s, to annotate with" in plan and "1 without such a stream" in plan
    assert "video_caption: 1 clips" in plan and "audio_caption" not in plan
    assert not (tmp_path / "annotated").exists()


def test_the_verb_says_what_it_did_and_refuses_wrong_input(checkpoints, tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    write_clip(tmp_path / "clips" / "a.mp4")
    arguments = ["annotate", "--data", str(tmp_path / "clips"), "--output_dir", str(tmp_path / "annotated")]
    arguments += [f"--{name}={folder}" for name, folder in checkpoints.items()] + ["--num_workers", "0"]
    assert main([*arguments, "--levels", "audio_caption"]) == 0
    assert "annotate: 1 clips" in capsys.readouterr().out
    for flags, message in {
        ("--levels", "captions"): "`--levels` takes transcript, video_caption, audio_caption, got 'captions'",
        ("--output_dir", str(tmp_path / "clips" / "out")): "lies in the data",
        ("--video_captioner", checkpoints["transcriber"]): "is not a video captioner",
        ("--prompts", str(tmp_path / "no.yaml")): "There is no file of prompts",
        ("--batch_size", "0"): "`--batch_size` must be more than 0",
    }.items():
        assert main([*arguments, *flags]) == 2
        assert message in capsys.readouterr().err


# --- what a model is shown ---


def test_frames_are_the_middles_of_equal_lengths_cropped_and_small(tmp_path):
    frames = np.repeat(np.arange(24, dtype=np.uint8)[:, None, None, None] * 10, 64, axis=1).repeat(96, 2).repeat(3, 3)
    write_video(tmp_path / "a.mp4", frames, 12)
    source = Source("a.mp4", path=tmp_path / "a.mp4", start_s=Fraction(1), end_s=Fraction(2), crop=(0, 0, 64, 64))
    shown = FrameReader(num_frames=4, max_pixels=32 * 32)(Item(source, Fraction(0), Fraction(1)))
    assert [frame.size for frame in shown] == [(32, 32)] * 4
    assert [round(float(np.mean(frame)) / 10) for frame in shown] == [13, 16, 19, 22]


def test_windows_of_speech_are_cut_in_pauses_and_parts_meet_there(tmp_path, monkeypatch):
    for name, length_s in {"LONGEST_PART_S": 60, "LONGEST_WINDOW_S": 6, "CUT_WITHIN_S": 1}.items():
        monkeypatch.setattr(items, name, length_s)
    waveform = noise(128.0)
    for pause_s in (5, 42, 85, 100):  # the parts end within a second of 42.67 and 85.33
        waveform[pause_s * 16000 : pause_s * 16000 + 8000] = 0
    write_wav(tmp_path / "long.wav", waveform[None], 16000)
    parts = split_into_parts(Source("long.wav", path=tmp_path / "long.wav"), Fraction(128))
    assert [float(part.end_s) for part in parts] == pytest.approx([128 / 3, 256 / 3, 128])
    windows = [window for part in parts for window in SpeechReader()(part)]
    ends = [window.start_s + len(window.waveform) / 16000 for window in windows]
    assert windows[0].start_s == 0 and ends[-1] == pytest.approx(128)
    assert ends[:-1] == pytest.approx([window.start_s for window in windows[1:]], abs=1e-4)  # nothing is lost
    assert max(len(window.waveform) for window in windows) <= 6 * 16000
    for pause_s in (5, 42, 85):
        assert any(pause_s <= end <= pause_s + 0.5 for end in ends)


def test_the_quietest_moment_is_found_and_short_audio_is_not_cut():
    waveform = noise(4.0)
    waveform[32000:36000] = 0
    assert 32000 <= quietest(waveform) <= 36000
    assert cut_at_pauses(waveform) == [(0, 64000)]


# --- what is wrong with an answer ---


@pytest.mark.parametrize(
    "text, fault",
    [
        ("A man in a blue coat talks to the camera.", ""),
        ("一个穿蓝色外套的男人对着镜头说话。", ""),
        (" \n", "is empty"),
        ("...", "is empty"),
        ("A man", "too short"),
        ("A man talks \ufffd to the camera.", "a broken character"),
        ("The man nods " + "and nods " * 8, "repeats `and nods`|repeats `nods and`"),
        ("哈" * 20, "repeats"),
        ("A man talks to a dog. " * 4 + "A man sings to a dog. " * 8, "repeats itself|repeats `"),
        ("I'm sorry, but I cannot describe this video.", "refuses"),
        ("You asked: describe the video in detail.", "repeats the question"),
    ],
)
def test_nonsense_is_known_by_rules(text, fault):
    found = what_is_wrong(text, prompt="Describe the video in detail.")
    assert any(part in found for part in fault.split("|")) if fault else found == ""


def test_a_text_that_does_not_end_is_wrong():
    assert "does not come to an end" in what_is_wrong("A man in a blue coat talks and", is_whole=False)


class Learner:
    """A captioner that gives a good answer when it is asked in the last way."""

    prompt = "What?"

    def __init__(self):
        self.asked = []

    def answer(self, settings, inputs):
        self.asked.append((settings, list(inputs)))
        good = settings is ATTEMPTS[-1]
        return [Answer("A dog barks twice." if good or item == "easy" else "la " * 20, True) for item in inputs]


def test_only_what_was_wrong_is_asked_for_again_in_other_ways():
    learner = Learner()
    first, second = caption(learner, "video_caption", ["easy", "hard"])
    assert first.fields == second.fields == {"video_caption": "A dog barks twice."}
    assert [inputs for _, inputs in learner.asked] == [["easy", "hard"], ["hard"], ["hard"]]
    assert [settings for settings, _ in learner.asked] == list(ATTEMPTS)
    (failure,) = caption(type("Never", (Learner,), {"answer": lambda *_: [Answer("", True)]})(), "x", ["hard"])
    assert isinstance(failure, Failure) and failure == "asked 3 times: the answer is empty"


def test_prompts_of_ones_own_replace_those_that_come_along(tmp_path):
    path = tmp_path / "prompts.yaml"
    path.write_text("audio_caption: What is\n  heard?\n")
    assert read_prompts(path) == read_prompts() | {"audio_caption": "What is heard?"}
    for text, message in {
        "video_captions: x": "asks for `video_captions`. Did you mean `video_caption`",
        "video_caption: 3": "must be a text, got 3",
        "video_caption: ''": "must be a text, got ''",
        "- x": "must hold a text for each of",
        "a: [": "is not YAML",
    }.items():
        path.write_text(text)
        with pytest.raises(ValueError, match=message):
            read_prompts(path)
