# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Which words a checkpoint has learnt to say: `known_words` in its model_index.json, by kind; and those it has not."""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any


KnownWords = Mapping[str, Sequence[str]]  # {"digit": ["zero", "one", ...]}


def check_known_words(known_words: Any) -> None:
    """Raise a ValueError for what is neither None nor lists of words by their kinds."""
    if known_words is None or (isinstance(known_words, Mapping) and all(map(_is_words, known_words.values()))):
        return
    raise ValueError(
        '`known_words` must be lists of words by their kinds, such as {"digit": ["zero", "one"]}, or None for a '
        f"checkpoint that does not say, got {str(known_words)[:60]}."
    )


def _is_words(words: Any) -> bool:
    return isinstance(words, list | tuple) and all(isinstance(word, str) and word.split() == [word] for word in words)


def all_words(known_words: KnownWords | None) -> list[str]:
    """Return the words of all kinds, each once; none for a checkpoint that does not say, which is taken to know all.

    Raises:
        ValueError: As `check_known_words`.
    """
    check_known_words(known_words)
    return list(dict.fromkeys(word for words in (known_words or {}).values() for word in words))


def spoken_words(text: str) -> str:
    """Return a text's words in lower case with spaces between them, without punctuation but apostrophes."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.lower().replace("’", "'"))
    return " ".join(words)


def unknown_words(words: Iterable[str], known: Collection[str]) -> str:
    """Return those of the words that are not known, each with the three nearest in spelling; "" if all are known.

    ```py
    >>> unknown_words(["two", "flowrs"], ["two", "flowers", "books", "shoes"])
    '`flowrs` (nearest: flowers, shoes, two)'
    ```
    """
    unknown = [word for word in dict.fromkeys(words) if word not in known]
    nearest = [", ".join(difflib.get_close_matches(word, known, n=3, cutoff=0.0)) for word in unknown]
    return ", ".join(f"`{word}` (nearest: {near})" for word, near in zip(unknown, nearest))
