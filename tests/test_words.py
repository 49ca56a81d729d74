# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Texts that users read: audio, image and video, as the API says, and turns of phrase that everybody understands."""

import ast
import re
from pathlib import Path

import pytest


REPOSITORY = Path(__file__).parents[1]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
PAGES = [*sorted((REPOSITORY / "docs").rglob("*.md")), REPOSITORY / "README.md", REPOSITORY / "training/README.md"]
PAGES = [path for path in PAGES if path.parent.name != "reference"]  # made of the sources

PRIVATE = {
    r"(?<!here )\b(?:is|are) no\b(?! (?:longer|more|less|better|faster)\b)(?= \w)": "say: is not a ...",
    r"\b(?:leave|leaves|leaving|left)(?: \w+){1,3} away\b": "say: leave out",
    r"\bno whole\b": "say: is not a complete ...",
    r"\blook(?:s|ed|ing)? for no\b": "say: do not look for",
    r"\bsounds?\b": "say: audio, or waveform",
    r"\bpictures?\b": "say: image, frame or video",
}
ALLOWED = (  # and why
    '"There is no sound"',  # what people say, and search for
    '"the picture jumps"',
    "surround sound",  # the layout of channels goes by this name
    "sound like",  # the verb
    "the sounds that are said",  # of speech, as phonetics has them
    '"pictures"',  # a key of a LoRA's proof.json
    "pictures: base",  # the same key in the proof that is printed
    "loss, pictures:",
    "pictures by the mean absolute difference",
    "finds no whole words",  # there are whole words, and it does not find them
)


def private_turns(text: str) -> list[str]:
    """Return the places in a text that our users' words do not have, each with what to say instead."""
    text = re.sub(r"\s+", " ", text)
    for phrase in ALLOWED:
        text = text.replace(phrase, "")
    return [
        f"...{text[max(found.start() - 40, 0) : found.end() + 20]}...: {advice}"
        for pattern, advice in PRIVATE.items()
        for found in re.finditer(pattern, text, re.IGNORECASE)
    ]


def texts_of(source: str) -> list[str]:
    """Return the docstrings and all strings that have a space in them; names and keys have none."""
    literals = [node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.Constant, ast.JoinedStr))]
    texts = []
    for node in literals:
        if isinstance(node, ast.JoinedStr):  # its pieces are constants, too, but break at each value
            texts.append("".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values))
        elif isinstance(node.value, str):
            texts.append(node.value)
    return [text for text in texts if " " in text.strip()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY / "src/diffusers_jova")))
def test_texts_of_a_module_use_the_words_of_the_api(path):
    found = [turn for text in texts_of(path.read_text(encoding="utf-8")) for turn in private_turns(text)]
    assert found == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_page_uses_the_words_of_the_api(path):
    assert private_turns(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "`x` is no pipeline's folder.",
        "which leaves them away",
        "is no\n    whole file",
        "look for no mouths",
        "a video with sound",
        "The picture `x` cannot be read",
    ],
)
def test_private_turns_are_seen(text):
    assert private_turns(text)


@pytest.mark.parametrize(
    "text", ["There is no file `x`.", "It is no longer read.", "surround sound is mixed", "the answer is no (1)"]
)
def test_plain_words_are_left_alone(text):
    assert private_turns(text) == []


def test_a_text_that_is_put_together_is_read_as_one():
    source = 'raise ValueError(f"`{path}` is no "\n    f"whole {kind}.")'
    assert any("is no whole X" in turn for text in texts_of(source) for turn in private_turns(text))
