"""Is text of others shown as it is, whatever Markdown or HTML would make of it?"""

from __future__ import annotations

import pytest

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
        ("thanks @somebody", "thanks &#64;somebody"),
        ("quotes \" and ' and 🐍", "quotes \" and ' and 🐍"),
    ],
)
def test_nothing_in_it_is_markup(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_the_end_of_a_long_one_is_left_out() -> None:
    assert escaped("x" * 4000) == "x" * (LONGEST - 1) + "…"


def test_numbers_are_set_right() -> None:
    assert table(["a", "b"], [["c", "1"]], numbers=1) == [
        "| a | b |",
        "| --- | ---: |",
        "| c | 1 |",
    ]
