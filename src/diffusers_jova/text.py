# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""Names and texts of others, made safe to show: on a terminal, and in a model card; and what a wrong name may mean."""

import difflib
import html
import re
from collections.abc import Iterable


MARKUP = re.compile(r"[\\`*_\[\]|~$]|^[-+#=]|(?<=^\d)[.)]|(?<=^\d\d)[.)]")  # in a line, and at its beginning
LINKS = re.compile(r"://|@|(?<=www)\.", re.IGNORECASE)  # what becomes a link, or calls somebody, without markup


def printable(text: object) -> str:
    r"""Return `text` on one line, with escapes such as `\x1b` and `\u202e` for what a terminal would act upon."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(text))


def printable_lines(text: object) -> str:
    """Return `text` with its line feeds, and each line as by `printable`."""
    return "\n".join(printable(line) for line in str(text).split("\n"))


def split_lines(text: str) -> list[str]:
    """Return the lines of `text`, which line feeds and carriage returns end.

    `str.splitlines` also breaks at U+2028, U+0085 and others, which people paste into the middle of a line.
    """
    return re.split(r"\r\n|\r|\n", text)


def markdown(text: object) -> str:
    """Return `text` as Markdown that shows it as it is, on one line: no markup, no HTML, no links."""
    line = html.escape(printable(" ".join(str(text).split())), quote=False)
    line = MARKUP.sub(lambda match: f"\\{match[0]}", line)
    return LINKS.sub(lambda match: "".join(f"&#{ord(c)};" for c in match[0]), line)


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ". Did you mean `...`?" with the known name that is near to `name`, or a full stop if none is."""
    matches = difflib.get_close_matches(str(name), list(known), n=1)
    return f". Did you mean `{matches[0]}`?" if matches else "."
