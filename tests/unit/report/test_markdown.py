"""Is text of others shown as it is, whatever Markdown or HTML would make of it?"""

from __future__ import annotations

import html
import re

import pytest
from markdown_it import MarkdownIt

from pytest_llmperf.report.markdown import LONGEST, escaped, table


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"),
        (
            "</script><script>alert(1)</script>",
            "&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;",
        ),
        ("two\nlines\tand\r\nmore", "two lines and more"),
        ("[x](http://y)", r"\[x\](http://y)"),
        ("`code` *bold* _under_ ~~out~~", r"\`code\` \*bold\* \_under\_ \~\~out\~\~"),
        ("thanks @somebody", "thanks @\u200bsomebody"),
        ("fixes #12, o/r#3 and gh-4", "fixes \\#\u200b12, o/r\\#\u200b3 and gh-\u200b4"),
        ("# heading, c#", r"\# heading, c\#"),
        ("quotes \" and ' and 🐍", "quotes \" and ' and 🐍"),
    ],
)
def test_nothing_in_it_is_markup(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_what_is_rendered_mentions_nobody_and_refers_to_nothing() -> None:
    rendered = MarkdownIt().renderInline(escaped("@all @o/team a@b.c #12 o/r#12 GH-12 &#64;all"))
    assert "o/team" in rendered
    assert re.findall(r"@\w|#\d|gh-\d", html.unescape(rendered), re.IGNORECASE) == []


def test_the_end_of_a_long_one_is_left_out() -> None:
    assert escaped("x" * 4000) == "x" * (LONGEST - 1) + "…"


def test_numbers_are_set_right() -> None:
    assert table(["a", "b"], [["c", "1"]], numbers=1) == [
        "| a | b |",
        "| --- | ---: |",
        "| c | 1 |",
    ]
