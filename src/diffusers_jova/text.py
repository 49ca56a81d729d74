# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Names and texts of others, made safe to show: on a terminal, and in a model card."""

import html
import re


# What moves the cursor, sets colours or titles, breaks lines, turns the direction of the text, or is half a character
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def printable(text: object) -> str:
    r"""Return `text` on one line, with escapes such as `\x1b` and `\u202e` for what a terminal would act upon."""
    return UNPRINTABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), str(text))


def printable_lines(text: object) -> str:
    """Return `text` with its line feeds, and each line as by `printable`."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


def markdown(text: object) -> str:
    """Return `text` as Markdown that shows it as it is, on one line: no markup, no HTML, no links."""
    line = printable(" ".join(str(text).split()))
    escaped = MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))
    return re.sub(r"(\w)(://|@)", r"\1<!-- -->\2", re.sub(r"^(\d+)([.)])", r"\1\\\2", escaped))
