# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
"""A document of plain texts, tables and images, as Markdown and as one HTML page that loads nothing.

Texts may be anybody's: both forms show them as they are.
"""

import html
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass

from ..text import markdown, printable


# Colours are the reader's own, light or dark; a wide table scrolls by itself.
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  background: Canvas; color: CanvasText; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.2; margin: 2rem 0 .5rem; }
.table { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { border-bottom: 1px solid #8886; padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; }
td.long { max-width: 30rem; overflow-wrap: anywhere; min-width: 12rem; }
figure { margin: .75rem 0; }
figure img { display: block; width: 100%; height: auto; }
figure.plot img { max-width: 44rem; }
figcaption { font-size: .9rem; }
.videos { display: flex; flex-wrap: wrap; gap: 1rem; }
.videos figure { width: 13rem; }
.videos video { width: 100%; }
.times { display: flex; font-size: .8rem; opacity: .75; }
.times span { flex: 1; text-align: center; }
""".strip()
LONG = 24  # characters from which on a cell may break
NUMBERS = re.compile(r"-?[\d./]+( to -?[\d.]+)?|–")  # need no escapes in a cell


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of texts under their heads; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An image, which the page carries in itself; Markdown leaves it out.

    Attributes:
        data: of the file.
        kind: "image/jpeg" or "image/svg+xml".
        alt: what it shows, for those who do not see it.
        caption: the text below it.
        times: texts of equal width right below it.
    """

    data: bytes
    kind: str
    alt: str
    caption: str = ""
    times: Sequence[str] = ()


@dataclass(frozen=True)
class Video:
    """A clip in mp4, which the page carries in itself; Markdown leaves it out.

    Attributes:
        data: of the file.
        caption: the text below it.
    """

    data: bytes
    caption: str


@dataclass(frozen=True)
class Videos:
    """Clips beside each other."""

    clips: Sequence[Video]


Block = Heading | Paragraph | Items | Table | Picture | Videos


def to_markdown(title: str, blocks: Sequence[Block]) -> str:
    """Return the document as Markdown, without its images."""
    return "\n\n".join([f"# {markdown(title)}", *filter(None, map(_markdown, blocks))]) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {markdown(text)}"
        case Paragraph(text):
            return markdown(text)
        case Items(texts):
            return "\n".join(f"- {markdown(text)}" for text in texts)
        case Table(head, rows):
            first, *rest = (f"| {' | '.join(map(_markdown_cell, cells))} |" for cells in (head, *rows))
            return "\n".join([first, "|---" * len(head) + "|", *rest])
    return ""


def _markdown_cell(text: str) -> str:
    return text if NUMBERS.fullmatch(text) else markdown(text)


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Return the document as one page that needs nothing else: no scripts, no files, no network."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{_escape(title)}</title>",
            f"<style>\n{STYLE}\n</style>",
            "</head>",
            "<body>",
            f"<h1>{_escape(title)}</h1>",
            *map(_html, blocks),
            "</body>",
            "</html>\n",
        ]
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_escape(text)}</h{level}>"
        case Paragraph(text):
            return f"<p>{_escape(text)}</p>"
        case Items(texts):
            return "<ul>\n" + "\n".join(f"<li>{_escape(text)}</li>" for text in texts) + "\n</ul>"
        case Table(head, rows):
            first = "".join(f'<th scope="col">{_escape(text)}</th>' for text in head)
            lines = [f"<tr>{first}</tr>", *map(_html_row, rows)]
            return '<div class="table"><table>\n' + "\n".join(lines) + "\n</table></div>"
        case Picture():
            return _html_picture(block)
        case Videos(clips):
            return f'<div class="videos">{"".join(map(_html_video, clips))}</div>'


def _html_row(cells: Sequence[str]) -> str:
    rest = (f"<td{' class=long' * (len(text) > LONG)}>{_escape(text)}</td>" for text in cells[1:])
    return f'<tr><th scope="row">{_escape(cells[0])}</th>{"".join(rest)}</tr>'


def _html_picture(picture: Picture) -> str:
    source = f"data:{picture.kind};base64,{b64encode(picture.data).decode()}"
    parts = [f'<img src="{source}" alt="{_escape(picture.alt)}">']
    if picture.times:
        parts.append(f'<div class="times">{"".join(f"<span>{_escape(time)}</span>" for time in picture.times)}</div>')
    if picture.caption:
        parts.append(f"<figcaption>{_escape(picture.caption)}</figcaption>")
    kind = "strip" if picture.times else "plot"
    return f'<figure class="{kind}">{"".join(parts)}</figure>'


def _html_video(clip: Video) -> str:
    source = f"data:video/mp4;base64,{b64encode(clip.data).decode()}"
    player = f'<video controls loop preload="metadata" src="{source}"></video>'
    return f"<figure>{player}<figcaption>{_escape(clip.caption)}</figcaption></figure>"


def _escape(text: object) -> str:
    return html.escape(printable(text))
