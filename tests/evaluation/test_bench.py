# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""`bench` makes the clips that `score` measures; what is there and right stays."""

import json
import subprocess
import sys
from collections import Counter

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from diffusers_jova.cli.dispatch import main
from diffusers_jova.media import read_video


STEPS = ["--num_inference_steps", "1", "--device", "cpu"]
ROWS = [
    {"id": "a", "set": "talk", "prompt": "A man.", "audio_prompt": ["A voice.", "Rain."], "speech_text": "one"},
    {"id": "b", "set": "talk", "prompt": "A woman.", "speech_text": "two", "seed": 7},
]


def write_prompts(folder, rows):
    path = folder / "prompts.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def bench(folder, tmp_path):
    """Return a function that makes clips of rows into `tmp_path`/clips, and says what became of them."""

    def run(rows, *more, status=0):
        prompts = write_prompts(tmp_path, rows)
        clips = tmp_path / "clips"
        command = ["bench", "--model", str(folder), "--prompts", str(prompts), "--output_dir", str(clips), *STEPS]
        assert main([*command, *map(str, more)]) == status
        results = json.loads((clips / "bench.json").read_text(encoding="utf-8"))["prompts"]
        return {result["name"]: result["status"] for result in results}

    return run


def test_two_commands_lead_from_prompts_to_a_report(bench, tmp_path):
    Image.linear_gradient("L").resize((40, 40)).save(tmp_path / "hill.png")
    rows = [ROWS[0] | {"image": "hill.png"}, ROWS[1]]
    assert bench(rows, "--wav") == {"talk/a": "made", "talk/b": "made"}
    heard = tmp_path / "heard.jsonl"
    heard.write_text('{"id": "a", "text": "one"}\n{"id": "b", "text": "three"}\n')
    out = tmp_path / "report" / "report.json"
    command = ["score", str(tmp_path / "clips"), "--prompts", str(tmp_path / "prompts.jsonl"), "--metrics", "WER"]
    assert main([*command, "--transcripts", str(heard), "--jobs", "0", "--device", "cpu", "--out", str(out)]) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    words = report["summary"]["all"]["WER"]
    assert (words["mean"], words["n_used"], words["n_expected"]) == (0.5, 2, 2) and report["without_prompt"] == []
    assert [clip["audio_file"] for clip in report["clips"]] == [
        str(tmp_path / "clips" / "talk" / name) for name in ("a.wav", "b.wav")
    ]
    assert out.with_suffix(".html").is_file() and out.with_suffix(".md").is_file()


def test_a_clip_is_the_one_that_generate_makes(bench, folder, tmp_path):
    bench(ROWS)
    texts = ["--prompt", "A man.", "--audio_prompt", "A voice., Rain.", "--transcript", "one", "--seed", "0"]
    assert main(["generate", "--model", str(folder), *texts, *STEPS, "--output", str(tmp_path / "a.mp4")]) == 0
    ours, theirs = read_video(tmp_path / "clips" / "talk" / "a.mp4"), read_video(tmp_path / "a.mp4")
    assert (ours.frames == theirs.frames).all() and (ours.waveform == theirs.waveform).all()


def test_clips_that_would_be_the_same_stay_and_others_are_made_anew(bench, tmp_path):
    clip = tmp_path / "clips" / "talk" / "a.mp4"
    bench(ROWS)
    whole = clip.read_bytes()
    assert bench(ROWS) == {"talk/a": "kept", "talk/b": "kept"}
    clip.write_bytes(whole[:-10])  # a copy that was cut short
    assert bench(ROWS) == {"talk/a": "made", "talk/b": "kept"} and clip.read_bytes() == whole
    other = [ROWS[0] | {"speech_text": "nine"}, ROWS[1] | {"seed": 8}]
    assert bench([other[0], ROWS[1]]) == {"talk/a": "made", "talk/b": "kept"}
    assert bench(other) == {"talk/a": "kept", "talk/b": "made"}
    assert bench(other, "--guidance_scale", 2) == {"talk/a": "made", "talk/b": "made"}


def test_audio_of_an_earlier_clip_does_not_stay_beside_the_new_one(bench, tmp_path):
    wav = tmp_path / "clips" / "talk" / "b.wav"
    bench(ROWS[1:], "--wav")
    assert bench(ROWS[1:]) == {"talk/b": "kept"} and wav.is_file()
    assert bench([ROWS[1] | {"seed": 8}]) == {"talk/b": "made"} and not wav.exists()
    assert bench([ROWS[1] | {"seed": 8}], "--wav") == {"talk/b": "made"} and wav.is_file()
    wav.write_bytes(b"of somebody")
    assert bench([ROWS[1] | {"seed": 8}]) == {"talk/b": "made"} and not wav.exists()


def test_another_model_or_lora_makes_clips_anew(bench, tmp_path):
    layer = "transformer.transformer_blocks.0.video.to_v.lora_{}.weight"
    generator = torch.Generator().manual_seed(0)
    weights = {
        layer.format(s): torch.randn(shape, generator=generator) for s, shape in {"A": (4, 32), "B": (32, 4)}.items()
    }
    save_file(weights, tmp_path / "lora.safetensors")
    bench(ROWS[1:])
    plain = (tmp_path / "clips" / "talk" / "b.mp4").read_bytes()
    assert bench(ROWS[1:], "--lora", tmp_path / "lora.safetensors") == {"talk/b": "made"}
    assert (tmp_path / "clips" / "talk" / "b.mp4").read_bytes() != plain
    assert bench(ROWS[1:], "--lora", tmp_path / "lora.safetensors") == {"talk/b": "kept"}
    assert bench(ROWS[1:], "--lora", tmp_path / "lora.safetensors", "--lora_scale", 0.5) == {"talk/b": "made"}


def test_one_bad_picture_does_not_stop_the_others(bench, tmp_path, capsys):
    for name in ("good", "bad"):
        Image.new("RGB", (32, 32), "red").save(tmp_path / f"{name}.png")
    rows = [{"id": name, "prompt": "A face.", "image": f"{name}.png"} for name in ("bad", "good")]
    assert Counter(bench(rows).values()) == {"made": 2}
    (tmp_path / "bad.png").write_bytes(b"not a picture")
    rows.append({"id": "gone", "prompt": "A face.", "image": "gone.png"})
    rows[1]["prompt"] = "A person."
    assert bench(rows, "--batch_size", 2) == {"bad": "failed", "good": "made", "gone": "failed"}
    said = capsys.readouterr().out
    assert "gone.png" in said and "1 clips made, 0 kept, 2 of 3 failed." in said
    # a clip of the picture that was there before would be scored as this prompt's
    assert sorted(path.name for path in (tmp_path / "clips").glob("*.mp4")) == ["good.mp4"]


def test_status_is_1_only_if_there_is_no_clip_at_all(bench):
    rows = [{"id": name, "prompt": "A face.", "image": "gone.png"} for name in "ab"]
    assert set(bench(rows, status=1).values()) == {"failed"}
    rows[0].pop("image")
    assert bench(rows, status=0) == {"a": "made", "b": "failed"}
    assert bench(rows, status=0) == {"a": "kept", "b": "failed"}


def test_shards_make_different_clips(bench, folder, tmp_path):
    prompts = write_prompts(tmp_path, ROWS)
    command = ["bench", "--model", str(folder), "--prompts", str(prompts), *STEPS]
    for index in range(2):
        assert main([*command, "--output_dir", str(tmp_path / "clips"), "--shard", f"{index}/2"]) == 0
        found = sorted(path.stem for path in (tmp_path / "clips").rglob("*.mp4"))
        assert found == ["a", "b"][: index + 1]
    assert bench(ROWS) == {"talk/a": "kept", "talk/b": "kept"}


def test_one_run_at_a_time_is_at_work_in_a_folder(folder, tmp_path, capsys):
    prompts, clips = write_prompts(tmp_path, ROWS), tmp_path / "clips"
    lock = "import sys; from diffusers_jova.files import lock_folder\nwith lock_folder({!r}, 'shard-0-of-1'):\n" + (
        "    print('locked', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", lock.format(str(clips))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        for shard in ("0/1", "1/2"):  # another division of the same clips is no better
            command = ["bench", "--model", str(folder), "--prompts", str(prompts), "--output_dir", str(clips), *STEPS]
            assert main([*command, "--shard", shard]) == 2
            assert "another run (pid" in capsys.readouterr().err
        other.stdin.close()
    assert not list(clips.rglob("*.mp4"))


def test_clips_of_others_and_names_that_lead_elsewhere_are_refused(bench, folder, tmp_path, capsys):
    (tmp_path / "clips" / "talk").mkdir(parents=True)
    (tmp_path / "clips" / "talk" / "b.mp4").write_bytes(b"of somebody")
    prompts = write_prompts(tmp_path, ROWS)
    command = ["bench", "--model", str(folder), "--prompts", str(prompts), *STEPS, "--output_dir"]
    assert main([*command, str(tmp_path / "clips")]) == 2
    assert "b.mp4` is in the way, and `bench` did not make it" in capsys.readouterr().err
    assert (tmp_path / "clips" / "talk" / "b.mp4").read_bytes() == b"of somebody"
    for name in ("../a", ".a", "a/b", "a\\b", "a\nb", 201 * "a"):
        write_prompts(tmp_path, [{"id": name, "prompt": "A face."}])
        assert main([*command, str(tmp_path / "other")]) == 2
        assert "cannot be the name of a clip" in capsys.readouterr().err
    assert main([*command, str(folder)]) == 2 and "the model" in capsys.readouterr().err
    command[2] = str(tmp_path / "gone")
    assert main([*command, str(tmp_path / "other")]) == 2 and "There is no folder" in capsys.readouterr().err


def test_a_prompt_with_labelled_lines_holds_all_texts(bench):
    labelled = "<Video Caption>: A man.\n<Audio Caption>: A voice.\n<Transcript>: one"
    assert bench([{"id": "a", "prompt": labelled, "audio_prompt": "Rain.", "speech_text": "one"}]) == {"a": "made"}
