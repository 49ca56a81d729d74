# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which clip is of which prompt: as each model's code names them, by patterns, and what is refused."""

import json

import pytest

from diffusers_jova.evaluation.clip_files import LAYOUTS, find_clips
from diffusers_jova.evaluation.prompt_file import Prompt, read_prompts, write_prompts
from diffusers_jova.evaluation.verse_bench import read_verse_bench


TEXT = "A woman says <S>Hello there<E> to a man/boy in a long sentence that goes on."
PROMPTS = [
    Prompt("00001", "set1", prompt=TEXT),
    Prompt("00012", "set1", prompt="Rain."),
    Prompt("clip_0007", "set2", prompt="Mr. Fox looks at the sea for a very long time"),
]
NAMES = {
    "universe1": [
        "00001_00001_h480_w832.mp4",
        "00012_00012_h832_w480.mp4",
        "clip_0007_clip_0007_h480_w832_with_audio.mp4",
    ],
    "ovi": [
        "A_woman_says_Hello_there_to_a_man_boy_in_a_long_se_512x992_103_0_0.mp4",
        "Rain._992x512_103_0_1.mp4",
        "Mr._Fox_looks_at_the_sea_for_a_very_long_time_512x992_103_0_2.mp4",
    ],
    "fantasytalking": [
        "00001_woman_20260101_120000.mp4",
        "00012_00012_20260101_120001.mp4",
        "clip_0007_a_b_20260101_120002.mp4",
    ],
    "wan-s2v": [
        "s2v-14B_1024*704_1_A_woman_says_<S>Hello_there<E>_to_a_man_boy_in_a_l_20260101_120000.mp4",
        "s2v-14B_1024*704_8_Rain._20260101_120000.mp4",
        "s2v-14B_832*480_1_Mr._Fox_looks_at_the_sea_for_a_very_long_time_20260101_120000.mp4",
    ],
    "mova": [
        "set1/00000001_video_A woman says_step50_seed42.mp4",
        "set1/00000012.mp4",
        "set2/clip_0007_video_x_step50_seed42.mp4",
    ],
    "nava": [
        "set1/idx0_A_woman_says_<S>Hell-av-0.mp4",
        "set1/idx1_Rain-av-0.mp4",
        "set2/idx0_Mr-av-0.mp4",
    ],
}


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def names_of(folder, prompts, *arguments):
    found, rest = find_clips(folder, prompts, *arguments)
    found = {name: clip.path.relative_to(folder).as_posix() for name, clip in found.items()}
    return found, [path.relative_to(folder).as_posix() for path in rest]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_clips_are_found_under_the_names_that_a_models_code_gives_them(layout, tmp_path):
    touch(tmp_path, *NAMES[layout], "someone_else.mp4")
    found, rest = names_of(tmp_path, PROMPTS, layout)
    assert found == {prompt.name: name for prompt, name in zip(PROMPTS, NAMES[layout])}
    assert rest == ["someone_else.mp4"]


def test_universe1_is_heard_from_its_wav_or_from_the_file_that_has_both(tmp_path):
    names = [f"00001_00001_h480_w832{end}" for end in (".mp4", ".wav", "_with_audio.mp4")]
    touch(tmp_path, *names)
    for audio, (video, heard) in {"auto": names[:2], "wav": names[:2], "mp4": names[2:] * 2}.items():
        clip = find_clips(tmp_path, PROMPTS, "universe1", audio)[0]["set1/00001"]
        assert (clip.path.name, clip.audio_path.name) == (video, heard)


@pytest.mark.parametrize(
    "layout, names",
    [
        (None, ["set1/00001.mp4", "00012.mp4", "deep/er/set2/clip_0007.webm"]),
        ("{set}/{id}/video.mp4", ["set1/00001/video.mp4", "set1/00012/video.mp4", "set2/clip_0007/video.mp4"]),
        ("{model}-{id}.mp4", ["a-00001.mp4", "a-b-00012.mp4", "a-clip_0007.mp4"]),
    ],
)
def test_a_pattern_says_where_clips_are(layout, names, tmp_path):
    touch(tmp_path, *names)
    assert names_of(tmp_path, PROMPTS, layout)[0] == {p.name: name for p, name in zip(PROMPTS, names)}


def test_what_clips_are_compared_with_is_not_a_clip(tmp_path):
    touch(tmp_path, "x.mp4", "real/x.wav")
    prompts = [Prompt("x", reference_audio=tmp_path / "real" / "x.wav")]
    assert names_of(tmp_path, prompts) == ({"x": "x.mp4"}, [])


def test_an_id_that_begins_with_another_keeps_its_own_clip(tmp_path):
    prompts = [Prompt("1"), Prompt("1_2")]
    touch(tmp_path, "1_a.mp4", "1_2_a.mp4")
    assert names_of(tmp_path, prompts, "{id}_{rest}.mp4")[0] == {"1": "1_a.mp4", "1_2": "1_2_a.mp4"}


def test_a_clip_of_another_set_is_not_taken(tmp_path):
    touch(tmp_path, "set1/7.mp4")
    found, rest = names_of(tmp_path, [Prompt("7", "set1"), Prompt("7", "set2")])
    assert (found, rest) == ({"set1/7": "set1/7.mp4"}, [])


@pytest.mark.parametrize(
    "names, prompts, layout, words",
    [
        (["a/x.mp4", "b/x.mp4"], [Prompt("x")], None, ["'x' has 2 clips", "a/x.mp4", "b/x.mp4"]),
        (["x.mp4"], [Prompt("x", "set1"), Prompt("x", "set2")], None, ["x.mp4", "'set1/x' and 'set2/x'"]),
        (["x-1.mp4", "x-2.mp4"], [Prompt("x")], "{id}-{seed}.mp4", ["'x' has 2 clips", "x-1.mp4", "x-2.mp4"]),
        (["x.mp4"], [Prompt("x")], "clips.mp4", ["universe1", "'clips.mp4'"]),
        (["x.mp4"], [Prompt("x")], "{set}.mp4", ["universe1", "'{set}.mp4'"]),
    ],
)
def test_what_cannot_be_told_apart_is_refused_by_name(names, prompts, layout, words, tmp_path):
    touch(tmp_path, *names)
    with pytest.raises(ValueError) as caught:
        find_clips(tmp_path, prompts, layout)
    assert all(word in str(caught.value) for word in words), caught.value


def test_audio_is_that_beside_the_clip_if_there_is_any(tmp_path):
    touch(tmp_path, "a.mp4", "a.wav", "b.mp4", "c.wav")
    prompts = [Prompt(name) for name in "abc"]
    heard = {
        audio: [
            clip.audio_path and clip.audio_path.name for clip in find_clips(tmp_path, prompts, None, audio)[0].values()
        ]
        for audio in ("auto", "wav", "mp4")
    }
    assert heard["auto"] == ["a.wav", "b.mp4", "c.wav"]
    assert heard["wav"] == ["a.wav", None, "c.wav"]
    assert heard["mp4"] == ["a.mp4", "b.mp4", "c.wav"]


def test_prompts_are_the_same_after_a_round_trip(tmp_path):
    rows = [
        {"id": 7, "audio_prompt": "rain", "image": "7.png", "metrics": ["PQ", "LSE-C", "LSE-D"], "more": 1},
        {"id": "8", "set": "b", "speech_text": " Hé ", "language": "fr", "audio_prompt": ["", "x"], "image": None},
    ]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    prompts = read_prompts(tmp_path / "p.jsonl")
    assert prompts[0] == Prompt("7", audio_prompt=("rain",), image=tmp_path / "7.png", metrics=("AudioBox", "LSE"))
    assert prompts[1] == Prompt("8", "b", speech_text="Hé", language="fr", audio_prompt=("", "x"))
    write_prompts(tmp_path / "q.jsonl", prompts)
    assert read_prompts(tmp_path / "q.jsonl") == prompts


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "no prompts"),
        ("{", "line 1, is not JSON"),
        ('{"id": "a"}\n\n{"set": "b"}', "line 3, must be an object"),
        ('{"id": "a"}\n{"id": "a"}', "line 2, has the id 'a' that `.*line 1, has"),
        ('{"id": "a", "speech_text": 3}', "`speech_text`, got 3"),
        ('{"id": "a", "audio_prompt": [3]}', "`audio_prompt`"),
        ('{"id": "a", "metrics": ["PQX"]}', "no metric 'PQX'"),
    ],
)
def test_a_file_of_prompts_that_cannot_be_read_is_refused_by_line(text, message, tmp_path):
    (tmp_path / "p.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_prompts(tmp_path / "p.jsonl")


def test_verse_bench_says_which_clip_counts_for_which_metric(tmp_path):
    speech = {"speaker": "a man", "text": "Hello."}
    items = {
        "set1/00001": {"video_prompt": "v", "audio_prompt": [""], "speech_prompt": {"speaker": "", "text": ""}},
        "set2/data/300": {"video_prompt": "v", "audio_prompt": ["rain"], "speech_prompt": speech},
        "set3/data/01000": {"video_prompt": "v", "audio_prompt": ["a voice"], "speech_prompt": speech},
    }
    for name, item in items.items():
        touch(tmp_path, f"{name}.json")
        (tmp_path / f"{name}.json").write_text(json.dumps(item))
    touch(tmp_path, "set1/00001.jpg", "set2/clips/300.jpg", "set2/clips/300.mp4", "set3/clips/01000.png")
    first, second, third = read_verse_bench(tmp_path)
    assert set(first.metrics) == {"AS", "ID", "MS", "AudioBox", "IS", "CS"}
    assert set(second.metrics) == {"AS", "ID", "MS", "LSE", "WER", "AudioBox", "IS", "CS", "FD", "KL"}
    assert set(third.metrics) == {"AS", "ID", "MS", "IS", "LSE", "WER"}
    assert (first.audio_prompt, first.image) == (("",), tmp_path / "set1/00001.jpg")
    assert (second.image, second.reference_audio) == (tmp_path / "set2/clips/300.jpg", tmp_path / "set2/clips/300.mp4")
    assert (third.name, third.speech_text, third.reference_audio) == ("set3/01000", "Hello.", None)


def test_one_clip_described_twice_in_verse_bench_is_refused(tmp_path):
    for folder in ("set2", "set2/data"):
        touch(tmp_path, f"{folder}/300.json")
        (tmp_path / folder / "300.json").write_text("{}")
    with pytest.raises(ValueError, match="describe one clip"):
        read_verse_bench(tmp_path)
    with pytest.raises(FileNotFoundError, match="set1/, set2/ or set3/"):
        read_verse_bench(tmp_path / "set2")
