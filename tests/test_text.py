# Copyright 2026 The diffusers-jova team
# SPDX-License-Identifier: Apache-2.0
import pytest

from diffusers_jova.text import markdown, printable, printable_lines


def test_printable_text_is_one_line_without_commands_for_a_terminal():
    assert printable("é 中\n\x1b]0;x\x07\u202e\udce9") == "é 中\\n\\x1b]0;x\\x07\\u202e\\udce9"
    assert printable_lines("a\nb\x1b[31m\r\u2028") == "a\nb\\x1b[31m\\r\\u2028"


@pytest.mark.parametrize(
    "text, shown",
    [
        ("A woman, 30 % closer (smiling).", "A woman, 30 % closer (smiling)."),
        ("# Heading", "\\# Heading"),
        ("two\n\n---\nlines", "two --- lines"),
        ("---", "\\---"),
        ("1. first", "1\\. first"),
        ("<script>alert(1)</script> &amp;", "&lt;script&gt;alert(1)&lt;/script&gt; &amp;amp;"),
        ("![x](y) [a]: b", "!\\[x\\](y) \\[a\\]: b"),
        ("`code` **bold** a|b ~~no~~ $x$", "\\`code\\` \\*\\*bold\\*\\* a\\|b \\~\\~no\\~\\~ \\$x\\$"),
        (
            "https://a.org www.a.org @b",
            "https&#58;&#47;&#47;a.org www&#46;a.org &#64;b",
        ),
        ("\x1b[2J\u202e", "\\\\x1b\\[2J\\\\u202e"),
    ],
)
def test_foreign_text_is_shown_in_markdown_as_it_is(text, shown):
    assert markdown(text) == shown
