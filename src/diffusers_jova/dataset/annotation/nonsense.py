# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a text that a model wrote, by rules that can be looked up. All limits but the first are ours."""

import re
import unicodedata
import zlib


MAX_COMPRESSION = 2.4  # bytes over bytes after zlib: OpenAI's limit for Whisper
LONG_ENOUGH = 200  # characters: shorter texts do not tell by how much they can be compressed
MAX_REPEATS = 5  # times that the same words may follow each other
LONGEST_REPEAT = 8  # words
MIN_LETTERS = 8  # of a caption, in any script
REFUSAL = re.compile(
    r"^\W*(?:(?:i['’]?m|i am) (?:sorry|unable)|sorry, |i can ?not|i can['’]t|as an ai\b)", re.IGNORECASE
)


def what_is_wrong(text: str, is_whole: bool = True, prompt: str = "") -> str:
    """Return in words why a caption cannot be used, or "" for one that can.

    Args:
        text: as the model wrote it.
        is_whole: whether the model came to an end by itself.
        prompt: what it was asked.
    """
    letters = sum(unicodedata.category(character)[0] in "LN" for character in text)
    if not letters:
        return "the answer is empty"
    if fault := what_is_broken(text):
        return fault
    if prompt and " ".join(prompt.lower().split()) in " ".join(text.lower().split()):
        return "the answer repeats the question"
    if REFUSAL.search(text):
        return "the model refuses to answer"
    if letters < MIN_LETTERS:
        return f"the answer is too short: it has {letters} letters"
    if not is_whole:
        return "the answer does not come to an end"
    return ""


def what_is_broken(text: str) -> str:
    """Return in words why a text, of any length, is not language, or "": broken characters, or the same repeated."""
    if broken := next((c for c in text if c == "\ufffd" or unicodedata.category(c) in ("Cc", "Co", "Cs", "Cn")), ""):
        if broken not in "\n\t":
            return f"the answer holds a broken character, {broken!a}"
    if repeated := find_repeat(text):
        return f"the answer repeats `{repeated}`"
    if (ratio := compression_ratio(text)) > MAX_COMPRESSION:
        return f"the answer repeats itself: it can be compressed {ratio:.1f} times, {MAX_COMPRESSION} are allowed"
    return ""


def find_repeat(text: str) -> str:
    """Return the words that follow each other more than `MAX_REPEATS` times, or ""; without spaces, the characters."""
    words = text.split()
    if len(words) <= MAX_REPEATS:
        words = list(text)
    for size in range(1, LONGEST_REPEAT + 1):
        run = 0  # words that are the same as `size` words before
        for index in range(size, len(words)):
            run = run + 1 if words[index] == words[index - size] else 0
            if run >= size * MAX_REPEATS:
                return " ".join(words[index - size + 1 : index + 1])[:40]
    return ""


def compression_ratio(text: str) -> float:
    """Return by how much zlib makes a text smaller; 1 for a short one."""
    content = text.encode("utf-8", "replace")
    return len(content) / len(zlib.compress(content)) if len(text) >= LONG_ENOUGH else 1.0
