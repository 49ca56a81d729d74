# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints of the real classes: what they are shown and answer, and folders that hold something else."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_annotators import CAPTION, chat_tokenizer, make_audio_flamingo, make_qwen2_vl, make_whisper, noise

from diffusers_jova.dataset.annotation import models
from diffusers_jova.dataset.annotation.audio_captioner import AudioFlamingo3Captioner, check_audio_captioner
from diffusers_jova.dataset.annotation.captions import ATTEMPTS
from diffusers_jova.dataset.annotation.items import Window
from diffusers_jova.dataset.annotation.models import Place, check_memory, find_checkpoint, in_halves, weight_bytes
from diffusers_jova.dataset.annotation.transcriber import Transcriber, Word, check_transcriber, segments_of
from diffusers_jova.dataset.annotation.video_captioner import check_video_captioner, load_video_captioner
from diffusers_jova.workers import Failure


CPU = Place("cpu", torch.float32)
GREEDY = ATTEMPTS[0]


def frames(num_frames, height, width, seed):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)) for _ in range(num_frames)]


def load(folder, place=CPU):
    return load_video_captioner(folder, "What?", 6, 56 * 112, place)


@pytest.fixture(scope="module")
def qwen2_vl(tmp_path_factory):
    folder = tmp_path_factory.mktemp("qwen2_vl")
    make_qwen2_vl(folder, words=None)
    return folder


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    make_whisper(folder)
    return folder


# --- video ---


def test_answers_to_a_batch_are_those_to_single_clips(qwen2_vl):
    captioner = load(qwen2_vl)
    clips = [frames(4, 56, 112, 0), frames(2, 112, 56, 1)]
    answers = captioner.answer(GREEDY, clips)
    assert answers == [captioner.answer(GREEDY, [clip])[0] for clip in clips]
    assert not answers[0].is_whole


def test_frames_decide_which_token_is_likely(qwen2_vl, record):
    captioner = load(qwen2_vl)
    calls = record(captioner.model.lm_head)
    clips = [frames(4, 56, 112, seed) for seed in (0, 1)]
    for clip in (*clips, clips[0]):
        captioner.answer(GREEDY, [clip])
    first, other, again = (logits for _, logits in calls[:: len(calls) // 3])
    assert torch.equal(first, again) and (first - other).abs().max() > 1e-3 * first.abs().max()


def test_frames_are_one_image_with_steps_in_time(qwen2_vl, record):
    captioner = load(qwen2_vl)
    calls = record(captioner.model.model.visual)
    captioner.answer(GREEDY, [frames(3, 56, 112, 0)])
    assert calls[0][0]["grid_thw"].tolist() == [[3, 4, 8]]


def test_tarsier2_is_the_qwen2_vl_inside_it(qwen2_vl, tmp_path):
    for path in qwen2_vl.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    inner = json.loads((qwen2_vl / "config.json").read_text())
    text, vision, image_token = inner.pop("text_config"), inner.pop("vision_config"), inner.pop("image_token_id")
    nested = text | inner | {"model_type": "qwen2_vl", "vision_config": vision}
    outer = {"architectures": ["TarsierForConditionalGeneration"], "model_type": "llava", "text_config": nested}
    outer |= {"vision_config": vision, "image_token_index": image_token, "projection_head": None}
    (tmp_path / "config.json").write_text(json.dumps(outer))
    weights = {}
    for name, value in load_file(qwen2_vl / "model.safetensors").items():
        name = name.replace("model.visual.", "vision_tower.").replace("model.language_model.", "language_model.model.")
        weights[name.replace("lm_head.", "language_model.lm_head.")] = value
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    processor = json.loads((qwen2_vl / "preprocessor_config.json").read_text())
    processor["size"] = {"min_pixels": 3136, "max_pixels": 460800}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    clip = [frames(4, 56, 112, 0)]
    assert load(tmp_path).answer(GREEDY, clip) == load(qwen2_vl).answer(GREEDY, clip)


def test_drawn_answers_are_the_same_each_time_and_leave_other_draws_alone(qwen2_vl):
    captioner, clip = load(qwen2_vl), [frames(2, 56, 56, 0)]
    state = torch.get_rng_state()
    assert captioner.answer(ATTEMPTS[2], clip) == captioner.answer(ATTEMPTS[2], clip)
    assert torch.equal(state, torch.get_rng_state())


def test_a_captioner_is_quantised_on_request(qwen2_vl):
    captioner = load(qwen2_vl, Place("cpu", torch.float32, "int8"))
    layer = captioner.model.model.language_model.layers[0].mlp.up_proj
    assert type(layer).__name__ == "Linear8bitLt" and layer.weight.dtype == torch.int8
    assert captioner.answer(GREEDY, [frames(2, 56, 56, 0)])


# --- audio ---


def test_audio_flamingo_describes_a_batch_of_audio(tmp_path):
    make_audio_flamingo(tmp_path)
    listener = AudioFlamingo3Captioner.from_folder(tmp_path, "What is heard?", 8, CPU)
    assert listener.longest_s == 600
    for answer in listener.answer(GREEDY, [noise(1.0), noise(2.5)]):
        assert answer == ("".join(CAPTION), True)


# --- words ---


def test_words_are_timed_within_their_window_and_put_into_segments(whisper):
    transcriber = Transcriber.from_folder(whisper, None, "", 4.0, CPU)
    (said,) = transcriber.transcribe([[Window(0.0, noise(2.0)), Window(30.5, noise(1.0))]], batch_size=2)
    assert said.fields["transcript"] == "Hello there, friend. Hello there, friend."
    assert said.fields["language"] == "en"
    first, second = said.fields["segments"]
    assert [word["word"] for word in first["words"]] == ["Hello", "there,", "friend."]
    assert 0 <= first["start"] < first["end"] <= 2.02 and 30.5 <= second["start"] < second["end"] <= 31.52
    times = [time for word in first["words"] for time in (word["start"], word["end"])]
    assert times == sorted(times)


def test_a_window_in_which_nobody_speaks_has_no_words(tmp_path):
    make_whisper(tmp_path, is_sure=False)
    transcriber = Transcriber.from_folder(tmp_path, "en", "", 4.0, CPU)
    said = transcriber.transcribe([[Window(0.0, noise(1.0))], []], batch_size=2)
    assert [one.fields for one in said] == [{"transcript": "", "no_speech": True}] * 2


def test_words_that_are_heard_in_silence_are_dropped(whisper):
    transcriber = Transcriber.from_folder(whisper, "en", "", 4.0, CPU)
    speech = np.concatenate([noise(0.3), np.zeros(16000, np.float32)])
    silence, until_the_pause = transcriber.hear([np.zeros(16000, np.float32), speech])
    assert silence == ((), "")
    assert 0 < len(until_the_pause.words) and all(word.start < 0.8 for word in until_the_pause.words)


def test_repeated_words_are_not_a_transcript(tmp_path):
    make_whisper(tmp_path, words=[" no"] * 12)
    transcriber = Transcriber.from_folder(tmp_path, "en", "", 4.0, CPU)
    (said,) = transcriber.transcribe([[Window(0.0, noise(1.0))]], batch_size=1)
    assert isinstance(said, Failure) and "repeats `no`" in said and said.is_lasting


def test_segments_end_at_pauses_at_sentences_and_when_they_are_long():
    words = [Word(" One", 0, 0.3), Word(" two.", 0.4, 0.8), Word(" Three", 0.9, 1.2), Word(" four", 1.8, 2.0)]
    words += [Word(f" {number}", 2.0 + number, 2.9 + number) for number in range(5)]
    texts = [segment["text"] for segment in segments_of(words, max_segment_s=3.0)]
    assert texts == ["One two.", "Three", "four 0 1", "2 3 4"]


# --- what is not such a checkpoint, and memory ---


def test_a_whisper_that_cannot_time_words_is_refused(whisper, tmp_path):
    for path in whisper.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((whisper / "generation_config.json").read_text())
    del config["alignment_heads"]
    (tmp_path / "generation_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="cannot say when words are spoken.*no `alignment_heads`.*OpenAI"):
        check_transcriber(tmp_path, None)
    with pytest.raises(ValueError, match="does not know --language 'fr': it knows de, en"):
        check_transcriber(whisper, "fr")


@pytest.mark.parametrize("check", [check_video_captioner, check_audio_captioner])
def test_a_folder_that_is_no_captioner_is_refused(check, whisper):
    with pytest.raises(ValueError, match="is not an? (video|audio) captioner: .* model_type 'whisper'"):
        check(whisper)


def test_a_checkpoint_that_is_not_complete_is_refused(tmp_path):
    make_qwen2_vl(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["lm_head.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="has no weights for 1 of .*`lm_head.weight`: it is not a complete"):
        load(tmp_path)


def test_a_model_that_is_larger_than_the_free_memory_is_refused(qwen2_vl, monkeypatch):
    stored = sum(value.nbytes for value in load_file(qwen2_vl / "model.safetensors").values())
    assert weight_bytes(qwen2_vl, CPU) == stored == 2 * weight_bytes(qwen2_vl, Place("cpu", torch.bfloat16))
    monkeypatch.setattr(models, "free_memory", lambda device: stored - 1)
    with pytest.raises(MemoryError, match="weights of .* take .* are free on cpu: choose --dtype bfloat16"):
        check_memory(qwen2_vl, CPU)


def test_a_name_that_leads_nowhere_is_an_error_that_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder `whisper-large-v3`; .*`owner/whisper-large-v3`"):
        find_checkpoint("whisper-large-v3")
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        find_checkpoint(str(tmp_path))


def test_a_batch_that_is_too_large_is_halved_and_one_clip_costs_itself_alone():
    def ask(inputs):
        if len(inputs) > 2 or "large" in inputs:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if "odd" in inputs:
            raise ValueError("an odd clip")
        return [f"seen {item}" for item in inputs]

    answers = in_halves(ask, ["a", "large", "b", "c", "odd"])
    assert answers == ["seen a", "it takes more memory than is free", "seen b", "seen c", "an odd clip"]
    assert [isinstance(answer, Failure) for answer in answers] == [False, True, False, False, True]


def test_the_tokenizer_of_the_tests_reads_what_it_writes():
    tokenizer = chat_tokenizer()
    assert tokenizer.decode(tokenizer("<|im_start|>A man says ö").input_ids) == "<|im_start|>A man says ö"
